"""Association of two sets of columns, row by row, beyond what chance makes.

Of a `(n, j)` and b `(n, k)`, both centred in each stratum s of rows, the sums of products are
M = sum_i a_i b_i'. If rows of one stratum could as well be exchanged, M has mean zero and, as it is
written in one row, the covariance

    C = sum_s (a_s'a_s x b_s'b_s) / (n_s - 1),

and `T = M' C^-1 M` is the statistic of Cochran, Mantel and Haenszel (Landis, Heyman and Koch, Int.
Stat. Rev. 1978), chi-squared of rank(C) degrees as n grows. Where few rows decide (rare categories,
squares of long tails), that is not enough: the rows of b are then exchanged at random, within their
strata, and p is the share of draws with as large a T. That is exact, whatever the columns are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["association", "chance"]

FIRST_DRAWS = 99
"""Random exchanges of rows at first: enough where many of them reach T."""

ALL_DRAWS = 999
"""Random exchanges of rows where few of the first reach T: p-values down to 0.001."""

SPARSE = 0.1
"""Product of both fourth moments, per row, above which T is not normal and rows are exchanged."""

CHUNK_NUMBERS = 2_000_000
"""Numbers held at once: 16 MB in double."""

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def association(
    a: Array, b: Array, strata: Codes, covariance: Array | None = None
) -> tuple[float, int, float]:
    """Test whether two sets of columns go together: T, degrees of freedom, and p-value.

    Args:
        a: Columns `(n, j)`, centred in each stratum.
        b: Others, `(n, k)`.
        strata: Number of each row's stratum, from 0.
        covariance: Of M, `(j k, j k)`, where rows can be exchanged only about; C if not given.

    >>> rng = np.random.default_rng(0)
    >>> a, b = (rng.normal(size=(500, 1)) for _ in range(2))
    >>> a, b = a - a.mean(), b - b.mean()
    >>> one = np.zeros(500, dtype=int)
    >>> association(a, a + b, one)[2] < 1e-6 < 0.05 < association(a, b, one)[2]
    True
    """
    from scipy.stats import chi2

    exchanged = exchangeable(a, b, strata)
    inverse, rank = _inverse(exchanged if covariance is None else covariance)
    if not rank:
        return 0.0, 0, 1.0
    t = float(_sizes((a.T @ b)[None], inverse)[0])
    if _fourth(a) * _fourth(b) <= SPARSE * len(a):
        return t, rank, float(chi2.sf(t, rank))
    inverse = inverse if covariance is None else _inverse(exchanged)[0]
    return t, rank, chance(t, lambda draws: _sizes(_drawn(a, b, strata, draws), inverse), rank)


def chance(t: float, draw: Callable[[int], Array], freedom: int) -> float:
    """Return the p-value of T among draws under the null hypothesis.

    A T beyond all draws is given the tail of chi-squared, on the scale of the draws.

    >>> chance(1.0, lambda draws: np.arange(draws) % 2.0, 1)
    0.5
    """
    from scipy.stats import chi2

    for draws in (FIRST_DRAWS, ALL_DRAWS):
        drawn = draw(draws)
        reached = int((drawn >= t * (1 - 1e-9)).sum())
        if 10 * reached >= FIRST_DRAWS:
            break
    if reached:
        return (1 + reached) / (1 + draws)
    scale = max(1.0, float(np.quantile(drawn, 0.99)) / float(chi2.isf(0.01, freedom)))
    return min(1 / (1 + draws), float(chi2.sf(t / scale, freedom)))


def exchangeable(a: Array, b: Array, strata: Codes) -> Array:
    """Return C, the covariance of M if rows of one stratum can be exchanged."""
    order = strata.argsort(kind="stable")
    ends = np.flatnonzero(np.diff(strata[order])) + 1
    parts = [(a[rows], b[rows]) for rows in np.split(order, ends)]
    sums = [np.stack([(part[k].T @ part[k]).ravel() for part in parts]) for k in (0, 1)]
    weight = np.array([1 / max(len(part) - 1, 1) for part, _ in parts])
    return crossed(sums[0], sums[1], weight)


def crossed(a: Array, b: Array, weight: Array) -> Array:
    """Return `sum_i w_i (a_i x b_i)` of matrices written in rows, `(m, j j)` and `(m, k k)`."""
    j, k = (round(c.shape[1] ** 0.5) for c in (a, b))
    total = (a * weight[:, None]).T @ b
    return total.reshape(j, j, k, k).transpose(0, 2, 1, 3).reshape(j * k, j * k)


def _drawn(a: Array, b: Array, strata: Codes, draws: int) -> Array:
    """Compute M of rows exchanged at random, `(draws, j, k)`."""
    rng = np.random.default_rng(draws)
    order = strata.argsort(kind="stable")
    fixed, several = a[order].T, len(np.unique(strata)) > 1
    sums = []
    for some in np.array_split(np.arange(draws), 1 + draws * b.size // CHUNK_NUMBERS):
        moved = rng.random((len(some), len(a)))
        if several:
            moved = moved + strata
        sums.append(fixed @ b[moved.argsort(1)])
    return np.concatenate(sums)


def _sizes(sums: Array, inverse: Array) -> Array:
    """Compute T of each M, `(draws,)`."""
    flat = sums.reshape(len(sums), -1)
    return np.asarray(((flat @ inverse) * flat).sum(1))


def _inverse(covariance: Array) -> tuple[Array, int]:
    """Return the inverse of a covariance, on its range, and its rank."""
    size = np.sqrt(covariance.diagonal())
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    positive = values > 1e-9 * max(1, len(values))
    turned = vectors[:, positive] / size[:, None]
    return (turned / values[positive]) @ turned.T, int(positive.sum())


def _fourth(columns: Array) -> float:
    """Return the greatest fourth moment of any column of unit variance."""
    squares = columns**2  # squared again below: a fourth power takes ten times as long
    variance = squares.mean(0)
    some = variance > 0
    fourth = (squares**2).mean(0)[some]
    return float((fourth / variance[some] ** 2).max(initial=0.0))
