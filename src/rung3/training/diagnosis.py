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
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import Noise, Rows, Values, as_rows
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.streaming import Streamed
from rung3.data.variables import Image, Variable
from rung3.graph.falsification import correct
from rung3.mechanisms.base import Mechanism, Parents, Trainable
from rung3.scm.districts.district import District
from rung3.scm.interventions import Intervention
from rung3.scm.scm import SCM
from rung3.training.batches import Table
from rung3.training.by_batches import sample_of
from rung3.training.noise_test import coordinates, independence

__all__ = ["Diagnosis", "diagnose"]

MIN_ROWS = 50
"""Rows that a diagnosis needs."""


@dataclass(frozen=True)
class Diagnosis(Printed):
    """The evidence of held-out rows on one mechanism.

    Attributes:
        variable: Name of the variable.
        mechanism: The mechanism, as it would be written.
        rows: Rows that have the value and all parents.
        log_prob: Mean `log p(x | pa)` in nats (or its lower bound); and
        error: the standard error of that mean.
        distance: Between the abducted noise's distribution function and its prior's, at most.
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
        noise = "calibrated" if self.calibrated else "NOT calibrated"
        noise += f" (distance {self.distance:.3f}, p = {self.calibration:.2g}), "
        if math.isnan(self.independence):
            noise += "no parents"
        else:
            relation = "independent of the parents" if self.independent else "DEPENDS on them"
            noise += f"noise {relation} (p = {self.independence:.2g})"
        density = f"log p = {self.log_prob:.3f} +- {self.error:.3f}"
        return f"{self.variable}: {self.mechanism}: {density}; {noise}"


@torch.no_grad()
def diagnose(
    model: SCM, rows: Values | Streamed, *, level: float = 0.01, seed: Seed = 0
) -> list[Diagnosis]:
    """Test every mechanism of a model on rows that it did not learn from.

    Args:
        model: The model, fitted.
        rows: Rows held out of the fit; where values are missing, a row tests the mechanisms whose
            value and parents it has. Of a table that is read by batches, a sample of 262,144 rows.
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
    if isinstance(rows, Streamed):
        rows = sample_of(model, rows, base_seed(seed))
    districts = {k: d for d in model.confounding.districts(model.mechanisms) for k in d.names}
    given = as_rows(values=rows, variables=model.variables, device=model.device)
    base = base_seed(seed)
    diagnoses = []
    for name, mechanism in model.mechanisms.items():
        if isinstance(mechanism, Intervention):
            raise ValueError(f"{name}: set by do(); diagnose the model that do() was called on")
        if isinstance(mechanism.variable, Image) or not mechanism.wants_noise:
            continue
        if (district := districts.get(name)) is None:
            abducted = _abduct(mechanism, given, base)
        elif district.gaussian:
            abducted = _abduct_joined(name, district, given)
        else:
            continue
        diagnoses.append(_diagnose(mechanism, abducted, level, base))
    return _corrected(diagnoses)


class _Abducted(NamedTuple):
    """Noise of rows, their log-density, and the parents and their kinds that both go with."""

    noise: Noise
    log_prob: Tensor
    parents: Parents
    kinds: Mapping[str, Variable]


def _abduct(mechanism: Mechanism, rows: Rows, seed: int) -> _Abducted:
    """Abduct the noise of a mechanism on its own."""
    value, parents = _complete(mechanism.name, mechanism, rows)
    generator = stream(seed, f"abduct {mechanism.name}", value.device)
    noise = mechanism.abduct(value, parents, None, generator)
    log_prob = mechanism.log_prob(value, parents).double()
    return _Abducted(noise, log_prob, parents, mechanism.parents)


def _abduct_joined(name: str, district: District, rows: Rows) -> _Abducted:
    """Abduct the noise of one of several that hidden causes join, given that of those before."""
    value, parents = _complete(name, district, rows)
    values = {**parents, district.name: value}
    noise, kinds = district.conditional_noise(values)[name]
    log_prob = district.log_probs(values)[name].double()
    return _Abducted(noise, log_prob, {k: values[k] for k in kinds}, kinds)


def _complete(name: str, unit: Trainable, rows: Rows) -> tuple[Tensor, Parents]:
    """Return the value and the parents in the rows that have them all."""
    value, parents = Table(rows, [unit]).all().of(unit)
    if len(value) < MIN_ROWS:
        raise ValueError(f"{name}: {len(value)} rows; a diagnosis needs at least {MIN_ROWS}")
    return value, parents


def _diagnose(mechanism: Mechanism, abducted: _Abducted, level: float, seed: int) -> Diagnosis:
    """Diagnose a mechanism; its p-values are not corrected."""
    noise, log_prob, parents, kinds = abducted
    n = len(log_prob)
    distance, calibration = _calibration(mechanism, noise, parents, seed)
    p = independence(noise, parents, kinds, seed) if parents else math.nan
    return Diagnosis(
        variable=mechanism.name,
        mechanism=mechanism.describe(),
        rows=n,
        log_prob=float(log_prob.mean()),
        error=float(log_prob.std() / math.sqrt(n)),
        distance=distance,
        calibration=calibration,
        independence=p,
        level=level,
    )


def _corrected(diagnoses: list[Diagnosis]) -> list[Diagnosis]:
    """Correct the p-values for the number of both tests, of all mechanisms."""
    values = [p for one in diagnoses for p in (one.calibration, one.independence)]
    corrected = iter(correct([p for p in values if not math.isnan(p)], "holm"))
    both = [p if math.isnan(p) else next(corrected) for p in values]
    return [
        replace(one, calibration=calibration, independence=independence)
        for one, calibration, independence in zip(diagnoses, both[::2], both[1::2], strict=True)
    ]


def _calibration(
    mechanism: Mechanism, noise: Noise, parents: Parents, seed: int
) -> tuple[float, float]:
    """Return the greatest distance of a coordinate's distribution to its prior's, and p."""
    from scipy.stats import ks_2samp

    abducted = coordinates(noise)
    n = len(next(iter(abducted.values())))
    times = max(1, min(20, 200_000 // n))
    repeated = {k: v.repeat(times, *[1] * (v.ndim - 1)) for k, v in parents.items()}
    generator = stream(seed, f"prior {mechanism.name}", mechanism.observed.device)
    prior = coordinates(mechanism.sample_noise(times * n, repeated, generator))
    tests = [ks_2samp(part.cpu().numpy(), prior[k].cpu().numpy()) for k, part in abducted.items()]
    worst = min(tests, key=lambda test: float(test.pvalue))
    return float(worst.statistic), min(1.0, float(worst.pvalue) * len(tests))
