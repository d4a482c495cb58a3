r"""Effects of a continuous treatment by adjustment: a dose-response curve, and its average slope.

With a model of the outcome, `m(t, z) = E[Y | t, z]`,

    mu(t) = E[ m(t, Z) ],        average derivative = E[ d m(T, Z) / dt ].

The model is linear (of a binary outcome, logistic) in a natural cubic spline of t, whose knots
grow in number with the rows, features of z, and the products of t and these features; curve and
slope are smooth functions of its coefficients. With a scikit-learn learner the effect is taken to be linear, and is estimated by
cross-fitting (`rung3.effects.tables.cross_fitting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rung3.data.seeding import Seed
from rung3.effects.tables.answer import Answer
from rung3.effects.tables.cross_fitting import cross_fitted_slope
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.m_estimation import regress
from rung3.effects.tables.sample import Sample, independent

__all__ = ["Spline", "dose_effect"]

OUTER_KNOTS = (0.05, 0.95)
"""Quantiles of the treatment beyond which its spline is a line (Harrell 2015, section 2.4.6)."""

KNOTS = (4, 12)
"""Knots at least and at most; between, they grow as the fourth root of the rows."""

MIN_KNOTS = 2
"""Knots of a spline that is a line."""

DOSES = (0.05, 0.95, 19)
"""Quantiles between which the curve is drawn, and at how many doses."""


class Spline:
    """A natural cubic spline of a treatment, and its derivative.

    Args:
        values: The treatment, `(n,)`.
    """

    def __init__(self, values: Tensor) -> None:
        self.middle, self.scale = values.mean(), values.std().clamp_min(1e-300)
        count = min(max(round(len(values) ** 0.25), KNOTS[0]), KNOTS[1])
        at = torch.linspace(*OUTER_KNOTS, count, dtype=torch.float64)
        knots = ((values - self.middle) / self.scale).quantile(at).unique()
        self.knots = knots if len(knots) > MIN_KNOTS else knots[:0]

    def __call__(self, t: Tensor) -> Tensor:
        """Return its columns at values of the treatment, `(n, knots - 1)`."""
        x = (t - self.middle) / self.scale
        return torch.stack([x, *self._bends(x, lambda u: u.clamp_min(0) ** 3)], 1)

    def slope(self, t: Tensor) -> Tensor:
        """Return the derivatives of its columns, a unit of the treatment."""
        x = (t - self.middle) / self.scale
        bends = self._bends(x, lambda u: 3 * u.clamp_min(0) ** 2)
        return torch.stack([torch.ones_like(x), *bends], 1) / self.scale

    def _bends(self, x: Tensor, piece: Any) -> list[Tensor]:
        if not len(self.knots):
            return []
        last = self.knots[-1]
        parts = [(piece(x - k) - piece(x - last)) / (last - k) for k in self.knots[:-1]]
        return [part - parts[-1] for part in parts[:-1]]


def dose_effect(
    sample: Sample,
    given: Sequence[str],
    compared: tuple[float, float] | None,
    learner: Any = None,
    folds: int = 5,
    seed: Seed = 0,
) -> Answer:
    """Estimate the effect of one dose against another, or of one unit of the treatment.

    Args:
        sample: The rows.
        given: What is adjusted for.
        compared: Two doses; if not given, the effect is the average derivative.
        learner: A scikit-learn regressor of outcome and treatment.
        folds: Of cross-fitting.
        seed: Of the folds.

    Raises:
        ValueError: If the treatment is constant, or there are too few rows for the model.
    """
    t = sample.rows[sample.treatment].double()
    if t.min() == t.max():
        raise ValueError(f"{sample.treatment}: all its values are {t[0]:g}; no effect can be seen")
    if learner is not None:
        return _linear(sample, given, compared, learner, folds, seed)
    spline = Spline(t)
    others = sample.design(given)
    if sample.saturated(given) and others.shape[1] > 1:
        others = independent(list(others.unbind(1)), sample.n)
    if others.shape[1] > 1 and _leftover(others, t) < 1e-8:
        raise ValueError(
            f"{', '.join(given)} tells {sample.treatment} without error: no rows differ in it alone "
            "(positivity); adjust for less"
        )

    def features(dose: Tensor) -> Tensor:
        return _features(spline(dose), others)

    model = regress(features(t), sample.y, sample.weights, sample.binary)
    low, high, count = DOSES
    ends = t.quantile(torch.tensor([low, high], dtype=torch.float64)).tolist()
    doses = torch.linspace(ends[0], ends[1], count, dtype=torch.float64).tolist()
    asked = list(compared or ())

    def means(beta: Tensor) -> Tensor:
        """Return the mean of each row at each dose, and its derivative, `(n, m + 1)`."""
        columns = [
            model.mean(beta, features(torch.full_like(t, dose))) for dose in [*asked, *doses]
        ]
        mean = model.mean(beta)
        steep = mean * (1 - mean) if sample.binary else torch.ones_like(mean)
        rate = steep * (_features(spline.slope(t), others, slope=True) @ beta)
        return torch.stack([*columns, rate], 1)

    everything = _averages(sample, means, model.beta, model.scores, features(t).shape[1])
    return _answer(everything, len(asked), doses)


def _features(treatment: Tensor, others: Tensor, slope: bool = False) -> Tensor:
    """Return spline, features of what is adjusted for, and their products with the treatment."""
    plain = torch.zeros_like(others) if slope else others
    return torch.cat([plain, treatment, treatment[:, :1] * others[:, 1:]], 1)


def _leftover(others: Tensor, t: Tensor) -> float:
    """Return the share of the treatment's variance that a regression leaves."""
    solution = torch.linalg.lstsq(others, t[:, None], driver="gelsd").solution
    return float((t - (others @ solution)[:, 0]).var() / t.var())


def _averages(
    sample: Sample, means: Any, beta: Tensor, scores: Tensor, width: int
) -> list[Influence]:
    """Average over the rows of each group."""
    found, at = [], means(beta)
    for group in sample.masks.double():
        weight = (sample.weights * group) / (sample.weights * group).mean()
        values = (weight[:, None] * at).mean(0)

        def averaged(b: Tensor, weight: Tensor = weight) -> Tensor:
            mean: Tensor = (weight[:, None] * means(b)).mean(0)
            return mean

        gradient = torch.func.jacrev(averaged)(beta)
        own = weight[:, None] * (at - values)
        found.append(
            Influence(values, own + scores @ gradient.T, sample.n - width, sample.clusters)
        )
    return found


def _answer(found: list[Influence], asked: int, doses: list[float]) -> Answer:
    def wanted(values: Tensor) -> Tensor:
        return values[:1] - values[1:2] if asked else values[-1:]

    contrast = found[0].then(wanted)
    for group in found[1:]:
        contrast = contrast.beside(group.then(wanted))
    means = found[0].then(lambda v: v[:2]) if asked else None
    curve = found[0].then(lambda v: v[asked:-1])
    return Answer(contrast, means, curve, tuple(doses))


def _linear(
    sample: Sample,
    given: Sequence[str],
    compared: tuple[float, float] | None,
    learner: Any,
    folds: int,
    seed: Seed,
) -> Answer:
    slopes = cross_fitted_slope(sample, given, learner, folds, seed)
    factor = 1.0 if compared is None else compared[0] - compared[1]
    note = "the effect is taken to be linear in the treatment (a partially linear model)"
    return Answer(slopes.then(lambda values: factor * values), notes=(note,))
