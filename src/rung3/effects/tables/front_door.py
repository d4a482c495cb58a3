r"""Effects by the front door: treatment and outcome share a hidden cause, mediators M do not.

    E[Y | do(t)] = E[ h(M) | t ],        h(m) = sum_t' P(t') E[Y | t', m]

(Pearl, Biometrika 1995). Of a discrete treatment, `E[Y | t', m]` is a regression in each arm, with
one value a stratum where the mediators are discrete. Of a continuous one all regressions are
linear, and the effect of a unit of treatment is `sum_j a_j b_j`, with a_j its effect on the
mediator j, and b_j the effect of that on the outcome at fixed treatment.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rung3.data.display import spell
from rung3.effects.tables.answer import Answer, of_means
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.m_estimation import Regression, regress
from rung3.effects.tables.positivity import check_strata
from rung3.effects.tables.sample import Sample, numbers

__all__ = ["front_door_effect", "front_door_slope"]


def front_door_effect(sample: Sample, mediators: Sequence[str], arms: Tensor) -> Answer:
    """Estimate the effect of a discrete treatment through its mediators.

    Args:
        sample: The rows.
        mediators: M.
        arms: Masks `(2, n)`.

    Raises:
        ValueError: If a stratum of the mediators lacks a value of the treatment (named).
    """
    t, kind = sample.rows[sample.treatment], sample.kinds[sample.treatment]
    levels = [int(code) for code in t.unique().tolist()]
    every = torch.stack([t == code for code in levels])
    if sample.saturated(mediators):
        check_strata(sample, mediators, every, [spell(kind, code) for code in levels])
    features = sample.design(mediators)
    logistic = sample.binary and not sample.saturated(mediators)
    counts = sample.counts
    models = [
        regress(features, sample.y, sample.weights, logistic, arm, counts=counts) for arm in every
    ]
    w, shares = sample.weights, (sample.weights * every).mean(1)
    m = torch.stack([model.mean(model.beta) for model in models])  # (levels, n)
    h = shares @ m
    values, scores = [], []
    for arm in arms.double():
        weight = w * arm / (w * arm).mean()
        value = (weight * h).mean()
        score = weight * (h - value)
        for level, model, mean, share in zip(every, models, m, shares, strict=True):
            score = score + w * (level.double() - share) * (weight * mean).mean()

            def averaged(beta: Tensor, model: Regression = model, w: Tensor = weight) -> Tensor:
                return (w * model.mean(beta)).mean()

            gradient = torch.func.grad(averaged)(model.beta)
            score = score + share * (model.scores @ gradient)
        values.append(value)
        scores.append(score)
    freedom = sample.total - len(levels) * features.shape[1]
    influence = torch.stack(scores, 1)
    means = Influence(torch.stack(values), influence, freedom, sample.clusters, counts=counts)
    return of_means(means, float("nan"))


def front_door_slope(sample: Sample, mediators: Sequence[str], difference: float) -> Answer:
    """Estimate the effect of so many units of a continuous treatment, with linear regressions.

    Args:
        sample: The rows.
        mediators: M.
        difference: Units of treatment.
    """
    t, counts = sample.rows[sample.treatment].double(), sample.counts
    columns = [
        c for name in mediators for c in numbers(name, sample.rows[name], sample.kinds[name])
    ]
    one = torch.ones_like(t)
    features = torch.stack([one, t, *columns], 1)
    outcome = regress(features, sample.y, sample.weights, counts=counts)
    value, score = torch.zeros(()).double(), torch.zeros_like(t)
    for at, column in enumerate(columns, 2):
        first = regress(features[:, :2], column, sample.weights, counts=counts)
        a, b = first.beta[1], outcome.beta[at]
        value = value + a * b
        score = score + b * first.scores[:, 1] + a * outcome.scores[:, at]
    freedom = sample.total - 2 - len(columns)
    slope = Influence(value[None], score[:, None], freedom, sample.clusters, counts=counts)
    note = "treatment and mediators are taken to act linearly"
    return Answer(slope.then(lambda v: difference * v), notes=(note,))
