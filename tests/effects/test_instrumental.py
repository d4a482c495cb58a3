"""Instruments: Wald's ratio, two-stage least squares, and the interval of Anderson and Rubin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from effect_studies import INSTRUMENT, compliance, instrument

from rung3 import effect


def rows(draw: Any, n: int = 1_000, seed: int = 0) -> dict[str, Any]:
    table: dict[str, Any] = draw(np.random.default_rng(seed), n)
    return table


def test_a_binary_instrument_gives_the_ratio_of_wald() -> None:
    table = rows(compliance)
    z, t, y = (table[name] for name in ("z0", "t", "y"))
    ratio = (y[z == 1].mean() - y[z == 0].mean()) / (t[z == 1].mean() - t[z == 0].mean())
    estimate = effect(table, "t", "y", **INSTRUMENT)
    assert estimate.effect.effect == pytest.approx(ratio)
    assert estimate.effect.low < 1 < estimate.effect.high


def test_two_stages_are_two_regressions() -> None:
    table = rows(instrument(0.5, 3))
    x = np.random.default_rng(1).normal(size=1_000)
    table |= {"x": x, "y": table["y"] + x}
    z = np.stack([np.ones(1_000), x, *(table[f"z{k}"] for k in range(3))], 1)
    hat = z @ np.linalg.lstsq(z, table["t"], rcond=None)[0]
    second = np.stack([np.ones(1_000), x, hat], 1)
    beta = np.linalg.lstsq(second, table["y"], rcond=None)[0]
    residual = table["y"] - np.stack([np.ones(1_000), x, table["t"]], 1) @ beta
    bread = np.linalg.inv(second.T @ second)
    meat = (second * residual[:, None] ** 2).T @ second
    error = ((bread @ meat @ bread)[2, 2] * 1_000 / 997) ** 0.5
    estimate = effect(table, "t", "y", adjust=["x"], instrument=["z0", "z1", "z2"])
    assert estimate.effect.effect == pytest.approx(beta[2])
    assert (estimate.effect.high - estimate.effect.low) / 2 == pytest.approx(
        1.9623 * error, rel=0.005
    )
    assert "by the instruments z0, z1, z2 given x" in str(estimate)


def test_the_interval_holds_what_the_test_does_not_reject() -> None:
    """Anderson and Rubin: Y - b T regressed on Z, with errors of HC2."""
    table = rows(instrument(0.3), 300)
    estimate = effect(table, "t", "y", **INSTRUMENT)
    x = np.stack([np.ones(300), table["z0"]], 1)
    leverage = np.einsum("ij,jk,ik->i", x, np.linalg.inv(x.T @ x), x)
    for b in (estimate.effect.low, estimate.effect.high):
        y = table["y"] - b * table["t"]
        beta = np.linalg.lstsq(x, y, rcond=None)[0]
        weight = ((y - x @ beta) ** 2 / (1 - leverage))[:, None]
        bread = np.linalg.inv(x.T @ x)
        error = (bread @ ((x * weight).T @ x) @ bread)[1, 1] ** 0.5
        assert abs(beta[1] / error) == pytest.approx(1.96796, rel=1e-4)


def test_a_weak_instrument_is_named_with_an_interval_that_says_so() -> None:
    estimate = effect(rows(instrument(0.0), 200), "t", "y", **INSTRUMENT)
    assert estimate.strength is not None
    assert estimate.strength < 10
    assert (estimate.effect.low, estimate.effect.high) == (-np.inf, np.inf)
    assert "the instrument is weak: its first-stage F is" in str(estimate)
    many = effect(rows(instrument(0.02, 3), 300), "t", "y", instrument=["z0", "z1", "z2"])
    assert many.effect.high - many.effect.low > 5
    assert "the instrument is weak" in str(many)


def test_the_effect_of_two_units_is_twice_that_of_one() -> None:
    table = rows(instrument(0.5))
    one = effect(table, "t", "y", **INSTRUMENT).effect
    back = effect(table, "t", "y", **INSTRUMENT, do=-1.0, versus=1.0).effect
    assert (back.effect, back.low) == pytest.approx((-2 * one.effect, -2 * one.high))


def test_an_instrument_that_does_not_vary_is_refused() -> None:
    table = rows(instrument(0.5)) | {"x": rows(instrument(0.5))["z0"]}
    with pytest.raises(ValueError, match=r"z0: constant given \['x'\], so that it moves nothing"):
        effect(table, "t", "y", adjust=["x"], instrument="z0")
    labelled = {**table, "t": np.array(["a", "b", "c", "a"] * 250)}
    with pytest.raises(
        ValueError, match="by an instrument, expected a number, or a category of two"
    ):
        effect(labelled, "t", "y", adjust=[], instrument="z0")
