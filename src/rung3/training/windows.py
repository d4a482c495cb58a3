"""Training on a table that is read by batches: rows in random order, window by window.

A window is so many rows, from a few places of the table (see `rung3.data.streaming`), in random
order. Which rows make up a step is a function of the seed and the step, as of rows in memory; a run
that goes on reads the rows before it again, and passes over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch

from rung3.data.rows import Rows
from rung3.data.seeding import base_seed, stream
from rung3.data.streaming import Streamed
from rung3.data.variables import Variable
from rung3.mechanisms.base import Trainable
from rung3.training.batches import Batch, Table

__all__ = ["WindowedTable", "Windows"]

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

    def shuffled(self, size: int, seed: int, rank: int = 0, devices: int = 1) -> Windows:
        """Return endless batches in random order; the arguments are those of `Shuffled`."""
        return Windows(self, size, seed, rank, devices)

    def windows(self, seed: int, epoch: int, rest: int) -> Iterator[Table]:
        """Yield the rows of an epoch, a window at a time.

        Args:
            seed: Of their order.
            epoch: The epoch, from 0.
            rest: Steps take so many rows; what a window has beyond waits for the next.
        """
        order = np.random.default_rng(base_seed(seed, f"windows/{epoch}"))
        shuffle = stream(seed, f"rows/{epoch}")
        waiting: list[Rows] = []
        for part in self.source.rows(self.kinds, self.exact, order):
            waiting.append(part)
            if sum(one.n for one in waiting) >= WINDOW:
                rows = _joined(waiting)
                rows = rows[torch.randperm(rows.n, generator=shuffle)]
                whole = rows.n // rest * rest
                yield Table(rows[:whole], self.mechanisms, sparse=True)
                waiting = [rows[whole:]]
        rows = _joined(waiting)
        yield Table(rows[torch.randperm(rows.n, generator=shuffle)], self.mechanisms, sparse=True)


class Windows:
    """Endless batches of a table that is read by batches; `len` is the steps of one epoch.

    Args:
        table: The table.
        size: Rows a step, over all devices.
        seed: Of their order.
        rank: Number of this process.
        devices: Number of processes that share every batch.

    Attributes:
        step: The step that comes next.
    """

    def __init__(
        self, table: WindowedTable, size: int, seed: int, rank: int = 0, devices: int = 1
    ) -> None:
        self.table, self.size, self.seed = table, min(size, table.n), seed
        self.rank, self.devices = rank, devices
        self.step = 0
        self._reading: Iterator[Batch] = iter(())
        self._next = -1  # the step that the reader has come to

    def __len__(self) -> int:
        return self.table.n // self.size

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, place = divmod(self.step, len(self))
        if place == 0 or self._next != self.step:
            self._reading = self._epoch(epoch)
            for _ in range(place):
                next(self._reading)
        self.step += 1
        self._next = self.step
        return next(self._reading)

    def _epoch(self, epoch: int) -> Iterator[Batch]:
        for window in self.table.windows(self.seed, epoch, self.size):
            for start in range(0, window.n - self.size + 1, self.size):
                index = torch.arange(start, start + self.size)
                yield Batch(window, index, self.rank, self.devices)


def _joined(parts: list[Rows]) -> Rows:
    return Rows({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
