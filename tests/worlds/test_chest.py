"""The chest world: its graph holds, fluid shows where it is, and its pictures can be measured."""

from __future__ import annotations

import pytest
import torch

from rung3 import SCM, Rows, worlds
from rung3.worlds.medical.chest import REGIONS, Radiograph
from rung3.worlds.medical.radiometry import cardiothoracic_ratio, fluid_share


def noise_of(rows: Rows) -> dict[str, torch.Tensor]:
    assert rows.noise is not None
    noise = rows.noise["image"]
    assert isinstance(noise, dict)
    return noise


def regions(world: SCM, rows: Rows) -> dict[str, torch.Tensor]:
    mechanism = world.mechanisms["image"]
    assert isinstance(mechanism, Radiograph)
    values = {name: rows[name] for name in ("age", "sex", "disease")}
    return dict(zip(REGIONS, mechanism.anatomy(noise_of(rows), values).unbind(1), strict=True))


def test_disease_depends_on_age_alone() -> None:
    graph = worlds.chest(32).graph
    assert list(graph.parents("disease")) == ["age"]
    rows = worlds.chest(16).sample(4000, seed=0)
    expected = torch.sigmoid(0.076 * (rows["age"] - 60) - 1.67)
    for old in (rows["age"] < 50, rows["age"] > 70):
        share = rows["disease"][old].float().mean()
        assert share == pytest.approx(float(expected[old].mean()), abs=0.03)


def test_with_referral_the_disease_tells_the_site() -> None:
    rows = worlds.chest(16, site=True, referral=0.9).sample(2000, seed=0)
    ill = rows["disease"] == 1
    for group, sent in ((~ill, 0), (ill, 2)):
        shares = torch.bincount(rows["site"][group], minlength=3) / group.sum()
        assert shares[sent] == pytest.approx(0.9 + 0.1 / 3, abs=0.02)
    apart = worlds.chest(16, site=True).sample(2000, seed=0)
    assert torch.equal(apart["disease"], rows["disease"])
    for site, referral in ((False, 0.5), (True, 1.5)):
        with pytest.raises(ValueError, match="referral="):
            worlds.chest(16, site=site, referral=referral)


def test_fluid_is_there_with_the_disease_alone_and_keeps_its_side() -> None:
    world = worlds.chest(64)
    rows = world.sample(40, seed=1)
    ill = world.counterfactual(rows, do={"disease": torch.ones(40, dtype=torch.int64)})
    well = world.counterfactual(rows, do={"disease": torch.zeros(40, dtype=torch.int64)})
    for answer in (ill, well):
        answer.noise = rows.noise
    assert regions(world, well)["fluid"].max() < 1e-6
    fluid = regions(world, ill)["fluid"]
    area = fluid.flatten(1).sum(1)
    assert area.min() > 10
    sides = torch.stack([fluid[..., :32].sum((1, 2)), fluid[..., 32:].sum((1, 2))], 1)
    noise = noise_of(rows)["side"]
    one_sided = noise < 0.8
    assert (sides[one_sided].amin(1) < 0.02 * sides[one_sided].amax(1)).all()
    assert ((sides[:, 1] > sides[:, 0]) == (noise >= 0.4))[one_sided].all()


@pytest.mark.parametrize("cause", ["age", "sex", "race"])
def test_other_causes_bring_no_fluid(cause: str) -> None:
    world = worlds.chest(64)
    rows = world.sample(60, seed=2)
    healthy = world.counterfactual(rows, do={"disease": "no finding"})
    healthy.noise = rows.noise
    target = {"age": 85.0, "sex": 1 - rows["sex"], "race": (rows["race"] + 1) % 3}[cause]
    changed = world.counterfactual(rows, do={"disease": "no finding", cause: target})
    moved = (changed["image"] - healthy["image"]).abs().mean()
    assert moved > 0.004
    assert (fluid_share(changed["image"]) - fluid_share(healthy["image"])).abs().mean() < 0.05


def test_fluid_can_be_read_off_the_image() -> None:
    world = worlds.chest(64)
    rows = world.sample(300, seed=3)
    assert (world.measures["disease"](rows["image"]) == rows["disease"]).float().mean() > 0.95


def test_hearts_widen_with_age() -> None:
    world = worlds.chest(64)
    rows = world.sample(60, seed=4)
    young, old = (
        cardiothoracic_ratio(
            world.counterfactual(rows, do={"disease": "no finding", "age": age})["image"]
        )
        for age in (25.0, 85.0)
    )
    seen = ~(young.isnan() | old.isnan())
    assert seen.float().mean() > 0.9
    assert (old - young)[seen].mean() > 0.02


def test_a_null_intervention_changes_no_pixel() -> None:
    world = worlds.chest(32, site=True)
    rows = world.sample(6, seed=5)
    null = world.counterfactual(rows, do={"age": rows["age"]})
    assert torch.equal(null["image"], rows["image"])
    assert not torch.equal(
        world.counterfactual(rows, do={"site": (rows["site"] + 1) % 3})["image"], rows["image"]
    )


def test_sizes_show_the_same_chest() -> None:
    small, large = worlds.chest(32), worlds.chest(64)
    rows = large.sample(4, seed=6)
    values = {name: rows[name] for name in ("age", "sex", "race", "disease")}
    noise = noise_of(rows)
    image = small.mechanisms["image"].predict(noise, values)
    pooled = torch.nn.functional.avg_pool2d(rows["image"], 2)
    assert (image - pooled).abs().mean() < 0.035


def test_sizes_that_no_image_has_are_refused() -> None:
    with pytest.raises(ValueError, match="size=8"):
        worlds.chest(8)
