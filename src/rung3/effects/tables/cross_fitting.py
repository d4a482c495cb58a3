r"""Doubly robust effects with any scikit-learn regressor, by cross-fitting.

The models are fitted on some folds and used on the rest, so that their own error drops out of the
interval (Chernozhukov et al., Econometrics Journal 2018). Of two arms, the means are AIPW's (see
`rung3.effects.tables.adjustment`). Of a continuous treatment whose effect is linear,
`Y = b T + g(Z) + e`, with what the models leave of each,

    b = sum_i (T_i - E[T | Z_i]) (Y_i - E[Y | Z_i]) / sum_i (T_i - E[T | Z_i])^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.seeding import Seed, base_seed
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.m_estimation import Estimand, needed_arms
from rung3.effects.tables.sample import Sample, numbers

__all__ = ["TRIMMED", "cross_fitted_arms", "cross_fitted_slope"]

TRIMMED = 0.01
"""Least estimated probability of an arm: a row weighs a hundred times another at most."""


def cross_fitted_arms(
    sample: Sample,
    given: Sequence[str],
    arms: Tensor,
    estimand: Estimand,
    learner: Any,
    folds: int,
    seed: Seed,
) -> tuple[Influence, float, int]:
    """Return the means of both arms in each group, the least probability, and how many were raised.

    Args:
        sample: The sample.
        given: What is adjusted for.
        arms: Masks `(2, n)`.
        estimand: Whose effect.
        learner: A scikit-learn regressor; it is cloned, and of arms fits the indicator. A pair is
            of a regressor of the outcome and a classifier of the arm.
        folds: Number of folds.
        seed: Of the folds.
    """
    regressor, classifier = learner if isinstance(learner, tuple) else (learner, learner)
    x, y = _matrix(sample, given), sample.y.numpy()
    w = sample.weights.numpy()
    m, e = np.zeros((2, sample.n)), np.zeros((2, sample.n))
    complete = bool(arms.any(0).all())  # then a row that has not the one arm has the other
    for train, held in _folds(sample, arms[0].numpy() + 2 * arms[1].numpy(), folds, seed):
        for k, arm in enumerate(arms.numpy()):
            inside = train[arm[train]]
            m[k, held] = _predicted(regressor, x[inside], y[inside], w[inside], x[held])
            if k and complete:
                e[k, held] = 1 - e[0, held]
                continue
            e[k, held] = _predicted(classifier, x[train], arm[train] * 1.0, w[train], x[held])
    needed = list(needed_arms(estimand))
    least = float(e[needed].min())
    trimmed = int((e[needed] < TRIMMED).any(0).sum())
    e[needed] = e[needed].clip(TRIMMED)
    e = e.clip(0.0, 1.0)
    means = _aipw(sample, arms, torch.from_numpy(m), torch.from_numpy(e), estimand)
    return means, least, trimmed


def _aipw(sample: Sample, arms: Tensor, m: Tensor, e: Tensor, estimand: Estimand) -> Influence:
    arm = {"ATE": None, "ATT": 0, "ATU": 1}[estimand]
    values, scores = [], []
    for group in sample.masks.double():
        inside = group if arm is None else group * arms[arm]
        share = group if arm is None else group * e[arm]
        weight = (sample.weights * inside).mean()
        for k in range(2):
            ratio = torch.ones_like(share) if arm == k else share / e[k]
            one = inside * m[k] + arms[k] * group * ratio * (sample.y - m[k])
            value = (sample.weights * one).mean() / weight
            values.append(value)
            scores.append(sample.weights * (one - inside * value) / weight)
    return Influence(torch.stack(values), torch.stack(scores, 1), sample.n - 1, sample.clusters)


def cross_fitted_slope(
    sample: Sample, given: Sequence[str], learner: Any, folds: int, seed: Seed
) -> Influence:
    """Return the effect of one unit of the treatment in each group, and the mean of the treatment.

    Args:
        sample: The sample.
        given: What is adjusted for.
        learner: A scikit-learn regressor.
        folds: Number of folds.
        seed: Of the folds.
    """
    learner = learner[0] if isinstance(learner, tuple) else learner
    x, w = _matrix(sample, given), sample.weights.numpy()
    t = sample.rows[sample.treatment].double().numpy()
    left = np.stack([t, sample.y.numpy()])
    for train, held in _folds(sample, np.zeros(sample.n), folds, seed):
        for row in (0, 1):
            both = (t, sample.y.numpy())[row]
            left[row, held] -= _predicted(learner, x[train], both[train], w[train], x[held])
    t_left, y_left = torch.from_numpy(left)
    values, scores = [], []
    for group in sample.masks.double():
        weight = sample.weights * group * t_left
        slope = (weight * y_left).sum() / (weight * t_left).sum()
        values.append(slope)
        scores.append(weight * (y_left - slope * t_left) / (weight * t_left).mean())
    return Influence(torch.stack(values), torch.stack(scores, 1), sample.n - 1, sample.clusters)


def _matrix(sample: Sample, names: Sequence[str]) -> np.ndarray[Any, Any]:
    columns = [c for name in names for c in numbers(name, sample.rows[name], sample.kinds[name])]
    columns += sample.own_terms()
    return torch.stack(columns or [torch.zeros(sample.n).double()], 1).numpy()


def _folds(sample: Sample, strata: np.ndarray[Any, Any], folds: int, seed: Seed) -> Any:
    """Yield pairs of row numbers; a subject's rows are in one fold, and arms are spread evenly."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    options = {"n_splits": folds, "shuffle": True, "random_state": base_seed(seed, "folds") % 2**32}
    if sample.clusters is None:
        return StratifiedKFold(**options).split(strata, strata)
    groups = sample.clusters.numpy()
    return StratifiedGroupKFold(**options).split(strata, strata, groups)


def _predicted(
    learner: Any,
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    weights: np.ndarray[Any, Any],
    at: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any]:
    """Fit a copy of a learner, and predict the mean; of a classifier, the probability of 1."""
    from sklearn.base import clone, is_classifier
    from sklearn.utils.validation import has_fit_parameter

    model = clone(learner)
    weighted = has_fit_parameter(model, "sample_weight") and weights.min() < weights.max()
    model.fit(x, y, **({"sample_weight": weights} if weighted else {}))
    if is_classifier(model):
        return np.asarray(model.predict_proba(at)[:, list(model.classes_).index(1.0)])
    return np.asarray(model.predict(at), dtype=np.float64)
