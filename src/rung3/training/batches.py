"""Rows held in memory as tensors, and the order in which training sees them.

Which rows make up step t is a pure function of the seed and of t, so a run that goes on at step t
sees what it would have seen had it never stopped: epoch e goes through `permutation(seed, e)`, in
steps of one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rung3.data.files import digest
from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.mechanisms.base import Parents, Trainable

__all__ = ["Batch", "Shuffled", "Sweep", "Table"]


class Batch(NamedTuple):
    """Values of some rows, and which of them train a mechanism (all, where not given)."""

    values: dict[str, Tensor]
    complete: dict[str, Tensor]

    def of(self, mechanism: Trainable) -> tuple[Tensor, Parents]:
        """The mechanism's own value and its parents, in the rows that have them all."""
        value = self.values[mechanism.name]
        parents = {name: self.values[name] for name in mechanism.parents}
        if mechanism.name not in self.complete:
            return value, parents
        rows = self.complete[mechanism.name]
        return value[rows], {name: parent[rows] for name, parent in parents.items()}


class Table:
    """The columns that some mechanisms train on.

    Args:
        rows: Checked rows, batched.
        mechanisms: The mechanisms; a row trains each whose own value and parents it has.
        also: Names of further columns.

    Raises:
        ValueError: If no row has the value of a mechanism and of all its parents.
    """

    def __init__(
        self, rows: Rows, mechanisms: Iterable[Trainable], also: Iterable[str] = ()
    ) -> None:
        self.n = rows.n
        self.values: dict[str, Tensor] = {name: rows[name] for name in also}
        self.complete: dict[str, Tensor] = {}
        for mechanism in mechanisms:
            schema = {mechanism.name: mechanism.variable, **mechanism.parents}
            self.values |= {name: rows[name] for name in schema}
            missing = torch.zeros(rows.n, dtype=torch.bool, device=rows[mechanism.name].device)
            for name, variable in schema.items():
                missing |= variable.is_missing(rows[name])
            if missing.all():
                raise ValueError(
                    f"{mechanism.name}: none of the {rows.n} rows has {' and '.join(schema)}"
                )
            if missing.any():
                self.complete[mechanism.name] = ~missing

    def all(self) -> Batch:
        """All rows."""
        return Batch(self.values, self.complete)

    def __getitem__(self, index: slice | Tensor) -> Batch:
        values = {name: value[index] for name, value in self.values.items()}
        return Batch(values, {name: rows[index] for name, rows in self.complete.items()})

    def digest(self) -> str:
        """A few letters that change if any value does, or the rows' order."""
        return digest(self.values)

    def to(self, device: torch.device) -> Table:
        """This table on the device, if it takes up less than half the memory that is free there."""
        tensors = [*self.values.values(), *self.complete.values()]
        size = sum(tensor.nbytes for tensor in tensors)
        if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2:
            self.values = {name: value.to(device) for name, value in self.values.items()}
            self.complete = {name: rows.to(device) for name, rows in self.complete.items()}
        return self


class Shuffled:
    """Endless batches in random order, from whatever step; `len` is the steps of one epoch.

    Args:
        table: The rows.
        size: Rows a step, over all devices; what is left over at an epoch's end waits for the next.
        seed: Of the order.
        rank: Which part of every batch is this device's.
        devices: Number of parts.

    Attributes:
        step: The step that comes next.
    """

    def __init__(self, table: Table, size: int, seed: int, rank: int = 0, devices: int = 1) -> None:
        self.table = table
        self.size = min(size, table.n)
        self.seed = seed
        self.part = slice(rank, None, devices)
        self.step = 0
        self._epoch = -1
        self._order = torch.empty(0)

    def __len__(self) -> int:
        return self.table.n // self.size

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        epoch, place = divmod(self.step, len(self))
        if epoch != self._epoch:
            generator = stream(self.seed, f"rows/{epoch}")
            order = torch.randperm(self.table.n, generator=generator)
            self._order = order.to(next(iter(self.table.values.values())).device)
            self._epoch = epoch
        self.step += 1
        return self.table[self._order[place * self.size : (place + 1) * self.size][self.part]]


class Sweep:
    """All rows once, in their order.

    Args:
        table: The rows.
        size: Rows a batch.
        rank: Which batches are this device's.
        devices: Number of devices.
    """

    def __init__(self, table: Table, size: int, rank: int = 0, devices: int = 1) -> None:
        self.table = table
        self.size = size
        self.starts = range(rank * size, table.n, devices * size)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Batch]:
        return (self.table[start : start + self.size] for start in self.starts)
