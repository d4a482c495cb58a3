"""A column of images from many files: read by several threads into one array made before.

What was done to files on the way is noted, row by row, and said once for all of them.
"""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from rung3.data.inside import File
from rung3.data.stored import Held, Stored, storage_type
from rung3.data.variables import Image

__all__ = ["FileReader", "Note", "Notes", "absent", "gather", "needed", "read_levels"]

Array = np.ndarray[Any, Any]

BLOCK = 64
"""Rows that a thread reads at once, and below which there is but one."""

MOST_THREADS = 8
"""Threads that read by default: more wait for each other."""

MANY = 1_000
"""Files from which on a progress bar is shown."""


@dataclass(frozen=True)
class Note:
    """What was done to a file.

    Attributes:
        way: How its numbers were read: as `codes` of levels or as a `range`; else empty.
        resized: From which size and how; empty if it was not.
        grey: Whether it was in colour, and was converted.
        unlike: How it differs from the first, which it must be like; it is then refused.
    """

    way: str = ""
    resized: str = ""
    grey: bool = False
    unlike: str = ""

    @classmethod
    def of(cls, way: str, resized: str, grey: bool) -> Self | None:
        """Return a note; nothing for a file that was read as it is."""
        return cls(way, resized, grey) if way or resized or grey else None


@dataclass
class Notes:
    """What was done to files, in the order of their rows.

    Attributes:
        ways: The first file that was read in each way.
        resized: How many were resized, and the first of them.
        grey: How many were in colour and converted, and the first.
        unlike: How many differ from the first, and how.
    """

    ways: dict[str, str] = field(default_factory=dict)
    resized: tuple[int, str] = (0, "")
    grey: tuple[int, str] = (0, "")
    unlike: tuple[int, str] = (0, "")

    def add(self, file: File, note: Note | None) -> None:
        """Add what was done to one file."""
        if note is None:
            return
        self.join(
            Notes(
                {note.way: str(file)} if note.way else {},
                (1, f"{file}, {note.resized}") if note.resized else (0, ""),
                (1, str(file)) if note.grey else (0, ""),
                (1, f"{file} {note.unlike}") if note.unlike else (0, ""),
            )
        )

    def join(self, later: Notes) -> None:
        """Add what was done to later files."""
        self.ways = {**later.ways, **self.ways}
        self.resized = _sum(self.resized, later.resized)
        self.grey = _sum(self.grey, later.grey)
        self.unlike = _sum(self.unlike, later.unlike)

    def config(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self)

    @classmethod
    def of_config(cls, config: dict[str, Any]) -> Self:
        """Make the notes that `config` described."""
        parts = (config[name] for name in ("resized", "grey", "unlike"))
        return cls(dict(config["ways"]), *((int(n), str(first)) for n, first in parts))


def _sum(before: tuple[int, str], later: tuple[int, str]) -> tuple[int, str]:
    return before[0] + later[0], before[1] or later[1]


class FileReader(ABC):
    """What reads the files of an image variable, one by one.

    Args:
        name: The variable's name, for the errors.
        image: The variable.
    """

    what: ClassVar[str]
    threads: ClassVar[bool]

    def __init__(self, name: str, image: Image) -> None:
        self.name, self.image = name, image

    @abstractmethod
    def read(self, file: File) -> tuple[Tensor, Note | None]:
        """Return the image, `(C, H, W)` or `(C, D, H, W)` in [0, 1], and what was done to it.

        Raises:
            ValueError: Naming the file, if it is missing, unreadable, or does not fit.
        """

    @abstractmethod
    def conclude(self, notes: Notes, n: int) -> None:
        """Warn of what was done to `n` files, and refuse those that do not go together."""

    def bounded(self) -> AbstractContextManager[None]:
        """Hold for all threads what may not be set by each."""
        return nullcontext()

    def tell(self, what: str, counted: tuple[int, str], n: int) -> None:
        """Warn of files, and name the first."""
        count, first = counted
        if count:
            text = f"{self.name}: {count} of {n} {what} (first: {first})"
            warnings.warn(text, stacklevel=6)


def gather(
    reader: FileReader,
    files: Sequence[File | None],
    workers: int | None = None,
    progress: bool = False,
) -> Tensor:
    """Read files into one array, which holds them as they are stored.

    Args:
        reader: What reads one.
        files: The files; `None` where there is none.
        workers: Threads; as many as there are cores, up to eight, if not given.
        progress: Whether to show a progress bar, where there are many.

    Returns:
        Images `(n, *shape)`, a `Stored`.

    Raises:
        ValueError: If a file is missing, unreadable or does not fit; if a row has none, and the
            variable may not be missing.
    """
    image = reader.image
    if not image.missing:
        needed(reader.name, files, reader.what)
    array = np.zeros((len(files), *image.shape), storage_type(image.levels))
    notes = Notes()
    for part in _read(reader, files, array, workers, progress):
        notes.join(part)
    reader.conclude(notes, len(files))
    return Stored(Held(array), image.levels, absent(files))


def absent(files: Sequence[File | None]) -> Array | None:
    """Return a mask of the rows that have no file; `None` if all have one."""
    mask = np.array([file is None for file in files], dtype=bool)
    return mask if mask.any() else None


def read_levels(reader: FileReader, files: Sequence[File | None], into: Array) -> Notes:
    """Read some files as they are stored, one after the other, into an array `(n, *shape)`."""
    notes, levels = Notes(), reader.image.levels
    for place, file in enumerate(files):
        if file is None:
            continue
        value, note = reader.read(file)
        into[place] = value.numpy() if levels is None else (value * levels).round().numpy()
        notes.add(file, note)
    return notes


def needed(name: str, files: Sequence[File | None], what: str) -> None:
    """Refuse rows that name no file.

    Raises:
        ValueError: With how many there are, and the first.
    """
    rows = [row for row, file in enumerate(files) if file is None]
    if rows:
        raise ValueError(
            f"{name}: {len(rows)} of {len(files)} rows name no {what}, row {rows[0]} first; leave "
            "such rows out, or declare the variable with missing=True"
        )


def _read(
    reader: FileReader, files: Sequence[File | None], array: Array, workers: int | None,
    progress: bool,
) -> Iterable[Notes]:  # fmt: skip
    """Yield what was done to files, block by block, once they are in the array."""
    from rich.progress import track

    starts = range(0, len(files), BLOCK)
    threads = min(workers or min(os.cpu_count() or 1, MOST_THREADS), len(starts))
    hidden = not progress or len(files) < MANY

    def block(start: int) -> Notes:
        part = slice(start, start + BLOCK)
        return read_levels(reader, files[part], array[part])

    if threads < 2 or not reader.threads:
        yield from track(map(block, starts), reader.name, len(starts), disable=hidden)
        return
    with reader.bounded(), ThreadPoolExecutor(threads) as pool:
        try:
            done = pool.map(block, starts)
            yield from track(done, reader.name, len(starts), disable=hidden)
        finally:
            pool.shutdown(cancel_futures=True)
