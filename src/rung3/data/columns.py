"""Columns of a table as variables: stated, or read off their values.

Tables and models that are fitted infer alike, by `variable_of`. Every statistic of a table is of
its complete cases: the rows that have a value in all the columns that it uses. How many have not
(`gaps`) is printed with the answer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung3.data.number_text import number_hint
from rung3.data.rows import Rows, Values, as_rows, named, spell_unknown
from rung3.data.values import NUMBERS, when
from rung3.data.variables import Binary, Categorical, Continuous, Variable

__all__ = [
    "amounts",
    "complete_rows",
    "doubt",
    "doubt_number",
    "gaps",
    "read",
    "say_gaps",
    "variable_of",
]

MAX_CATEGORIES = 20
"""Whole numbers from 0 count as categories below this."""

NUMBERS_SHARE = 0.8
"""Share of numbers among labels from which on the others are taken for mistakes."""

DOUBTFUL_CLASSES = 5
"""More categories of whole numbers than these may well be amounts."""


def read(
    table: Values,
    variables: Mapping[str, Variable] | None = None,
    names: Iterable[str] | None = None,
    numbers: Collection[str] = (),
) -> tuple[Rows, dict[str, Variable]]:
    """Read the complete cases of a table's columns, and what each of them is.

    Args:
        table: A mapping from name to values, a data frame, or rows.
        variables: What the columns are; `variable_of` where not given.
        names: Which columns; all if not given.
        numbers: Those whose whole numbers are amounts, where `variables` does not say.

    Returns:
        The rows that have no gap in these columns (`complete_rows`), numbers in double; and the
        variables.

    Raises:
        ValueError: If a column is lacking, or its values do not fit its variable; if no row is
            complete.

    Example:
        >>> rows, kinds = read({"drug": ["yes", "no", "yes"], "dose": [0.5, 1.0, None]})
        >>> rows["drug"], str(kinds["dose"])
        (tensor([1, 0]), 'Continuous()')
    """
    columns = named(table)
    chosen = list(columns) if names is None else list(dict.fromkeys(names))
    lacking = [name for name in chosen if name not in columns]
    if lacking:
        raise ValueError(f"the table lacks a column: {spell_unknown(lacking, columns)}")
    used = _complete({name: columns[name] for name in chosen})
    stated = variables or {}
    kinds = {name: stated.get(name) or variable_of(name, used[name]) for name in chosen}
    for name in numbers:
        if name not in stated and _numbered(kinds[name]):
            kinds[name] = Continuous()
    for name in chosen:
        if name not in {*stated, *numbers} and (advice := doubt(name, kinds[name])):
            warnings.warn(advice, stacklevel=3)
    rows = as_rows(used, kinds, torch.device("cpu"), exact=chosen)
    if not rows.batched or rows.n == 0:
        raise ValueError(f"expected a table of at least one row, got {rows}")
    return Rows(dict(rows)), kinds


def complete_rows(table: Values, names: Iterable[str]) -> Tensor:
    """Return which rows of a table have no gap in these columns, a mask `(n,)`."""
    columns = named(table)
    return ~torch.from_numpy(np.logical_or.reduce([_missing(columns[name]) for name in names]))


def gaps(table: Values, names: Iterable[str]) -> int:
    """Count the rows of a table that have a gap in any of these columns.

    Example:
        >>> gaps({"a": [1.0, None, 3.0], "b": ["x", "y", None]}, ["a", "b"])
        2
    """
    return int((~complete_rows(table, names)).sum())


def say_gaps(count: int) -> str:
    """Return what is added to an answer that leaves out so many rows.

    Example:
        >>> say_gaps(0), say_gaps(12)
        ('', '; 12 rows with gaps left out')
    """
    return f"; {count:,} row{'s' * (count > 1)} with gaps left out" if count else ""


def _complete(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns in the rows that have no gap in any."""
    missing = {name: _missing(values) for name, values in columns.items()}
    sizes = {len(mask) for mask in missing.values()}
    if len(sizes) != 1 or not any(mask.any() for mask in missing.values()):
        return dict(columns)  # of one length, or `as_rows` says so
    complete = ~np.logical_or.reduce(list(missing.values()))
    if not complete.any():
        counts = {name: int(mask.sum()) for name, mask in missing.items() if mask.any()}
        raise ValueError(f"no row has all of {list(columns)}; missing in so many rows: {counts}")
    return {name: _take(v, complete, missing[name]) for name, v in columns.items()}


def _missing(values: Any) -> NDArray[np.bool_]:
    """Return which entries of a column are NaN, None or another mark of a gap, `(n,)`."""
    import pandas as pd

    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    mask = np.atleast_1d(pd.isna(array))
    return np.asarray(mask.any(tuple(range(1, mask.ndim))))


def _take(values: Any, rows: NDArray[np.bool_], missing: NDArray[np.bool_]) -> Any:
    """Return a column's values in some rows, as they would be without the gaps.

    Gaps make floats of whole numbers, and objects of numbers.
    """
    import pandas as pd

    if isinstance(values, Tensor):
        return values[torch.from_numpy(rows).to(values.device)]
    array = np.asarray(values)
    rest = array[rows]
    if rest.dtype == object:
        rest = pd.Series(list(rest)).infer_objects().to_numpy()
    if missing.any() and rest.dtype.kind == "f":
        whole = (rest == np.round(rest)) & (abs(rest) < 2.0**63)
        rest = rest.astype(np.int64) if whole.all() else rest
    return rest


def variable_of(name: str, values: Any) -> Variable:
    """Infer what a column is from its values.

    Text is categorical, with the values in alphabetical order as labels; so are whole numbers from
    0 to 19 (and booleans); of two categories, binary. Everything else is continuous, 0.0 and 1.0
    too: declare a column that is not what it looks like. Dates are numbers of days since 1970, and
    durations numbers of days. What is absent (None, NaN, `pandas.NA`, `NaT`) is passed over.

    Raises:
        ValueError: If a column of text has one value only, or mixes text and numbers; if it mixes
            dates with others, or is of complex numbers.

    Example:
        >>> print(variable_of("age", [31.5, 44.0]), variable_of("ward", [0, 2, 1]))
        Continuous() Categorical(classes=3)
    """
    array = values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asarray(values)
    dtype = getattr(values, "dtype", array.dtype)  # of pandas: NumPy makes floats of gaps
    if array.dtype.kind not in "biuf" or not isinstance(dtype, np.dtype | torch.dtype):
        return _of_objects(name, values, typed=not isinstance(dtype, np.dtype))
    if array.dtype.kind == "f" or array.ndim != 1 or not array.size:
        return Continuous(dim=array.shape[1] if array.ndim == 2 else None)
    most = int(array.max())
    if array.min() < 0 or most >= MAX_CATEGORIES:
        return Continuous()
    return Binary() if most <= 1 else Categorical(most + 1)


def _of_objects(name: str, values: Any, typed: bool) -> Variable:
    """Infer what a column of text is, or one with gaps, which pandas may have a type for."""
    import pandas as pd

    present = pd.Series(values, dtype=None if typed else object).dropna().infer_objects()
    array = np.asarray(present)
    if array.dtype.kind in "biuf":
        return variable_of(name, array)
    if unit := when(array):
        return Continuous(unit=unit)
    if array.dtype.kind == "c" or any(isinstance(value, date | timedelta) for value in array):
        raise ValueError(
            f"{name}: {str(array[0])!r} is neither a number nor a category; correct what is no "
            "date among dates, and make complex numbers two columns"
        )
    numbers = [value for value in present if isinstance(value, NUMBERS)]
    if numbers and len(numbers) == len(present):
        return variable_of(name, np.array(numbers, dtype=np.float64))  # decimals
    if numbers:
        text = next(value for value in present if not isinstance(value, NUMBERS))
        raise ValueError(
            f"{name}: {text!r} stands among numbers, such as {numbers[0]!r}; correct it, leave it "
            "empty, or make the column text"
        )
    labels = tuple(sorted({str(value) for value in present}))
    if len(labels) < 2:
        fault = f"all its values are {labels[0]!r}" if labels else "it has no values"
        raise ValueError(f"{name}: {fault}; expected at least two categories, or no such column")
    return Binary(labels=labels) if len(labels) == 2 else Categorical(labels=labels)


def amounts(kinds: Mapping[str, Variable], names: Iterable[str]) -> str:
    """Return the end of an error that columns taken for categories may have caused."""
    numbered = [name for name in names if _numbered(kinds[name])]
    declared = ", ".join(f"{name!r}: Continuous()" for name in numbered)
    return f", or declare what are amounts, variables={{{declared}}}" if numbered else ""


def doubt(name: str, kind: Variable) -> str:
    """Return what to do if a column taken for categories is of amounts; empty where unlikely."""
    if isinstance(kind, Categorical) and (text := _among_numbers(kind.labels)):
        cure = number_hint(text) or "; correct it, or leave it empty"
        taken = f"so that they are taken for {kind.classes:,} categories"
        return f"{name}: {text!r} stands among its numbers, {taken}{cure}"
    if not (_numbered(kind) and isinstance(kind, Categorical) and kind.classes > DOUBTFUL_CLASSES):
        return ""
    return (
        f"{name}: its whole numbers are taken for {kind.classes} categories; if they are amounts, "
        f"declare variables={{{name!r}: Continuous()}}"
    )


def _among_numbers(labels: Sequence[str]) -> str:
    """Return a label that is not a number among many that are, or nearly are; else an empty one."""
    near = [label for label in labels if number_hint(label)]
    if len({label.strip("+-0123456789. ") for label in near}) > 1:
        near = []  # 12a and 12b are not numbers with units
    others = [label for label in labels if not _is_number(label)]
    numbers = len(labels) - len(others) + len(near)
    numeric = len(labels) >= MAX_CATEGORIES and numbers >= NUMBERS_SHARE * len(labels)
    return next(iter(near or others), "") if numeric else ""


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(text))
    return False


def doubt_number(name: str, values: Any) -> str:
    """Return what to do if a column of 0.0 and 1.0 is of no and yes; empty where it is not one."""
    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    present = array[~_missing(values)] if array.ndim == 1 else array[:0]
    zeros, ones = present == 0, present == 1
    if not (zeros.any() and ones.any() and (zeros | ones).all()):
        return ""
    return (
        f"{name}: its 0.0 and 1.0 are taken for a number; if they are no and yes, declare "
        f"variables={{{name!r}: Binary()}}"
    )


def _numbered(kind: Variable) -> bool:
    return isinstance(kind, Categorical) and not kind.labels
