"""Learning from rows with gaps that depend on what the rows have."""

from __future__ import annotations

import pytest
import torch

from rung3 import SCM, Continuous, effects, fit
from rung3.data.rows import Rows
from rung3.mechanisms import AdditiveNoise, Equation
from rung3.training import fit_incomplete

WORLD = SCM(x=Equation("u"), y=Equation("x + u"))
KINDS = {"x": Continuous(missing=True), "y": Continuous()}


def gapped(n: int = 500, seed: int = 0) -> Rows:
    """x is missing the more often the higher y is: E[x] of those that have it is -.48."""
    rows = dict(WORLD.sample(n, seed=seed))
    chance = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    rows["x"] = torch.where(chance < torch.sigmoid(2 * rows["y"]), torch.nan, rows["x"])
    return Rows(rows)


def lines() -> SCM:
    return SCM("x -> y", KINDS, {"x": AdditiveNoise(degree=1), "y": AdditiveNoise(degree=1)})


def slope(model: SCM) -> float:
    question = {"do": {"x": 1.0}, "versus": {"x": 0.0}, "n": 20, "refits": 0, "seed": 0}
    return float(effects.average(model, outcome="y", **question).effect)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:fit:UserWarning")
def test_a_parent_that_is_missing_at_random_no_longer_bends_the_slope() -> None:
    rows = gapped()
    available = lines()
    fit(available, rows, epochs=1, progress=False)
    learned = fit_incomplete(lines(), rows, rounds=8, particles=2, proposals=200)
    means = [float(m.sample(4_000, seed=0)["x"].mean()) for m in (available, learned)]
    assert means[0] < -0.35
    assert abs(means[1]) < 0.15
    assert slope(available) < 0.8
    assert slope(learned) == pytest.approx(1, abs=0.15)


def test_it_can_be_learned_again_when_told() -> None:
    model = fit_incomplete(lines(), gapped(200), rounds=1, particles=2, proposals=40)
    assert effects.refits(model) == []
    assert len(effects.refits(model, 2)) == 2


def test_without_gaps_it_is_fit() -> None:
    rows = WORLD.sample(200, seed=0)
    plain = lines()
    fit(plain, rows, epochs=1, progress=False)
    assert slope(fit_incomplete(plain, rows)) == slope(plain)
