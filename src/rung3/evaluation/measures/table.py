"""Tables of numbers: cells of a mean and its interval, and tables read off nested numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rung3.data.number_text import ERROR_DIGITS, number_text, numbers_alike
from rung3.evaluation.scores import Path

__all__ = [
    "NONE", "Cell", "Table", "cell", "leaves", "table_of_means", "table_of_numbers", "times",
    "with_units",
]  # fmt: skip


class Cell(NamedTuple):
    """A number, its interval or a remark, and how far it is from the best possible: 0 to 1."""

    value: str
    note: str = ""
    far: float = 0.0


NONE = Cell("")


@dataclass
class Table:
    """A table of numbers.

    Attributes:
        title: What it asks.
        note: How to read it.
        columns: Heads of its columns; the first holds the rows' names.
        rows: Each a name, and a cell for every other column.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)


def cell(number: Mapping[str, Any] | None, with_unit: bool = True) -> Cell:
    """Return a mean with its interval, or why there is none."""
    if number is None:
        return NONE
    if number["mean"] is None:
        return Cell("undefined", number["undefined"])
    unit = f" {number['unit']}" if with_unit and number.get("unit") else ""
    if 0 < abs(number["mean"]) < 5e-4:
        return Cell(f"< 0.001{unit}")
    mean, low, high = (number[end] for end in ("mean", "low", "high"))
    sure = low is None or low == high
    numbers = [mean] if sure else [mean, low, high]
    if unit and unit != " nats":
        value, *ends = numbers_alike(numbers, ERROR_DIGITS)
    else:
        value, *ends = (f"{number:.3f}" for number in numbers)
    return Cell(f"{value}{unit}", " to ".join(ends))


def with_units(table: Table) -> Table:
    """Return a table with the units of its columns in their heads, where all cells have the same.

    Example:
        >>> table = with_units(Table("", "", ["", "error"], [("a", [Cell("1.5 px", "1 to 2 px")])]))
        >>> table.columns, table.rows
        (['', 'error, px'], [('a', [Cell(value='1.5', note='1 to 2', far=0.0)])])
    """
    columns, units = [table.columns[0]], []
    for at, head in enumerate(table.columns[1:]):
        used = {_unit_of(cells[at].value) for _, cells in table.rows if cells[at].value}
        unit = next(iter(used)) if len(used) == 1 else ""
        units.append(f" {unit}" if unit else "")
        columns.append(f"{head}, {unit}" if unit else head)
    rows = [
        (name, [_bare(cell, unit) for cell, unit in zip(cells, units, strict=False)])
        for name, cells in table.rows
    ]
    return Table(table.title, table.note, columns, rows)


def _unit_of(value: str) -> str:
    """Return what follows a number; empty for other text."""
    number, _, unit = value.removeprefix("< ").removeprefix("at least ").partition(" ")
    return unit if number[-1:].isdigit() else ""


def _bare(cell: Cell, unit: str) -> Cell:
    if not unit:
        return cell
    return Cell(cell.value.removesuffix(unit), cell.note.replace(unit, ""), cell.far)


def times(m: str) -> str:
    """Return a count as an adverb.

    Example:
        >>> times("1"), times("10")
        ('once', '10 times')
    """
    return "once" if m == "1" else f"{m} times"


def leaves(nested: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every mean of nested numbers with its path."""
    for key, part in nested.items():
        if isinstance(part, Mapping):
            yield from [((*path, key), part)] if "mean" in part else leaves(part, (*path, key))


def table_of_means(title: str, note: str, means: Mapping[Path, Any]) -> Table:
    """Return a table with one row for each path but its last name, which is the column."""
    columns = list(dict.fromkeys(path[-1] for path in means))
    table = Table(title, note, ["", *columns])
    for start in dict.fromkeys(path[:-1] for path in means):
        cells = [cell(means.get((*start, column))) for column in columns]
        table.rows.append((", ".join(start), cells))
    return table


def table_of_numbers(title: str, note: str, nested: Mapping[str, Any]) -> Table:
    """Return a table of plain numbers and words, one row for what they are about."""
    rows = dict(_rows(nested))
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    table = Table(title, note, ["", *columns])
    for path, row in rows.items():
        cells = [_value(row[key]) if key in row else NONE for key in columns]
        table.rows.append((", ".join(path), cells))
    return table


def _rows(nested: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield numbers and words by the path of what they are about."""
    plain = {key: part for key, part in nested.items() if not isinstance(part, Mapping)}
    if plain:
        yield path, plain
    for key, part in nested.items():
        if isinstance(part, Mapping):
            yield from _rows(part, (*path, key))


def _value(value: Any) -> Cell:
    if value is None:
        return Cell("undefined")
    return Cell(number_text(value, ERROR_DIGITS) if isinstance(value, float) else str(value))
