"""Warnings about training rows before a fit: gaps, and columns that leave little to learn.

A mechanism trains on the rows that have its own value and all its parents' (available cases). What
it learns, P(x_k | pa_k), is that of all rows if gaps come by chance; or if, given the parents,
whether a row lacks any of these does not depend on x_k. The rows themselves cannot tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Variable
from rung3.mechanisms.additive.mechanism import AdditiveNoise
from rung3.mechanisms.base import Trainable
from rung3.mechanisms.flow import Flow
from rung3.training.batches import Table

__all__ = ["quiet", "remark"]

TAIL = 0.01
"""Share of rows on either side that count as far out."""

BULK = 1e-4
"""Width of the others, in standard deviations, below which a network cannot tell them apart."""

QUANTILE_ROWS = 100_000
"""Rows that the width of the others is taken from, at least, where there are as many."""

DIGITS = 100
"""Roundings of single precision that a column must span."""


def remark(mechanisms: Mapping[str, Trainable], rows: Rows) -> None:
    """Warn of gaps, of columns with one value, and of those that their scale does not fit."""
    lines = [*_gaps(mechanisms, rows)]
    schema: dict[str, Variable] = {}
    for mechanism in mechanisms.values():
        schema |= {mechanism.name: mechanism.variable, **mechanism.parents}
    points = {m.name for m in mechanisms.values() if isinstance(m, Flow | AdditiveNoise)}
    for name, kind in schema.items():
        if isinstance(kind, Continuous) and name in rows:
            lines += [f"{name}: {text}" for text in _column(rows[name], name in points)]
    for line in lines:
        warnings.warn(f"fit: {line}", stacklevel=3)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress remarks in fits that are part of something, which remarks once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fit: ")
        yield


def _gaps(mechanisms: Mapping[str, Trainable], rows: Rows) -> Iterator[str]:
    trained = [m for m in mechanisms.values() if any(True for _ in m.parameters())]
    table = Table(rows, trained)
    if table.complete:
        counts = ", ".join(f"{k} {int(complete.sum()):,}" for k, complete in table.complete.items())
        yield (
            f"rows with gaps train only the mechanisms whose value and parents they have (of "
            f"{rows.n:,} rows: {counts}); that is right if gaps come by chance, or hang on the "
            "parents alone, and biased if they hang on the value itself or on its effects"
        )


def _column(column: Tensor, point: bool) -> Iterator[str]:
    for value in column.reshape(len(column), -1).unbind(1):
        seen = value[~value.isnan()].double()
        if not len(seen):
            continue
        low, high = seen.aminmax()
        if low == high:
            if point:
                blurred = low.to(value.dtype) == (low + 1).to(value.dtype)
                number = f"{low:g}{' in single precision' if blurred else ''}"
                yield f"all its values are {number}: it is fitted as that number, and no other"
            continue
        ends = torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64, device=seen.device)
        some = seen[:: max(1, len(seen) // QUANTILE_ROWS)]
        bulk, spread = float(_quantiles(some, ends).diff()), float(seen.std(correction=0))
        if 0 < bulk < BULK * spread:
            far = seen[(seen - seen.median()).abs().argmax()]
            yield (
                f"the value {far:g} lies so far from the others, {TAIL:.0%} to {1 - TAIL:.0%} of "
                f"which span {bulk:.3g}, that they look alike; check it, and leave it out if wrong"
            )
        single = value.dtype != torch.float64
        if single and spread < DIGITS * torch.finfo(value.dtype).eps * float(seen.abs().max()):
            yield (
                f"its values, {low:g} to {high:g}, lie too close together for single precision: "
                "give them in double (float64), or subtract what they have in common"
            )


def _quantiles(values: Tensor, at: Tensor) -> Tensor:
    """Return order statistics; a column need not be sorted for a few."""
    places = (at * (len(values) - 1)).round().long()
    return torch.stack([values.kthvalue(int(place) + 1).values for place in places])
