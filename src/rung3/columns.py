"""Columns of a table as variables: stated, or read off their values.

Tables and models that are fitted infer alike, by `variable_of`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch

from rung3.rows import Rows, as_rows, named, spell_unknown
from rung3.variables import Binary, Categorical, Continuous, Variable

__all__ = ["amounts", "doubt", "read", "variable_of"]

MOST = 20
"""Whole numbers from 0 count as categories up to here."""

MANY = 5
"""More categories of whole numbers than these may well be amounts."""


def read(
    table: Mapping[str, Any],
    variables: Mapping[str, Variable] | None = None,
    names: Iterable[str] | None = None,
) -> tuple[Rows, dict[str, Variable]]:
    """The columns of a table, checked, and what each of them is.

    Args:
        table: A mapping from name to values, a data frame, or rows.
        variables: What the columns are; `variable_of` where not given.
        names: Which columns; all if not given.

    Raises:
        ValueError: If a column is lacking, or its values do not fit its variable.

    Example:
        >>> rows, kinds = read({"drug": ["yes", "no", "yes"], "dose": [0.5, 1.0, 2.5]})
        >>> rows["drug"], str(kinds["dose"])
        (tensor([1, 0, 1]), 'Continuous()')
    """
    columns = named(table)
    chosen = list(columns) if names is None else list(dict.fromkeys(names))
    lacking = [name for name in chosen if name not in columns]
    if lacking:
        raise ValueError(f"the table lacks a column: {spell_unknown(lacking, columns)}")
    stated = variables or {}
    kinds = {name: stated.get(name) or variable_of(name, columns[name]) for name in chosen}
    for name in chosen:
        if name not in stated and (said := doubt(name, kinds[name])):
            warnings.warn(said, stacklevel=3)
    rows = as_rows({name: columns[name] for name in chosen}, kinds, torch.device("cpu"))
    if not rows.batched or rows.n == 0:
        raise ValueError(f"expected a table of at least one row, got {rows}")
    return Rows(dict(rows)), kinds


def variable_of(name: str, values: Any) -> Variable:
    """What a column is, by its values.

    Text is categorical, with the values in alphabetical order as labels; so are whole numbers from
    0 to 19 (and booleans); of two categories, binary. Everything else is continuous: declare a
    column that is not what it looks like. What is absent (None, NaN, `pandas.NA`) is passed over.

    Raises:
        ValueError: If a column of text has one value only, or mixes text and numbers.

    Example:
        >>> print(variable_of("age", [31.5, 44.0]), variable_of("ward", [0, 2, 1]))
        Continuous() Categorical(classes=3)
    """
    array = values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asarray(values)
    own = getattr(values, "dtype", array.dtype)  # pandas' own types: NumPy makes floats of gaps
    if array.dtype.kind not in "biuf" or not isinstance(own, np.dtype | torch.dtype):
        return _of_objects(name, values, typed=not isinstance(own, np.dtype))
    if array.dtype.kind == "f" or array.ndim != 1 or not array.size:
        return Continuous(dim=array.shape[1] if array.ndim == 2 else None)
    most = int(array.max())
    if array.min() < 0 or most >= MOST:
        return Continuous()
    return Binary() if most <= 1 else Categorical(most + 1)


def _of_objects(name: str, values: Any, typed: bool) -> Variable:
    """What a column is of text or of values with gaps, which pandas has a type for or not."""
    import pandas as pd

    present = pd.Series(values, dtype=None if typed else object).dropna().infer_objects()
    array = np.asarray(present)
    if array.dtype.kind in "biuf":
        return variable_of(name, array)
    numbers = [value for value in present if isinstance(value, Real)]
    if numbers and len(numbers) < len(present):
        text = next(value for value in present if not isinstance(value, Real))
        raise ValueError(
            f"{name}: {text!r} stands among numbers, such as {numbers[0]!r}; correct it, leave it "
            "empty, or make the column text"
        )
    labels = tuple(sorted({str(value) for value in present}))
    if len(labels) < 2:
        raise ValueError(f"{name}: all its values are {labels}; expected at least two")
    return Binary(labels=labels) if len(labels) == 2 else Categorical(labels=labels)


def amounts(kinds: Mapping[str, Variable], names: Iterable[str]) -> str:
    """The end of an error that columns taken for categories may have caused: name and cure."""
    said = [name for name in names if _numbered(kinds[name])]
    declared = ", ".join(f"{name!r}: Continuous()" for name in said)
    return f", or declare what are amounts, variables={{{declared}}}" if said else ""


def doubt(name: str, kind: Variable) -> str:
    """What to do if the whole numbers of a column are amounts; empty where that is unlikely."""
    if not (_numbered(kind) and isinstance(kind, Categorical) and kind.classes > MANY):
        return ""
    return (
        f"{name}: its whole numbers are taken for {kind.classes} categories; if they are amounts, "
        f"declare variables={{{name!r}: Continuous()}}"
    )


def _numbered(kind: Variable) -> bool:
    return isinstance(kind, Categorical) and not kind.labels
