"""Tests of conditional independence between columns of numbers and of categories.

X and Y are regressed on Z, and their residuals e compared. Categories of X and Y count as the
indicators of all levels but one. Categories in Z part the rows into strata, one for each
combination, and every number in Z enters by a cubic spline with 5 knots (a line in fewer than 200
rows), so that Z may act on X and Y along any smooth curves whose effects add up.

Two numbers in fewer than 200 rows: the partial correlation r of the residuals, with q columns in
the regression,

    t = r sqrt(d / (1 - r^2)),      d = n - q - 1,      a Student t of d degrees of freedom;

exact where X and Y are normal and linear in these columns. Else, the generalised covariance measure
(Shah and Peters, Ann. Statist. 2020). With R_i the products of the residuals of row i, one for each
pair of columns, their mean m and covariance C,

    f = m' C^-1 m (d - k) / k,      k = rank(C),        an F of k and d - k degrees of freedom

as n grows (Hotelling's); for categories throughout it is close to the test of Cochran, Mantel and
Haenszel. A number's column e is joined there by e^2, less its own regression on Z, so that a curve
such as Y = X^2 and dependence of the variance are seen, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Column", "Dependence", "residual_test"]

KNOTS, LINEAR = 5, 200
NUMBERS = 20
"""Whole numbers with more distinct values than this are numbers, with fewer categories."""

Array = npt.NDArray[np.float64]


class Column(NamedTuple):
    """Values `(n,)`, NaN where missing; categories are whole numbers from 0."""

    values: Array
    discrete: bool


class Dependence(NamedTuple):
    """What a test found: its name, statistic and p-value, and in how many rows."""

    name: str
    statistic: float
    p: float
    n: int


def column(values: object, discrete: bool | None = None) -> Column | None:
    """A column of data as a test takes it; None if it has several numbers a row.

    Args:
        values: Array-like, `(n,)`: numbers, truth values, text or categories.
        discrete: Whether to take it as categories; if not said, whatever is no number is, and
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
        few = there.dtype.kind in "biu" and len(np.unique(there)) <= NUMBERS
        discrete = few or there.dtype.kind not in "biuf"
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
    design = _design(given, n)
    basis, size, _ = np.linalg.svd(design, full_matrices=False)
    basis = basis[:, size > 1e-9 * size[:1]]
    free = n - basis.shape[1] - 1
    if free < 1:
        raise ValueError(f"{n} rows are too few to condition on {basis.shape[1]} columns")
    a, b = (_residuals(_indicators(c), basis) for c in (x, y))
    if not (x.discrete or y.discrete) and n < LINEAR:
        r = float(a[:, 0] @ b[:, 0]) / n
        t = r * np.sqrt(free / max(1 - r**2, 1e-300))
        return Dependence("partial correlation", float(t), float(2 * stats.t.sf(abs(t), free)), n)
    a, b = (
        e if c.discrete else np.hstack([e, _residuals(e**2, basis)])
        for e, c in zip((a, b), (x, y), strict=True)
    )
    products = (a[:, :, None] * b[:, None, :]).reshape(n, -1)
    mean = products.mean(0)
    spread = np.atleast_2d(np.cov(products, rowvar=False))
    rank = int(np.linalg.matrix_rank(spread, hermitian=True))
    f = float(mean @ np.linalg.pinv(spread, hermitian=True) @ mean) * (free - rank) / max(rank, 1)
    p = float(stats.f.sf(f, rank, free - rank)) if 0 < rank < free else 1.0
    return Dependence("generalised covariance", f, p, n)


def _indicators(c: Column) -> Array:
    """A number as one column, categories as one for every level but the first."""
    if not c.discrete:
        return c.values[:, None]
    return np.asarray(c.values[:, None] == np.unique(c.values)[1:], dtype=np.float64)


def _design(given: Sequence[Column], n: int) -> Array:
    """The regressors `(n, q)`: strata of the categories, and a spline of each number."""
    levels = np.array([c.values for c in given if c.discrete]).reshape(-1, n)
    _, strata = np.unique(levels, axis=1, return_inverse=True)
    parts = [np.eye(int(strata.max(initial=0)) + 1)[strata.reshape(n)]]
    return np.hstack(parts + [_spline(c.values) for c in given if not c.discrete])


def _spline(values: Array) -> Array:
    """A basis of cubic splines with knots at quantiles, `(n, KNOTS + 4)`; or a line `(n, 1)`."""
    from scipy.interpolate import BSpline

    inner = np.unique(np.quantile(values, np.linspace(0, 1, KNOTS + 2))) if len(values) else values
    if len(values) < LINEAR or len(inner) < KNOTS + 2:
        line: Array = (values[:, None] - values.mean()) / (values.std() or 1)
        return line
    knots = np.concatenate([inner[:1].repeat(3), inner, inner[-1:].repeat(3)])
    basis: Array = np.array(BSpline.design_matrix(values, knots, 3).toarray())
    return basis


def _residuals(columns: Array, basis: Array) -> Array:
    """What an orthonormal basis leaves of columns, in units of its size; zeros if it is nothing."""
    centred = columns - columns.mean(0)
    rest = centred - basis @ (basis.T @ centred)
    size = np.sqrt((rest**2).sum(0))
    known = size <= 1e-9 * np.sqrt((centred**2).sum(0))
    return np.where(known, 0.0, rest / np.where(known, 1.0, size / np.sqrt(len(columns))))
