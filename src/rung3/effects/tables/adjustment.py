r"""Effects of a discrete treatment by adjustment.

For a set Z that meets the adjustment criterion, treatment T and an arm t,

    mu_t = E[Y | do(t)] = E[ E[Y | t, Z] ]                                        standardisation
         = E[ 1{T = t} Y / e_t(Z) ] / E[ 1{T = t} / e_t(Z) ]                      weighting (IPW)
         = E[ m_t(Z) + 1{T = t} (Y - m_t(Z)) / e_t(Z) ]                           both (AIPW)

with `m_t(z) = E[Y | t, z]` and `e_t(z) = P(t | z)`. The last is right if either model is (Robins,
Rotnitzky and Zhao, JASA 1994). Where Z is discrete the models have one value a stratum, and the
three are one estimate; else they are linear in features of Z, on the scale of the logit for `e`,
and for `m` of a binary outcome. On the treated (ATT) the average is over rows with T = do, and
`1 / e_t` becomes `e_do / e_t`; on the untreated (ATU) alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rung3.data.columns import amounts
from rung3.data.seeding import Seed
from rung3.data.variables import Discrete
from rung3.effects.tables.answer import Answer, of_means
from rung3.effects.tables.cross_fitting import TRIMMED, cross_fitted_arms
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.m_estimation import Equations, Estimand, Method, needed_arms
from rung3.effects.tables.positivity import check_strata, region_without, teller
from rung3.effects.tables.sample import Sample, strata_of, stratum_of

__all__ = ["Method", "adjusted_effect", "arms_of"]

MANY_LEVELS = 2
"""Rows of a category, on average, below which it may be no category but a name for each row."""

DETERMINED = 1e-12
"""Share of the outcome's variance that counts as none: about the rounding of doubles, squared."""

WEAK_POSITIVITY = 0.01
"""Estimated probability of an arm below which a row is named: it weighs over a hundred others."""


def arms_of(sample: Sample, do: Any, versus: Any) -> tuple[Tensor, tuple[str, str]]:
    """Return masks of the rows of both arms, `(2, n)`, and what the arms are called.

    Raises:
        ValueError: If the values are the same, or none of the treatment's.
    """
    name, kind = sample.treatment, sample.kinds[sample.treatment]
    assert isinstance(kind, Discrete)
    codes = [int(kind.validate(name, arm)) for arm in (do, versus)]
    if codes[0] == codes[1]:
        raise ValueError(f"{name}: do and versus are the same value, {do!r}")
    arms = torch.stack([sample.rows[name] == code for code in codes])
    labels = (kind.label(codes[0]), kind.label(codes[1]))
    for arm, label in zip(arms, labels, strict=True):
        if not arm.any():
            raise ValueError(f"{name}: no rows with {name} = {label} in the stratum of all rows")
    return arms, labels


def adjusted_effect(
    sample: Sample,
    given: Sequence[str],
    do: Any,
    versus: Any,
    method: Method,
    estimand: Estimand,
    learner: Any = None,
    folds: int = 5,
    seed: Seed = 0,
) -> Answer:
    """Estimate the effect of one value of a discrete treatment against another.

    Args:
        sample: The rows.
        given: What is adjusted for.
        do: The value of the treatment.
        versus: The value that it is compared with.
        method: How the means are estimated.
        estimand: Whose effect.
        learner: A scikit-learn regressor; then AIPW is cross-fitted.
        folds: Of cross-fitting.
        seed: Of the folds.

    Raises:
        ValueError: If a stratum lacks an arm (named), or a model cannot be fitted.
    """
    arms, labels = arms_of(sample, do, versus)
    if learner is not None:
        if fault := teller(sample, given, sample.treatment, arms, labels):  # trees smooth it over
            raise ValueError(f"{fault}; adjust for less{amounts(sample.kinds, given)}")
        means, least, trimmed = cross_fitted_arms(
            sample, given, arms, estimand, learner, folds, seed
        )
        notes = (
            [f"{trimmed:,} rows with a probability of an arm below {TRIMMED} count as having it"]
            if trimmed
            else []
        )
        return of_means(means, least, tuple(notes))
    unlike: tuple[str, ...] = ()
    if sample.saturated(given):
        sample, arms, unlike = _with_such_rows(sample, given, arms, labels, estimand)
        check_strata(sample, given, arms, labels)
    features = sample.design(given)
    binary = sample.binary and not sample.saturated(given)
    try:
        problem = Equations(
            sample.y, arms, features, binary, method, sample.weights, sample.masks, estimand,
            sample.counts,
        )  # fmt: skip
        values, scores = problem.solve()
    except ValueError as error:
        region = _region(sample, given, arms, labels, estimand)
        cause = f": {region}" if region else ""
        levels = _many_levels(sample, given)
        raise ValueError(
            f"{error}{cause}; adjust for less{levels}{amounts(sample.kinds, given)}"
        ) from None
    freedom = sample.total - 2 * features.shape[1]
    means = Influence(values, scores, freedom, sample.clusters, counts=sample.counts)
    doubts = *_doubts(sample, given, problem, labels), *_determined(sample, given, problem)
    return of_means(means, problem.least(), (*unlike, *doubts))


def _many_levels(sample: Sample, given: Sequence[str]) -> str:
    """Name a column of nearly as many categories as there are rows, such as a person's number."""
    for name in given:
        classes = getattr(sample.kinds[name], "classes", 0)
        if MANY_LEVELS * classes > sample.n:
            return f": {name} has {classes:,} values in {sample.n:,} rows"
    return ""


def _with_such_rows(
    sample: Sample, given: Sequence[str], arms: Tensor, labels: Sequence[str], estimand: Estimand
) -> tuple[Sample, Tensor, tuple[str, ...]]:
    """Leave out strata in which nobody is whose effect is asked for: they need no overlap."""
    if estimand == "ATE":
        return sample, arms, ()
    arm = {"ATT": 0, "ATU": 1}[estimand]
    for name, mask in sample.groups.items():
        if not (mask & arms[arm]).any():
            raise ValueError(
                f"{sample.treatment}: no rows with {sample.treatment} = {labels[arm]} in the "
                f"stratum {name or 'of all rows'}: there is no {estimand} there"
            )
    strata = strata_of(sample.rows, given)
    counts = torch.zeros(int(strata.max()) + 1).index_add_(0, strata, arms[arm].float())
    inside = counts[strata] > 0
    if inside.all():
        return sample, arms, ()
    note = (
        f"{int((~inside).sum()):,} rows are in strata without {sample.treatment} = {labels[arm]} "
        f"and do not count for the {estimand}"
    )
    return sample.only(inside), arms[:, inside], (note,)


def _region(
    sample: Sample, given: Sequence[str], arms: Tensor, labels: Sequence[str], estimand: Estimand
) -> str:
    """Say what tells the treatment, or an outcome that is yes or no, without error."""
    if not given:
        return ""
    needed = needed_arms(estimand)
    region = region_without(sample, given, sample.treatment, arms, labels, needed)
    if region or not sample.binary:
        return region
    both = torch.stack([sample.y == 1, sample.y == 0])
    return region_without(sample, given, sample.outcome, both, ("1", "0"))


def _determined(sample: Sample, given: Sequence[str], problem: Equations) -> tuple[str, ...]:
    """Say so, if what is adjusted for tells the outcome without error in both arms."""
    inside = problem.arms.sum(0) > 0
    pairs = zip(problem.arms, problem.models, strict=True)
    means = torch.stack([arm * model.mean(model.beta) for arm, model in pairs]).sum(0)
    left, first = (sample.y - means)[inside], float(sample.y[inside][0])
    if bool((sample.y[inside] == first).all()):
        return (f"{sample.outcome} is {first:g} in all rows, so that the interval has no width",)
    if not given or left.square().mean() > DETERMINED * sample.y[inside].var():
        return ()
    without_error = f"{sample.outcome} without error, so that the interval has no width"
    for name in given:
        if _tells(sample, problem.arms, name):
            return (f"{name} tells {without_error}; is one of the two computed from the other?",)
    together = f"{', '.join(given[:-1])} and {given[-1]} together tell"
    return (f"{together} {without_error}; is {sample.outcome} computed from them?",)


def _tells(sample: Sample, arms: Tensor, name: str) -> bool:
    """Return whether one column tells the outcome without error in every arm."""
    features = sample.design([name])
    pairs = [(features[arm], sample.y[arm][:, None]) for arm in arms.bool()]
    left = [y - x @ torch.linalg.lstsq(x, y, driver="gelsd").solution for x, y in pairs]
    return bool(torch.cat(left).square().mean() <= DETERMINED * sample.y[arms.bool().any(0)].var())


def _doubts(
    sample: Sample, given: Sequence[str], problem: Equations, labels: Sequence[str]
) -> tuple[str, ...]:
    """Name the row with the smallest probability of an arm, if that is very small."""
    probabilities = problem.probabilities()
    shares = torch.stack([probabilities[arm] for arm in problem.needed])
    if float(shares.min()) >= WEAK_POSITIVITY:
        return ()
    place, row = divmod(int(shares.argmin()), sample.n)
    arm = problem.needed[place]
    return (
        f"positivity is weak: where {stratum_of(sample, given, row)}, {sample.treatment} = "
        f"{labels[arm]} has a probability of {float(shares.min()):.2g}",
    )
