"""Simulated studies whose effects are known, one for each estimator of `rung3.effects.tables`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rung3 import effect
from rung3.effects import Estimate
from rung3.effects.tables import Effect

Table = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A study: how its rows are drawn, what is asked, the truth; most, and least, coverage."""

    draw: Callable[[np.random.Generator, int], Table]
    truth: float
    options: Mapping[str, Any] = field(default_factory=dict)
    pick: Callable[[Effect], Estimate[float]] = lambda answer: answer.effect
    names: tuple[str, str] = ("t", "y")
    most: float = 0.975
    least_of_few: float = 0.92

    def estimate(self, seed: int, n: int) -> Estimate[float]:
        """Draw rows, and estimate the effect."""
        table = self.draw(np.random.default_rng(seed), n)
        return self.pick(effect(table, *self.names, **self.options))


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def linear(rng: np.random.Generator, n: int) -> Table:
    """Two confounders; the effect is `2 + z / 2`, the noise uneven."""
    z, w, e = rng.normal(size=(3, n))
    t = (rng.random(n) < logistic(0.7 * z - 0.5 * w)).astype(int)
    return {"z": z, "w": w, "t": t, "y": 1 + 2 * t + z + w / 2 + t * z / 2 + e * (1 + t / 2)}


def binary(rng: np.random.Generator, n: int) -> Table:
    z = rng.integers(0, 3, n)
    t = (rng.random(n) < 0.25 + 0.2 * z).astype(int)
    return {"z": z, "t": t, "y": (rng.random(n) < 0.2 + 0.15 * t + 0.1 * z).astype(int)}


def repeated(rng: np.random.Generator, n: int) -> Table:
    """Four rows a subject, treated or not as a whole."""
    subject = np.repeat(np.arange(n // 4), 4)
    z, share = rng.normal(size=(2, n // 4))
    t = (rng.random(n // 4) < logistic(z / 2)).astype(int)[subject]
    y = 1.0 * t + z[subject] + share[subject] + rng.normal(size=n // 4 * 4)
    return {"who": subject, "z": z[subject], "t": t, "y": y}


def surveyed(rng: np.random.Generator, n: int) -> Table:
    """Rows with a large effect are drawn three times as often: `1 + g`, half of the people g."""
    g = (rng.random(n) < 0.75).astype(int)
    t = (rng.random(n) < 0.3 + 0.4 * g).astype(int)
    weight = np.where(g == 1, 1.0, 3.0)
    return {"g": g, "t": t, "y": t * (1 + g) + g + rng.normal(size=n), "weight": weight}


def dose(rng: np.random.Generator, n: int) -> Table:
    z, e = rng.normal(size=(2, n))
    t = z / 2 + rng.normal(size=n)
    return {"z": z, "t": t, "y": t + t**2 / 4 + z + t * z / 2 + e}


def front_door(rng: np.random.Generator, n: int) -> Table:
    """A hidden cause; the mediator carries `.5` of 2."""
    hidden = rng.normal(size=n)
    t = (rng.random(n) < logistic(hidden)).astype(int)
    m = (rng.random(n) < 0.2 + 0.5 * t).astype(int)
    return {"t": t, "m": m, "y": 2 * m + hidden + rng.normal(size=n)}


def front_door_amount(rng: np.random.Generator, n: int) -> Table:
    hidden = rng.normal(size=n)
    t = (rng.random(n) < logistic(hidden)).astype(int)
    m = t + rng.normal(size=n)
    return {"t": t, "m": m, "y": 2 * m + hidden + rng.normal(size=n)}


def front_door_line(rng: np.random.Generator, n: int) -> Table:
    hidden = rng.normal(size=n)
    t = hidden + rng.normal(size=n)
    m = t / 2 + rng.normal(size=n)
    return {"t": t, "m": m, "y": 2 * m + hidden + rng.normal(size=n)}


def napkin(rng: np.random.Generator, n: int) -> Table:
    a, b = rng.random((2, n)) < 0.5
    w = (rng.random(n) < 0.2 + 0.3 * a + 0.3 * b).astype(int)
    r = (rng.random(n) < 0.2 + 0.6 * w).astype(int)
    t = (rng.random(n) < 0.15 + 0.4 * r + 0.3 * a).astype(int)
    return {"w": w, "r": r, "t": t, "y": 1.5 * t + 2 * b + rng.normal(size=n)}


def instrument(strength: float, count: int = 1) -> Callable[[np.random.Generator, int], Table]:
    """Schooling and a hidden ability; instruments that move it so far."""

    def draw(rng: np.random.Generator, n: int) -> Table:
        hidden = rng.normal(size=n)
        z = rng.normal(size=(count, n))
        t = strength * z.sum(0) + hidden + rng.normal(size=n)
        named = {f"z{k}": column for k, column in enumerate(z)}
        return {**named, "t": t, "y": t / 2 + hidden + rng.normal(size=n) * (1 + z[0] ** 2) ** 0.5}

    return draw


def compliance(rng: np.random.Generator, n: int) -> Table:
    """A trial in which half comply, and profit by 1; a quarter would always, and profit by 3."""
    z = rng.integers(0, 2, n)
    kind = rng.choice(3, n, p=[0.5, 0.25, 0.25])
    t = np.where(kind == 0, z, kind == 1).astype(int)
    y = np.where(kind == 1, 3.0, 1.0) * t + kind + rng.normal(size=n)
    return {"z0": z, "t": t, "y": y}


def lifetimes(rng: np.random.Generator, n: int) -> Table:
    """Exponential times; treatment halves the rate. Follow-up is shorter for those treated."""
    z = rng.integers(0, 2, n)
    t = (rng.random(n) < 0.3 + 0.4 * z).astype(int)
    life = rng.exponential(size=n) / (0.5 + 0.5 * z) * np.where(t == 1, 2.0, 1.0)
    end = rng.uniform(0, np.where(t == 1, 5.0, 7.0), n).clip(0, 3)
    died = (life <= end).astype(int)
    return {"z": z, "t": t, "time": np.minimum(life, end), "died": died, "side": rng.normal(size=n)}


def restricted_mean(rate: float, horizon: float) -> float:
    return float(1 - np.exp(-rate * horizon)) / rate


Z: dict[str, Any] = {"adjust": ["z"]}
ZW: dict[str, Any] = {"adjust": ["z", "w"]}
FRONT: dict[str, Any] = {"graph": "t -> m -> y; t <-> y"}
NAPKIN: dict[str, Any] = {"graph": "w -> r -> t -> y; w <-> t; w <-> y"}
INSTRUMENT: dict[str, Any] = {"graph": "z0 -> t -> y; t <-> y"}
RISKS = (0.2 + 0.15 + 0.1, 0.2 + 0.1)  # of all rows, treated and not
SHIFT = 0.301457  # E[z | t = 1] of `linear`


def learners() -> tuple[Any, Any]:
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    return (
        make_pipeline(PolynomialFeatures(2), LinearRegression()),
        LogisticRegression(C=100.0),
    )


STUDIES: dict[str, Study] = {
    "standardise": Study(linear, 2.0, {**ZW, "method": "standardise"}),
    "ipw": Study(linear, 2.0, {**ZW, "method": "ipw"}),
    "aipw": Study(linear, 2.0, ZW),
    "aipw, ATT": Study(linear, 2 + SHIFT / 2, {**ZW, "estimand": "ATT"}),
    "aipw, ATU": Study(linear, 2 - SHIFT / 2, {**ZW, "estimand": "ATU"}),
    "aipw, cross-fitted": Study(linear, 2.0, {**ZW, "learner": learners()}),
    "strata": Study(binary, 0.15, Z),
    "strata, ratio": Study(binary, RISKS[0] / RISKS[1], Z, lambda e: e.ratio),  # type: ignore[arg-type,return-value]
    "strata, odds ratio": Study(
        binary,
        RISKS[0] / (1 - RISKS[0]) / (RISKS[1] / (1 - RISKS[1])),
        Z,
        lambda e: e.odds_ratio,  # type: ignore[arg-type,return-value]
    ),
    "clusters": Study(repeated, 1.0, {**Z, "clusters": "who"}),
    "survey weights": Study(surveyed, 1.5, {"adjust": ["g"], "weights": "weight"}),
    "dose, contrast": Study(dose, 1.25, {**Z, "do": 1.0, "versus": 0.0}),
    "dose, derivative": Study(dose, 1.0, Z),
    "front door": Study(front_door, 1.0, FRONT),
    "front door, amounts": Study(front_door_amount, 2.0, FRONT),
    "front door, slopes": Study(front_door_line, 1.0, FRONT),
    "ID formula (napkin)": Study(napkin, 1.5, NAPKIN, least_of_few=0.9),  # and says so
    "instrument": Study(instrument(0.5), 0.5, INSTRUMENT),
    "instrument, weak": Study(instrument(0.1), 0.5, INSTRUMENT, most=1.0),  # the hull of a set
    "instruments, three": Study(instrument(0.5, 3), 0.5, {"instrument": ["z0", "z1", "z2"]}),
    "instrument, LATE": Study(compliance, 1.0, INSTRUMENT),
}


def missing_outcome(rng: np.random.Generator, n: int) -> Table:
    """The outcome of the treated with a high z is often missing; its effect is `1 + z`."""
    z = rng.normal(size=n)
    t = (rng.random(n) < logistic(z / 2)).astype(int)
    y = t * (1 + z) + z + rng.normal(size=n)
    return {"z": z, "t": t, "y": np.where(rng.random(n) < logistic(z + t - 1), np.nan, y)}


def missing_confounder(rng: np.random.Generator, n: int) -> Table:
    """A confounder that is missing more often where the outcome is high, and by treatment."""
    z = rng.normal(size=n)
    t = (rng.random(n) < logistic(z)).astype(int)
    y = t + z + rng.normal(size=n)
    return {"z": np.where(rng.random(n) < logistic(0.7 * y - 1), np.nan, z), "t": t, "y": y}


STUDIES |= {
    "censored times": Study(
        lifetimes,
        sum(restricted_mean(r / 2, 2.0) - restricted_mean(r, 2.0) for r in (0.5, 1.0)) / 2,
        {**Z, "observed": "died", "horizon": 2.0},
        names=("t", "time"),
    ),
    "missing outcome": Study(missing_outcome, 1.0, {**Z, "missing": "weight"}),
    "missing confounder": Study(missing_confounder, 1.0, {**Z, "missing": "weight"}),
}
