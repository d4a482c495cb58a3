"""Tests of conditional independence between columns of numbers and of categories.

X and Y are regressed on Z, and their residuals e compared. Categories of X and Y count as the
indicators of all levels but one, or of the 20 that are most frequent. Categories in Z part the rows
into strata, one for each combination; so do numbers of few values, as long as the strata hold 5
rows each on average. Every other number in Z enters by a cubic spline with 5 knots, up to 30 as
rows grow (a line in fewer than 200), and a value that many rows share, such as 0, by an indicator
of its own: so Z may act on X and Y along any smooth curves whose effects add up, with a step at
such values.

Two numbers in fewer than 200 rows without strata: the partial correlation r of the residuals, with
q columns in the regression,

    t = r sqrt(d / (1 - r^2)),      d = n - q - 1,      a Student t of d degrees of freedom;

exact where X and Y are normal and linear in these columns. Else, the generalised covariance measure
(Shah and Peters, Ann. Statist. 2020), with its variance under the null hypothesis: of the products
of residuals of both sides, m_i = e_i x f_i, one for each pair of columns,

    T = (sum m)' C^-1 (sum m),      C = sum_i E[e e' | z_i] x E[f f' | z_i] / (1 - h_i),

the expectations regressed on Z like X and Y, h the leverages, T chi-squared of rank(C) degrees as n
grows. Where Z is strata alone, this is the test of Cochran, Mantel and Haenszel. Where few rows
decide, p comes from exchanging rows within strata (see `rung3.graph.association`), exact if Z is
strata alone. A number's column e, with its long tails clipped, is joined there by e^2, so that a
curve such as Y = X^2 and dependence of the variance are seen, too. Both columns are regressed on
Z again, and so keep their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rung3.graph.association import Array, Codes, association, crossed

__all__ = ["Column", "Dependence", "residual_test"]

MIN_KNOTS = 5
"""Inner knots of a spline in few rows: enough for one bend each way."""

MAX_KNOTS = 30
"""Inner knots of a spline, at most: more fit noise and cost time."""

LINEAR_ROWS = 200
"""Rows below which regressions are linear, and two numbers have the exact test of normal ones."""

MAX_CATEGORIES = 20
"""Whole numbers with more distinct values than this are numbers, with fewer categories."""

STRATUM_ROWS = 5
"""Rows of a stratum on average, and of a value with an indicator, at least."""

SHARED_PART = 20
"""A value has an indicator if at least one row in this many has it."""

TAIL_REACH = 3.0
"""Where tails are clipped, in units of what a tenth of the rows lies beyond."""

MIN_VARIANCE = 0.3
"""Smallest part of a variance that a regressed covariance may leave of the positive one."""


class Column(NamedTuple):
    """Values `(n,)`, NaN where missing; categories are whole numbers from 0."""

    values: Array
    discrete: bool


class Dependence(NamedTuple):
    """Result of a test: its name, statistic and p-value, and the number of rows."""

    name: str
    statistic: float
    p: float
    n: int


def column(values: object, discrete: bool | None = None) -> Column | None:
    """Return a column of data as a test takes it; `None` if it has several numbers a row.

    Args:
        values: Array-like, `(n,)`: numbers, truth values, text or categories.
        discrete: Whether to take it as categories; if not said, whatever is not a number is, and
            whole numbers with at most 20 distinct values are.
    """
    import pandas as pd

    array = np.asarray(values)
    if array.ndim != 1:
        return None
    there = array
    if array.dtype == object:  # numbers beside None, or pandas' own mark of a gap
        there = pd.Series(array).dropna().infer_objects().to_numpy()
    if discrete is None:
        sparse = there.dtype.kind in "biu" and len(np.unique(there)) <= MAX_CATEGORIES
        discrete = sparse or there.dtype.kind not in "biuf"
    if not discrete:
        return Column(pd.to_numeric(pd.Series(array)).to_numpy(np.float64, na_value=np.nan), False)
    codes, _ = pd.factorize(array, sort=False)
    return Column(np.where(codes < 0, np.nan, codes.astype(np.float64)), True)


def residual_test(x: Column, y: Column, given: Sequence[Column] = ()) -> Dependence:
    """Test whether x and y are independent given others, on the rows that have them all.

    Args:
        x: A column of n rows.
        y: Another.
        given: The columns conditioned on.

    Raises:
        ValueError: If there are too few rows for so many columns.

    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=500)
    >>> x, y = (Column(z + rng.normal(size=500), False) for _ in range(2))
    >>> residual_test(x, y).p < 1e-6 < 0.05 < residual_test(x, y, [Column(z, False)]).p
    True
    """
    from scipy import stats

    present = ~np.isnan([c.values for c in (x, y, *given)]).any(0)
    x, y, *given = (Column(c.values[present], c.discrete) for c in (x, y, *given))
    n = int(present.sum())
    strata, numbers = _strata(given, n)
    design = np.hstack([np.eye(strata.max(initial=0) + 1)[strata], *map(_spline, numbers)])
    basis, size, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, size > 1e-9 * size[:1]]
    free = n - basis.shape[1] - 1
    if free < 1:
        raise ValueError(f"{n} rows are too few to condition on {basis.shape[1]} columns")
    a, b = (_residuals(_indicators(c), basis) for c in (x, y))
    if not (x.discrete or y.discrete or strata.any()) and n < LINEAR_ROWS:
        r = float(a[:, 0] @ b[:, 0]) / n
        t = r * np.sqrt(free / max(1 - r**2, 1e-300))
        return Dependence("partial correlation", float(t), float(2 * stats.t.sf(abs(t), free)), n)
    a, b = (
        e if c.discrete else _residuals(_with_square(e), basis)
        for e, c in zip((a, b), (x, y), strict=True)
    )
    covariance = _null_covariance(a, b, basis) if numbers else None
    t, rank, p = association(a, b, strata, covariance)
    return Dependence("generalised covariance", t / max(rank, 1), p, n)


def _indicators(c: Column) -> Array:
    """Return a number as one column, categories as indicators of every level but one."""
    if not c.discrete:
        return c.values[:, None]
    levels, count = np.unique(c.values, return_counts=True)
    common = levels[count.argsort(kind="stable")[::-1]][:MAX_CATEGORIES]
    chosen = np.sort(common) if len(levels) > MAX_CATEGORIES else levels[1:]
    return np.asarray(c.values[:, None] == chosen, dtype=np.float64)


def _strata(given: Sequence[Column], n: int) -> tuple[Codes, list[Array]]:
    """Return the stratum of each row, `(n,)`, and the numbers left to regress on."""
    strata, left = np.zeros(n, dtype=np.int64), []
    for c in sorted(given, key=lambda c: not c.discrete):
        levels, codes = np.unique(c.values, return_inverse=True)
        _, joint = np.unique(strata * len(levels) + codes, return_inverse=True)
        sparse = len(levels) <= MAX_CATEGORIES and STRATUM_ROWS * (joint.max(initial=0) + 1) <= n
        if c.discrete or sparse:
            strata = joint
        else:
            left.append(c.values)
    return strata, left


def _spline(values: Array) -> Array:
    """Return indicators of values that many rows share, and a spline or line of the rest."""
    from scipy.interpolate import BSpline

    n = len(values)
    levels, codes, count = np.unique(values, return_inverse=True, return_counts=True)
    shared = count >= max(STRATUM_ROWS, n / SHARED_PART if len(levels) > MAX_CATEGORIES else 0)
    indicators = np.asarray(codes[:, None] == np.flatnonzero(shared), dtype=np.float64)
    other = ~shared[codes]
    rest = values[other]
    if not len(rest):
        return indicators
    knots = min(max(MIN_KNOTS, int(len(rest) ** 0.5 / 3)), MAX_KNOTS, 1 + len(rest) // SHARED_PART)
    inner = np.unique(np.quantile(rest, np.linspace(0, 1, knots + 2)))
    if n < LINEAR_ROWS or len(inner) < 3:
        columns = (rest[:, None] - rest.mean()) / (rest.std() or 1)
    else:
        ends = np.concatenate([inner[:1].repeat(3), inner, inner[-1:].repeat(3)])
        columns = BSpline.design_matrix(rest, ends, 3).toarray()
    placed = np.zeros((n, columns.shape[1]))
    placed[other] = columns
    return np.hstack([indicators, placed])


def _with_square(e: Array) -> Array:
    """Return a residual, its tails clipped, and its square, `(n, 2)`."""
    reach = TAIL_REACH * np.quantile(abs(e), 0.9)
    e = e.clip(-reach, reach) if reach > 0 else e
    return np.hstack([e, e**2])


def _null_covariance(a: Array, b: Array, basis: Array) -> Array:
    """Return C: the covariance of the sums of products if a and b depend on Z alone.

    Regressed on Z, some `E[e e' | z]` may come out negative. With these set to zero C is too large;
    with them as they are it may be negative itself, and so is bounded by a part of the former.
    """
    from scipy.linalg import eigh

    n, regressed, positive = len(a), [], []
    for e in (a, b):
        outer = (e[:, :, None] * e[:, None, :]).reshape(n, -1)
        regressed.append(basis @ (basis.T @ outer))
        values, vectors = np.linalg.eigh(regressed[-1].reshape(n, *e.shape[1:] * 2))
        whole = (vectors * values.clip(0)[:, None, :]) @ vectors.transpose(0, 2, 1)
        positive.append(whole.reshape(n, -1))
    left = 1 - (basis**2).sum(1)
    weight = np.where(left > 1e-9, 1 / left.clip(1e-9), 0.0)
    large = crossed(positive[0], positive[1], weight)
    large += 1e-9 * np.eye(len(large)) * max(large.diagonal().max(), 1e-9)
    share, vectors = eigh(crossed(regressed[0], regressed[1], weight), large)
    turned = large @ vectors
    return np.asarray((turned * share.clip(MIN_VARIANCE)) @ turned.T)


def _residuals(columns: Array, basis: Array) -> Array:
    """Return standardised residuals on an orthonormal basis; zeros where nothing is left."""
    centred = columns - columns.mean(0)
    rest = centred - basis @ (basis.T @ centred)
    size = np.sqrt((rest**2).sum(0))
    known = size <= 1e-9 * np.sqrt((centred**2).sum(0))
    return np.where(known, 0.0, rest / np.where(known, 1.0, size / np.sqrt(len(columns))))
