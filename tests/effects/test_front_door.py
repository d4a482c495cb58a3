"""The front door: its saturated form is the formula's, and the others find the truth."""

from __future__ import annotations

import numpy as np
import pytest
from effect_studies import FRONT, front_door, front_door_amount, front_door_line

from rung3 import effect, identify
from rung3.effects.tables.plug_in import plug_in_effect
from rung3.effects.tables.sample import Sample


def test_strata_are_the_plug_in_of_the_formula() -> None:
    table = front_door(np.random.default_rng(0), 3_000)
    estimate = effect(table, "t", "y", **FRONT)
    sample = Sample.read(table, None, "t", "y", ["m"])
    formula = identify(FRONT["graph"], "P(y | do(t))").formula
    assert formula is not None
    plugged = plug_in_effect(sample, ["t", "m", "y"], formula, (1, 0)).contrast
    assert estimate.effect.effect == pytest.approx(float(plugged.values[0]))
    width = 2 * plugged.reach(0.95) * float(plugged.errors[0])
    assert estimate.effect.high - estimate.effect.low == pytest.approx(width, rel=0.01)


def test_mediators_may_be_numbers() -> None:
    estimate = effect(front_door_amount(np.random.default_rng(0), 5_000), "t", "y", **FRONT)
    assert estimate.effect.low < 2 < estimate.effect.high
    assert estimate.effect.high - estimate.effect.low < 0.3


def test_a_slope_is_the_product_of_two() -> None:
    table = front_door_line(np.random.default_rng(0), 2_000)
    t, m, y = (table[name] for name in "tmy")
    first = np.polyfit(t, m, 1)[0]
    second = np.linalg.lstsq(np.stack([np.ones(2_000), t, m], 1), y, rcond=None)[0][2]
    estimate = effect(table, "t", "y", **FRONT)
    assert estimate.effect.effect == pytest.approx(first * second)
    doubled = effect(table, "t", "y", **FRONT, do=2.0, versus=0.0).effect
    assert doubled.effect == pytest.approx(2 * first * second)
    assert "taken to act linearly" in str(estimate)


def test_a_mediator_that_the_treatment_decides_is_refused() -> None:
    table = front_door(np.random.default_rng(0), 500)
    with pytest.raises(ValueError, match="t: no rows with t = 0 in the stratum m = 1"):
        effect({**table, "m": table["t"]}, "t", "y", **FRONT)
