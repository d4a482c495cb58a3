"""Augmented rows have the joint that is asked for, and only what predictors confirm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import clinic
import pytest
import torch
from torch.utils.data import DataLoader

from rung3 import SCM, Continuous, Rows, data, fit, worlds
from rung3.mechanisms import VAE, Equation
from rung3.scm.generation import generated
from rung3.scm.shards import read_answers
from rung3.training import calibrate
from rung3.training.augmentation import (
    Confirmation,
    CounterfactualDataset,
    Plan,
    augment,
    augment_shards,
    fit_confirmation,
)
from rung3.training.augmentation import confirmation as confirming
from rung3.training.augmentation.augmenting import prepared
from rung3.training.augmentation.cells import Levels
from rung3.training.oracles.oracles import Oracles

UNASKED = Confirmation(Oracles({}), {})
"""Accepts every image."""

APART = Plan(change="site", independent_of="disease")


@pytest.fixture(scope="module")
def world() -> SCM:
    return clinic.world()


@pytest.fixture(scope="module")
def rows(world: SCM) -> Rows:
    return world.sample(1000, seed=0)


@pytest.fixture(scope="module")
def confirmation(world: SCM, rows: Rows) -> Confirmation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirming, "IMAGES", 4000)  # enough for images of 8 x 8
        return fit_confirmation(world, prepared(world, rows, APART), seed=0)


def untrained(rows: Rows) -> SCM:
    model = clinic.scm(VAE(latent=2, width=4, depth=1))
    calibrate(model, model.mechanisms, rows, seed=0)
    return model


def joint(rows: Rows, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Shares of disease and site, `(2, 2)`."""
    cells = 2 * rows["disease"].long() + rows["site"].long()
    counts = torch.bincount(cells, weights=weight, minlength=4).double()
    return (counts / counts.sum()).view(2, 2)


def dependence(shares: torch.Tensor) -> float:
    return float((shares - shares.sum(1, keepdim=True) * shares.sum(0)).abs().max())


def test_site_becomes_independent_and_keeps_its_share(world: SCM, rows: Rows) -> None:
    made = augment(world, rows, APART, confirmation=UNASKED)
    assert dependence(joint(rows)) > 0.2
    assert dependence(joint(made.rows)) < 0.002
    assert dependence(joint(made.rows, made.weight)) < 1e-6
    assert torch.allclose(joint(made.rows).sum(0), joint(rows).sum(0), atol=0.002)
    assert torch.equal(made.rows["disease"], rows["disease"][made.source])


def test_a_kept_row_is_itself_and_another_is_the_true_counterfactual(
    world: SCM, rows: Rows
) -> None:
    made = augment(world, rows, APART, confirmation=UNASKED)
    kept = made.factual
    assert 0.4 < kept.double().mean() < 0.6
    assert torch.equal(made.rows["image"][kept], rows["image"][made.source[kept]])
    assert ((made.seed < 0) == kept).all()
    truth = world.counterfactual(rows[made.source], {"site": made.rows["site"]})
    assert torch.equal(made.rows["image"], truth["image"])


def test_every_row_comes_at_every_site(world: SCM, rows: Rows) -> None:
    made = augment(world, rows, Plan(change="site", every=True), confirmation=UNASKED)
    assert made.n == 2 * rows.n
    for number in (0, 1, rows.n - 1):
        assert sorted(made.rows["site"][made.source == number].tolist()) == [0, 1]


def test_a_stated_joint_is_met(world: SCM, rows: Rows) -> None:
    shares = {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.4}
    cells = [
        {"disease": ("healthy", "ill")[d], "site": "AB"[s], "share": q}
        for (d, s), q in shares.items()
    ]
    made = augment(world, rows, Plan(change="site", joint=cells), confirmation=UNASKED)
    wanted = torch.tensor(list(shares.values())).double().view(2, 2)
    assert torch.allclose(joint(made.rows, made.weight), wanted, atol=1e-6)


def test_originals_are_kept_and_weighted(world: SCM, rows: Rows) -> None:
    plan = Plan(change="site", independent_of="disease", originals=True)
    made = augment(world, rows, plan, confirmation=UNASKED)
    assert torch.equal(made.source[: rows.n], torch.arange(rows.n))
    assert made.factual[: rows.n].all()
    assert not made.factual[rows.n :].any()
    assert dependence(joint(made.rows)) > 0.05
    assert dependence(joint(made.rows, made.weight)) < 1e-6


def test_hue_becomes_independent_of_the_digit() -> None:
    world = worlds.colour("digit-hue")
    rows = world.sample(400, seed=0)
    plan = Plan(change="hue", independent_of="digit", bins=4)
    made = augment(world, rows, plan, confirmation=UNASKED)

    def explained(values: Rows) -> float:
        """The share of the variance of cos(hue) that lies between digits."""
        x, by = (2 * torch.pi * values["hue"]).cos(), values["digit"]
        means = torch.stack([x[by == k].mean() for k in range(10)])[by]
        return float((means - x.mean()).square().mean() / x.var())

    assert explained(rows) > 0.7
    assert explained(made.rows) < 0.1
    measured = world.measures["hue"](made.rows["image"])
    assert world.variables["hue"].difference(measured, made.rows["hue"]).abs().max() < 0.01


def test_predictors_confirm_the_truth_and_reject_an_untrained_model(
    world: SCM, rows: Rows, confirmation: Confirmation
) -> None:
    true = augment(world, rows, APART, confirmation=confirmation)
    assert true.accepted > 0.95
    blank = untrained(rows)
    false = augment(blank, rows, APART, confirmation=confirmation)
    assert false.accepted < 0.1
    assert false.rejected["site"] > 0.9 * false.attempted
    assert "rejected; not read off the image: site" in str(false)
    assert dependence(joint(false.rows, false.weight)) < 1e-6
    there = Plan(change="site", joint=[{"disease": "healthy", "site": "B", "share": 1.0}])
    with pytest.raises(ValueError, match="was confirmed; evaluate the model"):
        augment(blank, rows[rows["site"] == 0][:9], there, confirmation=confirmation)
    bound = rows[rows["site"] == rows["disease"]]
    with pytest.warns(UserWarning, match="no row of 2 cells"):
        augment(blank, bound, APART, confirmation=confirmation)


def test_predictors_that_are_misled_by_the_rows_are_not_used(
    world: SCM, confirmation: Confirmation
) -> None:
    fresh = world.do({"site": torch.arange(400) % 2}).sample(400, seed=1)
    for (image, name), oracle in confirmation.predictors.items():
        assert (oracle.read(fresh[image]) == fresh[name]).double().mean() > 0.98, name


def test_predictors_are_trained_where_no_row_is_as_it_should_become(
    world: SCM, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "IMAGES", 100)
    at_a = rows[rows["site"] == 0][:40]
    cells = [{"disease": d, "site": "B", "share": 0.5} for d in ("healthy", "ill")]
    target = prepared(world, at_a, Plan(change="site", joint=cells))
    assert len(fit_confirmation(world, target, seed=0).thresholds) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:image. its latents held 0")  # these images have little noise
def test_confirmed_answers_of_a_fitted_model_are_near_the_truth(
    world: SCM, rows: Rows, confirmation: Confirmation
) -> None:
    model = clinic.scm(VAE(latent=4, width=8, depth=1, likelihood="discretised"))
    fit(model, rows, epochs=40, batch_size=32, seed=0, progress=False)
    made = augment(model, rows, APART, confirmation=confirmation)
    set_ = ~made.factual
    assert made.accepted > 0.8
    truth = world.counterfactual(rows[made.source[set_]], {"site": made.rows["site"][set_]})
    error = (made.rows["image"][set_] - truth["image"]).abs().mean()
    nothing = (rows["image"][made.source[set_]] - truth["image"]).abs().mean()
    assert error < 0.25 * nothing


def test_a_folder_is_read_back(world: SCM, rows: Rows, tmp_path: Path) -> None:
    made = augment(world, rows[:20], APART, confirmation=UNASKED)
    path = made.save(tmp_path, world.variables)
    read = data.table(path, variables=world.variables)
    for name in world.variables:
        assert torch.equal(read[name], made.rows[name]), name
    columns = data.table(path, columns=["source", "weight"])
    assert torch.equal(columns["source"], made.source)


class WomenOnly(Confirmation):
    """Accepts what it can tell without an image."""

    def accepts(self, rows: Rows) -> dict[str, torch.Tensor]:
        return {"site": rows["sex"] == 0}


def test_shards_hold_what_is_set_and_a_table_says_what_is_accepted(tmp_path: Path) -> None:
    world = worlds.chest(16, site=True, referral=0.9)
    rows = world.sample(60, seed=0)
    few = WomenOnly(Oracles({}), {})
    path = augment_shards(
        world, rows, APART, tmp_path, confirmation=few, shard_rows=20, progress=False
    )
    names = ["row", "source", "factual", "accepted", "weight"]
    ledger = data.table(path, columns=names)
    answers = [read_answers(t, world.variables) for t in generated(tmp_path)]
    made = Rows({name: torch.cat([a[name] for a in answers]) for name in world.variables})
    kept = ledger["factual"] == 0
    source = ledger["source"].long()
    truth = world.counterfactual(rows[source[kept]], {"site": made["site"]})
    for name in world.variables:
        assert torch.equal(made[name], truth[name]), name
    assert torch.equal(ledger["accepted"] == 1, ~kept | (rows["sex"][source] == 0))
    assert ((ledger["weight"] > 0) == (ledger["accepted"] == 1)).all()


def test_shards_with_less_noise_are_refused(world: SCM, rows: Rows, tmp_path: Path) -> None:
    plan = Plan(change="site", every=True, temperature=0)
    with pytest.raises(ValueError, match="temperature=0"):
        augment_shards(world, rows, plan, tmp_path)


def test_items_depend_on_seed_epoch_and_index_alone(world: SCM, rows: Rows) -> None:
    def dataset(seed: int = 0, epoch: int = 1) -> CounterfactualDataset:
        made = CounterfactualDataset(world, rows[:16], APART, confirmation=UNASKED, seed=seed)
        made.set_epoch(epoch)
        return made

    first, again = dataset(), dataset()
    backwards = [again[k] for k in reversed(range(16))][::-1]
    for k, item in enumerate(backwards):
        assert all(torch.equal(first[k][name], value) for name, value in item.items())
    sites = [torch.stack([d[k]["site"] for k in range(16)]) for d in (first, dataset(epoch=2))]
    assert not torch.equal(*sites)
    assert not torch.equal(sites[0], torch.stack([dataset(7)[k]["site"] for k in range(16)]))
    batch = next(iter(DataLoader(first, batch_size=16)))
    assert batch["image"].shape == (16, 1, 8, 8)
    assert dependence(joint(Rows({k: batch[k] for k in ("disease", "site")}))) < 0.07


def test_an_item_that_is_not_confirmed_is_the_row_itself(
    world: SCM, rows: Rows, confirmation: Confirmation
) -> None:
    blank = untrained(rows)
    found = CounterfactualDataset(blank, rows[:12], APART, confirmation=confirmation)
    assert (~found.assignment.factual).sum() > 0
    items = [found[k] for k in range(12)]
    assert all(item["factual"] for item in items)
    assert all(torch.equal(item["image"], rows["image"][k]) for k, item in enumerate(items))
    assert [bool(item["weight"] > 0) for item in items] == found.assignment.factual.tolist()


class OneRow(Confirmation):
    """Accepts the images of one row alone."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__(Oracles({}), {})
        self.image = image

    def accepts(self, rows: Rows) -> dict[str, torch.Tensor]:
        return {"site": (rows["image"] == self.image).flatten(1).all(1)}


def test_another_row_of_the_cell_takes_the_place_of_one_that_is_not_confirmed(
    world: SCM, rows: Rows
) -> None:
    ill = ((rows["disease"] == 1) & (rows["site"] == 1)).nonzero()[:2, 0]
    two = rows[ill]
    there = Plan(change="site", joint=[{"disease": "ill", "site": "A", "share": 1.0}])
    wanted = world.counterfactual(two[1], {"site": "A"})["image"]
    found = CounterfactualDataset(world, two, there, confirmation=OneRow(wanted), seed=1)
    for item in (found[0], found[1]):
        assert torch.equal(item["image"], wanted)
        assert item["source"] == 1
        assert not item["factual"]
        assert item["weight"] == 1


def test_originals_that_are_not_asked_for_have_no_weight(world: SCM, rows: Rows) -> None:
    # All rows are at site A, and only site B is asked for; without a counterfactual nothing is.
    at_a = rows[rows["site"] == 0][:5]
    cells = [{"disease": "healthy", "site": "B", "share": 1.0}]
    plan = Plan(change="site", joint=cells, originals=True)
    target = prepared(world, at_a, plan)
    weights = target.weights(target.cell(torch.arange(at_a.n), at_a["site"]))
    assert weights.tolist() == [0.0] * at_a.n
    with pytest.raises(ValueError, match="was confirmed; evaluate the model"):
        augment(world, at_a, plan, confirmation=OneRow(torch.ones(1, 8, 8)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": "scanner", "every": True}, "unknown variable 'scanner'"),
        ({"change": "image", "every": True}, "image: expected a number or a category"),
        ({"change": "site"}, "give a joint, or independent_of, every or both"),
        ({"change": "site", "independent_of": "site"}, "cannot be independent of itself"),
        ({"change": "site", "independent_of": "image"}, "image: expected a number or a category"),
        ({"change": "disease", "independent_of": "site"}, r"causes site.*hold=\['site'\]"),
        ({"change": "site", "every": True, "copies": 2}, "copies=2"),
        ({"change": "site", "independent_of": "disease", "copies": 0}, "copies=0 must be"),
        ({"change": "site", "every": True, "values": ["A", "C"]}, "site: .*'C'"),
        ({"change": "site", "joint": [{"site": "A", "share": 1.0}]}, "of one other variable"),
        (
            {"change": "site", "joint": [{"disease": "ill", "site": "A", "share": 0.5}]},
            "sum to 0.5",
        ),
    ],
)
def test_a_plan_that_cannot_be_met_is_refused(
    world: SCM, rows: Rows, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        augment(world, rows, Plan(**options), confirmation=UNASKED)


def test_rows_that_no_row_can_become_are_refused(world: SCM, rows: Rows) -> None:
    healthy = rows[rows["disease"] == 0]
    cells = [{"disease": d, "site": "A", "share": 0.5} for d in ("healthy", "ill")]
    with pytest.raises(ValueError, match="no row has disease=ill"):
        augment(world, healthy, Plan(change="site", joint=cells), confirmation=UNASKED)
    at_one = rows[rows["site"] == 0]
    with pytest.raises(ValueError, match="site: all rows have one value"):
        augment(world, at_one, APART, confirmation=UNASKED)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0], [95, 5]),
        ([5.0] * 95 + [0.0, 1.0, 2.0, 3.0, 4.0], [5, 95]),
        ([0.0] * 60 + [*map(float, range(1, 41))], [60, 10, 10, 10, 10]),
        ([2.0] * 7, [7]),
        ([*map(float, range(100))], [10] * 10),
    ],
)
def test_no_interval_is_empty(values: list[float], counts: list[int]) -> None:
    given = torch.tensor(values)
    levels = Levels.of_rows(Continuous(), given, 10)
    found = levels.of(given).bincount(minlength=levels.count).tolist()
    assert found == counts


def test_a_number_that_most_rows_share_can_become_independent() -> None:
    # 95 of 100 rows have the dose 0; all that have more are ill.
    model = SCM(ill=Equation("u > 1"), dose=Equation("ill * 2"), scan=Equation("dose + ill + u"))
    ill = torch.tensor([0.0] * 90 + [1.0] * 10)
    dose = torch.tensor([0.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0])
    plan = Plan(change="dose", independent_of="ill")
    target = prepared(model, {"ill": ill, "dose": dose, "scan": ill + dose}, plan)
    torch.testing.assert_close(
        target.shares, torch.tensor([[0.9], [0.1]]).double() * torch.tensor([[0.95, 0.05]]).double()
    )
