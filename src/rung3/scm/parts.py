"""Rows in parts, so that a query needs a bounded memory, however many rows it is asked about.

What is computed row by row does not depend on the parts. Random numbers do: they are drawn in
blocks of rows, each with its own stream. The size of a block belongs to the meaning of a seed, as
the hash behind streams does (`rung3.data.seeding`). So `MEMORY` may be changed, and answers stay
the same, bit for bit. (On several threads, libraries may split the remainder in another order, and
its last bit may differ.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from rung3.data.rows import Noise, map_noise, noise_parts
from rung3.mechanisms.base import Mechanism, Parents

__all__ = ["blocks", "in_parts", "joined", "rows_at_once"]

MEMORY = 2**28
"""Bytes, roughly, that a mechanism may hold while it computes, beside arguments and answer; the
last part may hold twice as many."""

ROW_BYTES = 4096
"""Bytes that networks of the usual size hold for a row."""

NUMBER_BYTES = 170
"""Bytes that they hold for each number of its value."""

GRAIN = 64
"""Rows; parts are multiples of it, as libraries compute other sizes with other rounding."""

BLOCK = 2**18
"""Numbers of noise that are drawn as one block, with at least four a row. Do not change it: every
seed would give other numbers."""

T = TypeVar("T", bound=Noise)


def rows_at_once(shape: Sequence[int]) -> int:
    """Give the number of rows, of values of this shape, that fit the memory: a multiple of `GRAIN`.

    Example:
        >>> rows_at_once(()), rows_at_once((1, 32, 32))
        (62912, 1472)
    """
    return max(1, MEMORY // (ROW_BYTES + NUMBER_BYTES * torch.Size(shape).numel()) // GRAIN) * GRAIN


def in_parts(
    mechanism: Mechanism, compute: Callable[[Any, Parents], T], first: Noise, parents: Parents
) -> T:
    """Compute `compute(first, parents)` in parts of the rows.

    Args:
        mechanism: The mechanism that computes; those that `do` makes compute all rows at once, as
            they may hold one value for each.
        compute: Gives values or noise `(n, ...)`, each of its own row alone.
        first: Noise or values, `(n, ...)`.
        parents: The parents' values, `(n, ...)`.
    """
    n = max(map(len, [*noise_parts(first).values(), *parents.values()]), default=1)
    size = rows_at_once(mechanism.variable.shape)
    if n < 2 * size or not mechanism.by_row:
        return compute(first, parents)
    ends = [*range(0, n // size * size, size), n]  # the last part has what is left over too
    computed = []
    for start, end in pairwise(ends):
        at = slice(start, end)
        part_parents = {name: value[at] for name, value in parents.items()}
        part_first = map_noise(lambda part: part[at], first)  # noqa: B023
        computed.append(compute(part_first, part_parents))
    return joined(computed)


def blocks(shape: Sequence[int], n: int) -> Iterator[slice]:
    """Give the slices of rows that draw their random numbers together."""
    size = max(1, BLOCK // max(4, torch.Size(shape).numel()))
    for start in range(0, max(n, 1), size):
        yield slice(start, min(n, start + size))


def joined(parts: Sequence[T], axis: int = 0) -> T:
    """Join the values or the noise of parts of the rows."""
    if len(parts) == 1:
        return parts[0]
    several: Any = parts
    if isinstance(parts[0], Tensor):
        whole: Any = torch.cat(several, axis)
    else:
        whole = {k: torch.cat([part[k] for part in several], axis) for k in parts[0]}
    return cast(T, whole)
