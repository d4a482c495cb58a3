"""Effects of tables that are read by batches, by regressions on numbers of many values.

What `rung3.effects.tables.m_estimation` computes of rows in memory are sums over rows: of scores
and curvatures, from which the models follow by Newton's method (least squares: one step); of the
equations of the means and of their derivatives; and of the products of the rows' influences. Each
takes a pass or a few. The models start from a sample, whose units they keep, so that two or three
passes are enough; the answers are those of all rows to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Binary, Discrete
from rung3.effects.tables.answer import Answer, of_means
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.instrumental import interval_of, strength_of
from rung3.effects.tables.m_estimation import (
    CONVERGED,
    MAX_STEPS,
    MIN_PROBABILITY,
    Equations,
    Estimand,
    Method,
    Regression,
    distance_of,
    regress,
)
from rung3.effects.tables.sample import Sample, numbers, products, spanning, unit_of

__all__ = ["Reader", "adjusted_by_passes", "instrumental_by_passes", "slopes_by_passes"]

Reader = Callable[[], Iterable[Sample]]
"""Reads all rows, some at a time, once for each call."""

WEAK_POSITIVITY = 0.01
"""Estimated probability of an arm below which its rows weigh over a hundred others."""


class Design:
    """A constant and terms in some columns, as a function of rows; units are those of a sample.

    Args:
        sample: The sample.
        names: The columns.
    """

    def __init__(self, sample: Sample, names: Sequence[str]) -> None:
        self.names, self.kinds, self.degree = names, sample.kinds, sample.degree
        self.terms = sample.terms
        plain = self._plain(sample.rows)
        columns = self._term_columns(sample.rows)
        self.units = [unit_of(column) for column in plain]
        self.term_units = [unit_of(column) for column in columns]
        self.places = spanning(self._all(sample.rows), sample.n)

    def __call__(self, rows: Rows) -> Tensor:
        """Return the terms of rows, `(n, width)`."""
        columns = self._all(rows)
        return torch.stack([torch.ones(rows.n).double(), *(columns[k] for k in self.places)], 1)

    def _plain(self, rows: Rows) -> list[Tensor]:
        columns: list[Tensor] = []
        for name in self.names:
            if isinstance(self.kinds[name], Discrete):
                columns += numbers(name, rows[name], self.kinds[name])
            else:
                columns += rows[name].double().reshape(rows.n, -1).unbind(1)
        return columns

    def _term_columns(self, rows: Rows) -> list[Tensor]:
        values = [term(**{k: rows[k].double() for k in term.arguments}) for term in self.terms]
        return [value.double().expand(rows.n) for value in values]

    def _all(self, rows: Rows) -> list[Tensor]:
        plain = _in_units(self._plain(rows), self.units)
        return [
            *products(plain, self.degree),
            *_in_units(self._term_columns(rows), self.term_units),
        ]


def _in_units(columns: Sequence[Tensor], units: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [(c - middle) / scale for c, (middle, scale) in zip(columns, units, strict=True)]


@dataclass(frozen=True)
class Task:
    """What a regression is of, in some rows.

    Attributes:
        features: `(m, p)`.
        y: `(m,)`.
        inside: Mask `(m,)` of the rows that it is of.
        logistic: Whether it is logistic.
        inflate: Whether residuals are divided by `sqrt(1 - leverage)`.
    """

    features: Tensor
    y: Tensor
    inside: Tensor
    logistic: bool = False
    inflate: bool = True

    def curves(self, beta: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the outcome, `(m,)` each, the latter 0 outside."""
        linear = self.features @ beta
        mean = torch.sigmoid(linear) if self.logistic else linear
        variance = mean * (1 - mean) if self.logistic else torch.ones_like(mean)
        return mean, variance * self.inside


Tasks = Callable[[Sample], list[Task]]
"""The regressions that an effect needs, of some rows."""


@dataclass(frozen=True)
class Model:
    """A regression that was fitted in passes.

    Attributes:
        beta: Coefficients `(p,)`.
        bread: Inverse of its curvature, averaged over rows, `(p, p)`.
        n: Number of rows.
    """

    beta: Tensor
    bread: Tensor
    n: int

    def on(self, task: Task) -> Regression:
        """Return the regression of some rows, with the influence of each."""
        mean, variance = task.curves(self.beta)
        inflation = torch.ones_like(mean)
        if task.inflate:
            leverage = variance * ((task.features @ self.bread) * task.features).sum(1) / self.n
            inflation = (1 - leverage).clamp_min(0.5).rsqrt()
        residual = task.inside * (task.y - mean) * inflation
        scores = (task.features * residual[:, None]) @ self.bread
        return Regression(self.beta, scores, task.features, task.logistic, inflation)


def fitted(read: Reader, sample: Sample, tasks: Tasks) -> list[Model]:
    """Fit regressions to all rows by Newton's method, from where the sample's end.

    Raises:
        ValueError: If a logistic one does not converge.
    """
    betas = [
        regress(one.features, one.y, torch.ones_like(one.y), one.logistic, one.inside, False).beta
        for one in tasks(sample)
    ]
    for _ in range(MAX_STEPS):
        n, slopes, curvatures = _expanded(read, betas, tasks)
        breads = [torch.linalg.pinv(one, hermitian=True) for one in curvatures]
        if max(float(slope.abs().max()) for slope in slopes) < CONVERGED * _size(sample):
            return [Model(beta, bread, n) for beta, bread in zip(betas, breads, strict=True)]
        steps = [bread @ slope for bread, slope in zip(breads, slopes, strict=True)]
        betas = [beta + step for beta, step in zip(betas, steps, strict=True)]
    raise ValueError(
        "a logistic model did not converge: what is adjusted for tells the treatment or the "
        "outcome without error"
    )


def _size(sample: Sample) -> float:
    """Return the size of outcomes, in which a score counts as zero."""
    return max(1.0, float(sample.y.abs().max()))


def _expanded(
    read: Reader, betas: list[Tensor], tasks: Tasks
) -> tuple[int, list[Tensor], list[Tensor]]:
    """Return the number of rows, and each model's score and curvature, averaged over them."""
    n, slopes = 0, [torch.zeros_like(beta) for beta in betas]
    curvatures = [torch.zeros(len(beta), len(beta)).double() for beta in betas]
    for part in read():
        n += part.n
        for beta, slope, curvature, task in zip(
            betas, slopes, curvatures, tasks(part), strict=True
        ):
            mean, variance = task.curves(beta)
            slope += task.features.T @ (task.inside * (task.y - mean))
            curvature += (task.features * variance[:, None]).T @ task.features
    return n, [one / n for one in slopes], [one / n for one in curvatures]


def _covariance(read: Reader, scores: Callable[[Sample], Tensor]) -> Tensor:
    """Return the covariance of estimates whose rows have such influences, `(k, k)`."""
    n, total = 0, torch.zeros(())
    for part in read():
        influence = scores(part)
        n, total = n + part.n, total + influence.T @ influence
    return total / n**2


def _known(values: Tensor, covariance: Tensor, freedom: float) -> Influence:
    """Return estimates of which the covariance is known, and no longer the influence of rows."""
    none = torch.zeros(1, len(values), dtype=torch.float64)
    return Influence(values, none, freedom, more=covariance)


def adjusted_by_passes(
    read: Reader,
    sample: Sample,
    given: Sequence[str],
    codes: tuple[int, int],
    method: Method,
    estimand: Estimand,
) -> Answer:
    """Estimate the effect of a discrete treatment by adjustment.

    Args:
        read: Reads all rows.
        sample: A sample of them.
        given: What is adjusted for.
        codes: Of the treatment's values.
        method: How the means are estimated.
        estimand: Whose effect.

    Raises:
        ValueError: If a model cannot be fitted, or an arm has a probability of zero somewhere.
    """
    tasks = _arms(Design(sample, given), codes)
    adjustment = _Adjustment(fitted(read, sample, tasks), tasks, method, estimand)
    start = sample.y.mean().expand(2)
    at, change, products, least = adjustment.sums(read, start, distance_of(sample.y))
    if least < MIN_PROBABILITY:
        raise ValueError(
            "what is adjusted for tells the treatment without error in some rows: there is "
            "nothing to compare them with (positivity)"
        )
    n = adjustment.models[0].n
    # The equations are linear in the means, and so are their derivatives in theta.
    slope = -change[:, 0] / n
    step = at[:, 0] / n / slope
    gradient = (at + step[:, None] * change)[:, 1:] / n
    # A row's influence: of its equations, of their derivatives in the means, and of its scores.
    influence = torch.cat([torch.eye(2).double(), step.diag(), gradient.T]) / slope
    covariance = influence.T @ products @ influence / n**2
    freedom = n - 2 * len(adjustment.models[0].beta)
    means = _known(start + step, covariance, freedom)
    weak = f"positivity is weak: the smallest estimated probability of an arm is {least:.2g}"
    return of_means(means, least, (weak,) if least < WEAK_POSITIVITY else ())


def _arms(design: Design, codes: tuple[int, int]) -> Tasks:
    """Return the regressions of adjustment: of the outcome in each arm, and of each arm.

    Of two arms that are all rows the second is the first one's mirror image, and left out.
    """

    def tasks(part: Sample) -> list[Task]:
        x = design(part.rows)
        arms = [part.rows[part.treatment] == code for code in codes]
        fitted_arms = arms[:1] if isinstance(part.kinds[part.treatment], Binary) else arms
        shares = [Task(x, arm.double(), torch.ones_like(arm), True, False) for arm in fitted_arms]
        return [*(Task(x, part.y, arm, part.binary) for arm in arms), *shares]

    return tasks


@dataclass(frozen=True)
class _Adjustment:
    """The equations of two means, of some rows at a time, by models that are fitted to all."""

    models: list[Model]
    tasks: Tasks
    method: Method
    estimand: Estimand

    @property
    def theta(self) -> Tensor:
        """The coefficients of all models, `(3 p,)` or `(4 p,)`."""
        return torch.cat([model.beta for model in self.models])

    def of_four(self, theta: Tensor) -> Tensor:
        """Return the coefficients with those of a mirror image, `(4 p,)`."""
        return theta if len(self.models) == 4 else torch.cat([theta, -theta.chunk(3)[2]])

    def equations(self, part: Sample) -> tuple[Equations, Tensor]:
        """Return the equations of some rows, and the rows' influence on theta."""
        tasks = self.tasks(part)
        known = [model.on(task) for model, task in zip(self.models, tasks, strict=True)]
        share = known[-1]
        mirror = [] if len(known) == 4 else [replace(share, beta=-share.beta, scores=-share.scores)]
        problem = Equations(
            part.y,
            torch.stack([task.inside for task in tasks[:2]]),
            tasks[0].features,
            part.binary,
            self.method,
            estimand=self.estimand,
            fitted=[*known, *mirror],
        )
        return problem, torch.cat([one.scores for one in known], 1)

    def sums(
        self, read: Reader, start: Tensor, distance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        """Return what means, and the covariance of their estimates, need of all rows, in a pass.

        Returns:
            Sums over rows of the equations beside their derivatives in theta, `(2, 1 + size)`, at
            these means, and their slopes in the means, as a move by the distance shows them;
            products of equations, of their derivatives in the means, and of scores, summed over
            rows, `(4 + size, 4 + size)`; and the least share.
        """
        theta, least = self.theta, 1.0
        sums = [torch.zeros(2, 1 + len(theta)).double() for _ in range(2)]
        products = torch.zeros(4 + len(theta), 4 + len(theta)).double()
        for part in read():
            problem, scores = self.equations(part)
            least = min(least, problem.least())
            for total, mu in zip(sums, (start, start + distance), strict=True):
                total += torch.cat(
                    [self._summed(problem, theta, mu)[:, None], self._gradient(problem, mu)], 1
                )
            whole = self.of_four(theta)
            here, further = (problem.equations(whole, mu, True) for mu in (start, start + distance))
            columns = torch.cat([here, (further - here) / distance, scores], 1)
            products += columns.T @ columns
        return sums[0], (sums[1] - sums[0]) / distance, products, least

    def _summed(self, problem: Equations, theta: Tensor, mu: Tensor) -> Tensor:
        return problem.equations(self.of_four(theta), mu).sum(0)

    def _gradient(self, problem: Equations, mu: Tensor) -> Tensor:
        """Return the derivatives of the sums of the equations in theta, `(2, size)`."""
        gradient: Tensor = torch.func.jacrev(partial(self._summed, problem, mu=mu))(self.theta)
        return gradient


def slopes_by_passes(
    read: Reader, sample: Sample, mediators: Sequence[str], difference: float
) -> Answer:
    """Estimate the effect of so many units of a treatment by the front door, in linear models.

    Args:
        read: Reads all rows.
        sample: A sample of them.
        mediators: M.
        difference: Units of treatment.
    """

    def tasks(part: Sample) -> list[Task]:
        t, every = part.rows[part.treatment].double(), torch.ones(part.n, dtype=torch.bool)
        columns = _mediators(part, mediators)
        x = torch.stack([torch.ones_like(t), t, *columns], 1)
        return [Task(x, part.y, every), *(Task(x[:, :2], column, every) for column in columns)]

    outcome, *first = models = fitted(read, sample, tasks)
    pairs = [(one.beta[1], outcome.beta[at]) for at, one in enumerate(first, 2)]

    def influence(part: Sample) -> Tensor:
        known = [model.on(task) for model, task in zip(models, tasks(part), strict=True)]
        score = torch.zeros(part.n).double()
        for at, ((a, b), one) in enumerate(zip(pairs, known[1:], strict=True), 2):
            score = score + b * one.scores[:, 1] + a * known[0].scores[:, at]
        return score[:, None]

    value = torch.stack([a * b for a, b in pairs]).sum()[None]
    slope = _known(value, _covariance(read, influence), outcome.n - len(outcome.beta))
    note = "treatment and mediators are taken to act linearly"
    return Answer(slope.then(lambda v: difference * v), notes=(note,))


def _mediators(part: Sample, names: Sequence[str]) -> list[Tensor]:
    """Return mediators as numbers, in their own units."""
    columns: list[Tensor] = []
    for name in names:
        kind, value = part.kinds[name], part.rows[name]
        columns += numbers(name, value, kind) if isinstance(kind, Discrete) else [value.double()]
    return columns


def instrumental_by_passes(
    read: Reader,
    sample: Sample,
    instruments: Sequence[str],
    given: Sequence[str],
    difference: float,
    level: float,
) -> Answer:
    """Estimate the effect of so many units of a treatment by two-stage least squares.

    Args:
        read: Reads all rows.
        sample: A sample of them.
        instruments: Z.
        given: W.
        difference: Units of treatment.
        level: Nominal coverage of the interval of Anderson and Rubin.
    """
    others, both = Design(sample, given), Design(sample, [*given, *instruments])
    stages = _Stages(others, both)
    stages.models = fitted(read, sample, stages.tasks)
    reduced, first = stages.models[:2]
    width, count = stages.width, len(first.beta) - stages.width
    pi_y, pi_t = reduced.beta[width:], first.beta[width:]
    weight = torch.zeros(count, count).double()
    for part in read():
        z = stages.residuals(part)[:, 2:]
        weight = weight + z.T @ z / first.n
    slope = (pi_t @ weight @ pi_y) / (pi_t @ weight @ pi_t)
    inflate = (first.n / (first.n - width - 1)) ** 0.5

    def influence(part: Sample) -> Tensor:
        left = stages.residuals(part)
        hat, residual = left[:, 2:] @ pi_t, left[:, 1] - slope * left[:, 0]
        effect = inflate * hat * residual / (pi_t @ weight @ pi_t)
        return torch.cat([stages.scores(part), effect[:, None]], 1)

    covariance, freedom = _covariance(read, influence), first.n - len(first.beta)
    stacked = _known(torch.cat([pi_y, pi_t]), covariance[:-1, :-1], freedom)
    estimate = _known(slope[None], covariance[-1:, -1:], freedom)
    strength = strength_of(stacked, count)
    interval, notes = interval_of(stacked, estimate, count, strength, level)
    moved = sorted(difference * end for end in interval) if interval else None
    return Answer(
        estimate.then(lambda v: difference * v),
        interval=None if moved is None else (moved[0], moved[1]),
        strength=strength,
        notes=notes,
    )


class _Stages:
    """The regressions of two-stage least squares, of some rows at a time.

    Args:
        others: What the instruments are instruments given.
        both: The same, and the instruments.
    """

    def __init__(self, others: Design, both: Design) -> None:
        self.others, self.both = others, both
        self.width = len(others.places) + 1
        self.models: list[Model] = []

    def tasks(self, part: Sample) -> list[Task]:
        """Return outcome and treatment on everything; then treatment, outcome, Z on the others."""
        t, every = part.rows[part.treatment].double(), torch.ones(part.n, dtype=torch.bool)
        x, w = self.both(part.rows), self.others(part.rows)
        left = [t, part.y, *x[:, self.width :].unbind(1)]
        return [
            Task(x, part.y, every),
            Task(x, t, every),
            *(Task(w, column, every, inflate=False) for column in left),
        ]

    def residuals(self, part: Sample) -> Tensor:
        """Return what the others leave of treatment, outcome and instruments, `(m, 2 + k)`."""
        pairs = zip(self.models[2:], self.tasks(part)[2:], strict=True)
        return torch.stack([task.y - task.features @ model.beta for model, task in pairs], 1)

    def scores(self, part: Sample) -> Tensor:
        """Return the rows' influence on the instruments' coefficients in both, `(m, 2 k)`."""
        pairs = zip(self.models[:2], self.tasks(part)[:2], strict=True)
        return torch.cat([model.on(task).scores[:, self.width :] for model, task in pairs], 1)
