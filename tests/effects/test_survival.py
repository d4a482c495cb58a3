"""Censored times: Kaplan-Meier, pseudo-values, and effects on restricted means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from effect_studies import STUDIES, lifetimes

from rung3 import effect
from rung3.effects.tables import refute
from rung3.effects.tables.survival import KaplanMeier, pseudo_values

SURVIVAL = STUDIES["censored times"]


def table(n: int = 400, seed: int = 0) -> dict[str, Any]:
    return lifetimes(np.random.default_rng(seed), n)


def test_a_textbook_curve() -> None:
    """Freireich's 6-MP arm (Cox and Oakes 1984): survival after each event."""
    times = torch.tensor(
        [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    )
    censored = torch.tensor([0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1])
    curve = KaplanMeier.of(times.double(), censored == 0)
    after = curve.survival[curve.events > 0]
    expected = torch.tensor([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448])
    torch.testing.assert_close(after.float(), expected, atol=5e-4, rtol=0)


def test_pseudo_values_are_the_jackknife_in_the_limit() -> None:
    data = table(60)
    times, seen = torch.from_numpy(data["time"]), torch.from_numpy(data["died"]) == 1
    values = pseudo_values(times, seen, 2.0, torch.zeros(60))
    whole = float(KaplanMeier.of(times, seen).areas(2.0)[0])
    assert float(values.mean()) == pytest.approx(whole, abs=1e-10)
    for row in range(0, 60, 7):
        rest = torch.arange(60) != row
        without = float(KaplanMeier.of(times[rest], seen[rest]).areas(2.0)[0])
        assert float(values[row]) == pytest.approx(60 * whole - 59 * without, abs=0.1)


def test_without_censoring_it_is_the_time_up_to_the_horizon() -> None:
    data = table(200)
    data["died"] = np.ones(200, dtype=int)
    found = effect(data, "t", "time", adjust=["z"], observed="died", horizon=2.0)
    plain = effect(data | {"time": np.minimum(data["time"], 2.0)}, "t", "time", adjust=["z"])
    assert found.effect.effect == pytest.approx(plain.effect.effect, abs=1e-9)
    assert found.effect.low == pytest.approx(plain.effect.low, abs=1e-9)


def test_the_restricted_mean_difference_is_found_where_leaving_out_the_censored_errs() -> None:
    data = table(5_000)
    found = SURVIVAL.estimate(0, 5_000)
    assert found.low < SURVIVAL.truth < found.high
    seen = {name: column[data["died"] == 1] for name, column in data.items()}
    seen["time"] = np.minimum(seen["time"], 2.0)
    wrong = effect(seen, "t", "time", adjust=["z"]).effect
    assert wrong.high < SURVIVAL.truth


def test_what_is_said_of_them() -> None:
    found = effect(table(), "t", "time", adjust=["z"], observed="died", horizon=2.0)
    assert "means of time are up to 2; " in str(found)
    assert "by chance within each t, it is assumed" in str(found)
    assert found.answer.startswith("Setting t to 1 instead of 0 raises time up to 2 by 0.")
    assert found.ratio is not None


def test_placebos_keep_a_time_with_whether_it_was_seen() -> None:
    options: dict[str, Any] = {"adjust": ["z"], "observed": "died", "horizon": 2.0, "repeats": 3}
    refutation = refute(table(1_000), "t", "time", negative_outcomes=["side"], **options)
    assert [check.name for check in refutation.checks if not check.passed] == []
    assert refutation.robustness is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observed": "died"}, "horizon: give the time up to which"),
        ({"observed": "died", "horizon": 1e3}, "horizon: 1000 is beyond .* the longest follow-up"),
        ({"observed": "z", "horizon": 2.0}, "observed: z is Continuous.*expected 1 where the end"),
        ({"observed": "died", "horizon": 2.0, "missing": "weight"}, "observed: not with weights"),
        ({"observed": "dead", "horizon": 2.0}, "the table lacks a column.*dead"),
        ({"observed": "died", "horizon": "2"}, "horizon: give the time up to which.*'2'"),
        ({"horizon": 2.0}, "horizon=2.0 is of times with observed="),
        ({"observed": "t", "horizon": 2.0}, "observed: t is the treatment or the outcome"),
    ],
)
def test_what_cannot_be_asked_of_times(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        effect({**table(), "z": np.linspace(0, 1, 400)}, "t", "time", adjust=["z"], **options)
