"""A table of a published data set, whose faults are named by file, column and row."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import date
from pathlib import Path
from string import Formatter
from typing import TypeVar

from rung3.data.spelling import suggest

__all__ = ["Row", "Sheet"]

BLANK = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "None", "none", "."})
"""What stands in a cell that has no value."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Row:
    """One row of a sheet.

    Args:
        sheet: The sheet.
        number: Its row as a spreadsheet counts: the header is row 1.
        cells: Its text, by column.
    """

    def __init__(self, sheet: Sheet, number: int, cells: Mapping[str, str]) -> None:
        self.sheet, self.row, self.cells = sheet, number, cells

    def text(self, column: str) -> str:
        """Return a cell's text, empty where it has no value.

        Raises:
            ValueError: If there is no such column.
        """
        text = self.cells[self.sheet.column(column)].strip()
        return "" if text in BLANK else text

    def identifier(self, column: str) -> str:
        """Return the text of a cell that says which thing a row is about.

        Raises:
            ValueError: If it has no value.
        """
        text = self.text(column)
        if not text:
            raise self.fault(column, "does not say whom or what the row is about")
        return text

    def number(self, column: str) -> float | None:
        """Return a cell's number; `None` where it has no value.

        Raises:
            ValueError: If it is not a number, or infinite.
        """
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.inf
        if math.isinf(value):
            raise self.fault(column, "is not a number")
        return value

    def size(self, column: str) -> float | None:
        """Return a cell's number, such as a volume; `None` where it has no value.

        Raises:
            ValueError: If it is not a number above 0.
        """
        value = self.number(column)
        if value is not None and value <= 0:
            raise self.fault(column, "is not above 0; leave the cell empty if it is missing")
        return value

    def date(self, column: str) -> str:
        """Return a cell's date, as `2005-09-08`; empty where it has no value.

        Raises:
            ValueError: If it is written otherwise, or is not a date.
        """
        text = self.text(column)
        try:
            valid = not text or date.fromisoformat(text).isoformat() == text
        except ValueError:
            valid = False
        if not valid:
            raise self.fault(column, "is not a date; expected year, month and day as 2005-09-08")
        return text

    def whole(self, column: str, *, needed: bool = False) -> int | None:
        """Return a cell's whole number, such as an identifier; `None` where it has no value.

        Raises:
            ValueError: If it is not a whole number, or has no value and one is needed.
        """
        if needed:
            self.identifier(column)
        value = self.number(column)
        if value is not None and value != int(value):
            raise self.fault(column, "is not a whole number")
        return None if value is None else int(value)

    def choice(self, column: str, choices: Mapping[str, T]) -> T | None:
        """Return what a cell's text stands for; `None` where it has no value.

        A code may be written as `1.0`, as programs write a column of numbers with gaps.

        Raises:
            ValueError: If it stands for nothing.
        """
        text = self.text(column).removesuffix(".0")
        if not text:
            return None
        if text not in choices:
            raise self.fault(column, f"is none of {', '.join(map(repr, choices))}")
        return choices[text]

    def fill(self, pattern: str) -> str:
        """Return a pattern with a cell's text for every `{column}` in it.

        Raises:
            ValueError: If there is no such column.
        """
        names = {name for _, name, _, _ in Formatter().parse(pattern) if name}
        return pattern.format(**{name: self.text(name) for name in names})

    def fault(self, column: str, what: str) -> ValueError:
        """Return an error that names the cell and shows what it holds."""
        name = self.sheet.column(column)
        return ValueError(
            f"{self.sheet.path}, column {name!r}, row {self.row}: {self.cells[name]!r} {what}"
        )


class Sheet:
    """A CSV file, plain or `.gz`.

    Args:
        path: The file.

    Raises:
        ValueError: If it is missing or damaged, has no rows, a column twice, or a row of another
            length.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        lines = csv.reader(io.StringIO(self._read()), strict=True)
        try:
            table = [(lines.line_num, cells) for cells in lines if cells]
        except csv.Error as error:
            raise ValueError(f"{path}, row {lines.line_num}: {error}") from None
        if len(table) < 2:
            raise ValueError(f"{path} has no rows; expected a header and at least one")
        names = [name.strip() for name in table[0][1]]
        while names and not names[-1]:
            names.pop()  # a comma that ends the header
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{path}: its header names {twice[0]!r} twice")
        self.names = names
        self.rows: list[Row] = []
        for number, cells in table[1:]:
            if len(cells) < len(names) or any(cells[len(names) :]):
                raise ValueError(
                    f"{path}, row {number}: {len(cells)} cells, and the header has {len(names)}"
                )
            self.rows.append(Row(self, number, dict(zip(names, cells, strict=False))))

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def by(self, column: str, key: Callable[[Row], K]) -> dict[K, Row]:
        """Return the rows by what identifies them.

        Args:
            column: The column that this is read from, for the errors.
            key: What it is, of a row.

        Raises:
            ValueError: If two rows with one identifier differ.
        """
        rows: dict[K, Row] = {}
        for row in self:
            first = rows.setdefault(key(row), row)
            if first.cells != row.cells:
                raise row.fault(column, f"is also in row {first.row}, with other cells beside it")
        return rows

    def column(self, name: str) -> str:
        """Return a column's name.

        Raises:
            ValueError: If there is none of this name.
        """
        if name not in self.names:
            known = suggest(name, self.names, "its columns")
            raise ValueError(f"{self.path}: no column {name!r}; {known}")
        return name

    def _read(self) -> str:
        if not self.path.is_file():
            raise ValueError(f"{self.path} is missing; expected a CSV file")
        try:
            content = self.path.read_bytes()
            content = gzip.decompress(content) if self.path.suffix == ".gz" else content
            return content.decode("utf-8-sig")
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from None

    @classmethod
    def find(cls, root: Path, *names: str) -> Sheet:
        """Read the first of these files, plain or `.gz`, that a folder has.

        Raises:
            ValueError: If it has none.
        """
        for name in names:
            for path in (root / name, root / f"{name}.gz"):
                if path.is_file():
                    return cls(path)
        raise ValueError(f"{root / names[0]} is missing; expected it, plain or .gz")
