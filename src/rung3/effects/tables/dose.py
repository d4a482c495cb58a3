r"""Effects of a continuous treatment by adjustment: a dose-response curve, and its average slope.

With a model of the outcome, `m(t, z) = E[Y | t, z]`,

    mu(t) = E[ m(t, Z) ],        average derivative = E[ d m(T, Z) / dt ].

The model is linear (of a binary outcome, logistic) in a cubic spline of t, whose knots
grow in number with the rows, features of z, and the products of t and these features; curve and
slope are smooth functions of its coefficients. With a scikit-learn learner the effect is taken to
be linear, and is estimated by cross-fitting (`rung3.effects.tables.cross_fitting`).
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
from rung3.effects.tables.m_estimation import Regression, regress
from rung3.effects.tables.sample import Sample, independent

__all__ = ["Spline", "dose_effect"]

INNER_KNOTS = (1, 9)
"""Knots of the treatment's spline at least and at most; between, they grow with the rows."""

DOSES = (0.05, 0.95, 19)
"""Quantiles between which the curve is drawn, and at how many doses."""


class Spline:
    """A cubic spline of a treatment, and its derivative.

    Args:
        values: The treatment, `(n,)`.
    """

    def __init__(self, values: Tensor) -> None:
        self.middle, self.scale = values.mean(), values.std().clamp_min(1e-300)
        least, most = INNER_KNOTS
        count = min(max(round(len(values) ** 0.25) - 3, least), most)
        at = torch.linspace(0, 1, count + 2, dtype=torch.float64)[1:-1]
        x = (values - self.middle) / self.scale
        self.powers = min(3, len(x.unique()) - 1)
        self.knots = x.quantile(at).unique() if len(x.unique()) > count + 3 else x[:0]

    def __call__(self, t: Tensor) -> Tensor:
        """Return its columns at values of the treatment, `(n, 3 + knots)`."""
        x = (t - self.middle) / self.scale
        powers = [x**k for k in range(1, self.powers + 1)]
        return torch.stack([*powers, *((x - knot).clamp_min(0) ** 3 for knot in self.knots)], 1)

    def slope(self, t: Tensor) -> Tensor:
        """Return the derivatives of its columns, a unit of the treatment."""
        x = (t - self.middle) / self.scale
        powers = [k * x ** (k - 1) for k in range(1, self.powers + 1)]
        bends = [3 * (x - knot).clamp_min(0) ** 2 for knot in self.knots]
        return torch.stack([*powers, *bends], 1) / self.scale


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
            f"{', '.join(given)} tells {sample.treatment} without error: no rows differ in it "
            "alone (positivity); adjust for less"
        )

    x = _features(spline(t), others)
    model = regress(x, sample.y, sample.weights, sample.binary)
    low, high, count = DOSES
    ends = t.quantile(torch.tensor([low, high], dtype=torch.float64)).tolist()
    doses = torch.linspace(ends[0], ends[1], count, dtype=torch.float64).tolist()
    levels = list(compared or ())
    each = (_features(spline(torch.full_like(t, dose)), others) for dose in [*levels, *doses])
    rows = [_mean(model, at) for at in each]
    rows.append(_rate(model, _features(spline.slope(t), others, slope=True)))
    freedom = sample.n - x.shape[1]
    everything = [
        _averages(sample, group, rows, model.scores, freedom) for group in sample.masks.double()
    ]
    return _answer(everything, len(levels), doses)


def _features(treatment: Tensor, others: Tensor, slope: bool = False) -> Tensor:
    """Return spline, features of what is adjusted for, and their products with the treatment."""
    plain = torch.zeros_like(others) if slope else others
    return torch.cat([plain, treatment, treatment[:, :1] * others[:, 1:]], 1)


def _leftover(others: Tensor, t: Tensor) -> float:
    """Return the share of the treatment's variance that a regression leaves."""
    solution = torch.linalg.lstsq(others, t[:, None], driver="gelsd").solution
    return float((t - (others @ solution)[:, 0]).var() / t.var())


def _mean(model: Regression, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each row, `(n,)`, and its derivative in the coefficients, `(n, p)`."""
    mean = model.mean(model.beta, features)
    steep = mean * (1 - mean) if model.logistic else torch.ones_like(mean)
    return mean, steep[:, None] * features


def _rate(model: Regression, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivative of each row's mean in the treatment, and that of it."""
    linear, mean = slopes @ model.beta, model.mean(model.beta)
    if not model.logistic:
        return linear, slopes
    steep = mean * (1 - mean)
    bend = steep * (1 - 2 * mean) * linear
    return steep * linear, steep[:, None] * slopes + bend[:, None] * model.features


def _averages(
    sample: Sample,
    group: Tensor,
    rows: Sequence[tuple[Tensor, Tensor]],
    scores: Tensor,
    freedom: int,
) -> Influence:
    """Average over the rows of a group."""
    weight = (sample.weights * group) / (sample.weights * group).mean()
    values = torch.stack([(weight * mean).mean() for mean, _ in rows])
    gradients = torch.stack([(weight[:, None] * slope).mean(0) for _, slope in rows])
    deviations = torch.stack([weight * mean for mean, _ in rows], 1) - weight[:, None] * values
    return Influence(values, deviations + scores @ gradients.T, freedom, sample.clusters)


def _answer(influences: list[Influence], level: int, doses: list[float]) -> Answer:
    def wanted(values: Tensor) -> Tensor:
        return values[:1] - values[1:2] if level else values[-1:]

    contrast = influences[0].then(wanted)
    for group in influences[1:]:
        contrast = contrast.beside(group.then(wanted))
    means = influences[0].then(lambda v: v[:2]) if level else None
    curve = influences[0].then(lambda v: v[level:-1])
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
