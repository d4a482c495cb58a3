"""What refutes an effect: each check fails where it should, and passes where nothing is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from effect_studies import FRONT, INSTRUMENT, ZW, Z, binary, dose, front_door, instrument, linear

from rung3.effects.tables import Refutation, refute

RNG = np.random.default_rng


def named(refutation: Refutation) -> dict[str, bool]:
    return {check.name: check.passed for check in refutation.checks}


def test_an_effect_that_is_right_withstands() -> None:
    refutation = refute(linear(RNG(0), 500), "t", "y", **ZW, repeats=4)
    assert named(refutation) == dict.fromkeys(
        ["placebo outcome", "placebo treatment", "random common cause", "subset"], True
    )
    assert not refutation.refuted
    assert "as it should" in str(refutation)
    assert str(refutation) == str(refute(linear(RNG(0), 500), "t", "y", **ZW, repeats=4))


@pytest.mark.parametrize(
    ("draw", "options"), [(front_door, FRONT), (instrument(0.5), INSTRUMENT), (dose, Z)]
)
def test_other_ways_have_checks_of_their_own(draw: Any, options: dict[str, Any]) -> None:
    refutation = refute(draw(RNG(1), 400), "t", "y", **options, repeats=3)
    assert set(named(refutation)) >= {"placebo outcome", "subset"}
    assert (refutation.robustness is None) == (options is not Z)


def test_a_negative_control_tells_a_hidden_cause() -> None:
    """The hidden cause moves t, y, and an outcome that t cannot have changed."""
    rng = RNG(0)
    hidden, z = rng.normal(size=(2, 1_000))
    t = (rng.random(1_000) < 1 / (1 + np.exp(-hidden - z))).astype(int)
    before, clean = hidden + z + rng.normal(size=1_000), z + rng.normal(size=1_000)
    table = {"t": t, "z": z, "y": t + hidden + z, "before": before, "clean": clean}
    refutation = refute(table, "t", "y", **Z, repeats=2, negative_outcomes=["before", "clean"],
                        negative_treatments=["clean"])  # fmt: skip
    checks = named(refutation)
    assert not checks["negative outcome before"]
    assert checks["negative outcome clean"]
    assert checks["negative treatment clean"]
    assert refutation.refuted
    assert "REFUTED" in str(refutation)


def test_an_outcome_that_repeats_itself_in_a_few_rows_is_refuted_by_subsets() -> None:
    """Two rows carry all of the effect."""
    rng = RNG(0)
    y = rng.normal(size=200) / 100
    y[:1] = 50
    t = np.zeros(200, dtype=int)
    t[:20] = 1
    refutation = refute({"t": t, "y": y}, "t", "y", adjust=[], repeats=10)
    values = [check for check in refutation.checks if check.name == "subset"]
    assert values[0].value != pytest.approx(values[0].expected, rel=0.02)


def test_what_cannot_be_exchanged_is_said() -> None:
    """Each stratum has one treated row: exchanged, some strata have none."""
    z = np.arange(40) // 2
    kinds = {"z": np.array([f"k{k}" for k in z])}
    table = {**kinds, "t": np.arange(40) % 2, "y": RNG(0).normal(size=40)}
    refutation = refute(table, "t", "y", **Z, repeats=2)
    assert "placebo treatment: not tried (no exchange leaves" in str(refutation)
    with pytest.raises(ValueError, match="repeats: expected at least 2, got 1"):
        refute(table, "t", "y", **Z, repeats=1)


def test_the_odds_of_strata_have_an_e_value() -> None:
    refutation = refute(binary(RNG(0), 600), "t", "y", **Z, repeats=2)
    assert refutation.effect.ratio is not None
    ratio = refutation.effect.ratio.effect
    assert refutation.e_value.estimate == pytest.approx(ratio + (ratio * (ratio - 1)) ** 0.5)
