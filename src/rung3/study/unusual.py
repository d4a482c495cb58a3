"""What in a study's rows looks like a mistake, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

from rung3.data.display import spell
from rung3.data.number_text import number_text
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Discrete, Image, Variable

__all__ = ["unusual"]

ALONE = 10.0
"""Ranges of all other values by which one that is a code or a slip lies away from them."""

FEWEST = 10
"""Different values from which on a range is one."""

CODES = 3
"""Codes for gaps at either end, at most, such as 997, 998 and 999."""

ZEROS = 0.05
"""Share of rows below which zeros, apart from all other values, may stand for gaps."""

APART = 0.5
"""Ranges of all other values by which such zeros lie below them: an age of 0 beside adults'."""

LISTED = 8
"""Labels that a message lists, at most."""

SEVERAL = 2
"""Test rows from which on rows that are the same are not so by chance."""

HASHED_AT_ONCE = 2**22
"""Numbers whose fingerprints are taken at once, about: it bounds the memory."""


def unusual(variables: Mapping[str, Variable], train: Rows, test: Rows) -> Iterator[str]:
    """Yield what is unusual: one value everywhere, one far out, a label of no row, rows twice.

    Args:
        variables: The variables.
        train: Training rows.
        test: Test rows.
    """
    for name, variable in variables.items():
        if not isinstance(variable, Image) and not variable.shape:
            values = train[name]
            present = _present(variable, values)
            yield from _without_examples(name, variable, present.unique())
            if isinstance(variable, Continuous) and not variable.circular:
                yield from _far_out(name, present)
                yield from _zeros(name, torch.cat([present, _present(variable, test[name])]))
    yield from _repeated(variables, train, test)


def _present(variable: Variable, values: Tensor) -> Tensor:
    return values[~variable.is_missing(values)]


def _without_examples(name: str, variable: Variable, present: Tensor) -> Iterator[str]:
    """Yield whether a variable has one value in all training rows, or labels in none."""
    if present.numel() == 1:
        value = spell(variable, present[0])
        yield (
            f"{name}: it is {value} in every training row, so that nothing is learned of it; "
            "leave it out, or add rows that differ"
        )
    elif isinstance(variable, Discrete) and present.numel() < variable.classes:
        seen = {int(code) for code in present}
        labels = [variable.label(k) for k in range(variable.classes) if k not in seen]
        if len(labels) > LISTED:
            labels[LISTED - 1 :] = [f"{len(labels) - LISTED + 1:,} other labels"]
        yield (
            f"{name}: no training row is {' or '.join(labels)}, so that nothing is learned of "
            "it; leave it out of the labels, or add such rows"
        )


def _far_out(name: str, values: Tensor) -> Iterator[str]:
    """Yield which values lie far from all others: one at an end, or several that are codes."""
    numbers, counts = values.double().unique(return_counts=True)
    ends = sorted(product(range(CODES + 1), repeat=2), key=sum)
    far = next((cut for cut in ends[1:] if _is_far(numbers, counts, *cut)), (0, 0))
    below, above = far[0], len(numbers) - far[1]
    for at in [*range(below), *range(above, len(numbers))]:
        rows = f"{counts[at]} training row{'s' * int(counts[at] > 1)}"
        yield (
            f"{name}: {number_text(float(numbers[at]))} ({rows}) lies far from the others, "
            f"{number_text(float(numbers[below]))} to {number_text(float(numbers[above - 1]))}; "
            "correct it, or leave the cell empty if it stands for a gap"
        )


def _zeros(name: str, values: Tensor) -> Iterator[str]:
    """Yield whether a few values are 0 and all others lie well above."""
    zero, others = values == 0, values[values != 0].double()
    count = int(zero.sum())
    if not 0 < count <= ZEROS * len(values) or len(others.unique()) < FEWEST:
        return
    least, most = float(others.min()), float(others.max())
    if APART * (most - least) < least <= ALONE * (most - least):  # beyond, it is far out
        yield (
            f"{name}: 0 ({count} row{'s' * (count > 1)}) stands apart from the others, "
            f"{number_text(least)} to {number_text(most)}; leave the cell empty if it stands for a "
            "gap"
        )


def _is_far(numbers: Tensor, counts: Tensor, below: int, above: int) -> bool:
    """Return whether so many of the sorted values at both ends lie far from all between them."""
    inner = numbers[below : len(numbers) - above]
    if len(inner) < FEWEST:
        return False
    outer = torch.cat([counts[:below], counts[len(numbers) - above :]])
    if len(outer) > 1 and outer.min() == 1:
        return False  # a heavy tail has several values far out, each of one row; codes come back
    low, high = inner[0], inner[-1]
    gaps = [low - numbers[below - 1]] * (below > 0) + [numbers[-above] - high] * (above > 0)
    return all(bool(gap > ALONE * (high - low)) for gap in gaps)


def _repeated(variables: Mapping[str, Variable], train: Rows, test: Rows) -> Iterator[str]:
    """Yield whether rows are there twice, image and all: in training, or in training and test."""
    if not any(isinstance(variable, Image) for variable in variables.values()):
        return  # rows of numbers may well be the same
    before, after = (_of_whole_rows(variables, rows) for rows in (train, test))
    if twice := len(before) - len(before.unique()):
        yield (
            f"{twice} of {train.n:,} training rows repeat{'s' * (twice == 1)} another, image and "
            "all; list each row once"
        )
    count = int(torch.isin(after, before).sum())
    if count >= SEVERAL:
        yield (
            f"{count} of {test.n} test rows are training rows too, image and all, so that the "
            "figures would flatter; list each row once"
        )


def _of_whole_rows(variables: Mapping[str, Variable], rows: Rows) -> Tensor:
    """Return the fingerprints of rows without a gap: two that lack a value may differ in it."""
    prints, whole = torch.zeros(rows.n, dtype=torch.long), torch.ones(rows.n, dtype=torch.bool)
    for k, (name, variable) in enumerate(variables.items()):
        prints += _fingerprints(rows[name], k)
        whole &= ~variable.is_missing(rows[name]).cpu()
    return prints[whole]


def _fingerprints(values: Tensor, seed: int) -> Tensor:
    """Return a whole number for each of the values `(n, ...)`, the same for the same ones."""
    size = values[0].numel()
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randint(-(2**62), 2**62, (size,), generator=generator)
    return torch.cat(
        [
            (part.float().reshape(len(part), -1).contiguous().view(torch.int32) * factors).sum(1)
            for part in values.cpu().split(1 + HASHED_AT_ONCE // size)
        ]
    )
