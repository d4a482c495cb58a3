"""Formulas on shares: the back-door formula is standardisation, and its error that of strata."""

from __future__ import annotations

import numpy as np
import pytest
from effect_studies import NAPKIN, binary, napkin

from rung3 import effect, identify
from rung3.effects.tables.plug_in import plug_in_effect
from rung3.effects.tables.sample import Sample


@pytest.mark.parametrize("outcome", ["y", "amount"])
def test_the_back_door_formula_is_standardisation(outcome: str) -> None:
    table = binary(np.random.default_rng(0), 1_500)
    table["amount"] = table["y"] * 3.0 + np.random.default_rng(1).normal(size=1_500)
    formula = identify("z -> t -> y; z -> y", "P(y | do(t))").formula
    assert formula is not None
    named = {"z": table["z"], "t": table["t"], "y": table[outcome]}
    sample = Sample.read(named, None, "t", "y", ["z"])
    plugged = plug_in_effect(sample, ["z", "t", "y"], formula, (1, 0)).contrast
    strata = effect(named, "t", "y", adjust=["z"]).effect
    assert float(plugged.values[0]) == pytest.approx(strata.effect)
    width = 2 * plugged.reach(0.95) * float(plugged.errors[0])
    assert strata.high - strata.low == pytest.approx(width, rel=0.01)


def test_the_napkin_is_found_with_survey_weights_too() -> None:
    table = napkin(np.random.default_rng(0), 5_000)
    estimate = effect(table, "t", "y", **NAPKIN)
    assert estimate.effect.low < 1.5 < estimate.effect.high
    weighted = effect({**table, "w8": np.full(5_000, 2.0)}, "t", "y", **NAPKIN, weights="w8")
    assert weighted.effect.effect == pytest.approx(estimate.effect.effect)


def test_numbers_and_absent_combinations_are_refused() -> None:
    table = napkin(np.random.default_rng(0), 500)
    numbers = {**table, "w": np.random.default_rng(0).normal(size=500)}
    with pytest.raises(ValueError, match=r"w: is Continuous.*formula alone.*cut it into levels"):
        effect(numbers, "t", "y", **NAPKIN)
    with pytest.raises(ValueError, match=r"t: is Continuous.*formula alone"):
        effect({**table, "t": numbers["w"]}, "t", "y", **NAPKIN)
    with pytest.raises(ValueError, match="positivity"):
        effect({**table, "t": table["r"]}, "t", "y", **NAPKIN)
