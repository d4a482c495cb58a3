"""Rows with gaps: complete rows stand for those that are like them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from effect_studies import Z, missing_confounder, missing_outcome

from rung3 import effect


@pytest.mark.parametrize("draw", [missing_outcome, missing_confounder])
def test_weights_mend_what_complete_rows_get_wrong(draw: Any) -> None:
    table = draw(np.random.default_rng(1), 20_000)
    left_out = effect(table, "t", "y", **Z)
    weighted = effect(table, "t", "y", **Z, missing="weight")
    assert not left_out.effect.low < 1 < left_out.effect.high
    assert weighted.effect.low < 1 < weighted.effect.high
    assert left_out.gaps == int(np.isnan(table["z"] + table["y"]).sum())
    assert "with gaps left out" in str(left_out)
    assert weighted.gaps == 0
    assert "too short" not in str(weighted)
    head = {name: column[:200] for name, column in table.items()}
    assert "the interval may be too short" in str(effect(head, "t", "y", **Z, missing="weight"))
    assert "stand for them (missing at random given these)" in str(weighted)


def test_a_stratum_with_gaps_is_weighted_by_its_share() -> None:
    """Half of the outcomes in one stratum are missing: its complete rows count twice."""
    rng = np.random.default_rng(0)
    z, t = rng.integers(0, 2, (2, 4_000))
    y = t * (1 + z) + rng.normal(size=4_000)
    gone = (z == 1) & (np.arange(4_000) % 2 == 0)
    estimate = effect({"z": z, "t": t, "y": np.where(gone, np.nan, y)}, "t", "y", adjust=[],
                   missing="weight")  # fmt: skip
    assert estimate.gaps == 0
    both = effect({"z": z, "t": t, "y": np.where(gone, np.nan, y)}, "t", "y", **Z,
                  missing="weight").effect  # fmt: skip
    assert both.effect == pytest.approx(1 + z.mean(), abs=0.1)


def test_subjects_with_gaps_count_as_such() -> None:
    table = missing_outcome(np.random.default_rng(0), 500)
    twice = {name: np.tile(column, 2) for name, column in table.items()}
    once = effect(table, "t", "y", **Z, missing="weight").effect
    estimate = effect({**twice, "who": np.tile(np.arange(500), 2)}, "t", "y", **Z, missing="weight",
                  clusters="who").effect  # fmt: skip
    assert estimate.high - estimate.low == pytest.approx(once.high - once.low, rel=0.03)


def test_without_gaps_nothing_changes_and_without_a_whole_column_it_is_refused() -> None:
    table = missing_outcome(np.random.default_rng(0), 300)
    whole = {name: column[~np.isnan(table["y"])] for name, column in table.items()}
    assert effect(whole, "t", "y", **Z, missing="weight") == effect(whole, "t", "y", **Z)
    holes = {name: column.astype(float) for name, column in table.items()}
    for at, name in enumerate(holes):
        holes[name][at] = np.nan
    kinds: dict[str, Any] = {"adjust": ["z"]}
    with pytest.raises(ValueError, match=r"each of .* has gaps; expected a column that all rows"):
        effect(holes, "t", "y", **kinds, missing="weight", do=1.0, versus=0.0)
    certain = {**table, "y": np.where(table["t"] == 1, np.nan, table["z"])}
    with pytest.raises(
        ValueError, match=r"tell without error which rows are complete|no rows with"
    ):
        effect(certain, "t", "y", **Z, missing="weight")
