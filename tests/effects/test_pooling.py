"""Partial pooling: what groups lean on, and that intervals hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rung3 import effect
from rung3.effects.estimate import AVERAGE
from rung3.effects.tables.pooling import partially_pooled

SCHOOLS = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]).double()
ERRORS = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18]).double()
"""Rubin 1981: eight schools, whose effects differ no more than their errors."""


def test_eight_schools_are_one() -> None:
    estimates, spread = partially_pooled(SCHOOLS, ERRORS, 0.95, AVERAGE)
    assert spread == 0
    weight = 1 / ERRORS**2
    mean = float((weight * SCHOOLS).sum() / weight.sum())
    assert mean == pytest.approx(7.7, abs=0.05)
    assert estimates[0].effect == pytest.approx(28 - 5 / 7 * (28 - mean))
    assert all(one.high - one.low < 2 * 1.96 * e for one, e in zip(estimates, ERRORS, strict=True))


def test_groups_that_differ_are_left_as_they_are() -> None:
    far = torch.arange(6).double() * 100
    estimates, spread = partially_pooled(far, torch.ones(6).double(), 0.95, AVERAGE)
    assert spread == pytest.approx(float(far.std()), rel=0.01)
    assert [one.effect for one in estimates] == pytest.approx(far.tolist(), abs=0.1)


def test_over_the_groups_intervals_hold_the_truth_and_err_less() -> None:
    rng = np.random.default_rng(0)
    held, errors, plain = 0.0, [], []
    for _ in range(100):
        error = rng.uniform(0.3, 1.5, 12)
        truth = 2 + 0.5 * rng.normal(size=12)
        seen = truth + error * rng.normal(size=12)
        estimate, _ = partially_pooled(
            torch.from_numpy(seen), torch.from_numpy(error), 0.95, AVERAGE
        )
        pairs = list(zip(estimate, truth, strict=True))
        held += float(np.mean([one.low <= value <= one.high for one, value in pairs])) / 100
        errors += [one.effect - value for one, value in pairs]
        plain += list(seen - truth)
    assert 0.93 < held < 0.985
    assert np.std(errors) < 0.7 * np.std(plain)


def test_hospitals_are_pooled_and_it_is_said() -> None:
    rng = np.random.default_rng(0)
    ward = rng.integers(0, 15, 600)
    t = rng.integers(0, 2, 600)
    names = np.array([f"ward {k:02}" for k in range(15)])[ward]
    table = {"ward": names, "t": t, "y": t + rng.normal(size=600)}
    plain = effect(table, "t", "y", adjust=[], by="ward").groups
    estimate = effect(table, "t", "y", adjust=[], by="ward", pool=True)
    assert "partially pooled" in str(estimate)
    spread = [
        np.std([one.effect for one in groups.values()]) for groups in (plain, estimate.groups)
    ]
    assert spread[1] < 0.5 * spread[0]
    with pytest.raises(ValueError, match="3 groups are too few"):
        partially_pooled(SCHOOLS[:3], ERRORS[:3], 0.95, AVERAGE)
    with pytest.raises(ValueError, match="say with by= which groups"):
        effect(table, "t", "y", adjust=[], pool=True)
    with pytest.raises(ValueError, match="a group has no error"):
        partially_pooled(SCHOOLS, torch.zeros(8).double(), 0.95, AVERAGE)
