"""A cohort: the rows of a published data set, and how many its reader left out, by reason."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rung3.data.archives import archive_of
from rung3.data.images import read_images
from rung3.data.readers.scans import ScanOptions, is_scan, read_scans
from rung3.data.rows import Rows
from rung3.data.spelling import suggest
from rung3.data.variables import Image, Variable

__all__ = ["YEARS", "Cohort", "LeftOut", "find_image", "ml", "once"]

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
        records: By row, its `subject`, its `image` file, and values by variable; a `split`, where
            one is published.
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
            raise ValueError(f"{source}: two rows have the image {twice}")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def subjects(self) -> list[str]:
        """The subject of each row."""
        return [str(record["subject"]) for record in self.records]

    @property
    def images(self) -> list[Path]:
        """The file of each row's image."""
        return [record[IMAGE] for record in self.records]

    def published(self, *splits: str) -> list[int]:
        """Return the rows of the splits that the data set comes with.

        Raises:
            ValueError: If it comes with none.
        """
        if any("split" not in record for record in self.records):
            raise ValueError(f"{self.source}: no split is published with it; give a share")
        return [k for k, record in enumerate(self.records) if record["split"] in splits]

    def rows(
        self,
        variables: Mapping[str, Variable] | None = None,
        at: Iterable[int] | None = None,
        scans: ScanOptions | None = None,
    ) -> Rows:
        """Read the rows, as tensors, with their images.

        Args:
            variables: Which variables to read, and what they are where that differs from the
                cohort's own; an `Image` says the size of the images. By default all but the image.
            at: Which rows, by their numbers from 0; all if not given.
            scans: What to take from scans; where given, pictures too are read by its levels.

        Raises:
            ValueError: If there is no such variable, or a value or an image does not fit it.
        """
        chosen = [self.records[k] for k in (range(len(self)) if at is None else at)]
        values: dict[str, torch.Tensor] = {}
        for name, variable in (variables or self.variables).items():
            if isinstance(variable, Image):
                values[name] = _read(name, [record[IMAGE] for record in chosen], variable, scans)
            elif name not in self.variables:
                known = suggest(name, [*self.variables, IMAGE], "its variables")
                raise ValueError(f"{self.source}: no variable {name!r}; {known}")
            else:
                column = [record[name] for record in chosen]
                try:
                    values[name] = variable.validate(name, column)
                except ValueError as error:
                    raise ValueError(f"{self.source}: {error}") from None
        return Rows(values)


def _read(
    name: str, files: Sequence[Path], image: Image, scans: ScanOptions | None
) -> torch.Tensor:
    if scans is not None or any(is_scan(file) for file in files):
        return read_scans(name, files, image, scans)
    return read_images(name, files, image)


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
    first: dict[Hashable, dict[str, Any]] = {}
    torn: set[Hashable] = set()
    for record in records:
        at = record[key]
        if at not in first:
            first[at] = record
        elif first[at] == record:
            left_out.add("the same row again", at)
        else:
            torn.add(at)
    for record in records:
        if record[key] in torn:
            left_out.add("several rows with one ID that disagree", record[key])
    return [record for at, record in first.items() if at not in torn]
