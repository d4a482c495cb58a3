"""A cohort: the rows of a published data set, and how many its reader left out, by reason."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rung3.data.archives import archive_of
from rung3.data.gathering import FileReader
from rung3.data.images import pictures
from rung3.data.prepared import Prepared
from rung3.data.readers.scans import ScanOptions, Scans, Slice, is_scan
from rung3.data.rows import Rows
from rung3.data.spelling import suggest
from rung3.data.unread import Unread
from rung3.data.variables import Image, Variable

__all__ = ["YEARS", "Cohort", "LeftOut", "PreparedCohort", "find_image", "ml", "once"]

YEARS: dict[str, Any] = {"unit": "years", "lower": 0}
"""Fields of an age."""

OLDEST = 120
"""Years beyond which an age is a mistake of typing."""

IMAGE = "image"
"""The image of every cohort, by this name."""


class LeftOut:
    """Rows that were left out, by reason; each of them has a name."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}

    def add(self, reason: str, name: object) -> None:
        """Note a row."""
        self.rows.setdefault(reason, []).append(str(name))

    def age(self, age: float | None, name: object) -> bool:
        """Note a row whose age is missing, 0 (which stands for missing) or no age; return if so."""
        if age is None or age == 0:
            self.add("age missing or 0", name)
        elif not 0 < age <= OLDEST:
            self.add(f"age not between 0 and {OLDEST}", name)
        else:
            return False
        return True

    def incomplete(self, sex: str | None, age: float | None, image: Any, name: object) -> bool:
        """Note a row without a sex, an age or an image file; return if so."""
        if sex is None:
            self.add("sex missing", name)
        elif self.age(age, name):
            pass
        elif image is None:
            self.add("no image file", name)
        else:
            return False
        return True

    @property
    def counts(self) -> dict[str, int]:
        """How many, by reason."""
        return {reason: len(names) for reason, names in self.rows.items()}


class Cohort:
    """The rows of a data set: an image each, the subject that it is of, and named values.

    Args:
        source: Where they are from, for messages.
        records: By row, its `subject`, its `image` file or `Slice`, and values by variable; a
            `split`, where one is published.
        variables: What the values are, with unit and labels; `image` is not among them.
        left_out: What was left out.

    Attributes:
        left_out: How many rows were left out, by reason.

    Raises:
        ValueError: If nothing is left, or two rows have the same image.
    """

    def __init__(
        self,
        source: str | Path,
        records: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Variable],
        left_out: LeftOut,
    ) -> None:
        self.source, self.variables = Path(source), dict(variables)
        self.records = list(records)
        self.left_out = left_out.counts
        if left_out.rows:
            reasons = "; ".join(
                f"{len(names)} ({reason}; first: {names[0]})"
                for reason, names in left_out.rows.items()
            )
            warnings.warn(f"{source}: rows left out: {reasons}", stacklevel=3)
        if not self.records:
            raise ValueError(f"{source}: no row is left; {self.left_out or 'it has none'}")
        if len(set(self.images)) < len(self.images):
            twice = next(image for image in self.images if self.images.count(image) > 1)
            rows = [row for row, image in enumerate(self.images) if image == twice]
            owners = " and ".join(
                f"row {row} of subject {self.subjects[row]!r}" for row in rows[:2]
            )
            raise ValueError(f"{source}: two rows have the image {twice}: {owners}")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def subjects(self) -> list[str]:
        """The subject of each row."""
        return [str(record["subject"]) for record in self.records]

    @property
    def images(self) -> list[Path | Slice]:
        """The file of each row's image, or the slice of a scan that it is."""
        return [record[IMAGE] for record in self.records]

    def published(self, *splits: str) -> list[int]:
        """Return the rows of the splits that the data set comes with.

        Raises:
            ValueError: If it comes with none.
        """
        return _of_splits(self.source, self.extra()["splits"], splits)

    def extra(self) -> dict[str, Any]:
        """Return what there is beside the variables, as JSON holds it."""
        published = all("split" in record for record in self.records)
        return {
            "subjects": self.subjects,
            "splits": [record["split"] for record in self.records] if published else None,
            "left out": self.left_out,
        }

    def rows(
        self,
        variables: Mapping[str, Variable] | None = None,
        at: Iterable[int] | None = None,
        scans: ScanOptions | None = None,
        *,
        progress: bool = True,
    ) -> Rows:
        """Read the rows, as tensors, with their images.

        Images are held as they are stored: see `rung3.data.table`.

        Args:
            variables: Which variables to read, and what they are where that differs from the
                cohort's own; an `Image` says the size of the images. By default all but the image.
            at: Which rows, by their numbers from 0; all if not given.
            scans: What to take from scans; where given, pictures too are read by its levels.
            progress: Whether to show a progress bar, where there are a thousand images and more.

        Raises:
            ValueError: If there is no such variable, or a value or an image does not fit it.
        """
        return self.unread(variables, at, scans).read(progress=progress)

    def unread(
        self,
        variables: Mapping[str, Variable] | None = None,
        at: Iterable[int] | None = None,
        scans: ScanOptions | None = None,
    ) -> Unread:
        """Read the rows, and leave their images in their files; arguments are those of `rows`."""
        chosen = [self.records[k] for k in (range(len(self)) if at is None else at)]
        wanted = variables or self.variables
        values: dict[str, torch.Tensor] = {}
        images: dict[str, tuple[FileReader, Sequence[Path | Slice]]] = {}
        for name, variable in wanted.items():
            if isinstance(variable, Image):
                files = [record[IMAGE] for record in chosen]
                images[name] = _reader(name, files, variable, scans), files
            elif name not in self.variables:
                known = suggest(name, [*self.variables, IMAGE], "its variables")
                raise ValueError(f"{self.source}: no variable {name!r}; {known}")
            else:
                column = [record[name] for record in chosen]
                try:
                    values[name] = variable.validate(name, column)
                except ValueError as error:
                    raise ValueError(f"{self.source}: {error}") from None
        return Unread(list(wanted), values, images, len(chosen))


class PreparedCohort:
    """The rows of a data set as they were prepared on disk; its own files are not read.

    Args:
        source: Where they are from, for messages.
        prepared: What was prepared.
    """

    def __init__(self, source: str | Path, prepared: Prepared) -> None:
        self.source, self.prepared = Path(source), prepared
        self.left_out: dict[str, int] = dict(prepared.extra["left out"])
        self.subjects: list[str] = list(prepared.extra["subjects"])

    def published(self, *splits: str) -> list[int]:
        """Return the rows of the splits that the data set comes with, as `Cohort.published`."""
        return _of_splits(self.source, self.prepared.extra["splits"], splits)

    def rows(
        self,
        variables: Mapping[str, Variable],
        at: Sequence[int],
        scans: ScanOptions | None = None,
    ) -> Rows:
        """Return rows by their numbers; they were prepared of these variables and scans."""
        return self.prepared.rows[torch.tensor(at, dtype=torch.long)]


def _of_splits(source: Path, published: Sequence[str] | None, splits: Sequence[str]) -> list[int]:
    if published is None:
        raise ValueError(f"{source}: no split is published with it; give a share")
    return [k for k, split in enumerate(published) if split in splits]


def _reader(
    name: str, files: Sequence[Path | Slice], image: Image, scans: ScanOptions | None
) -> FileReader:
    if scans is not None or any(isinstance(file, Slice) or is_scan(file) for file in files):
        return Scans(name, image, scans)
    return pictures(name, files, image)


def find_image(root: Path, pattern: str) -> Path | None:
    """Return the first file, in a folder or an archive in it, that fits a pattern, if any does."""
    if any(letter in pattern for letter in "*?["):
        return next(iter(sorted(root.glob(pattern))), None)
    path = root / pattern
    return path if path.exists() or archive_of(path) else None


def ml(cubic_millimetres: float | None) -> float | None:
    """Return a volume in millilitres."""
    return None if cubic_millimetres is None else cubic_millimetres / 1000


def once(records: Sequence[dict[str, Any]], key: str, left_out: LeftOut) -> list[dict[str, Any]]:
    """Return one record for each value of a key; none where several of them disagree."""
    by_key: dict[Hashable, list[dict[str, Any]]] = {}
    for record in records:
        by_key.setdefault(record[key], []).append(record)
    rows = []
    for at, (first, *others) in by_key.items():
        alike = all(record == first for record in others)
        if alike:
            rows.append(first)
        reason = "the same row again" if alike else "several rows with one ID that disagree"
        for _ in others if alike else (first, *others):
            left_out.add(reason, at)
    return rows
