"""Regressions, averages and effects of tables that do not fit into memory, batch by batch.

With n rows z, their mean m and S = sum (z - m)(z - m)', two parts of a table join as one (Chan,
Golub and LeVeque 1983, *Algorithms for computing the sample variance*):

    n = n1 + n2,   m = m1 + d n2 / n,   S = S1 + S2 + d d' n1 n2 / n,   d = m2 - m1.

A linear regression is a function of (n, m, S): one pass. A logistic one takes Newton steps

    w <- w + H^-1 g,   g = sum x (y - p),   H = sum p (1 - p) x x',   p = 1 / (1 + exp(-x'w)),

one pass each; it starts from the optimum of the first rows, and ends with a step that is small
beside the standard errors: of rows in no order, the second. The memory is that of a few batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np
from scipy.special import expit

from rung3.data.streaming import streamed

__all__ = ["AdjustedEffect", "Moments", "RegressionFit", "adjusted_effect", "linear", "logistic",
           "moments"]  # fmt: skip

FIRST_ROWS = 2**18
"""Rows that a logistic regression starts from, roughly."""

SMALL = 0.01
"""Standard errors that the last step of a logistic regression may come to."""

MOST_STEPS = 50
"""Steps of a logistic regression, at most: a dozen are many."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Moments:
    """Number, mean and scatter of rows; two add up to those of all rows.

    Attributes:
        n: Number of rows.
        mean: Mean of each column, `(d,)`.
        scatter: Sums of products about the mean, `(d, d)`.
    """

    n: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, rows: Array) -> Self:
        """Return the moments of rows `(n, d)`."""
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    def __add__(self, other: Moments) -> Moments:
        if not (self.n and other.n):
            return self if self.n else other
        n, apart = self.n + other.n, other.mean - self.mean
        between = np.outer(apart, apart) * (self.n * other.n / n)
        mean = self.mean + apart * (other.n / n)
        return Moments(n, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Array:
        """The covariance of the columns, `(d, d)`, with n - 1 below."""
        return self.scatter / (self.n - 1)


@dataclass(frozen=True)
class RegressionFit:
    """A fitted regression.

    Attributes:
        coefficients: By name; `"1"` is the intercept.
        errors: Their standard errors. Of a linear regression they take the variance of the noise
            to be the same everywhere.
        n: Number of rows.
        passes: How often the table was read.
    """

    coefficients: dict[str, float]
    errors: dict[str, float]
    n: int
    passes: int


@dataclass(frozen=True)
class AdjustedEffect:
    """An average effect.

    Attributes:
        value: The mean of the outcome if all were treated, minus that if none were.
        error: Its standard error; in each arm the variance of the noise is the same everywhere.
        n: Number of rows.
    """

    value: float
    error: float
    n: int


def moments(source: Any, columns: Sequence[str]) -> Moments:
    """Return the moments of columns, in one pass.

    Args:
        source: What `rung3.data.streamed` takes: the path of a Parquet file or of a folder of
            them; an Arrow table or data set, a DuckDB relation or a Polars frame.
        columns: Names of numbers; rows that lack one are left out.

    Raises:
        ValueError: If there is no such column, or no row.

    Example:
        >>> import pyarrow as pa
        >>> found = moments(pa.table({"x": [1.0, 2.0, 3.0], "y": [0.0, 2.0, 4.0]}), ["x", "y"])
        >>> found.mean.tolist(), found.covariance.tolist()
        ([2.0, 2.0], [[1.0, 2.0], [2.0, 4.0]])
    """
    none = Moments.of(np.zeros((0, len(columns))))
    total = reduce(Moments.__add__, map(Moments.of, streamed(source).numbers(columns)), none)
    if not total.n:
        raise ValueError(f"no row has all of {list(columns)}")
    return total


def linear(source: Any, outcome: str, features: Sequence[str]) -> RegressionFit:
    """Regress an outcome on features by least squares, in one pass.

    Args:
        source: As of `moments`.
        outcome: The name of the outcome.
        features: Names of features; none may be a sum of others.

    Raises:
        ValueError: If a column is unknown, or features cannot be told apart.
    """
    totals = moments(source, [*features, outcome])
    slopes, inverse, variance = _least_squares(totals, list(features))
    mean = totals.mean[:-1]
    intercept = totals.mean[-1] - mean @ slopes
    errors = [variance * (1 / totals.n + mean @ inverse @ mean), *(variance * inverse.diagonal())]
    return RegressionFit(
        dict(zip(["1", *features], map(float, [intercept, *slopes]), strict=True)),
        dict(zip(["1", *features], map(float, np.sqrt(errors)), strict=True)),
        totals.n,
        passes=1,
    )


def logistic(source: Any, outcome: str, features: Sequence[str]) -> RegressionFit:
    """Regress an outcome of 0 and 1 on features by maximum likelihood, in a few passes.

    Args:
        source: As of `moments`.
        outcome: The name of the outcome.
        features: Names of features; none may be a sum of others.

    Raises:
        ValueError: If a column is unknown, the outcome is not 0 or 1 or never changes, features
            cannot be told apart, or they tell the classes apart exactly.
    """
    table, names = streamed(source), ["1", *features]
    start: list[Array] = []
    for batch in table.numbers([*features, outcome]):
        start.append(batch)
        if sum(map(len, start)) >= FIRST_ROWS:
            break
    weights = np.zeros(len(names))
    try:
        weights, _, _ = _newton(lambda: iter(start), weights, outcome)
    except ValueError:  # where the first rows tell the classes apart, all need not
        weights = np.zeros(len(names))
    weights, hessian, (n, passes) = _newton(
        lambda: table.numbers([*features, outcome]), weights, outcome
    )
    errors = np.sqrt(np.linalg.inv(hessian).diagonal())
    return RegressionFit(
        dict(zip(names, weights.tolist(), strict=True)),
        dict(zip(names, errors.tolist(), strict=True)),
        n,
        passes,
    )


def adjusted_effect(
    source: Any, treatment: str, outcome: str, given: Sequence[str] = ()
) -> AdjustedEffect:
    """Return the average effect of a treatment of 0 and 1, adjusted by a regression in each arm.

    With b_t the slopes of arm t, and m the mean of the covariates over all rows,

        E[Y | do(t)] = mean(y_t) + b_t'(m - mean(x_t)):

    one pass (Lin 2013, *Agnostic notes on regression adjustments*). It is the causal effect where
    `given` meets the adjustment criterion, and the outcome is linear in it in each arm.

    Args:
        source: As of `moments`.
        treatment: The name of the treatment.
        outcome: The name of the outcome.
        given: Names of the covariates.

    Raises:
        ValueError: If a column is unknown, the treatment is not 0 or 1, or an arm has too few rows.
    """
    columns = [*given, outcome, treatment]
    arms = [Moments.of(np.zeros((0, len(columns) - 1))) for _ in range(2)]
    for batch in streamed(source).numbers(columns):
        treated = batch[:, -1]
        _check_binary(treatment, treated)
        arms = [arm + Moments.of(batch[treated == value, :-1]) for value, arm in enumerate(arms)]
    if sparse := [value for value, arm in enumerate(arms) if arm.n < len(columns) + 1]:
        raise ValueError(
            f"{treatment}={sparse[0]}: {arms[sparse[0]].n} rows, too few for a regression"
        )
    total = arms[0] + arms[1]
    means, slopes, variances = [], [], []
    for arm in arms:
        slope, inverse, noise = _least_squares(arm, list(given))
        apart = total.mean[:-1] - arm.mean[:-1]
        means.append(arm.mean[-1] + apart @ slope)
        slopes.append(slope)
        variances.append(noise * (1 / arm.n + apart @ inverse @ apart))
    change = slopes[1] - slopes[0]
    variances.append(change @ total.covariance[:-1, :-1] @ change / total.n)
    return AdjustedEffect(float(means[1] - means[0]), float(np.sqrt(sum(variances))), total.n)


def _least_squares(totals: Moments, features: list[str]) -> tuple[Array, Array, float]:
    """Return slopes on all columns but the last, the inverse of their scatter, and the variance."""
    scatter, cross = totals.scatter[:-1, :-1], totals.scatter[:-1, -1]
    inverse = _inverse(scatter, features)
    slopes = inverse @ cross
    rest = totals.scatter[-1, -1] - cross @ slopes
    return slopes, inverse, float(max(rest, 0.0) / (totals.n - len(features) - 1))


def _inverse(matrix: Array, names: list[str]) -> Array:
    """Invert a matrix of products of features, each brought to one scale."""
    scale = np.sqrt(matrix.diagonal())
    if not len(names):
        return matrix
    if (scale == 0).any() or np.linalg.cond(matrix / np.outer(scale, scale)) > 1e12:
        raise ValueError(f"{names}: one of them is constant, or follows from others; leave it out")
    inverse: Array = np.linalg.inv(matrix / np.outer(scale, scale)) / np.outer(scale, scale)
    return inverse


def _newton(read: Any, weights: Array, outcome: str) -> tuple[Array, Array, tuple[int, int]]:
    """Take Newton steps; return the weights, the last curvature, and rows and passes."""
    for step in range(1, MOST_STEPS + 1):
        gradient, hessian, n = _slope(read(), weights, outcome)
        names = [outcome, *map(str, range(len(weights)))]
        change = _inverse(hessian, names[1:]) @ gradient
        weights = weights + change
        if (np.abs(change) <= SMALL * np.sqrt(np.linalg.inv(hessian).diagonal())).all():
            return weights, hessian, (n, step)
    raise ValueError(f"{outcome}: no optimum after {MOST_STEPS} passes; scale the features")


def _slope(batches: Iterator[Array], weights: Array, outcome: str) -> tuple[Array, Array, int]:
    """Return gradient and curvature of the log likelihood, and the number of rows."""
    gradient, hessian, n = np.zeros_like(weights), np.zeros((len(weights),) * 2), 0
    ones, farthest = 0.0, 0.0
    for batch in batches:
        y = batch[:, -1]
        _check_binary(outcome, y)
        x = np.concatenate([np.ones((len(batch), 1)), batch[:, :-1]], axis=1)
        p = expit(x @ weights)
        farthest = max(farthest, float(np.abs(y - p).max(initial=0)))
        gradient += x.T @ (y - p)
        hessian += (x * (p * (1 - p))[:, None]).T @ x
        n, ones = n + len(batch), ones + float(y.sum())
    if ones in (0, n):
        raise ValueError(f"{outcome}: all {n} rows have the same value; expected both 0 and 1")
    if farthest < 1 / 2:
        raise ValueError(
            f"{outcome}: the features tell 0 and 1 apart exactly: no optimum is finite"
        )
    return gradient, hessian, n


def _check_binary(name: str, values: Array) -> None:
    other = values[(values != 0) & (values != 1)]
    if len(other):
        raise ValueError(f"{name}: expected 0 and 1, got {other[0]:g}")
