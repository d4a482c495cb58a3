"""Rows of a table, whose columns may name image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rung3 import data
from rung3.data.readers.scans import ScanOptions
from rung3.data.readers.table import unread_table
from rung3.data.rows import Rows
from rung3.data.splits import check_owners
from rung3.data.unread import Unread
from rung3.data.variables import Image
from rung3.study.listings import Listing, Say
from rung3.study.parser import FilePath
from rung3.study.row_source import (
    Filed,
    Scans,
    Splits,
    Variables,
    check_parts,
    check_row,
    divide_rows,
    pick,
)

__all__ = ["TableData"]


def _share_or_path(given: Any) -> Any:
    """Refuse a number that is not a share: it names no file either."""
    if isinstance(given, (int, float)) and not (isinstance(given, float) and 0 < given < 1):
        raise ValueError(
            "expected the share of rows to set aside, between 0 and 1, or another table; got "
            f"{given}"
        )
    if not isinstance(given, (float, str, Path)):
        raise ValueError(f"expected a share such as 0.2, or the path of a table; got {given!r}")
    return given


Held = Annotated[float | FilePath, BeforeValidator(_share_or_path)]
"""Rows to test on: a share, or another table."""


class TableData(Filed):
    """A CSV or Parquet table; the columns of image variables name files.

    Args:
        path: The table.
        columns: By variable, the column that it is read from, if that has another name.
        scans: What is taken from NIfTI and DICOM files, by image variable; pictures of a variable
            that is named here are read by the same levels.
        subject: Column that names the subject of each row: no subject is then in two parts.
        test: Another table, or the share of rows set aside at random.
        validation: Share of the training rows set aside.
        prepared: Folder of rows prepared on disk by `rung3 prepare`; by default in the user's
            cache.
    """

    kind: Literal["table"]
    path: FilePath
    columns: dict[str, str] = Field(default_factory=dict)
    scans: dict[str, Scans] = Field(default_factory=dict)
    subject: str | None = None
    test: Held = 0.2

    @model_validator(mode="after")
    def _other_rows(self) -> Self:
        if self.test == self.path:
            raise ValueError("test: these are the training rows; name another table, or a share")
        return self

    def read_from(self) -> dict[str, str]:
        return self.columns

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        rows, subjects = self._read(self.path, variables)
        if isinstance(self.test, float):
            return rows.select(divide_rows("test", subjects, self.test, seed)[0])
        return rows

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        if isinstance(self.test, float):
            rows, subjects = self._read(self.path, variables)
            rows = rows.select(divide_rows("test", subjects, self.test, seed)[1])
        else:
            rows, _ = self._read(self.test, variables)
        return pick(rows, at)

    def splits(
        self,
        variables: Variables,
        seed: int,
        share: float | None = None,
        say: Say = lambda text: None,
    ) -> Splits:
        """Read all rows, the table once; refuse tables that share a subject."""
        train, subjects = self._read(self.path, variables, say)
        if isinstance(self.test, float):
            rest, held = divide_rows("test", subjects, self.test, seed)
            train, test = train.select(rest), train.select(held)
            subjects = [subjects[k] for k in rest.tolist()]
        else:
            test, others = self._read(self.test, variables, say)
            if self.subject is not None:
                check_parts({"training": subjects, "test": others})
                self._check_both(self.test, variables)
        share = self.validation if share is None else share
        if not share:
            return Splits(train, train[:0], test, None, prepared=self.stamp(variables))
        rest, held = divide_rows("validation", subjects, share, seed)
        parts = train.select(rest), train.select(held), test
        return Splits(*parts, None, prepared=self.stamp(variables))

    def test_scan(self, name: str, seed: int, at: int) -> tuple[Path, ScanOptions]:
        table = self.path if isinstance(self.test, float) else self.test
        files = data.column(table, self.columns.get(name, name))
        if isinstance(self.test, float):
            subjects = self._subjects(table, len(files))
            files = [files[k] for k in divide_rows("test", subjects, self.test, seed)[1].tolist()]
        check_row(at, len(files))
        options = self.scans[name].options() if name in self.scans else ScanOptions()
        return table.parent / files[at].strip(), options

    def _check_both(self, test: Path, variables: Variables) -> None:
        """Refuse a file of one subject in one table and of another in the other."""
        if self.path.exists() and test.exists():  # of rows that were prepared they may be gone
            read = {path: self._listing(path, variables).read() for path in (self.path, test)}
            _check_owners({path: (part, extra["subjects"]) for path, (part, extra) in read.items()})

    def _subjects(self, path: FilePath, n: int) -> Sequence[object]:
        return range(n) if self.subject is None else data.column(path, self.subject)

    def _read(
        self, path: FilePath, variables: Variables, say: Say = lambda text: None
    ) -> tuple[Rows, Sequence[object]]:
        """Return the rows of a table, and whom each is of; by default all of different subjects."""
        listing = self._listing(path, variables)
        if (prepared := listing.prepared(say)) is None:
            unread, extra = listing.read()
            prepared = listing.settle(unread, extra, say)
        read = unread.read(progress=True) if prepared is None else prepared.rows
        subjects = (extra if prepared is None else prepared.extra)["subjects"]
        column = {name: self.columns.get(name, name) for name in variables}
        rows = Rows({name: read[column[name]] for name in variables})
        return rows, range(rows.n) if subjects is None else subjects

    def listings(self, variables: Variables) -> list[Listing]:
        paths = [self.path] if isinstance(self.test, float) else [self.path, self.test]
        return [self._listing(path, variables) for path in paths]

    def _listing(self, path: FilePath, variables: Variables) -> Listing:
        column = {name: self.columns.get(name, name) for name in variables}
        if strange := [name for name in self.scans if not isinstance(variables.get(name), Image)]:
            raise ValueError(f"data.scans: {strange[0]} is not an image variable")
        kinds = {column[name]: variable for name, variable in variables.items()}
        scans = {column[name]: part.options() for name, part in self.scans.items()}

        def read() -> tuple[Unread, dict[str, Any]]:
            unread = unread_table(path, variables=kinds, scans=scans)
            subjects = None if self.subject is None else data.column(path, self.subject)
            if subjects is not None:
                _check_owners({path: (unread, subjects)})
            return unread, {"subjects": subjects}

        identity = {"table": str(path), "subject": self.subject}
        return Listing(self.place, self.prepared is not None, kinds, scans, identity, [path], read)


def _check_owners(tables: Mapping[Path, tuple[Unread, Sequence[object]]]) -> None:
    """Refuse tables that name one file for two subjects, in columns of images."""
    owners = [subject for _, subjects in tables.values() for subject in subjects]
    rows = [f"{row} of {table.name}" for table, (_, s) in tables.items() for row in range(len(s))]
    for name in next(iter(tables.values()))[0].images:
        files = [file for unread, _ in tables.values() for file in unread.images[name][1]]
        paths = [file.resolve() if isinstance(file, Path) else None for file in files]
        try:
            check_owners(paths, owners, rows)
        except ValueError as error:
            raise ValueError(f"data: {name}: {error}") from None
