"""Rows prepared on disk: images as arrays that are read row by row, and the other columns whole.

    manifest.json                 the columns, and every shard by its name; written last, sealed
    columns.safetensors           the columns that are not images
    scan-000003-(sha256).npy      images of some rows as they are stored, `(rows, *shape)`
    scan-000003-(sha256).json     their source files, each with its size and time of change

A shard is written under a temporary name and then renamed, and its name holds its digest. Before
the first of its rows is used, in every process, its content is compared with the digest, and its
source files, as far as they are still there, with their sizes and times. Rows are read by their
position in the file, not through a memory map: they count as no memory of the process, and a file
that is cut short meanwhile is an error, and no crash.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.files import (
    DRAFTS,
    digest,
    draft,
    read_tensors,
    sealed,
    sha256,
    unsealed,
    write,
    write_tensors,
)
from rung3.data.gathering import FileReader, Notes, absent, needed, read_levels
from rung3.data.inside import File, Inside
from rung3.data.names import slugs
from rung3.data.rows import Rows
from rung3.data.stored import Stored, storage_type
from rung3.data.unread import Unread
from rung3.data.workers import spread

__all__ = ["Prepared", "prepare", "stamp"]

Array = np.ndarray[Any, Any]

FORMAT = 1
MANIFEST = "manifest.json"
COLUMNS = "columns.safetensors"

SHARD = 2**25
"""Bytes of a shard, at most, unless a single row is larger: 32 MiB are checked in 30 ms."""

MOST_ROWS = 4096
"""Rows of a shard, at most: the source file of each is looked at before the first is used."""

GONE = "gone: "
"""Start of the names of masks of images that are missing, among the columns."""

AGAIN = "`rung3 prepare` of the study rewrites what has changed"


@dataclass(frozen=True)
class Prepared:
    """Rows that were prepared on disk.

    Attributes:
        rows: All of them, images as `Stored` columns that are read from disk.
        extra: What was kept beside them.
    """

    rows: Rows
    extra: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Prepared | None:
        """Open a folder; `None` if nothing was prepared there, or not to the end.

        Raises:
            ValueError: If the manifest or the columns are damaged, or are of a newer version; if a
                file that the columns come from has changed. Shards are checked as they are used.
        """
        path = folder / MANIFEST
        if not path.is_file():
            return None
        content = path.read_bytes()
        manifest = _parsed(path, content)
        if manifest["format"] != FORMAT:
            raise ValueError(
                f"{path} is of format {manifest['format']}, and this rung3 reads {FORMAT}; {AGAIN}"
            )
        _check_sources(manifest["sources"], folder)
        columns, _ = read_tensors(folder / COLUMNS, "columns")
        if digest(columns) != manifest["columns"]:
            raise ValueError(f"{folder / COLUMNS} is not of {path}; {AGAIN}")
        values: dict[str, Tensor] = {}
        for name in manifest["names"]:
            image = manifest["images"].get(name)
            if image is None:
                values[name] = columns[name]
                continue
            absent_rows = columns.get(GONE + name)
            shards = Shards(folder, image["shards"], tuple(image["shape"]), image["rows"])
            values[name] = Stored(
                shards, image["levels"], None if absent_rows is None else absent_rows.numpy()
            )
        return cls(Rows(values), manifest["extra"])


class Shards:
    """Numbers of many rows in files, some rows in each.

    Args:
        folder: Where they are.
        names: Their names, in the order of the rows.
        shape: Number of rows, and the shape of one.
        rows: Rows of a file; the last may have fewer.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], shape: tuple[int, ...], rows: int
    ) -> None:
        self.folder, self.names, self.shape, self.rows = folder, list(names), shape, rows
        self._checked: dict[int, tuple[int, np.dtype[Any]]] = {}

    def read(self, at: Array) -> Array:
        """Return rows by their numbers, `(len(at), *shape)`.

        Raises:
            ValueError: If a shard is missing, truncated or altered, or a source file has changed.
        """
        which, places = np.divmod(np.asarray(at, dtype=np.int64), self.rows)
        kind = self._check(int(which[0]) if len(which) else 0)[1]
        rows = np.empty((len(which), *self.shape[1:]), kind)
        for shard in np.unique(which).tolist():
            rows_here = np.flatnonzero(which == shard)
            rows_here = rows_here[np.argsort(places[rows_here], kind="stable")]
            self._fill(shard, places[rows_here], rows, rows_here)
        return rows

    def _fill(self, shard: int, places: Array, rows: Array, targets: Array) -> None:
        """Read the rows at some places of a shard; those that follow each other at once."""
        offset, size = self._check(shard)[0], rows[:1].nbytes
        breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(targets) != 1)) + 1
        path = self.folder / self.names[shard]
        runs = zip(np.split(places, breaks), np.split(targets, breaks), strict=True)
        with path.open("rb", buffering=0) as file:
            for place, target in runs:
                part = rows[target[0] : target[-1] + 1]
                file.seek(offset + size * int(place[0]))
                read = file.readinto(part.reshape(-1).view(np.uint8).data)
                if read != part.nbytes:
                    raise ValueError(f"{path} was cut short while it was in use; {AGAIN}")

    def _check(self, shard: int) -> tuple[int, np.dtype[Any]]:
        """Return where the numbers of a shard begin, and their type, once it is found whole."""
        if shard not in self._checked:
            path = self.folder / self.names[shard]
            _check_shard(path)
            with path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                assert version == (1, 0)
                _, _, kind = np.lib.format.read_array_header_1_0(file)
                self._checked[shard] = file.tell(), kind
        return self._checked[shard]


def prepare(
    unread: Unread,
    folder: Path,
    sources: Iterable[Path],
    extra: Mapping[str, Any],
    *,
    workers: int = 1,
    progress: bool = True,
) -> None:
    """Write rows to a folder; what is there already, unchanged, is kept.

    Args:
        unread: The rows.
        folder: The folder; made if it is not there.
        sources: Files that the columns come from.
        extra: What to keep beside them, as JSON holds it.
        workers: Processes that read images.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If an image cannot be read or does not fit its variable.
        OSError: If a shard cannot be written, as where the disk is full.
        ChildProcessError: If a worker died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(DRAFTS):  # of a call that was killed
        left.unlink(missing_ok=True)
    stamps = {str(path): stamp(path) for path in sources}
    names, columns = slugs(unread.images), dict(unread.values)
    images: dict[str, dict[str, Any]] = {}
    for name, (reader, files) in unread.images.items():
        job = _Column(reader, files, folder, names[name])
        images[name] = {
            "shape": [len(files), *reader.image.shape],
            "levels": reader.image.levels,
            "rows": job.rows,
            "shards": job.write(workers, progress),
        }
        if (absent_rows := absent(files)) is not None:
            columns[GONE + name] = torch.from_numpy(absent_rows)
    write_tensors(folder / COLUMNS, columns, "columns")
    manifest = {
        "format": FORMAT,
        "names": list(unread.names),
        "columns": digest(dict(sorted(columns.items()))),
        "images": images,
        "sources": stamps,
        "extra": dict(extra),
    }
    write(folder / MANIFEST, sealed(json.dumps(manifest).encode() + b"\n"))
    _tidy(folder, [shard for image in images.values() for shard in image["shards"]])


@dataclass(frozen=True)
class _Column:
    """A column of images that is written shard by shard."""

    reader: FileReader
    files: Sequence[File | None]
    folder: Path
    stem: str
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        image = self.reader.image
        if not image.missing:
            needed(self.reader.name, self.files, self.reader.what)
        size = storage_type(image.levels).itemsize * math.prod(image.shape)
        object.__setattr__(self, "rows", min(MOST_ROWS, max(1, SHARD // size)))

    def write(self, workers: int, progress: bool) -> list[str]:
        """Write what is not there yet, and return the names of all shards."""
        from rich.progress import track

        n = -(-len(self.files) // self.rows)
        names = self._whole_shards()
        missing = [k for k in range(n) if k not in names]
        jobs = ((k, self._part(k)) for k in missing)
        if workers == 1 or len(missing) < 2:
            written: Iterator[tuple[int, str]] = ((k, part.write()) for k, part in jobs)
        else:
            written = spread(_Part.write, jobs, min(workers, len(missing)), self.folder)
        text = f"preparing {self.stem}"
        for k, name in track(written, text, len(missing), disable=not progress, transient=True):
            names[k] = name
        ordered = [names[k] for k in range(n)]
        notes = Notes()
        for name in ordered:
            notes.join(Notes.of_config(_beside(self.folder / name)["notes"]))
        self.reader.conclude(notes, len(self.files))
        return ordered

    def _whole_shards(self) -> dict[int, str]:
        """Return shards that are there, whole, and of the files as they are now."""
        pattern = re.compile(re.escape(self.stem) + r"-(\d{6,})-[0-9a-f]{64}\.npy")
        names: dict[int, str] = {}
        for path in self.folder.glob(f"{self.stem}-*.npy"):
            match = pattern.fullmatch(path.name)
            if match and self._part(int(match[1])).is_written(path):
                names[int(match[1])] = path.name
        return names

    def _part(self, k: int) -> _Part:
        files = self.files[k * self.rows : (k + 1) * self.rows]
        return _Part(self.reader, files, self.folder, f"{self.stem}-{k:06}")


@dataclass(frozen=True)
class _Part:
    """The files of one shard."""

    reader: FileReader
    files: Sequence[File | None]
    folder: Path
    stem: str

    def write(self) -> str:
        """Write the shard, and what it was made of, and return its name."""
        image = self.reader.image
        made_of = self._made_of()
        array = np.zeros((len(self.files), *image.shape), storage_type(image.levels))
        with self.reader.bounded():
            notes = read_levels(self.reader, self.files, array)
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
        hashed = hashlib.sha256(head.getvalue())
        hashed.update(array.data)
        path = self.folder / f"{self.stem}-{hashed.hexdigest()}.npy"
        beside = json.dumps({"files": made_of, "notes": notes.config()})
        try:
            write(path.with_suffix(".json"), sealed(beside.encode() + b"\n"))
            with draft(path) as place, place.open("wb") as file:
                file.write(head.getvalue())
                file.write(array.data)
        except OSError as error:
            raise OSError(
                error.errno or errno.EIO,
                f"{path} cannot be written: {error.strerror or error}; once that is fixed, the "
                "same command resumes",
            ) from None
        return path.name

    def is_written(self, path: Path) -> bool:
        """Return whether a shard is whole, and of these files as they are now."""
        try:
            return self._made_of() == _beside(path)["files"] and sha256(path) == _digest_of(path)
        except (OSError, ValueError):
            return False

    def _made_of(self) -> dict[str, Any]:
        """Return the files by row, and size and time of each that they are in."""
        given = [file for file in self.files if file is not None]
        places = dict.fromkeys(file.path if isinstance(file, Inside) else file for file in given)
        return {
            "rows": ["" if file is None else str(file) for file in self.files],
            "stamps": {str(path): stamp(path) for path in places},
        }


def stamp(path: Path) -> list[int] | None:
    """Return size and time of change of a file, or of all in a folder; `None` if it is not there.

    Of a file in an archive, those of the archive.
    """
    place = path
    if ".zip" in str(path.parent):
        place = next((p for p in path.parents if p.suffix == ".zip" and p.is_file()), path)
    try:
        status = os.stat(place)
        if not S_ISDIR(status.st_mode):
            return [status.st_size, status.st_mtime_ns]
        inside = [child.stat() for child in place.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [sum(s.st_size for s in inside), max((s.st_mtime_ns for s in inside), default=0)]


def _digest_of(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _beside(path: Path) -> dict[str, Any]:
    """Read what a shard was made of."""
    beside = path.with_suffix(".json")
    return _parsed(beside, beside.read_bytes())


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    body = unsealed(content)
    if body is None:
        raise ValueError(f"{path} is truncated or altered; {AGAIN}")
    parsed: dict[str, Any] = json.loads(body)
    return parsed


def _check_shard(path: Path) -> None:
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise ValueError(f"{path}, or the .json beside it, is missing; {AGAIN}")
    if sha256(path) != _digest_of(path):
        raise ValueError(
            f"{path} is truncated or altered: its content is not what its name says; {AGAIN}"
        )
    _check_sources(_beside(path)["files"]["stamps"], path.parent)


def _check_sources(stamps: Mapping[str, list[int] | None], folder: Path) -> None:
    """Refuse source files that have changed; those that are gone are not needed any more."""
    for name, before in stamps.items():
        now = stamp(Path(name))
        if now is not None and now != before:
            raise ValueError(f"{name} has changed since it was prepared in {folder}; {AGAIN}")


def _tidy(folder: Path, shards: Iterable[str]) -> None:
    """Remove shards of earlier states of the files."""
    wanted = {Path(name).stem for name in shards}
    for path in folder.iterdir():
        left = path.suffix == ".npy" or (path.suffix == ".json" and path.name != MANIFEST)
        if left and path.stem not in wanted:
            path.unlink(missing_ok=True)
