"""Values as people give them: numbers, lists, arrays, frames' columns, with gaps, as labels.

A tensor is taken as it is. Anything else that is array-like becomes one here, or an error that
quotes what is not a number; a value is the label with the same text. Dates are days since 1970, in
UTC where they have a time zone, and durations are days.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.number_text import number_hint

__all__ = [
    "NUMBERS",
    "array_of",
    "coded",
    "days_of",
    "is_coded",
    "labels_of",
    "no_numbers",
    "objects",
    "reading",
    "to_tensor",
    "when",
]

SINCE = "days since 1970-01-01"
"""The unit in which dates are held."""

ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
"""A date as text, with or without the time of day; files hold dates so."""

NUMBERS = (Real, Decimal, np.bool_)
"""What counts as a number; booleans do."""

WIDER: Mapping[str, type[Any]] = {
    "uint16": np.int64,
    "uint32": np.int64,
    "uint64": np.float64,
    np.dtype(np.longdouble).name: np.float64,
}
"""What torch has no arithmetic of, and what holds it instead."""


def to_tensor(name: str, value: Any) -> Tensor:
    """Turn a number, list, NumPy array, pandas series or tensor into a tensor.

    Args:
        name: The variable's name, for the error.
        value: Anything array-like; what is absent (None, NaN, `pandas.NA`) becomes NaN. Gradients
            of a tensor are kept.

    Raises:
        ValueError: If a value is not a number, quoting it.
    """
    if isinstance(value, Tensor):
        return value
    if is_coded(value):
        return torch.stack(tuple(value))
    array = array_of(name, value)
    if array.dtype.kind not in "biuf":
        if (days := days_of(value)) is not None:
            return torch.from_numpy(days.reshape(array.shape))
        if bad := no_numbers(name, value):
            raise ValueError(
                f"{name}: expected numbers, got values of type {array.dtype}: {bad[:3]}"
                f"{number_hint(str(bad[0]))}"
            )
        numbers = [_number(one) for one in objects(name, value)]
        array = np.array(numbers, dtype=np.float64).reshape(array.shape)
    held = WIDER.get(array.dtype.name, array.dtype.newbyteorder("="))
    return torch.from_numpy(np.array(array, dtype=held, order="C"))


def when(value: Any) -> str:
    """Return the unit of dates, text like `2026-01-31` included, or of durations; else nothing.

    Example:
        >>> when(np.array(["2026-01-31"], dtype="datetime64[D]")), when([1.5])
        ('days since 1970-01-01', '')
    """
    kind = np.asarray(value).dtype.kind
    if kind in "Mm":
        return SINCE if kind == "M" else "days"
    if kind not in "OU":
        return ""
    given = [one for one in np.asarray(value, dtype=object).reshape(-1) if not _absent(one)]
    for unit, types in ((SINCE, (date, np.datetime64)), ("days", (timedelta, np.timedelta64))):
        if given and all(isinstance(one, types) for one in given):
            return unit
    text = given and all(isinstance(one, str) and ISO_DATE.fullmatch(one) for one in given)
    return SINCE if text else ""


def days_of(value: Any) -> np.ndarray[Any, Any] | None:
    """Return dates as days since 1970, and durations as days, `(n,)`; `None` for anything else.

    Example:
        >>> days_of([date(1970, 1, 3), None])
        array([ 2., nan])
    """
    unit = when(value)
    if not unit:
        return None
    import pandas as pd

    given = pd.Series(np.asarray(value, dtype=object).reshape(-1))
    if unit == SINCE:
        text = given.map(lambda one: isinstance(one, str)).any()
        form = "ISO8601" if text else None
        moments = pd.to_datetime(given, utc=True, format=form) - pd.Timestamp(0, tz="UTC")
    else:
        moments = pd.to_timedelta(given)
    return np.array(moments / pd.Timedelta(days=1), dtype=np.float64)


def no_numbers(name: str, value: Any) -> list[Any]:
    """Return what is neither a number nor absent; of text, what does not read as a number.

    One such value makes text of all the others in its column: it is the one to look at. Where all
    read as numbers, all are given.

    Example:
        >>> no_numbers("dose", ["1", "2", "3 mg"]), no_numbers("dose", ["1", "2"])
        (['3 mg'], ['1', '2'])
    """
    bad = [one for one in objects(name, value) if _number(one) is None]
    return [one for one in bad if math.isnan(reading(str(one)))] or bad


def is_coded(value: Any) -> bool:
    """Return whether a value is a tensor, or a list of tensors: categories are then codes."""
    if isinstance(value, list | tuple) and value:
        return all(isinstance(one, Tensor) for one in value)
    return isinstance(value, Tensor)


def array_of(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Return a value as an array, or an error that names the variable."""
    try:
        return np.asarray(value)
    except ValueError as error:  # lists of unequal length
        raise ValueError(f"{name}: {error}") from None


def objects(name: str, value: Any) -> np.ndarray[Any, Any]:
    """Return the values as they were given, one after the other."""
    if isinstance(value, list | tuple):  # NumPy makes text of [1, "a"], and numbers of [1, True]
        value = np.asarray(value, dtype=object)
    return np.asarray(array_of(name, value), dtype=object).reshape(-1)


def coded(value: Any, code: int) -> Any:
    """Return a value that was given, or else this code: the default of arms and events."""
    return torch.tensor(code) if value is None else value


def _absent(value: Any) -> bool:
    """Return whether a value marks a missing one: None, NaN, or pandas' NA or NaT."""
    if value is None or isinstance(value, str | int | float):
        return value is None or value != value
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _number(value: Any) -> float | None:
    """Return a number, NaN for a missing value; `None` for anything else."""
    if isinstance(value, NUMBERS):
        return float(value)
    return math.nan if _absent(value) else None


def labels_of(given: Any) -> tuple[str, ...]:
    """Return labels as text, each once; whole numbers without a decimal point.

    Raises:
        ValueError: If a label is missing or there twice.
    """
    if isinstance(given, str):
        raise ValueError(f"labels={given!r}: expected one label a category, such as ('no', 'yes')")
    labels = []
    for one in given:
        if _absent(one):
            raise ValueError(f"labels: {one!r} stands for a missing value; expected a name")
        whole = isinstance(one, float) and one.is_integer()
        label = str(int(one)) if whole else str(one)
        if label in labels:
            raise ValueError(f"labels: {label!r} is there twice; every category needs its own")
        labels.append(label)
    return tuple(labels)


def reading(label: str) -> float:
    """Return the number or truth value that a label reads as; NaN if it is neither."""
    truth = {"true": 1.0, "false": 0.0}.get(label.strip().lower())
    try:
        return float(label) if truth is None else truth
    except ValueError:
        return math.nan
