"""The brain world: volumes are met exactly, the graph holds, and pictures can be measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3 import SCM, worlds
from rung3.worlds.medical.atlas import has_template
from rung3.worlds.medical.brain import Head
from rung3.worlds.medical.growth import GRID_MM, LEVELS, growth
from rung3.worlds.medical.waves import COEFFICIENTS, deform

SOURCES = [
    pytest.param(False, id="phantom"),
    pytest.param(
        True,
        id="template",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not has_template(), reason="needs the extra rung3[medical]"),
        ],
    ),
]


VALUES = ("sex", "brain", "ventricle")
"""The causes that the anatomy has."""


def head_of(world: SCM) -> Head:
    head = world.mechanisms["image"]
    assert isinstance(head, Head)
    return head


def volumes(head: Head, ventricle: list[float], brain: list[float], seed: int) -> Tensor:
    """Sum the tissues of volumes that are drawn for these values, in ml, `(n, 4)`."""
    n = len(brain)
    values = {
        "sex": torch.arange(n) % 2,
        "brain": torch.tensor(brain),
        "ventricle": torch.tensor(ventricle),
    }
    noise = head.sample_noise(n, values, torch.Generator().manual_seed(seed))
    voxel = (192 / head.size) ** 3 / 1000
    return head.anatomy(noise, values).flatten(2).sum(2) * voxel


@pytest.mark.parametrize("template", SOURCES)
def test_volumes_of_ventricles_and_brain_are_met_together(template: bool) -> None:
    brain = [842.0, 1099.9, 1099.9, 1397.7]
    ventricle = [7.6, 23.9, 152.9, 34.2]
    tissues = volumes(
        head_of(worlds.brain(64, volume=True, template=template)), ventricle, brain, seed=0
    )
    torch.testing.assert_close(tissues[:, 0], torch.tensor(ventricle), rtol=5e-3, atol=0)
    matter = tissues[:, 1] + tissues[:, 2]
    torch.testing.assert_close(matter, torch.tensor(brain), rtol=5e-3, atol=0)


@pytest.mark.parametrize("template", SOURCES)
def test_no_growth_of_the_ventricles_folds_the_head(template: bool) -> None:
    family = growth("template" if template else "phantom", 6.0)
    levels = family.table.unflatten(1, (len(LEVELS), -1)).transpose(0, 1) / GRID_MM
    for displaced in levels:
        rows = [torch.stack(torch.gradient(part, dim=(2, 1, 0))) for part in displaced]
        jacobian = torch.stack(rows).movedim((0, 1), (-2, -1)) + torch.eye(3)
        assert torch.linalg.det(jacobian).min() > 0
    assert family.range[0] < 7.6 / 1630
    assert family.range[1] > 157 / 842


def test_shear_waves_keep_volume() -> None:
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(3, COEFFICIENTS, generator=generator, dtype=torch.float64)
    points = 150 * torch.rand(3, 3, 4, generator=generator, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: deform(x, coefficients), points)
    assert isinstance(jacobian, Tensor)
    for n in range(3):
        for p in range(4):
            det = torch.linalg.det(jacobian[:, n, p, :, n, p])
            torch.testing.assert_close(det, torch.ones_like(det), atol=1e-9, rtol=0)


def test_laws_pass_through_the_answers_of_the_published_figure() -> None:
    drawn = worlds.brain(32, template=False)
    names = ("sex", "age", "brain", "ventricle")
    world = SCM(
        "{age sex} -> brain; {age brain} -> ventricle",
        {name: drawn.variables[name] for name in names},
        {name: drawn.mechanisms[name].clone() for name in names},
    )
    rows = {"sex": "male", "age": 60.0, "brain": 1099.9, "ventricle": 23.9}
    older = world.counterfactual(rows, do={"age": 71.0})
    assert older["brain"].item() == pytest.approx(1059.6, abs=2)
    assert older["ventricle"].item() == pytest.approx(33.3, abs=0.7)
    woman = world.counterfactual(rows, do={"sex": "female"})
    assert woman["brain"].item() == pytest.approx(991.4, abs=2)
    assert woman["ventricle"].item() == pytest.approx(21.3, abs=0.5)
    larger = world.counterfactual(rows, do={"brain": 1397.7})
    assert larger["ventricle"].item() == pytest.approx(34.2, abs=2)
    wide = world.counterfactual(rows, do={"ventricle": 152.9})
    assert wide["brain"].item() == pytest.approx(1099.9)


def test_a_null_intervention_changes_no_pixel_and_a_sequence_only_contrast() -> None:
    world = worlds.brain(32, template=False)
    rows = world.sample(6, seed=1)
    null = world.counterfactual(rows, do={"ventricle": rows["ventricle"]})
    assert torch.equal(null["image"], rows["image"])
    other = world.counterfactual(rows, do={"sequence": 1 - rows["sequence"]})
    assert torch.equal(other["brain"], rows["brain"])
    ground = rows["image"] < 0.05
    assert (other["image"] - rows["image"])[ground].abs().mean() < 0.01
    t1 = rows["sequence"] == 0
    darker = (other["image"] - rows["image"]).flatten(1).sum(1) < 0
    assert torch.equal(darker, t1)  # white matter is the most of it


def test_wider_ventricles_show_more_fluid_and_leave_the_far_cortex() -> None:
    world = worlds.brain(48, template=False)
    rows = world.sample(8, seed=2)
    do = {"ventricle": 1.4 * rows["ventricle"]}
    wide, head = world.counterfactual(rows, do=do), head_of(world)
    assert rows.noise is not None
    before, after = (
        head.anatomy(rows.noise["image"], {k: r[k] for k in VALUES}) for r in (rows, wide)
    )
    assert (after[:, 0].sum((1, 2)) > 1.15 * before[:, 0].sum((1, 2))).all()
    far = torch.ones(48, 48, dtype=torch.bool)
    far[10:38, 14:34] = False
    assert (wide["image"] - rows["image"])[..., far].abs().mean() < 0.02


def test_volumes_and_sequence_can_be_measured_on_a_slice() -> None:
    world = worlds.brain(64, template=False)
    rows = world.sample(60, seed=3)
    off = world.measures["brain"](rows["image"]) / rows["brain"] - 1
    assert off.abs().mean() < 0.04
    seen = world.measures["ventricle"](rows["image"])
    both = torch.stack([seen.log(), rows["ventricle"].log()])
    assert torch.corrcoef(both)[0, 1] > 0.6
    assert (world.measures["sequence"](rows["image"]) == rows["sequence"]).float().mean() > 0.9


def test_a_volume_holds_its_slice() -> None:
    slices, volume = worlds.brain(32, template=False), worlds.brain(32, volume=True, template=False)
    rows = slices.sample(2, seed=4)
    assert rows.noise is not None
    values = {k: rows[k] for k in VALUES}
    flat = head_of(slices).anatomy(rows.noise["image"], values)
    solid = head_of(volume).anatomy(rows.noise["image"], values)
    assert solid.shape == (2, 4, 32, 32, 32)
    nearest = min(float((solid[:, :, z] - flat).abs().mean()) for z in range(32))
    assert nearest < 0.02


def test_volumes_are_drawn_measured_and_rescaled() -> None:
    world = worlds.brain(32, volume=True, template=False)
    rows = world.sample(6, seed=6)
    assert rows["image"].shape == (6, 1, 32, 32, 32)
    off = world.measures["brain"](rows["image"]) / rows["brain"] - 1
    assert off.abs().mean() < 0.03
    larger = world.counterfactual(rows, do={"brain": 1.2 * rows["brain"]})
    before, after = ({k: r[k] for k in ("sequence", *VALUES)} for r in (rows, larger))
    scaled = world.baselines["rescaling"](rows["image"], before, after)
    nothing = (rows["image"] - larger["image"]).abs().mean()
    assert (scaled - larger["image"]).abs().mean() < 0.85 * nothing


def test_a_site_changes_contrast_and_noise_and_harmonisation_knows_the_truth() -> None:
    world = worlds.brain(32, site=True, template=False)
    rows = world.sample(30, seed=5)
    assert set(rows["site"].tolist()) == {0, 1, 2}
    at_a = world.counterfactual(rows, do={"site": "A"})
    plain = worlds.brain(32, template=False)
    assert rows.noise is not None
    same = plain.mechanisms["image"].predict(
        rows.noise["image"], {k: rows[k] for k in ("sequence", "sex", "brain", "ventricle")}
    )
    assert torch.equal(at_a["image"], same)


@pytest.mark.parametrize("size", [8, True, 64.0])
def test_sizes_that_no_image_has_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size="):
        worlds.brain(size)


def test_ventricles_that_no_head_has_are_refused() -> None:
    world = worlds.brain(32, template=False)
    rows = world.sample(2, seed=0)
    with pytest.raises(ValueError, match=r"no head has ventricles of 900 ml.*expected .* ml"):
        world.counterfactual(rows, do={"ventricle": 900.0})


def test_sampling_depends_on_the_seed_alone() -> None:
    world = worlds.brain(32, template=False)
    one, two = world.sample(3, seed=7), world.sample(3, seed=7)
    assert torch.equal(one["image"], two["image"])
    assert not torch.equal(one["image"], world.sample(3, seed=8)["image"])
    assert torch.equal((255 * one["image"]).round() / 255, one["image"])
