"""Training on a table that is read by batches: rows in random order, window by window.

A window is so many rows, from a few places of the table (see `rung3.data.streaming`), in random
order. Which rows make up a step is a function of the seed and the step, as of rows in memory; a run
that goes on reads the rows before it again, and passes over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import base_seed, stream
from rung3.data.streaming import Streamed
from rung3.data.variables import Variable
from rung3.mechanisms.base import Trainable
from rung3.training.batches import Table

__all__ = ["WindowedTable"]

WINDOW = 2**18
"""Rows of a window: in single precision, 10 MiB of ten columns."""


class WindowedTable:
    """The columns that some mechanisms train on, of a table that is read by batches.

    Args:
        source: The table.
        kinds: The variables of the columns, by name.
        exact: Names of numbers that are held in double.
        mechanisms: The mechanisms.

    Attributes:
        n: Number of rows.
    """

    def __init__(
        self,
        source: Streamed,
        kinds: Mapping[str, Variable],
        exact: Iterable[str],
        mechanisms: Iterable[Trainable],
    ) -> None:
        self.source, self.kinds, self.exact = source, dict(kinds), tuple(exact)
        self.mechanisms = list(mechanisms)
        self.n = source.n

    def digest(self) -> str:
        """Return a few letters that change if the files or the number of rows do."""
        return self.source.digest()

    def to(self, device: torch.device) -> WindowedTable:
        """Return this table: its rows come to the device batch by batch."""
        return self

    def steps(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Table, Tensor]]:
        """Yield the rows of each step of an epoch, as `Steps` has them."""
        for window in self._windows(seed, epoch, size):
            for start in range(0, window.n - size + 1, size):
                yield window, torch.arange(start, start + size)

    def _windows(self, seed: int, epoch: int, size: int) -> Iterator[Table]:
        """Yield the rows of an epoch, a window at a time; what no step takes waits for the next."""
        order = np.random.default_rng(base_seed(seed, f"windows/{epoch}"))
        shuffle = stream(seed, f"rows/{epoch}")
        waiting: list[Rows] = []
        for part in self.source.rows(self.kinds, self.exact, order):
            waiting.append(part)
            if sum(one.n for one in waiting) >= WINDOW:
                rows = _joined(waiting)
                rows = rows[torch.randperm(rows.n, generator=shuffle)]
                whole = rows.n // size * size
                yield Table(rows[:whole], self.mechanisms, sparse=True)
                waiting = [rows[whole:]]
        rows = _joined(waiting)
        yield Table(rows[torch.randperm(rows.n, generator=shuffle)], self.mechanisms, sparse=True)


def _joined(parts: list[Rows]) -> Rows:
    return Rows({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
