"""Rows held in memory or read from disk, and the order in which training sees them.

Which rows make up step t is a pure function of the seed and of t, so a run that resumes at step t
sees what it would have seen had it never stopped: epoch e goes through `permutation(seed, e)`, in
steps of one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from rung3.data.files import digest
from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.data.shared_batch import shared_means, shared_places
from rung3.data.stored import Stored, moved
from rung3.mechanisms.base import Parents, Trainable
from rung3.training.processes import DrawnAsOne, summed

__all__ = ["Batch", "Shuffled", "Steps", "Sweep", "Table"]


class Table:
    """The columns that some mechanisms train on.

    Args:
        rows: Checked rows, batched.
        mechanisms: The mechanisms; a row trains each whose own value and parents it has.
        further: Names of further columns.
        sparse: Whether there may be no row that trains a mechanism, as in a part of a table.

    Raises:
        ValueError: If no row has the value of a mechanism and of all its parents.
    """

    def __init__(
        self,
        rows: Rows,
        mechanisms: Iterable[Trainable],
        further: Iterable[str] = (),
        sparse: bool = False,
    ) -> None:
        self.n = rows.n
        self.values: dict[str, Tensor] = {name: rows[name] for name in further}
        self.complete: dict[str, Tensor] = {}
        for mechanism in mechanisms:
            schema = {mechanism.name: mechanism.variable, **mechanism.parents}
            self.values |= {name: rows[name] for name in schema}
            missing = torch.zeros(rows.n, dtype=torch.bool, device=rows[mechanism.name].device)
            for name, variable in schema.items():
                if variable.missing:
                    missing |= variable.is_missing(rows[name])
            if missing.all() and not sparse:
                raise ValueError(
                    f"{mechanism.name}: none of the {rows.n} rows has {' and '.join(schema)}"
                )
            if missing.any():
                self.complete[mechanism.name] = ~missing

    def all(self) -> Batch:
        """Return all rows."""
        return Batch(self, slice(None))

    def __getitem__(self, index: slice | Tensor) -> Batch:
        return Batch(self, index)

    def steps(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Table, Tensor]]:
        """Yield the rows of each step of an epoch, as `Steps` has them."""
        order = torch.randperm(self.n, generator=stream(seed, f"rows/{epoch}"))
        order = order.to(next(iter(self.values.values())).device)
        for start in range(0, self.n - size + 1, size):
            yield self, order[start : start + size]

    def digest(self) -> str:
        """Return a few letters that change if any value does, or the rows' order."""
        return digest(self.values)

    def to(self, device: torch.device) -> Table:
        """Put this table on the device, if it takes less than half of its free memory."""
        tensors = [*self.values.values(), *self.complete.values()]
        size = sum(tensor.nbytes for tensor in tensors)
        if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2:
            self.values = {name: moved(value, device) for name, value in self.values.items()}
            self.complete = {name: rows.to(device) for name, rows in self.complete.items()}
        return self


class Batch:
    """Some rows of a table, and which of them are this process's.

    A mechanism trains on the rows that have its value and its parents'. These are dealt out to the
    processes one by one, so that all have as much to do whatever is missing.

    Args:
        table: The table.
        index: Which of its rows.
        rank: Number of this process.
        devices: Number of processes that share the batch.
        send: What is done to each column on its way: it is moved to a device, in a precision.
    """

    def __init__(
        self,
        table: Table,
        index: slice | Tensor,
        rank: int = 0,
        devices: int = 1,
        send: Callable[[Tensor], Tensor] = lambda column: column,
    ) -> None:
        self.table = table
        self.index = index
        self.rank = rank
        self.devices = devices
        self.send = send

    def sent(self, send: Callable[[Tensor], Tensor]) -> Batch:
        """Return the same rows, with something done to each column on its way."""
        return Batch(self.table, self.index, self.rank, self.devices, send)

    @property
    def values(self) -> dict[str, Tensor]:
        """All columns, of this process's rows."""
        return {name: self._take(name, self._share(self.index)) for name in self.table.values}

    def of(self, mechanism: Trainable) -> tuple[Tensor, Parents]:
        """Return the mechanism's own value and its parents, in the rows that have them all.

        A process that has none of the batch's rows borrows one, which counts for nothing: its loss
        must hang on the same parameters as that of the others.
        """
        rows = self._share(self._complete(mechanism))
        value, *parents = (self._take(name, rows) for name in (mechanism.name, *mechanism.parents))
        return value, dict(zip(mechanism.parents, parents, strict=True))

    def columns(self, names: Iterable[str], mechanism: Trainable) -> dict[str, Tensor]:
        """Return columns, in the rows of all processes that train the mechanism."""
        complete = self._complete(mechanism)
        return {name: self._take(name, complete) for name in names}

    def total(self, mechanism: Trainable) -> int:
        """Return how many rows train the mechanism, over all processes."""
        complete = self._complete(mechanism)
        if isinstance(complete, slice):
            return len(range(*complete.indices(self.table.n)))
        return len(complete)

    def count(self, mechanism: Trainable) -> int:
        """Return how many of them are this process's."""
        return len(range(self.rank, self.total(mechanism), self.devices))

    def weight(self, mechanism: Trainable) -> float:
        """Return what this process's mean counts for in the mean over all processes."""
        return self.count(mechanism) * self.devices / self.total(mechanism)

    def deal(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Deal out some of the rows that train a mechanism.

        Args:
            at: Their numbers among all rows that train it.

        Returns:
            Which of `at` are this process's, and their numbers among its own rows.
        """
        which = (at % self.devices == self.rank).nonzero().squeeze(1)
        return which, at[which] // self.devices

    @contextmanager
    def as_one(self, mechanism: Trainable) -> Iterator[None]:
        """Let noise, and means over the batch, be what they would be in one process."""
        if self.devices == 1:
            yield
            return
        count, total = self.count(mechanism), self.total(mechanism)
        places = torch.arange(total)[self.rank :: self.devices] if count else torch.zeros(1).long()
        means = shared_means(lambda m: summed(m * count) / total)
        with DrawnAsOne(len(places), total, places), means, shared_places(total, places):
            yield

    def _complete(self, mechanism: Trainable) -> slice | Tensor:
        """Return the rows that have the mechanism's value and all its parents."""
        if mechanism.name not in self.table.complete:
            return self.index
        complete = self.table.complete[mechanism.name][self.index]
        rows = torch.arange(self.table.n, device=complete.device)[self.index]
        return rows[complete]

    def _share(self, rows: slice | Tensor) -> slice | Tensor:
        """Return this process's part of rows, or a row that it borrows."""
        if self.devices == 1 or isinstance(rows, slice):
            return rows
        part = rows[self.rank :: self.devices]
        return part if len(part) else rows[:1]

    def _take(self, name: str, rows: slice | Tensor) -> Tensor:
        column = self.table.values[name]
        return self.send(column.floats(rows) if isinstance(column, Stored) else column[rows])


class Steps(Protocol):
    """Rows that come in random order, so many a step."""

    n: int

    def steps(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Table, Tensor]]:
        """Yield the rows of each step of an epoch: a table, and their numbers in it, `(size,)`.

        Args:
            seed: Of their order.
            epoch: The epoch, from 0.
            size: Rows a step; what is left over at the end waits for the next epoch.
        """


class Shuffled:
    """Endless batches in random order, from whatever step; `len` is the steps of one epoch.

    Args:
        table: The rows, in memory or read by batches.
        size: Rows a step, over all devices; what is left over at an epoch's end waits for the next.
        seed: Of the order.
        rank: Number of this process.
        devices: Number of processes that share every batch.

    Attributes:
        step: The step that comes next.
    """

    def __init__(self, table: Steps, size: int, seed: int, rank: int = 0, devices: int = 1) -> None:
        self.table = table
        self.size = min(size, table.n)
        self.seed = seed
        self.rank = rank
        self.devices = devices
        self.step = 0
        self._steps: Iterator[tuple[Table, Tensor]] = iter(())
        self._reached = -1  # the step that `_steps` has come to

    def __len__(self) -> int:
        return self.table.n // self.size

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, place = divmod(self.step, len(self))
        if place == 0 or self._reached != self.step:
            self._steps = islice(self.table.steps(self.seed, epoch, self.size), place, None)
        self.step += 1
        self._reached = self.step
        return Batch(*next(self._steps), self.rank, self.devices)


class Sweep:
    """All rows once, in their order.

    Args:
        table: The rows.
        size: Rows a batch, over all devices.
        rank: Number of this process.
        devices: Number of processes that share every batch.
    """

    def __init__(self, table: Table, size: int, rank: int = 0, devices: int = 1) -> None:
        self.table = table
        self.size = size
        self.rank = rank
        self.devices = devices

    def __len__(self) -> int:
        return math.ceil(self.table.n / self.size)

    def __iter__(self) -> Iterator[Batch]:
        for rows in torch.arange(self.table.n).split(self.size):
            yield Batch(self.table, rows, self.rank, self.devices)
