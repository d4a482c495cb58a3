"""Tables of rows that a study reads from files: into memory, or prepared on disk.

Rows are prepared in a folder named by what is asked of the files: which table, which columns, what
variables they are, what is taken from scans. What was prepared is read instead of the files, even
if these are gone; it is checked, as `rung3.data.prepared` says. Of rows that were not prepared, the
size of the images decides: what takes more than half of the free memory is prepared, and then read
from disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rung3.data.files import sha256
from rung3.data.memory import available
from rung3.data.prepared import MANIFEST, Prepared, prepare
from rung3.data.readers.scans import ScanOptions
from rung3.data.unread import Unread
from rung3.data.variables import Variable
from rung3.study.locks import lock
from rung3.training.processes import is_first

__all__ = ["Listing", "Say"]

Say = Callable[[str], None]

MOST = 0.5
"""Share of the free memory that images may take; the rest is for training."""


@dataclass(frozen=True)
class Listing:
    """A table of rows, before it is read.

    Attributes:
        place: The folder that it may be prepared in, in a folder of its own.
        wanted: Whether it is to be prepared there whatever its size.
        kinds: What each column is.
        scans: What is taken from scans, by column.
        identity: Which files are meant, in what manner.
        sources: Files that the columns come from.
        read: Reads the columns, and what is kept beside them; images stay in their files.
    """

    place: Path
    wanted: bool
    kinds: Mapping[str, Variable]
    scans: Mapping[str, ScanOptions]
    identity: Mapping[str, Any]
    sources: Sequence[Path]
    read: Callable[[], tuple[Unread, dict[str, Any]]]

    @property
    def folder(self) -> Path:
        """The folder that it is prepared in, named by what is asked."""
        content = {
            **self.identity,
            "columns": {name: repr(kind) for name, kind in self.kinds.items()},
            "scans": {name: asdict(options) for name, options in self.scans.items()},
            "type": str(torch.get_default_dtype()),
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return self.place / hashlib.sha256(text.encode()).hexdigest()[:16]

    def prepared(self, say: Say = lambda text: None) -> Prepared | None:
        """Return it as it was prepared, and say so; `None` if it was not.

        Raises:
            ValueError: If it is damaged, or its source has changed.
        """
        if (prepared := Prepared.open(self.folder)) is not None:
            say(f"{prepared.rows.n:,} rows as they were prepared on disk, in {self.folder}")
        return prepared

    def digest(self) -> str:
        """Return a digest of what was prepared; empty if nothing was."""
        path = self.folder / MANIFEST
        return sha256(path) if path.is_file() else ""

    def prepare(self, workers: int = 1, progress: bool = True) -> None:
        """Prepare it on disk; what was prepared before and has not changed is kept.

        Raises:
            ValueError: If another process does; if rows or images cannot be read.
            OSError: If a shard cannot be written, as where the disk is full.
            ChildProcessError: If a worker died.
        """
        unread, extra = self.read()
        self.write(unread, extra, workers, progress)

    def write(
        self, unread: Unread, extra: Mapping[str, Any], workers: int = 1, progress: bool = True
    ) -> None:
        """Prepare rows that were read up to their images."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock(self.folder / "lock", f"the folder {self.folder}"):
            prepare(unread, self.folder, self.sources, extra, workers=workers, progress=progress)

    def settle(self, unread: Unread, extra: Mapping[str, Any], say: Say) -> Prepared | None:
        """Prepare rows that are too many for memory, and say where they are held.

        Returns:
            The rows on disk; `None` if they are to be held in memory.
        """
        if not unread.images:
            return None
        free, size = available(), f"{unread.nbytes / 2**30:,.2f} GiB of images"
        if not self.wanted and unread.nbytes <= MOST * free:
            say(f"{size} in memory, of which {free / 2**30:,.1f} GiB are free")
            return None
        if not is_first():
            raise ValueError(
                f"{size} are read from disk: prepare them before several processes are started, "
                "with `rung3 prepare` of the study"
            )
        say(f"{size} on disk, in {self.folder}: {free / 2**30:,.1f} GiB of memory are free")
        self.write(unread, extra)
        return self.prepared()
