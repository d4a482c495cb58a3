"""Is a mechanism's noise independent of its parents? A test at coarse scale and at fine scale.

With `a_j = cos(pi j F(u))` of the noise, F its distribution function, which see where its mean,
spread and skew move, and b the same waves of every parent, indicators of categories, and random
waves of all parents together,

- coarse: the sums of (a - E a) (b - E b)' are zero, but for chance (`rung3.graph.association`);
- fine: the noise of a row tells nothing of the noise of rows whose parents are near. With a made
  white, and i ~ j the pairs among the NEAR nearest neighbours along one numeric parent, or in all,

      z = (sum_{i~j} a_i'a_j - E) / sd

  is standard normal as n grows. It sees whatever a mechanism missed of the parents, however fast
  that turns: a residual `sin(50 x)`, steps, the teeth of a saw.

The least p-value counts, times the number of tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from rung3.data.features import features
from rung3.data.rows import Noise, noise_parts
from rung3.data.seeding import stream
from rung3.data.variables import Continuous, Discrete, Variable
from rung3.graph.association import association
from rung3.mechanisms.base import Parents

__all__ = ["coordinates", "independence"]

WAVES = 8
"""Random waves of all parents together."""

COLUMNS = 100
"""Columns of b, at most: those that vary most."""

NEAR = 5
"""Neighbours of a row."""

MAX_ROWS = 20_000
"""Rows whose neighbours are looked for, at most: the search takes `n log n`."""


def independence(noise: Noise, parents: Parents, kinds: Mapping[str, Variable], seed: int) -> float:
    """Return the p-value that a mechanism's noise and its parents are independent.

    Args:
        noise: Its abducted noise, `(n, ...)`.
        parents: Its parents' values, `(n, ...)`.
        kinds: What the parents are.
        seed: Of the random waves, and of the order of ties.
    """
    numbers = coordinates(noise).values()
    a = torch.cat([features(column, Continuous()) for column in numbers], 1).cpu().numpy()
    parts = [features(parents[k], kind).cpu() for k, kind in kinds.items()]
    if len(parts) > 1:
        joint = torch.cat(parts, 1)
        turns = torch.randn(joint.shape[1], WAVES, generator=stream(seed, "waves")).to(joint)
        parts.append((joint @ turns + torch.arange(WAVES).to(joint)).cos())
    b = torch.cat(parts, 1).numpy()
    b = b[:, np.sort(b.var(0).argsort()[::-1][:COLUMNS])]
    one_stratum = np.zeros(len(a), dtype=np.int64)
    p_values = [association(a - a.mean(0), b - b.mean(0), one_stratum)[2]]
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(a))[:MAX_ROWS]
    white = _white(a[some])
    fine = [_alike(white, pairs) for pairs in _pairs(parents, kinds, some)]
    if fine:
        p_values.append(len(fine) * min(fine))
    return min(1.0, len(p_values) * min(p_values))


def coordinates(noise: Noise) -> dict[str, Tensor]:
    """Return the coordinates of noise, each `(n,)`."""
    return {
        f"{key}{k}": column
        for key, part in noise_parts(noise).items()
        for k, column in enumerate(part.reshape(len(part), -1).double().T)
    }


def _white(a: np.ndarray) -> np.ndarray:
    """Return uncorrelated columns of mean 0 and mean square 1 that span the same."""
    basis, size, _ = np.linalg.svd(a - a.mean(0), full_matrices=False)
    return np.asarray(basis[:, size > 1e-9 * size[:1]] * math.sqrt(len(a)))


def _pairs(
    parents: Parents, kinds: Mapping[str, Variable], some: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pair rows that are near along each numeric parent, and in all; ties in the order given."""
    from scipy.spatial import cKDTree

    numbers, all_parents = [], []
    for name, kind in kinds.items():
        if isinstance(kind, Continuous):
            columns = parents[name].double().reshape(len(parents[name]), -1).cpu().numpy()[some]
            numbers += list(columns.T)
        elif isinstance(kind, Discrete):
            codes = parents[name].long().cpu().numpy()[some]
            all_parents += list(len(codes) * np.eye(kind.classes)[codes].T)
    for column in numbers:
        order = column.argsort(kind="stable")
        for_each = [(order[:-lag], order[lag:]) for lag in range(1, NEAR + 1)]
        yield tuple(np.concatenate(side) for side in zip(*for_each, strict=True))  # type: ignore[misc]
    if numbers and len(numbers) + len(all_parents) > 1:
        all_parents += [column.argsort().argsort() for column in numbers]
        places = np.stack(all_parents, 1)
        _, near = cKDTree(places).query(places, NEAR + 1)
        yield np.arange(len(places)).repeat(NEAR), near[:, 1:].flatten()


def _alike(white: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the p-value that rows of pairs are no more alike than others."""
    from scipy.stats import norm

    n, k = white.shape
    low, high = np.minimum(*pairs), np.maximum(*pairs)
    _, times = np.unique(low * n + high, return_counts=True)
    total = float((white[low] * white[high]).sum()) + len(low) * k / n
    return float(norm.sf(total / math.sqrt(max(k, 1) * float((times**2).sum()))))
