"""Rows some at a time, so that a query holds a stated memory, however many rows it is asked about.

What follows from its arguments row by row is the same whatever the parts. Random numbers are not:
they come in blocks of rows, each with a stream of its own, whose size is a part of what a seed
means, as the hash behind streams is (`rung3.data.seeding`). So memory may be set at will, and
answers stay what they are, bit for bit. (On several threads libraries may split what is left over
at the end in another order: there its last bit may differ.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from rung3.data.rows import Noise, map_noise
from rung3.mechanisms.base import Mechanism, Parents

__all__ = ["blocks", "in_parts", "joined", "rows_at_once"]

MEMORY = 2**28
"""Bytes that a mechanism may hold while it computes, about, beside arguments and answer; the last
part may hold twice as many."""

ROW, NUMBER = 4096, 170
"""Bytes that networks of the usual size hold for a row, and for each number of its value."""

GRAIN = 64
"""Rows of which parts are multiples: others take other paths through libraries, with other bits."""

BLOCK = 2**18
"""Numbers of noise that are drawn as one block, a row being at least four: never to be changed."""

T = TypeVar("T", bound=Noise)


def rows_at_once(shape: Sequence[int]) -> int:
    """Number of rows, of values of this shape, that fit the memory: a multiple of `GRAIN`.

    Example:
        >>> rows_at_once(()), rows_at_once((1, 32, 32))
        (62912, 1472)
    """
    return max(1, MEMORY // (ROW + NUMBER * torch.Size(shape).numel()) // GRAIN) * GRAIN


def in_parts(
    mechanism: Mechanism, compute: Callable[[Any, Parents], T], first: Noise, parents: Parents
) -> T:
    """`compute(first, parents)`, some rows at a time.

    Args:
        mechanism: Whose function it is; those that `do` makes are asked about all rows at once, as
            they may hold one value a row.
        compute: Gives values or noise `(n, ...)`, each of its own row alone.
        first: Noise or values, `(n, ...)`.
        parents: The parents' values, `(n, ...)`.
    """
    parts = [first] if isinstance(first, Tensor) else list(first.values())
    n = max(map(len, [*parts, *parents.values()]), default=1)
    size = rows_at_once(mechanism.variable.shape)
    if n < 2 * size or not mechanism.by_row:
        return compute(first, parents)
    ends = [*range(0, n // size * size, size), n]  # the last part has what is left over too
    found = []
    for start, end in pairwise(ends):
        at = slice(start, end)
        some = {name: value[at] for name, value in parents.items()}
        found.append(compute(map_noise(lambda part: part[at], first), some))  # noqa: B023
    return joined(found)


def blocks(shape: Sequence[int], n: int) -> Iterator[slice]:
    """The rows that draw their random numbers together."""
    size = max(1, BLOCK // max(4, torch.Size(shape).numel()))
    for start in range(0, max(n, 1), size):
        yield slice(start, min(n, start + size))


def joined(parts: Sequence[T], axis: int = 0) -> T:
    """The noise of all rows, of that of some at a time."""
    if len(parts) == 1:
        return parts[0]
    several: Any = parts
    if isinstance(parts[0], Tensor):
        found: Any = torch.cat(several, axis)
    else:
        found = {k: torch.cat([part[k] for part in several], axis) for k in parts[0]}
    return cast(T, found)
