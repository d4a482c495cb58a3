"""A table that is read by batches, as few rows that each stand for many.

Rows that agree in all columns but the outcome make a cell. Estimates and their errors ask no more
of the n outcomes in it than their mean m and variance v: two rows with the outcomes m - sqrt(v) and
m + sqrt(v), each standing for n / 2, are as good as all of them. A categorical outcome is one more
column of the cell. The cells of two parts of a table add up, so that one pass is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from rung3.data.streaming import Streamed
from rung3.data.variables import Discrete, Variable

__all__ = ["MOST_CELLS", "cells_of", "complete"]

MOST_CELLS = 2**16
"""Cells, at most: of so many, an estimate takes a moment."""

AT_ONCE = 8
"""Batches that are counted together."""

COUNT, MEAN, SQUARES = "_n", "_mean", "_squares"
"""Columns of cells beside their own: rows, mean of the outcome, squares of what is away from it."""


def cells_of(
    table: Streamed, names: Sequence[str], outcome: str, kinds: Mapping[str, Variable]
) -> tuple[dict[str, Any], np.ndarray[Any, Any], int] | None:
    """Collapse the complete rows of a table's columns.

    Args:
        table: The table.
        names: The columns that are used, the outcome among them.
        outcome: Name of the outcome.
        kinds: What the columns are.

    Returns:
        Columns of the rows that stand for all, how many each stands for, and how many rows were
        left out for a gap; `None` if there are too many cells.

    Raises:
        ValueError: If no row is complete.
    """
    counted = isinstance(kinds[outcome], Discrete)
    keys = [name for name in names if counted or name != outcome]
    cells, rows, whole_rows = None, 0, 0
    for part in _together(table.batches(list(names))):
        whole = part.filter(complete(part))
        rows, whole_rows = rows + part.num_rows, whole_rows + whole.num_rows
        more = _cells(whole, keys, None if counted else outcome)
        cells = more if cells is None else _merged(pd.concat([cells, more]), keys)
        if len(cells) > MOST_CELLS:
            return None
    if cells is None or not whole_rows:
        raise ValueError(f"no row has all of {list(names)}")
    columns = {name: cells[name].to_numpy() for name in keys}
    counts = cells[COUNT].to_numpy().astype(np.float64)
    if counted:
        return columns, counts, rows - whole_rows
    away = np.sqrt(cells[SQUARES].to_numpy() / counts)
    both = away > 0
    at = np.concatenate([np.arange(len(cells)), np.flatnonzero(both)])
    mean = cells[MEAN].to_numpy()
    outcomes = np.concatenate([mean - away, (mean + away)[both]])
    halved = np.where(both, counts / 2, counts)[at]
    return {**{k: v[at] for k, v in columns.items()}, outcome: outcomes}, halved, rows - whole_rows


def _together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield batches a few at a time."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if len(waiting) == AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def complete(part: pa.Table) -> Any:
    """Return a mask of the rows without a gap."""
    mask = None
    for column in part.columns:
        present = pc.is_valid(column)
        if pa.types.is_floating(column.type):
            present = pc.and_(present, pc.invert(pc.is_nan(column).fill_null(True)))
        mask = present if mask is None else pc.and_(mask, present)
    return mask


def _cells(part: pa.Table, keys: list[str], outcome: str | None) -> pd.DataFrame:
    """Return the cells of some rows; of a number, with its moments."""
    if outcome is None:
        cells: pd.DataFrame = (
            part.group_by(keys, use_threads=False).aggregate([([], "count_all")]).to_pandas()
        )
        return cells.rename(columns={"count_all": COUNT})
    part = part.set_column(
        part.schema.get_field_index(outcome), outcome, pc.cast(part[outcome], "float64")
    )
    moments = [(outcome, "count"), (outcome, "mean"), (outcome, "variance")]
    cells = part.group_by(keys, use_threads=False).aggregate(moments).to_pandas()
    cells = cells.rename(columns={f"{outcome}_count": COUNT, f"{outcome}_mean": MEAN})
    cells[SQUARES] = cells.pop(f"{outcome}_variance") * cells[COUNT]
    return cells


def _merged(cells: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Join cells that agree in their columns."""
    code = cells.groupby(keys, sort=False).ngroup().to_numpy()
    first = cells[keys].iloc[np.unique(code, return_index=True)[1]].reset_index(drop=True)
    counts = cells[COUNT].to_numpy()
    first[COUNT] = np.bincount(code, counts)
    if MEAN in cells:
        mean = cells[MEAN].to_numpy()
        joint = np.bincount(code, counts * mean) / first[COUNT].to_numpy()
        first[MEAN] = joint
        between = counts * (mean - joint[code]) ** 2
        first[SQUARES] = np.bincount(code, cells[SQUARES].to_numpy() + between)
    return first
