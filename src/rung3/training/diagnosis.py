"""`diagnose`: does what a model learned look like an SCM, mechanism by mechanism?

If `x := f(pa, u)` is right, then of rows that it did not learn from

- the abducted noise follows its prior (calibration): the greatest distance between the two
  distribution functions is small (Kolmogorov and Smirnov; for scalar mechanisms, whether the
  probability integral transform is uniform); and
- the abducted noise knows nothing of the parents (independence), neither at coarse scale nor of
  rows whose parents are near (see `rung3.training.noise_test`).

P-values are corrected for the number of both tests, of all mechanisms, by Holm's method. A
mechanism that fails is wrong, or learned too little; one that passes may still be wrong on the
third rung.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch

from rung3.data.rows import Noise, as_rows
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Image
from rung3.graph.falsification import correct
from rung3.mechanisms.base import Mechanism, Parents
from rung3.scm.interventions import Intervention
from rung3.scm.scm import SCM
from rung3.training.batches import Table
from rung3.training.noise_test import coordinates, independence

__all__ = ["Diagnosis", "diagnose"]

LEAST = 50
"""Rows that a diagnosis needs."""


@dataclass(frozen=True)
class Diagnosis:
    """What held-out rows say of one mechanism.

    Attributes:
        variable: Name of the variable.
        mechanism: The mechanism, as it would be written.
        rows: Rows that have the value and all parents.
        log_prob: Mean `log p(x | pa)` in nats (or its lower bound); and
        error: the standard error of that mean.
        distance: Between the abducted noise's distribution function and its prior's, at the most.
        calibration: The corrected p-value of that distance.
        independence: The corrected p-value that noise and parents are independent; NaN without
            parents.
        level: What both are compared with.
    """

    variable: str
    mechanism: str
    rows: int
    log_prob: float
    error: float
    distance: float
    calibration: float
    independence: float
    level: float

    @property
    def calibrated(self) -> bool:
        """Whether nothing speaks against the noise's distribution."""
        return self.calibration > self.level

    @property
    def independent(self) -> bool:
        """Whether nothing speaks against the independence of noise and parents."""
        return not self.independence <= self.level

    def __str__(self) -> str:
        found = [
            "calibrated" if self.calibrated else "NOT calibrated",
            f"(distance {self.distance:.3f}, p = {self.calibration:.2g}),",
        ]
        if math.isnan(self.independence):
            found.append("no parents")
        else:
            found += [
                "noise independent of the parents" if self.independent else "noise DEPENDS on them",
                f"(p = {self.independence:.2g})",
            ]
        density = f"log p = {self.log_prob:.3f} +- {self.error:.3f}"
        return f"{self.variable}: {self.mechanism}: {density}; {' '.join(found)}"


@torch.no_grad()
def diagnose(
    model: SCM, rows: Mapping[str, Any], *, level: float = 0.01, seed: Seed = 0
) -> list[Diagnosis]:
    """Test every mechanism of a model on rows that it did not learn from.

    Args:
        model: The model, fitted.
        rows: Rows held out of the fit; where values are missing, a row tests the mechanisms whose
            value and parents it has.
        level: Chance of any false alarm, of either kind, if all mechanisms are right.
        seed: Of the noise that is drawn.

    Returns:
        One diagnosis a variable, in the graph's order; images are left out, and what latent classes
        join. Of numbers that a Gaussian hidden cause joins, the noise given that of those before it
        is tested, also against these and their causes.

    Raises:
        ValueError: If there are fewer than 50 rows for a mechanism.

    Example:
        >>> from rung3 import SCM, worlds
        >>> from rung3.mechanisms import Equation
        >>> rows = dict(worlds.lecture().sample(2_000, seed=0))
        >>> wrong = SCM(x1=Equation("u + 1"), x2=Equation("2*x1 + 1 + sqrt(2)*u"))
        >>> [(d.variable, d.independent) for d in diagnose(wrong, rows)]
        [('x1', True), ('x2', False)]
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    joined = {k: d for d in model.confounding.districts(model.mechanisms) for k in d.names}
    given = as_rows(values=rows, variables=model.variables, device=model.device)
    base = base_seed(seed)
    found: dict[str, tuple[str, int, float, float, float, float, float]] = {}
    for name, mechanism in model.mechanisms.items():
        if isinstance(mechanism, Intervention):
            raise ValueError(f"{name}: set by do(); diagnose the model that do() was called on")
        if isinstance(mechanism.variable, Image) or not mechanism.wants_noise:
            continue
        unit = joined.get(name, mechanism)
        value, parents = Table(given, [unit]).all().of(unit)
        if len(value) < LEAST:
            raise ValueError(f"{name}: {len(value)} rows; a diagnosis needs at least {LEAST}")
        knows, noise = mechanism, cast(Noise, {})
        if (district := joined.get(name)) is not None:
            if not district.gaussian:
                continue
            values = {**parents, district.name: value}
            noise, kinds = district.conditional_noise(values)[name]
            density = district.log_probs(values)[name].double()
            parents = {k: values[k] for k in kinds}
            knows = cast(Mechanism, SimpleNamespace(parents=kinds))
        else:
            generator = stream(base, f"abduct {name}", model.device)
            noise = mechanism.abduct(value, parents, None, generator)
            density = mechanism.log_prob(value, parents).double()
        distance, p = _calibration(mechanism, noise, parents, base)
        apart = independence(name, noise, parents, knows, base) if parents else math.nan
        error = float(density.std() / math.sqrt(len(value)))
        told = (mechanism.describe(), len(value), float(density.mean()), error)
        found[name] = (*told, distance, p, apart)
    tests: dict[tuple[str, str], float] = {}
    for name, (*_, calibrated, apart) in found.items():
        tests |= {(name, "noise"): calibrated, (name, "parents"): apart}
    asked = {key: p for key, p in tests.items() if not math.isnan(p)}
    tests |= dict(zip(asked, correct(list(asked.values()), "holm"), strict=True))
    return [
        Diagnosis(name, *line[:5], tests[name, "noise"], tests[name, "parents"], level)
        for name, line in found.items()
    ]


def _calibration(
    mechanism: Mechanism, noise: Noise, parents: Parents, seed: int
) -> tuple[float, float]:
    """The greatest distance of any coordinate's distribution to its prior's, and its p-value."""
    from scipy.stats import ks_2samp

    found = coordinates(noise)
    n = len(next(iter(found.values())))
    times = max(1, min(20, 200_000 // n))
    again = {k: v.repeat(times, *[1] * (v.ndim - 1)) for k, v in parents.items()}
    generator = stream(seed, f"prior {mechanism.name}", mechanism.observed.device)
    prior = coordinates(mechanism.sample_noise(times * n, again, generator))
    tests = [ks_2samp(found[k].cpu().numpy(), prior[k].cpu().numpy()) for k in found]
    worst = min(tests, key=lambda test: float(test.pvalue))
    return float(worst.statistic), min(1.0, float(worst.pvalue) * len(tests))
