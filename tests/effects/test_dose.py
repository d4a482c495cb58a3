"""Continuous treatments: the curve, the contrast of two doses, and the average derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from effect_studies import dose
from sklearn.linear_model import LinearRegression

from rung3 import effect
from rung3.effects.tables.dose import Spline


def test_a_spline_has_its_derivative_and_holds_cubics() -> None:
    values = torch.randn(400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spline = Spline(values)
    step = (spline(values + 1e-6) - spline(values - 1e-6)) / 2e-6
    assert torch.allclose(step, spline.slope(values), atol=1e-6)
    columns = torch.cat([torch.ones(400, 1, dtype=torch.float64), spline(values)], 1)
    cubic = (2 * values**3 - values)[:, None]
    fitted = columns @ torch.linalg.lstsq(columns, cubic).solution
    assert torch.allclose(fitted, cubic, atol=1e-8)


def test_curve_contrast_and_derivative_are_found() -> None:
    table = dose(np.random.default_rng(0), 4_000)
    estimate = effect(table, "t", "y", adjust=["z"])
    assert estimate.effect.effect == pytest.approx(1, abs=0.1)
    assert estimate.curve is not None
    for at, mean in zip(estimate.curve.doses, estimate.curve.means, strict=True):
        assert mean.low < at + at**2 / 4 < mean.high
    two = effect(table, "t", "y", adjust=["z"], do=1.0, versus=0.0)
    assert two.effect.low < 1.25 < two.effect.high
    assert two.do.effect - two.versus.effect == pytest.approx(two.effect.effect)
    assert two.compared == ("1", "0")


def test_a_line_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=500)
    t = np.where(rng.random(500) < 0.5, 1.0, 2.5)
    y = 3 * t + z + rng.normal(size=500)
    estimate = effect({"t": t, "y": y, "z": z}, "t", "y", adjust=[])
    assert estimate.effect.effect == pytest.approx(np.polyfit(t, y, 1)[0])


def test_yes_and_no_have_a_curve_between_zero_and_one() -> None:
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(2, 3_000))
    y = (rng.random(3_000) < 1 / (1 + np.exp(-2 * t - z))).astype(int)
    estimate = effect({"z": z, "t": t, "y": y}, "t", "y", adjust=["z"])
    assert estimate.curve is not None
    assert all(0 < mean.effect < 1 for mean in estimate.curve.means)
    slope = 2 * np.mean(1 / (1 + np.exp(-2 * t - z)) * (1 - 1 / (1 + np.exp(-2 * t - z))))
    assert estimate.effect.low < slope < estimate.effect.high


def test_a_learner_leaves_residuals_whose_slope_is_the_effect() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=2_000)
    t = z + rng.normal(size=2_000)
    table = {"z": z, "t": t, "y": t / 2 + z + rng.normal(size=2_000)}
    estimate = effect(table, "t", "y", adjust=["z"], learner=LinearRegression())
    x = np.stack([np.ones(2_000), t, z], 1)
    beta = np.linalg.lstsq(x, table["y"], rcond=None)[0][1]
    assert estimate.effect.effect == pytest.approx(beta, abs=0.003)
    assert "linear in the treatment" in str(estimate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": np.ones(100)}, "t: all its values are 1"),
        ({"z": np.arange(100.0) * 2}, "z tells t without error"),
    ],
)
def test_a_treatment_that_does_not_vary_alone_is_refused(
    change: dict[str, object], message: str
) -> None:
    rng = np.random.default_rng(0)
    table = {"t": np.arange(100.0), "z": rng.normal(size=100), "y": rng.normal(size=100)}
    with pytest.raises(ValueError, match=message):
        effect({**table, **change}, "t", "y", adjust=["z"])
    with pytest.raises(ValueError, match="do and versus are the same value"):
        effect(table, "t", "y", adjust=["z"], do=1.0, versus=1.0)
