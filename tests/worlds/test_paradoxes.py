"""The lecture's paradoxes, against the published table and against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

from rung3 import SCM, data, worlds
from rung3.scm.enumeration import probability

EXPLANATIONS = ("chocolate causes prizes", "prizes cause chocolate", "common cause")


@pytest.mark.parametrize(
    ("size", "treatment", "recovered", "patients"),
    [("small", "A", 81, 87), ("small", "B", 234, 270),
     ("large", "A", 192, 263), ("large", "B", 55, 80)],
)  # fmt: skip
def test_the_rows_are_those_of_figure_3(
    size: str, treatment: str, recovered: int, patients: int
) -> None:
    world, rows = worlds.kidney_stones(), data.kidney_stones()
    given = {"size": size, "treatment": treatment}
    cell = torch.ones(rows.n, dtype=torch.bool)
    for name, label in given.items():
        cell &= rows[name] == world.variables[name].validate(name, label)
    assert (int(rows["recovery"][cell].sum()), int(cell.sum())) == (recovered, patients)
    seen = probability(world, {"recovery": "yes"}, given)
    assert seen == pytest.approx(recovered / patients, abs=1e-6)


def test_seeing_and_doing_differ_on_kidney_stones() -> None:
    world = worlds.kidney_stones()
    recovery = {"recovery": "yes"}
    small, large = Fraction(357, 700), Fraction(343, 700)
    truth = {
        "A": (Fraction(273, 350), Fraction(81, 87) * small + Fraction(192, 263) * large),
        "B": (Fraction(289, 350), Fraction(234, 270) * small + Fraction(55, 80) * large),
    }
    for treatment, (seeing, doing) in truth.items():
        seen = probability(world, recovery, {"treatment": treatment})
        done = probability(world.do(treatment=treatment), recovery)
        assert seen == pytest.approx(float(seeing), abs=1e-6)
        assert done == pytest.approx(float(doing), abs=1e-6)
    assert round(float(truth["A"][1]), 3) == 0.833
    assert round(float(truth["B"][1]), 3) == 0.779


def test_patients_of_the_world_follow_the_table() -> None:
    rows = worlds.kidney_stones().sample(40_000, seed=0)
    treated = rows.select((rows["treatment"] == 1) & (rows["size"] == 0))
    assert treated["recovery"].float().mean().item() == pytest.approx(81 / 87, abs=0.01)


@pytest.mark.parametrize("explanation", EXPLANATIONS)
def test_chocolate_and_prizes_are_distributed_alike(explanation: str) -> None:
    rows = worlds.chocolate(explanation).sample(100_000, seed=0)  # type: ignore[arg-type]
    both = torch.stack([rows["chocolate"], rows["prizes"]])
    assert both.mean(1).tolist() == pytest.approx([0, 0], abs=0.015)
    assert both.cov().flatten().tolist() == pytest.approx([1, 0.791, 0.791, 1], abs=0.02)


def test_chocolate_and_prizes_have_one_density() -> None:
    values = {"chocolate": torch.randn(20), "prizes": torch.randn(20)}
    one, other = (
        worlds.chocolate(explanation).log_prob(values)  # type: ignore[arg-type]
        for explanation in EXPLANATIONS[:2]
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("explanation", "prizes", "chocolate"),
    [("chocolate causes prizes", 1.582, 0), ("prizes cause chocolate", 0, 1.582),
     ("common cause", 0, 0)],
)  # fmt: skip
def test_do_tells_the_explanations_apart(explanation: str, prizes: float, chocolate: float) -> None:
    world = worlds.chocolate(explanation)  # type: ignore[arg-type]
    fed = world.do(chocolate=2.0).sample(50_000, seed=0)["prizes"].mean().item()
    awarded = world.do(prizes=2.0).sample(50_000, seed=0)["chocolate"].mean().item()
    assert (fed, awarded) == pytest.approx((prizes, chocolate), abs=0.02)


def test_an_unknown_explanation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*common cause.*got 'luck'"):
        worlds.chocolate("luck")  # type: ignore[arg-type]


@pytest.mark.parametrize("seen", [-2.0, 0.0, 1.0])
def test_given_the_effect_its_causes_depend_on_each_other(seen: float) -> None:
    """`x1, x2 | x3` are Gaussian with means x3/3, variances 2/3 and covariance -1/3."""
    world = worlds.collider()
    free = world.sample(20_000, seed=0)
    assert torch.stack([free["x1"], free["x2"]]).corrcoef()[0, 1].item() == pytest.approx(
        0, abs=0.02
    )
    rows = world.sample(5_000, given={"x3": seen}, seed=0)
    both = torch.stack([rows["x1"], rows["x2"]])
    assert both.mean(1).tolist() == pytest.approx([seen / 3] * 2, abs=0.05)
    assert both.cov().flatten().tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3, 2 / 3], abs=0.06)
    size = rows.explain().effective_sample_size
    assert size is not None
    assert size > 1000


def test_the_patients_of_a_hospital_are_selected() -> None:
    """By Bayes' rule: with an injury 0.1 * 0.75 / (0.1 * 0.75 + 0.9 * 0.5) have flu."""
    world = worlds.hospital()
    flu = {"flu": 1}
    assert probability(world, flu, {"injury": 1}) == pytest.approx(0.1, abs=1e-6)
    for injury, truth in ((1, 0.075 / 0.525), (0, 0.05 / 0.095)):
        given = {"injury": injury, "admitted": 1}
        assert probability(world, flu, given) == pytest.approx(truth, abs=1e-6)
        rows = world.sample(20_000, given={"admitted": 1}, seed=0)
        inside = rows["flu"][rows["injury"] == injury].float().mean().item()
        assert inside == pytest.approx(truth, abs=0.03)


def test_admitting_everybody_makes_the_illnesses_independent_again() -> None:
    world = worlds.hospital().do(admitted=1)
    both = [probability(world, {"flu": 1}, {"injury": injury}) for injury in (0, 1)]
    assert both == pytest.approx([0.1, 0.1], abs=1e-6)


@pytest.mark.parametrize("world", [worlds.kidney_stones, worlds.hospital, worlds.collider])
def test_worlds_know_their_counterfactuals(world: Callable[[], SCM]) -> None:
    model = world()
    rows = model.sample(200, seed=0)
    name = model.graph.roots[0]
    back = model.counterfactual(rows, do={name: rows[name]})
    assert all(torch.allclose(back[k], rows[k]) for k in model.graph.nodes)
    assert set(back.explain().abductions.values()) <= {"known"}
