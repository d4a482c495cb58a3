"""Cross-fitting: linear learners give the linear estimate; trees find what lines cannot."""

from __future__ import annotations

import numpy as np
import pytest
from effect_studies import learners, linear, repeated
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.tree import DecisionTreeRegressor

from rung3 import effect


@pytest.mark.parametrize("estimand", ["ATE", "ATT", "ATU"])
def test_the_same_models_give_nearly_the_same_answer(estimand: str) -> None:
    table = linear(np.random.default_rng(0), 4_000)
    options = {"adjust": ["z", "w"], "estimand": estimand}
    plain = effect(table, "t", "y", **options).effect  # type: ignore[arg-type]
    crossed = effect(table, "t", "y", **options, learner=learners()).effect  # type: ignore[arg-type]
    assert crossed.effect == pytest.approx(plain.effect, abs=0.02)
    assert crossed.high - crossed.low == pytest.approx(plain.high - plain.low, rel=0.05)


def test_boosted_trees_find_what_lines_cannot() -> None:
    rng = np.random.default_rng(0)
    z, e = rng.normal(size=(2, 2_000))
    t = (rng.random(2_000) < np.where(abs(z) > 1, 0.8, 0.2)).astype(int)
    table = {"z": z, "t": t, "y": t + 3 * (abs(z) > 1) + e}
    lines = effect(table, "t", "y", adjust=["z"]).effect
    learner = HistGradientBoostingRegressor(max_iter=20, max_bins=32, random_state=0)
    estimate = effect(table, "t", "y", adjust=["z"], learner=learner, seed=0).effect
    assert lines.low > 1.3
    assert estimate.low < 1 < estimate.high
    assert estimate == effect(table, "t", "y", adjust=["z"], learner=learner, seed=0).effect


def test_a_subject_is_in_one_fold_and_certainty_is_trimmed() -> None:
    """A tree remembers subjects: were they parted, their other rows would tell of them."""
    table = repeated(np.random.default_rng(0), 2_000)
    tree = DecisionTreeRegressor(random_state=0)
    estimate = effect(table, "t", "y", adjust=["z"], learner=tree, clusters="who")
    assert "with a probability of an arm below 0.01" in str(estimate)
    apart = effect(table, "t", "y", adjust=["z"], learner=tree)
    assert estimate.effect.high - estimate.effect.low > 1.5 * (apart.effect.high - apart.effect.low)
