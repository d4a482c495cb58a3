"""Effect heterogeneity against effects that are known."""

from __future__ import annotations

import pytest
import torch

from rung3 import SCM
from rung3.effects import heterogeneity
from rung3.mechanisms import Equation


def test_an_effect_that_depends_on_a_column() -> None:
    """`y = x d + u`: moving d by one moves y by x."""
    model = SCM(x=Equation("u"), w=Equation("u"), d=Equation("u"), y=Equation("x*d + w + u"))
    rows = model.sample(4_000, seed=0)
    effect = model.counterfactual(rows, do={"d": lambda d: d + 1})["y"] - rows["y"]
    by_x, by_w = (heterogeneity(effect, rows, by) for by in ("x", "w"))
    assert by_x.explained == pytest.approx(0.86, abs=0.02)  # of a normal in four quarters
    assert by_x.p < 1e-6 < 0.001 < by_w.p
    assert by_w.explained < 0.01
    low, *_, high = (float(average.effect) for average in by_x.groups.values())
    assert low == pytest.approx(-1.27, abs=0.05)  # E[x | lowest quarter] = -phi(q) / 0.25
    assert high == pytest.approx(1.27, abs=0.05)
    assert "by x: 85% of the effect's variance" in str(by_x)


def test_groups_of_categories_carry_their_names() -> None:
    effect = torch.tensor([1.0, 1.2, 5.0, 5.2])
    groups = heterogeneity(effect, {"ward": ["A", "A", "B", "B"]}, "ward")
    assert list(groups.groups) == ["A", "B"]
    assert float(groups.groups["B"].effect) == pytest.approx(5.1)


def test_bad_input_is_refused() -> None:
    effect = torch.zeros(4)
    with pytest.raises(ValueError, match=r"expected shape \(3,\), got \(4,\)"):
        heterogeneity(effect, {"x": [0.1, 0.2, 0.3]}, "x")
    with pytest.raises(ValueError, match="x: all rows are in one group"):
        heterogeneity(effect, {"x": [1.5] * 4}, "x")
    with pytest.raises(ValueError, match="has one row"):
        heterogeneity(effect, {"x": [0.1, 0.2, 0.3, 0.4]}, "x", bins=4)
    with pytest.raises(ValueError, match="lacks a column"):
        heterogeneity(effect, {"x": [0.1, 0.2, 0.3, 0.4]}, "y")


def test_rows_with_gaps_are_left_out_and_counted() -> None:
    effect = torch.tensor([1.0, 2.0, 5.0, 6.0, 90.0])
    groups = heterogeneity(effect, {"ward": ["A", "A", "B", "B", None]}, "ward")
    assert {name: one.effect.item() for name, one in groups.groups.items()} == {"A": 1.5, "B": 5.5}
    assert groups.gaps == 1
    assert "1 row with gaps left out" in str(groups)
