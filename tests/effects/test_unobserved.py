"""E-values and robustness values: published ones, and what a hidden cause really does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from effect_studies import Z, binary

from rung3 import effect
from rung3.effects.tables import Robustness, e_value, robustness
from rung3.effects.tables.sample import Sample

DARFUR = Robustness(0.09731582, 0.02325654, 783, 0, 0, {}, 0.95)
"""Cinelli and Hazlett 2020, table 1."""


def test_the_e_value_of_a_published_ratio() -> None:
    """VanderWeele and Ding 2017: 3.9 has 7.26, and its lower end of 1.8 has 3.0."""
    estimate = effect(binary(np.random.default_rng(0), 500), "t", "y", **Z)
    assert estimate.ratio is not None
    for ratio, value in ((3.9, 7.26), (1.8, 3.0)):
        assert ratio + math.sqrt(ratio * (ratio - 1)) == pytest.approx(value, abs=0.005)
    ends = e_value(estimate, 1.0)
    low = max(estimate.ratio.low, 1.0)
    assert ends.interval == pytest.approx(low + math.sqrt(low * (low - 1)))


def test_a_protective_effect_has_the_e_value_of_its_inverse() -> None:
    table = binary(np.random.default_rng(0), 2_000)
    there = e_value(effect(table, "t", "y", **Z), 1.0)
    back = e_value(effect({**table, "t": 1 - table["t"]}, "t", "y", **Z), 1.0)
    assert back.estimate == pytest.approx(there.estimate)
    assert back.interval == pytest.approx(there.interval)
    none = e_value(effect({**table, "y": table["z"] * 1.0}, "t", "y", **Z), 1.0)
    assert none.interval == pytest.approx(1, abs=1e-6)


def test_the_published_robustness_values() -> None:
    """Darfur: t = 4.18 with 783 degrees of freedom has RV 13.9 %, and 7.6 % at 95 %."""
    rng = np.random.default_rng(0)
    n = 785
    t = rng.normal(size=n)
    noise = rng.normal(size=n)
    x = np.stack([np.ones(n), t], 1)
    noise -= x @ np.linalg.lstsq(x, noise, rcond=None)[0]
    centred = t - t.mean()
    error = (noise @ noise / 783 / (centred @ centred)) ** 0.5
    y = noise + 4.18445 * error * t
    sample = Sample.read({"t": t, "y": y}, None, "t", "y", [])
    robustness_values = robustness(sample, [], (1, 0))
    assert robustness_values.freedom == 783
    assert robustness_values.value == pytest.approx(0.13878, abs=1e-4)
    assert robustness_values.significant == pytest.approx(0.07626, abs=1e-4)
    assert DARFUR.bias(0.13878, 0.13878) == pytest.approx(DARFUR.estimate, rel=1e-3)


def test_a_hidden_cause_moves_the_estimate_as_far_as_it_says() -> None:
    rng = np.random.default_rng(0)
    z, u = rng.normal(size=(2, 600))
    t = z + u + rng.normal(size=600)
    y = t / 2 + z + 2 * u + rng.normal(size=600)
    whole = {"t": t, "y": y, "z": z, "u": u}
    short = robustness(Sample.read(whole, None, "t", "y", ["z"]), ["z"], (1, 0))
    both = robustness(Sample.read(whole, None, "t", "y", ["z", "u"]), ["z", "u"], (1, 0))

    def left(y: np.ndarray, *x: np.ndarray) -> float:
        columns = np.stack([np.ones(600), *x], 1)
        return float(((y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]) ** 2).sum())

    of_t = 1 - left(t, z, u) / left(t, z)
    of_y = 1 - left(y, z, t, u) / left(y, z, t)
    assert short.left(of_t, of_y) == pytest.approx(both.estimate)
    assert short.value == pytest.approx(
        next(r for r in np.linspace(0, 1, 100_001) if short.left(r, r) <= 0), abs=1e-4
    )


def test_a_column_is_the_scale_for_what_is_hidden() -> None:
    """Two causes alike, one of them hidden: the bound holds what leaving it out does."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 4_000))
    t = (a + b) / 2 + rng.normal(size=4_000)
    table = {"t": t, "a": a, "y": t + a + b + rng.normal(size=4_000)}
    robustness_values = robustness(Sample.read(table, None, "t", "y", ["a"]), ["a"], (1, 0))
    assert robustness_values.estimate > 1.2
    assert robustness_values.left(*robustness_values.benchmarks["a"]) == pytest.approx(1, abs=0.12)
    assert "one as strong as a" in str(robustness_values)
    axes = robustness_values.figure().axes[0]
    assert [text.get_text() for text in axes.texts if text.get_text() == "a"] == ["a"]


def test_names_of_points_that_lie_together_share_a_label() -> None:
    """Each would be printed over the others."""
    many = {f"w{k}": (0.001 * k, 0.001 * k) for k in range(8)}
    axes = replace(DARFUR, benchmarks={**many, "far": (0.1, 0.05)}).figure().axes[0]
    labels = [
        one.get_text() for one in axes.texts if "w" in one.get_text() or one.get_text() == "far"
    ]
    assert labels == ["w0, w1, w2, w3, w4, w5 and 2 more", "far"]
