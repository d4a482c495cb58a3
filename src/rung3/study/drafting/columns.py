"""What the columns of a table seem to hold, and why: guesses that a reader can see and correct.

Cells are read as text, so that `01`, `NA` and `yes` are what they look like. A column that no
variable can be made of is left out, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rung3.data.images import SUFFIXES
from rung3.data.readers.csv_text import read_csv
from rung3.data.readers.dicom import is_series
from rung3.data.readers.scans import is_scan
from rung3.data.readers.table import GAPS, is_dates
from rung3.data.values import SINCE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "look", "read_texts"]

MAX_LABELS = 20
"""Different texts that a category may have; more are free text."""

MAX_LEVELS = 12
"""Different whole numbers that are taken for levels; more are amounts."""

SPAN = 20
"""Greatest difference of whole numbers that are taken for levels."""

MOSTLY = 0.8
"""Share of the cells that are numbers, from which on the others are taken for mistakes."""

AT_BOUND = 0.05
"""Share of zeros from which on a mechanism of its own says how often a value is zero."""

IDENTIFIER = re.compile(r"(?:^|[_\W])(?:id|idx|index|no|nr|subject|uuid|key|name|row)(?:$|[_\W])")
"""Names of columns that number the rows."""

SUBJECT = re.compile(
    r"(?:subject|patient|participant|eid|ptid)|"
    r"(?:subject|patient|participant|person)[_ .-]?(?:id|no|nr|number|key|name)"
)
"""Names of columns that say whom a row is of."""

UNORDERED = re.compile(r"class|label|categor|type|group|site|region|code|digit|kind|colou?r")
"""Names of columns whose whole numbers have no order."""

DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{2}|\d{4})")
"""Dates in any order of year, month and day."""

PAIRS = (
    ("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"), ("off", "on"), ("absent", "present"),
    ("negative", "positive"), ("control", "treated"), ("control", "case"), ("healthy", "sick"),
    ("benign", "malignant"), ("alive", "dead"),
)  # fmt: skip
"""Pairs of labels whose order is known: the first is 0."""

ORDERS = (
    ("none", "very mild", "mild", "moderate", "severe", "very severe"),
    ("very low", "low", "medium", "moderate", "high", "very high"),
    ("tiny", "small", "medium", "large", "huge"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("poor", "fair", "good", "very good", "excellent"),
    ("young", "middle", "old"),
)
"""Labels whose order is known, lowest first."""

UNITS: Mapping[str, str] = {
    **{unit: unit for unit in ("mm", "cm", "m", "km", "px", "um", "nm", "kg", "g", "mg", "lb", "ml",
                               "l", "s", "ms", "min", "h", "hz", "bpm", "usd", "eur", "kcal")},
    **dict.fromkeys(("years", "year", "yrs", "yr", "y"), "years"),
    **dict.fromkeys(("months", "month"), "months"),
    **dict.fromkeys(("days", "day"), "days"),
    **dict.fromkeys(("hours", "hour"), "h"),
    **dict.fromkeys(("pct", "percent", "%"), "%"),
    **dict.fromkeys(("deg", "degrees", "°"), "°"),
    "mmhg": "mmHg", "celsius": "°C", "pixels": "px",
}  # fmt: skip
"""Units by the last word of a column's name."""


@dataclass(frozen=True)
class Column:
    """A column, and what it seems to be.

    Attributes:
        name: Its name.
        fields: Kind and fields of its variable, as a study names them; empty if it is left out.
        saw: What its cells hold.
        why: Why it is taken for that, or left out.
        gaps: Number of empty cells.
        median: The middle of its numbers, where it holds amounts.
        mechanism: Kind of a mechanism that it needs, where the default of its kind will not do.
        files: Image files that it names, `None` where a cell is empty.
        scans: What is taken from them, where they are scans.
        names_subjects: Whether it says whom a row is of.
    """

    name: str
    fields: Mapping[str, Any]
    saw: str
    why: str
    gaps: int = 0
    median: float | None = None
    mechanism: str = ""
    files: Sequence[Path | None] = field(default=(), repr=False)
    scans: Mapping[str, Any] = field(default_factory=dict)
    names_subjects: bool = False

    @property
    def kind(self) -> str:
        """The kind of its variable; `left out` without one."""
        return str(self.fields.get("kind", "left out"))


def read_texts(path: Path) -> pd.DataFrame:
    """Read a table with every cell as text, gaps as None.

    Raises:
        ValueError: If the file is missing, no table, or has no rows.
    """
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"{path} is missing; expected a table (.csv, .parquet) or a folder")
    try:
        if path.suffix not in (".csv", ".parquet"):
            raise OSError("expected a table (.csv, .parquet) or a folder of images")
        if path.suffix == ".csv":
            frame = read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
        else:
            frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if frame.empty:
        raise ValueError(f"{path} has no rows; expected at least one")
    columns = {
        str(name): pd.Series(
            [
                _text(cell) if there else None
                for cell, there in zip(cells, cells.notna(), strict=True)
            ],
            dtype=object,  # else pandas makes NaN of None
        )
        for name, cells in frame.items()
    }
    return pd.DataFrame(columns)


def _text(cell: object) -> str | None:
    text = str(cell).strip()
    return None if text in GAPS else text


def look(name: str, cells: Sequence[str | None], folder: Path) -> Column:
    """Guess what a column holds.

    Args:
        name: Its name.
        cells: Its cells as text, `None` where they are empty.
        folder: The folder that paths in it are relative to.

    Example:
        >>> look("dose_mg", ["1.5", "20", None], Path()).fields
        {'kind': 'Continuous', 'unit': 'mg', 'lower': 0, 'missing': True}
        >>> look("smoker", ["yes", "no", "yes"], Path()).fields["labels"]
        ['no', 'yes']
    """
    present = [cell for cell in cells if cell]
    gaps = len(cells) - len(present)
    distinct = list(dict.fromkeys(present))
    if not present:
        return Column(name, {}, "nothing", "every cell is empty", gaps)
    if all(cell.lower().endswith(SUFFIXES) or _names_scan(folder, cell) for cell in distinct):
        return _paths(name, cells, folder, gaps)
    if SUBJECT.fullmatch(name.lower()) and len(distinct) < len(cells) == len(present):
        saw, why = f"{len(distinct)} different: {_some(distinct)}", "it says whom a row is of"
        return Column(name, {}, saw, why, names_subjects=True)
    if len(distinct) == 1:
        return Column(name, {}, repr(distinct[0]), "all its cells are alike", gaps)
    numbers = [number for cell in present if (number := _number(cell)) is not None]
    if len(numbers) == len(present):
        column = _numbers(name, np.array(numbers), distinct, gaps)
    elif len(numbers) >= MOSTLY * len(present):
        words = [cell for cell in distinct if _number(cell) is None]
        why = f"{words[0]!r} stands among its numbers; correct it, or leave those cells empty"
        column = Column(name, {}, f"numbers, and {_some(words)}", why, gaps)
    else:
        column = _words(name, present, distinct, gaps)
    if gaps and column.fields:
        fields = {**column.fields, "missing": True}
        return Column(name, fields, column.saw, column.why, gaps, column.median, column.mechanism)
    return column


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if np.isfinite(number) and "_" not in cell else None


def _names_scan(folder: Path, cell: str) -> bool:
    """Return whether a cell names a scan: a file, or the folder of a series that is there."""
    path = folder / cell
    return is_series(path) if path.is_dir() else is_scan(path)


def _paths(name: str, cells: Sequence[str | None], folder: Path, gaps: int) -> Column:
    files = [folder / cell if cell else None for cell in cells]
    there = sum(file is not None and file.exists() for file in files)
    saw = f"{len(cells) - gaps} image files"
    if not there:
        first = next(file for file in files if file)
        return Column(name, {}, saw, f"none of them is there; the first is {first}", gaps)
    fields = {"kind": "Image", **({"missing": True} if gaps else {})}
    return Column(name, fields, saw, "its cells name image files", gaps, files=files)


def _numbers(name: str, values: NDArray[np.float64], distinct: Sequence[str], gaps: int) -> Column:
    levels = np.unique(values)
    low, high, whole = levels[0], levels[-1], bool((levels == levels.round()).all())
    saw = f"{low:g} to {high:g}, {len(levels)} different" + (", whole" if whole else "")
    if len(levels) == 1:
        return Column(name, {}, saw, "all its cells are alike", gaps)
    unit = _unit(name)
    named = IDENTIFIER.search(name.lower()) or (np.diff(values) == 1).all()
    if whole and named and len(levels) == len(values) > MAX_LEVELS:
        return Column(name, {}, saw, "it numbers the rows", gaps)
    if whole and len(levels) <= MAX_LEVELS and high - low < SPAN and not unit:
        return _levels(name, levels, distinct, saw, gaps)
    zeros = float((values == 0).mean())
    fields: dict[str, Any] = {"kind": "Continuous", **({"unit": unit} if unit else {})}
    why, mechanism = "numbers", ""
    if low > 0 or (low == 0 and zeros >= AT_BOUND):
        fields["lower"] = 0
        why = "numbers, none below 0"
    if low == 0 and zeros >= AT_BOUND:
        mechanism, why = "AtBounds", f"numbers, {zeros:.0%} of them 0"
    return Column(name, fields, saw, why, gaps, float(np.median(values)), mechanism)


def _levels(
    name: str, levels: NDArray[np.float64], distinct: Sequence[str], saw: str, gaps: int
) -> Column:
    codes = [int(level) for level in levels]
    from_zero = codes == list(range(len(codes)))
    if len(codes) == 2:
        fields: dict[str, Any] = {"kind": "Binary"}
        why = "two whole numbers"
    else:
        unordered = bool(UNORDERED.search(name.lower()))
        fields = {"kind": "Categorical" if unordered else "Ordinal"}
        why = f"few whole numbers; {'by its name, ' if unordered else 'taken to be '}"
        why += "without order" if unordered else "in order: Continuous if amounts"
        if from_zero:
            fields["classes"] = len(codes)
    if not from_zero or any(cell not in map(str, codes) for cell in distinct):
        fields = {"kind": fields["kind"], "labels": sorted(distinct, key=float)}
        if len(fields["labels"]) != len(codes):  # 1 and 1.0
            fields["labels"] = [str(code) for code in codes]
    return Column(name, fields, saw, why, gaps)


def _words(name: str, present: Sequence[str], distinct: Sequence[str], gaps: int) -> Column:
    saw = f"{len(distinct)} different: {_some(distinct)}"
    if is_dates(distinct):
        fields: dict[str, Any] = {"kind": "Continuous", "unit": SINCE}
        span = f"{min(distinct)} to {max(distinct)}, {len(distinct)} different"
        return Column(name, fields, span, "dates, held as numbers of days", gaps)
    if all(DATE.match(cell) for cell in distinct):
        return Column(name, {}, saw, "dates in an unclear order; write them as 2026-01-31", gaps)
    if len(distinct) == len(present) > MAX_LEVELS:
        return Column(name, {}, saw, "every cell is different: it names the rows", gaps)
    if len(distinct) > MAX_LABELS:
        return Column(name, {}, saw, "free text: more than 20 different", gaps)
    folded = {cell.lower(): cell for cell in distinct}
    if len(folded) < len(distinct):
        twins = sorted(c for c in distinct if folded[c.lower()] != c)
        other = folded[twins[0].lower()]
        why = f"{twins[0]!r} and {other!r} look like one label; write them alike"
        return Column(name, {}, saw, why, gaps)
    pair = next((p for p in PAIRS if set(folded) == set(p)), None)
    if len(distinct) == 2:
        labels = [folded[word] for word in pair] if pair else sorted(distinct)
        why = "two words" + ("" if pair else "; the first is 0, in alphabetical order")
        return Column(name, {"kind": "Binary", "labels": labels}, saw, why, gaps)
    order = next((o for o in ORDERS if set(folded) <= set(o)), None)
    if order:
        labels = [folded[word] for word in order if word in folded]
        why = "words in a known order"
        return Column(name, {"kind": "Ordinal", "labels": labels}, saw, why, gaps)
    fields = {"kind": "Categorical", "labels": sorted(distinct)}
    return Column(name, fields, saw, "a few words, taken to have no order", gaps)


def _unit(name: str) -> str:
    """Return the unit that a column's name ends with; empty without one.

    Example:
        >>> _unit("height_cm"), _unit("weight (kg)"), _unit("Age"), _unit("stage")
        ('cm', 'kg', 'years', '')
    """
    words = re.split(r"[\s_()\[\]/.,-]+", name.strip().rstrip(")]"))
    last = words[-1].lower()
    if last == "age":
        return "years"
    return UNITS.get(last, "") if len(words) > 1 else ""


def _some(words: Sequence[str]) -> str:
    more = ", ..." if len(words) > 3 else ""
    return ", ".join(repr(word[:20]) for word in words[:3]) + more
