"""Rows of a published medical data set."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rung3.data.readers.medical import LAYOUTS, Cohort, PreparedCohort
from rung3.data.readers.scans import ScanOptions, taken
from rung3.data.rows import Rows
from rung3.data.unread import Unread
from rung3.study.listings import Listing, Say
from rung3.study.parser import FilePath, nearest, unknown
from rung3.study.row_source import (
    Filed,
    Scans,
    Share,
    Splits,
    Variables,
    check_parts,
    check_row,
    divide_rows,
    pick,
)

__all__ = ["MedicalData"]


def _layout(name: str) -> str:
    if name not in LAYOUTS:
        raise ValueError(nearest(name, LAYOUTS, "layout"))
    return name


class MedicalData(Filed):
    """A published medical data set, in its own layout; no subject is in two parts.

    Args:
        layout: Which: see `rung3.data.readers.medical`.
        root: Its folder.
        options: Options of its reader, such as `finding`.
        columns: By variable of the study, its name in the data set, if that is another.
        scans: What is taken from its scans; if given for pictures, these are read by their levels
            too.
        test: The share of rows set aside at random, or `published` for the split it comes with.
        validation: Share of the training rows set aside; with `published`, only if that has no
            validation rows.
        prepared: As for a table.
    """

    kind: Literal["medical"]
    layout: Annotated[str, AfterValidator(_layout)]
    root: FilePath
    options: dict[str, Any] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)
    scans: Scans | None = None
    test: Share | Literal["published"] = 0.2

    @model_validator(mode="after")
    def _known_options(self) -> Self:
        known = [*inspect.signature(LAYOUTS[self.layout]).parameters][1:]
        for key in self.options:
            if key not in known:
                raise unknown(("options", key), known, f"option of {self.layout}")
        return self

    def read_from(self) -> dict[str, str]:
        return self.columns

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        cohort = self._cohort(variables)
        train, validation, _ = self._parts(cohort, seed, 0)
        return self._read(cohort, variables, [*train, *validation])

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        cohort = self._cohort(variables)
        return pick(self._read(cohort, variables, self._parts(cohort, seed, 0)[2]), at)

    def splits(
        self,
        variables: Variables,
        seed: int,
        share: float | None = None,
        say: Say = lambda text: None,
    ) -> Splits:
        """Read all rows, and count those that the reader left out."""
        cohort = self._cohort(variables, say)
        share = self.validation if share is None else share
        parts = [self._read(cohort, variables, at) for at in self._parts(cohort, seed, share)]
        train, held, test = parts
        return Splits(train, held, test, None, cohort.left_out, self.stamp(variables))

    def test_scan(self, name: str, seed: int, at: int) -> tuple[Path, ScanOptions]:
        cohort = self._files()
        test = self._parts(cohort, seed, 0)[2]
        check_row(at, len(test))
        options = None if self.scans is None else self.scans.options()
        return taken(cohort.images[test[at]], options)

    def listings(self, variables: Variables) -> list[Listing]:
        column = {name: self.columns.get(name, name) for name in variables}
        kinds = {column[name]: variable for name, variable in variables.items()}
        scans = None if self.scans is None else self.scans.options()

        def read() -> tuple[Unread, dict[str, Any]]:
            cohort = self._files()
            return cohort.unread(kinds, scans=scans), cohort.extra()

        identity = {"layout": self.layout, "root": str(self.root), "options": self.options}
        sheets = sorted(path for path in self.root.glob("*") if path.is_file())
        by_image = {"": scans} if scans else {}
        wanted = self.prepared is not None
        return [Listing(self.place, wanted, kinds, by_image, identity, sheets, read)]

    def _files(self) -> Cohort:
        return LAYOUTS[self.layout](self.root, **self.options)

    def _cohort(
        self, variables: Variables, say: Say = lambda text: None
    ) -> Cohort | PreparedCohort:
        """Return the rows as they were prepared, or else their files."""
        (listing,) = self.listings(variables)
        if (prepared := listing.prepared(say)) is None:
            cohort = self._files()
            unread = cohort.unread(listing.kinds, scans=listing.scans.get(""))
            prepared = listing.settle(unread, cohort.extra(), say)
            if prepared is None:
                return cohort
        return PreparedCohort(self.root, prepared)

    def _parts(
        self, cohort: Cohort | PreparedCohort, seed: int, share: float
    ) -> tuple[list[int], ...]:
        """Return the numbers of the rows for training, validation and test."""
        subjects = cohort.subjects
        if self.test == "published":
            train, held, test = map(cohort.published, ("train", "validate", "test"))
        else:
            train, test = (at.tolist() for at in divide_rows("test", subjects, self.test, seed))
            held = []
        if share and not held:
            rest, aside = divide_rows("validation", [subjects[k] for k in train], share, seed)
            train, held = ([train[k] for k in at.tolist()] for at in (rest, aside))
        parts = {"training": train, "validation": held, "test": test}
        if empty := [name for name in ("training", "test") if not parts[name]]:
            raise ValueError(f"data.test: {self.test} leaves no {empty[0]} rows")
        check_parts({name: [subjects[k] for k in at] for name, at in parts.items()})
        return train, held, test

    def _read(
        self, cohort: Cohort | PreparedCohort, variables: Variables, at: Sequence[int]
    ) -> Rows:
        column = {name: self.columns.get(name, name) for name in variables}
        wanted = {column[name]: variable for name, variable in variables.items()}
        read = cohort.rows(wanted, at, None if self.scans is None else self.scans.options())
        return Rows({name: read[column[name]] for name in variables})
