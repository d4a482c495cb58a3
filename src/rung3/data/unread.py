"""Rows whose images are still in their files: read into memory, or prepared on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from rung3.data.gathering import FileReader, gather
from rung3.data.inside import File
from rung3.data.memory import require
from rung3.data.rows import Rows
from rung3.data.stored import storage_type

__all__ = ["Unread"]


@dataclass(frozen=True)
class Unread:
    """The columns of rows, images as their files.

    Attributes:
        names: The columns, in their order.
        values: Those that are not images.
        images: By column, what reads its files, and the files; `None` where a row has none.
        n: Number of rows.
    """

    names: Sequence[str]
    values: Mapping[str, Tensor]
    images: Mapping[str, tuple[FileReader, Sequence[File | None]]]
    n: int

    @property
    def nbytes(self) -> int:
        """Bytes that the images take as they are stored."""
        sizes = (
            storage_type(reader.image.levels).itemsize * math.prod(reader.image.shape)
            for reader, _ in self.images.values()
        )
        return self.n * sum(sizes)

    def read(self, workers: int | None = None, progress: bool = False) -> Rows:
        """Read all images into memory.

        Args:
            workers: Threads; as many as there are cores, up to eight, if not given.
            progress: Whether to show a progress bar, where there are many.

        Raises:
            ValueError: If a file cannot be read or does not fit its variable, or all take more
                memory than there is.
        """
        cure = "prepare them on disk, with `rung3 prepare`, or declare smaller images"
        require(f"images of {self.n:,} rows", self.nbytes, cure)
        gathered = {
            name: gather(reader, files, workers, progress)
            for name, (reader, files) in self.images.items()
        }
        columns = {**self.values, **gathered}
        return Rows({name: columns[name] for name in self.names})
