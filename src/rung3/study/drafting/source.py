"""Where the rows of a first study come from: a table, or a folder of images and its labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rung3.data.images import SUFFIXES
from rung3.data.spelling import listed
from rung3.study.drafting.columns import read_texts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Source", "find_rows"]

IMAGE = "image"
"""Name of the column of image files in a table that is written for a folder."""


@dataclass(frozen=True)
class Source:
    """The rows of a first study.

    Attributes:
        path: The table that the study reads.
        frame: Its cells as text, gaps as None.
        written: Whether the table is yet to be written: it joins labels and files.
        notes: What a reader should know of how they were joined.
    """

    path: Path
    frame: pd.DataFrame
    written: bool
    notes: tuple[str, ...] = ()


def find_rows(source: Path, labels: Path | None, target: Path) -> Source:
    """Find the rows: a table as it is, or a folder's images joined with labels.

    Args:
        source: A table, or a folder of images.
        labels: A table of which a column names the images of the folder; if not given, the one
            table in the folder, or else the names of its subfolders.
        target: The table to write where labels and files are to be joined.

    Raises:
        ValueError: If there are no images or no labels, or no column names the images.
    """
    if not source.exists():
        raise ValueError(f"{source} is missing; expected a table (.csv, .parquet) or a folder")
    if not source.is_dir():
        if labels is not None:
            raise ValueError(f"{labels}: labels go with a folder of images, and {source} is a file")
        return Source(source, read_texts(source), written=False)
    files = sorted(
        file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
    )
    if not files:
        raise ValueError(f"{source} has no image files ({', '.join(SUFFIXES[:4])}, ...)")
    tables = [file for kind in ("*.csv", "*.parquet") for file in sorted(source.glob(kind))]
    if labels is None and len(tables) > 1:
        names = listed([table.name for table in tables], "its tables")
        raise ValueError(f"{source}: {names}; name the one with the labels")
    labels = labels or next(iter(tables), None)
    if labels is None:
        return _by_folder(source, files, target)
    return _by_table(source, files, labels, target)


def _by_folder(source: Path, files: Sequence[Path], target: Path) -> Source:
    import pandas as pd

    groups = [file.relative_to(source).parts[0] for file in files]
    inside = all(len(file.relative_to(source).parts) > 1 for file in files)
    if not inside or len(set(groups)) < 2:
        raise ValueError(
            f"{source} has {len(files)} images and says nothing of them; give a table with a "
            "column that names the files: rung3 init FOLDER labels.csv"
        )
    frame = pd.DataFrame({IMAGE: [_relative(f, target) for f in files], "folder": groups})
    note = f"labels are the names of the {len(set(groups))} subfolders"
    return Source(target, frame, written=True, notes=(note,))


def _by_table(source: Path, files: Sequence[Path], labels: Path, target: Path) -> Source:
    frame = read_texts(labels)
    name, matched = _naming(frame, source, files, labels)
    cells = frame[name].tolist()
    if all(cell is None or (labels.parent / cell).is_file() for cell in cells):
        return Source(labels, frame, written=False)  # its own paths lead to them
    paths = [matched.get(cell or "") for cell in cells]
    matched_rows = [file is not None for file in paths]
    joined = frame[matched_rows].reset_index(drop=True)
    joined[name] = [_relative(file, target) for file in paths if file is not None]
    notes = [f"{name!r} names the files, in {sum(matched_rows)} of {len(matched_rows)} rows"]
    if left := len(files) - len({file for file in paths if file is not None}):
        notes.append(f"{left} of {len(files)} images have no row, and are left out")
    return Source(target, joined, written=True, notes=tuple(notes))


def _naming(
    frame: pd.DataFrame, source: Path, files: Sequence[Path], labels: Path
) -> tuple[str, Mapping[str, Path]]:
    """Return the column whose cells name most of the files, and the file by cell."""
    ways = [
        {file.relative_to(source).as_posix(): file for file in files},
        {file.name: file for file in files},
        {file.stem: file for file in files},
    ]
    best = max(
        (
            (sum(cell in way for cell in cells), str(name), way)
            for name, cells in frame.items()
            for way in ways
        ),
        key=lambda found: found[0],
    )
    if not best[0]:
        raise ValueError(
            f"{labels}: no column names the images of {source}, such as {files[0].name}; "
            f"{listed(list(frame.columns), 'its columns')}"
        )
    return best[1], best[2]


def _relative(file: Path, target: Path) -> str:
    return Path(os.path.relpath(file.resolve(), target.resolve().parent)).as_posix()
