"""Where the rows of a first study come from: a table, or a folder of images and its labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

from rung3.data.images import SUFFIXES
from rung3.data.readers.dicom import is_dicom, is_series
from rung3.data.readers.nifti import is_nifti
from rung3.data.spelling import listed
from rung3.study.drafting.columns import read_texts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Source", "find_rows"]

IMAGE, FOLDER = "image", "folder"
"""Names of the columns of image files, and of subfolders, in a table that is written."""

TABLES = (".csv", ".parquet")
"""Suffixes of tables of labels."""


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
    files = _image_files(source)
    if not files:
        kinds = ", ".join((*SUFFIXES[:4], ".nii.gz", ".dcm"))
        raise ValueError(f"{source} has no image files ({kinds}, ...)")
    tables = [file for kind in TABLES for file in sorted(source.glob(f"*{kind}"))]
    if labels is None and len(tables) > 1:
        names = listed([table.name for table in tables], "its tables")
        raise ValueError(f"{source}: {names}; name the one with the labels")
    labels = labels or next(iter(tables), None)
    if labels is None:
        return _by_folder(source, files, target)
    return _by_table(source, files, labels, target)


def _image_files(source: Path) -> list[Path]:
    """Return the pictures and scans of a folder; a series is the folder that its slices lie in."""
    images: list[Path] = []
    for folder in [source, *(path for path in source.rglob("*") if path.is_dir())]:
        files = [
            file
            for file in folder.iterdir()
            if file.is_file() and file.suffix.lower() not in TABLES and file.name[0] != "."
        ]
        slices = [file for file in files if not _is_named(file) and is_dicom(file)]
        named = [file for file in files if _is_named(file)]
        images += [*named, *([folder] if slices and is_series(folder) else slices)]
    return sorted(images)


def _is_named(file: Path) -> bool:
    """Return whether a file is named as a picture or a NIfTI file is."""
    return file.suffix.lower() in SUFFIXES or is_nifti(file)


def _by_folder(source: Path, files: Sequence[Path], target: Path) -> Source:
    import pandas as pd

    levels = _levels(source, files)
    if not levels:
        loose = sum(file.parent == source for file in files)
        why = (
            f"{loose} of them lie in no subfolder, so that names of subfolders cannot label them"
            if 0 < loose < len(files)
            else "and says nothing of them"
        )
        raise ValueError(
            f"{source} has {len(files)} images, {why}; give a table with a column that names the "
            "files: rung3 init FOLDER labels.csv"
        )
    frame = pd.DataFrame({IMAGE: [_relative(file, target) for file in files], **levels})
    counts = ", ".join(f"{name} ({len(set(cells))} names)" for name, cells in levels.items())
    return Source(target, frame, written=True, notes=(f"labels are names of subfolders: {counts}",))


def _by_table(source: Path, files: Sequence[Path], labels: Path, target: Path) -> Source:
    frame = read_texts(labels)
    name, paths = _naming(frame, source, files, labels)
    # Its own paths may lead to the images, or have empty cells.
    leads = all(cell is None or (labels.parent / cell).exists() for cell in frame[name])
    usable = [leads or path is not None for path in paths]
    joined, paths = frame[usable].reset_index(drop=True), [*compress(paths, usable)]
    levels, notes = _further(joined, _levels(source, paths))
    if leads and not levels:
        return Source(labels, frame, written=False, notes=tuple(notes))
    left = len(files) - len({path for path in paths if path is not None})
    if leads:
        paths = [None if cell is None else labels.parent / cell for cell in joined[name]]
    joined[name] = [None if path is None else _relative(path, target) for path in paths]
    for level, cells in levels.items():
        joined[level] = cells
    matched = sum(path is not None for path in paths)
    notes = [f"{name!r} names the files, in {matched} of {len(frame)} rows", *notes]
    if left:
        notes.append(f"{left} of {len(files)} images have no row, and are left out")
    return Source(target, joined, written=True, notes=tuple(notes))


def _levels(source: Path, files: Sequence[Path | None]) -> dict[str, list[str | None]]:
    """Return the names of the subfolders of each image, level by level, where they differ."""
    parents = [None if file is None else file.relative_to(source).parts[:-1] for file in files]
    depth = min((len(parts) for parts in parents if parts is not None), default=0)
    levels = [[None if parts is None else parts[at] for parts in parents] for at in range(depth)]
    differing = [cells for cells in levels if len(set(cells) - {None}) > 1]
    return {f"{FOLDER}_{at}" if at > 1 else FOLDER: c for at, c in enumerate(differing, start=1)}


def _further(
    frame: pd.DataFrame, levels: Mapping[str, list[str | None]]
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Return the names of subfolders that tell more than the table does, and what became of all."""
    further, notes = {}, []
    for name, cells in levels.items():
        alike = next((key for key, column in frame.items() if _alike(column, cells)), None)
        if alike is None:
            free = name if name not in frame else f"{IMAGE}_{name}"
            further[free] = cells
            notes.append(f"names of subfolders are column {free!r}: {len(set(cells))} different")
        else:
            notes.append(f"names of subfolders are left out: {alike!r} says the same")
    return further, notes


def _alike(cells: Iterable[object], others: Sequence[object]) -> bool:
    """Return whether two columns divide the rows in the same way."""
    pairs = set(zip(cells, others, strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _naming(
    frame: pd.DataFrame, source: Path, files: Sequence[Path], labels: Path
) -> tuple[str, list[Path | None]]:
    """Return the column whose cells name most of the files, and the file of each row.

    Raises:
        ValueError: If no column names any, or a cell names several.
    """
    ways: tuple[Callable[[Path], str], ...] = (
        lambda file: file.relative_to(source).as_posix(),
        lambda file: file.relative_to(source.parent).as_posix(),
        lambda file: file.name,
        lambda file: file.stem,
        lambda file: Path(file.stem).stem,  # of .nii.gz
    )
    best, name, matched = 0, "", {}
    for way in ways:
        by_text: dict[str, list[Path]] = {}
        for file in files:
            by_text.setdefault(way(file), []).append(file)
        for key, cells in frame.items():
            if (count := sum(cell in by_text for cell in cells)) > best:
                best, name, matched = count, str(key), by_text
    if not best:
        raise ValueError(
            f"{labels}: no column names the images of {source}, such as {files[0].name}; "
            f"{listed(list(frame.columns), 'its columns')}"
        )
    for cell in frame[name]:
        if len(several := matched.get(cell, ())) > 1:
            paths = " and ".join(file.relative_to(source).as_posix() for file in several[:2])
            raise ValueError(
                f"{labels}: {name}: {cell!r} names {len(several)} images of {source}, such as "
                f"{paths}; write the subfolder with it"
            )
    return name, [matched[cell][0] if cell in matched else None for cell in frame[name]]


def _relative(file: Path, target: Path) -> str:
    return Path(os.path.relpath(file.resolve(), target.resolve().parent)).as_posix()
