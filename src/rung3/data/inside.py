"""Pictures that lie inside other files: members of tar archives, and cells of Parquet files.

Tables of them are read as tables of files are (`rung3.data.table`); the pictures stay where they
are until their rows are read. A folder of tar archives follows the convention of WebDataset: the
name of a member up to the first point is its sample's, and the rest says what it is:

    00017.json             values, by column
    00017.scan.png         the picture of column `scan`; `00017.png` is that of column `png`
    00017.cls, 00017.txt   a value of column `cls`, a text of column `txt`
"""

from __future__ import annotations

import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["File", "Inside", "is_shards", "read_parquet", "read_shards"]

PICTURES = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp")
"""Endings of members that are pictures."""

TEXTS = ("cls", "txt", "id")
"""Endings of members that are a value."""

GROUPS = 4
"""Groups of rows of Parquet files that are kept in memory: threads read near each other."""


class Inside(ABC):
    """A picture inside another file, which is its `path`."""

    path: Path

    @abstractmethod
    def open(self) -> BytesIO:
        """Return its content.

        Raises:
            ValueError: If the file is shorter than it was.
        """


File: TypeAlias = Path | Inside


@dataclass(frozen=True)
class Member(Inside):
    """A member of a tar archive.

    Attributes:
        path: The archive.
        name: The member.
        offset: Where its content begins.
        size: Bytes of it.
    """

    path: Path
    name: str
    offset: int
    size: int

    def open(self) -> BytesIO:
        with self.path.open("rb") as archive:
            archive.seek(self.offset)
            content = archive.read(self.size)
        if len(content) < self.size:
            raise ValueError(f"{self.path} is truncated: {self.name} is not whole")
        return BytesIO(content)

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"


@dataclass(frozen=True)
class Cell(Inside):
    """A cell of a Parquet file.

    Attributes:
        path: The file.
        column: The column.
        group: The group of rows.
        row: The number of the row in it.
    """

    path: Path
    column: str
    group: int
    row: int

    def open(self) -> BytesIO:
        return BytesIO(_column(self.path, self.column, self.group)[self.row].as_py())

    def __str__(self) -> str:
        return f"{self.path}, row {self.row} of group {self.group}"


@lru_cache(GROUPS)
def _column(path: Path, column: str, group: int) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(0)


def is_shards(path: Path) -> bool:
    """Return whether a path is a tar archive, or a folder of these or of Parquet files."""
    return path.suffix == ".tar" or (path.is_dir() and bool(_shards(path)))


def _shards(folder: Path) -> list[Path]:
    """Return the shards in a folder, tar archives or else Parquet files, by name."""
    tars = sorted(folder.glob("*.tar"))
    return tars or sorted(file for file in folder.glob("*.parquet") if file.name[0] not in "._")


def read_shards(path: Path, images: Collection[str]) -> pd.DataFrame:
    """Read a tar archive, or a folder of shards, as a table; pictures stay inside."""
    shards = [path] if path.suffix == ".tar" else _shards(path)
    return _read_tars(shards) if shards[0].suffix == ".tar" else read_parquet(shards, images)


def read_parquet(files: Collection[Path], images: Collection[str]) -> pd.DataFrame:
    """Read Parquet files, one after the other; columns of images that hold bytes stay inside.

    Args:
        files: The files, all of the same columns.
        images: Columns of images.

    Raises:
        ValueError: If one cannot be read.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    frames = []
    for path in files:
        schema = pq.read_schema(path)
        inside = [
            name for name in images
            if name in schema.names and (pa.types.is_binary(schema.field(name).type)
                                         or pa.types.is_large_binary(schema.field(name).type))
        ]  # fmt: skip
        if not inside:
            frames.append(pd.read_parquet(path))
            continue
        plain = [name for name in schema.names if name not in inside]
        frame = pq.read_table(path, columns=plain).to_pandas()
        for name in inside:
            frame[name] = pd.Series(list(_cells(path, name)), dtype=object)
        frames.append(frame[schema.names])
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _cells(path: Path, column: str) -> Iterator[Cell | None]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    place = file.schema_arrow.names.index(column)
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        nulls = about.column(place).statistics
        gaps = [False] * about.num_rows
        if nulls is None or nulls.null_count:
            gaps = _column(path, column, group).is_null().to_pylist()
        for row, gap in enumerate(gaps):
            yield None if gap else Cell(path, column, group, row)


def _read_tars(archives: Collection[Path]) -> pd.DataFrame:
    """Read tar archives of the convention of WebDataset, one after the other; pictures stay inside.

    Raises:
        ValueError: If one is missing, damaged or compressed, or holds the same of a sample twice.
    """
    import pandas as pd

    samples: list[dict[str, Any]] = []
    for path in archives:
        try:
            with tarfile.open(path, "r:") as archive:
                samples += _samples(path, archive)
        except FileNotFoundError:
            raise ValueError(f"{path} is missing; expected a tar archive") from None
        except tarfile.TarError as error:
            raise ValueError(
                f"{path} is truncated, compressed, or no tar archive: {error}"
            ) from None
    return pd.DataFrame(samples)


def _samples(path: Path, archive: tarfile.TarFile) -> Iterator[dict[str, Any]]:
    """Yield the samples of an archive, whose members follow each other."""
    key, sample = None, dict[str, Any]()
    for member in archive:
        if not member.isfile():
            continue
        folder, slash, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        if key not in (None, folder + slash + stem):
            yield sample
            sample = {}
        key = folder + slash + stem
        values = _values(path, archive, member, kind.lower())
        if twice := sample.keys() & values.keys():
            raise ValueError(f"{path}: sample {key} has {sorted(twice)[0]!r} twice")
        sample |= values
    if key is not None:
        yield sample


def _values(
    path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, kind: str
) -> dict[str, Any]:
    """Return what a member says, by column; nothing if it is of another kind."""
    column, _, ending = kind.rpartition(".")
    if ending in PICTURES:
        return {column or ending: Member(path, member.name, member.offset_data, member.size)}
    if kind != "json" and kind not in TEXTS:
        return {}
    file = archive.extractfile(member)
    assert file is not None
    try:
        text = file.read().decode()
        return dict(json.loads(text)) if kind == "json" else {kind: _value(text)}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {member.name} cannot be read: {error}") from None


def _value(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text.strip()
