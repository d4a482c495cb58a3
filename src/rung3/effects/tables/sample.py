"""The part of a table that an estimate is of: complete cases, and what else counts in them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.columns import amounts, complete_rows, doubt, read
from rung3.data.display import spell
from rung3.data.expressions import Expression
from rung3.data.rows import Rows, named, spell_unknown
from rung3.data.values import SINCE
from rung3.data.variables import Binary, Categorical, Continuous, Discrete, Variable
from rung3.effects.tables.survival import pseudo_values

__all__ = [
    "Sample",
    "independent",
    "numbers",
    "products",
    "spanning",
    "strata_of",
    "stratum_of",
    "subjects",
    "unit_of",
]

SMALLEST = 1e-38
"""Least size of a column's largest value; single precision reaches 3.4e38 itself."""

NARROWEST = 1e-10
"""Least difference between a column's values, in units of the largest: a double has 16 digits."""

SPANNED = 1e-10
"""Share of a column's variance that earlier columns leave over if they span it."""


@dataclass(frozen=True)
class Sample:
    """The complete cases of the columns that an estimate uses.

    Attributes:
        rows: Their values, numbers in double.
        kinds: What the columns are.
        treatment: Name of the treatment.
        outcome: Name of the outcome.
        y: The outcome as a number, `(n,)`.
        binary: Whether it is 0 or 1.
        complete: Mask of the table's rows that these are.
        weights: Survey weights `(n,)`, of mean 1.
        clusters: Code of each row's subject, `(n,)`, where rows repeat subjects.
        counts: How many rows of a table each stands for, `(n,)`, where they stand for more than
            themselves (`rung3.effects.tables.cells`); the weights are then these.
        groups: Masks `(n,)` of the rows whose effects are asked for, by name: first of all rows,
            under the empty name.
        degree: Degree of the polynomial that numbers enter models by.
        terms: Further terms, as expressions in the columns.
        notes: What must be said of the columns.
        horizon: Of censored times, up to which time their means are.
    """

    rows: Rows
    kinds: Mapping[str, Variable]
    treatment: str
    outcome: str
    y: Tensor
    binary: bool
    complete: Tensor
    weights: Tensor
    clusters: Tensor | None
    groups: Mapping[str, Tensor]
    degree: int
    terms: tuple[Expression, ...]
    notes: tuple[str, ...] = ()
    horizon: float | None = None
    counts: Tensor | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    @property
    def total(self) -> int:
        """Number of rows of the table that they stand for."""
        return self.rows.n if self.counts is None else round(float(self.counts.sum()))

    def counted(self, counts: Tensor) -> Sample:
        """Return the same rows, each standing for so many, `(n,)`."""
        return replace(self, counts=counts, weights=counts / counts.mean())

    @property
    def masks(self) -> Tensor:
        """Masks of the groups, `(k, n)`; all rows come first."""
        return torch.stack(list(self.groups.values()))

    def only(self, inside: Tensor) -> Sample:
        """Return some of the rows, by a mask `(n,)`."""
        return replace(
            self,
            rows=self.rows[inside],
            y=self.y[inside],
            weights=self.weights[inside],
            clusters=None if self.clusters is None else self.clusters[inside],
            groups={name: mask[inside] for name, mask in self.groups.items()},
        )

    def saturated(self, names: Iterable[str]) -> bool:
        """Whether models in these columns have one value a stratum."""
        return not self.terms and all(isinstance(self.kinds[k], Discrete) for k in names)

    def design(self, names: Sequence[str]) -> Tensor:
        """Return indicators of strata, or a constant and terms up to the degree, `(n, width)`."""
        if self.saturated(names):
            return F.one_hot(strata_of(self.rows, names)).double()
        columns = [c for name in names for c in numbers(name, self.rows[name], self.kinds[name])]
        return independent([*products(columns, self.degree), *self.own_terms()], self.n)

    def own_terms(self) -> list[Tensor]:
        """Return the further terms, `(n,)` each."""
        values = [term(**{k: self.rows[k].double() for k in term.arguments}) for term in self.terms]
        return [standardised(value.double().expand(self.n)) for value in values]

    @classmethod
    def read(
        cls,
        table: Mapping[str, Any],
        variables: Mapping[str, Variable] | None,
        treatment: str,
        outcome: str,
        used: Sequence[str],
        *,
        event: Any = None,
        weights: str | None = None,
        clusters: str | None = None,
        by: str | None = None,
        bins: int = 4,
        degree: int = 1,
        terms: Sequence[str] = (),
        observed: str | None = None,
        horizon: float | None = None,
        whole: bool = True,
    ) -> Sample:
        """Read what is used of a table, or of a batch of one; the options are those of `effect`."""
        if horizon is not None and observed is None:
            raise ValueError(f"horizon={horizon!r} is of times with observed=, which is not given")
        if observed in (treatment, outcome):
            raise ValueError(f"observed: {observed} is the treatment or the outcome itself")
        expressions = tuple(Expression(text) for text in terms)
        names = [treatment, outcome, *used, *(k for one in expressions for k in one.arguments)]
        names = list(dict.fromkeys([*names, *(k for k in (by, observed) if k)]))
        stated = variables if observed is None else {outcome: Continuous(), **(variables or {})}
        rows, kinds = read(table, stated, names, numbers=[outcome] if event is None else ())
        complete = complete_rows(table, names)
        y = _outcome(outcome, rows[outcome], kinds[outcome], event)
        if whole:  # a batch may well hold no event, or numbers that are all alike
            _check_size(rows, kinds)
            _check_event(outcome, kinds[outcome], event, y)
        subject = subjects(table, clusters)
        notes = _row_notes(weights, clusters, subject)
        if observed is not None:
            y, censored = _restricted(rows, kinds, treatment, outcome, observed, horizon)
            notes = (*notes, *censored)
        return cls(
            rows=rows,
            kinds=kinds,
            treatment=treatment,
            outcome=outcome,
            y=y,
            binary=isinstance(kinds[outcome], Binary) or event is not None,
            complete=complete,
            weights=_weights(table, weights, complete),
            clusters=_among(subject, complete),
            groups={"": torch.ones(rows.n, dtype=torch.bool)}
            | ({} if by is None else _groups(by, rows[by], kinds[by], bins)),
            degree=degree,
            terms=expressions,
            notes=notes,
            horizon=horizon if observed else None,
        )


def _check_size(rows: Mapping[str, Tensor], kinds: Mapping[str, Variable]) -> None:
    """Refuse columns of which a double, or the square of its square, has too few digits."""
    for name in (name for name, kind in kinds.items() if isinstance(kind, Continuous)):
        value = rows[name].double()
        largest, width = float(value.abs().amax()), float(value.amax() - value.amin())
        if 0 < width < NARROWEST * largest:
            raise ValueError(
                f"{name}: its values differ by {width:.3g} at most, beside {largest:.3g}, so that "
                "rounding would hide an effect; subtract a constant first, such as its minimum"
            )
        if 0 < largest < SMALLEST:
            raise ValueError(
                f"{name}: no value is further from zero than {largest:.2g}, and products of such "
                f"numbers round to zero; give it in a unit in which some exceed {SMALLEST:g}"
            )


def _row_notes(
    weights: str | None, clusters: str | None, subject: Tensor | None
) -> tuple[str, ...]:
    """Say which columns weigh the rows, or say whose they are."""
    notes = [f"rows are weighted by {weights}"] if weights else []
    if subject is not None:
        count = int(subject.max()) + 1
        notes.append(f"rows with the same {clusters} may be alike; it has {count:,} values")
    return tuple(notes)


def _check_event(name: str, kind: Variable, event: Any, happened: Tensor) -> None:
    """Refuse an event that no row has; of categories it is known that there is one."""
    if event is not None and isinstance(kind, Continuous) and not happened.any():
        raise ValueError(f"event: {name} is {event} in no row that is used")


def _outcome(name: str, value: Tensor, kind: Variable, event: Any) -> Tensor:
    if event is not None:
        return (value == kind.validate(name, event).to(value)).double()
    if isinstance(kind, Categorical) or kind.shape:
        advice = doubt(name, kind) if getattr(kind, "labels", ()) else ""
        raise ValueError(
            f"{name}: is {kind}; expected numbers or levels, or give event="
            + amounts({name: kind}, [name])
            + (f"; {advice}" if advice else "")
        )
    return value.double()


def _restricted(
    rows: Rows,
    kinds: Mapping[str, Variable],
    treatment: str,
    outcome: str,
    observed: str,
    horizon: float | None,
) -> tuple[Tensor, tuple[str, ...]]:
    """Return pseudo-values of times up to a horizon, and what they rest on."""
    times, seen = rows[outcome].double(), rows[observed].double()
    if getattr(kinds[observed], "labels", ()) or not bool(((seen == 0) | (seen == 1)).all()):
        raise ValueError(
            f"observed: {observed} is {kinds[observed]}; expected 1 where the end of {outcome} was "
            "seen, and 0 where it was not"
        )
    if bool((times < 0).any()):
        raise ValueError(f"{outcome}: {float(times.min()):g} is not a time; expected none below 0")
    if not isinstance(horizon, Real) or not horizon > 0:
        raise ValueError(
            f"horizon: give the time up to which the mean of {outcome} is taken; got {horizon!r}"
        )
    armed = isinstance(kinds[treatment], Discrete)
    strata = rows[treatment].long() if armed else torch.zeros(len(times))
    share = float(((seen == 0) & (times < horizon)).double().mean())
    where = f"within each {treatment}" if armed else "in all rows"
    note = (
        f"means of {outcome} are up to {horizon:g}; {share:.1%} of the rows are censored before "
        f"(by chance {where}, it is assumed)"
    )
    return pseudo_values(times, seen == 1, horizon, strata), (note,)


def _column(
    table: Mapping[str, Any], name: str, what: str, complete: Tensor
) -> np.ndarray[Any, Any]:
    columns = named(table)
    if name not in columns:
        raise ValueError(f"{what}: the table lacks a column: {spell_unknown([name], columns)}")
    values = columns[name]
    array = values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)
    used: np.ndarray[Any, Any] = array[complete.numpy()]
    if lacking := int((~complete_rows({name: used}, [name])).sum()):
        raise ValueError(
            f"{what}: {name} is missing in {lacking} of the rows that are used; fill it in, or "
            "leave these rows out"
        )
    return used


def _weights(table: Mapping[str, Any], name: str | None, complete: Tensor) -> Tensor:
    if name is None:
        return torch.ones(int(complete.sum()), dtype=torch.float64)
    try:
        array = _column(table, name, "weights", complete).astype(np.float64)
    except (TypeError, ValueError) as error:
        if "weights" in str(error):
            raise
        raise ValueError(f"weights: {name} holds no numbers; expected positive ones") from None
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"weights: {name} has values that are not positive; leave such rows out")
    return torch.from_numpy(array / array.mean())


def subjects(table: Mapping[str, Any], name: str | None) -> Tensor | None:
    """Return a code for each subject that a column names, `(n,)` of all rows.

    Raises:
        ValueError: If the column is lacking, has gaps, or has one value only.
    """
    if name is None:
        return None
    every = torch.ones(len(next(iter(named(table).values()))), dtype=torch.bool)
    _, codes = np.unique(_column(table, name, "clusters", every).astype(str), return_inverse=True)
    if codes.max() < 1:
        raise ValueError(f"clusters: {name} has one value only; expected at least two subjects")
    return torch.from_numpy(codes)


def _among(codes: Tensor | None, complete: Tensor) -> Tensor | None:
    """Return the codes of some rows, from 0 without a gap."""
    return None if codes is None else codes[complete].unique(return_inverse=True)[1]


def _groups(name: str, value: Tensor, kind: Variable, bins: int) -> dict[str, Tensor]:
    """Return masks of a column's levels, or of so many parts of a number of about equal size."""
    if kind.shape:
        raise ValueError(f"by: {name} is {kind}; expected one number or category a row")
    if isinstance(kind, Discrete):
        codes = value.long().unique().tolist()
        groups = {f"{name} = {kind.label(code)}": value == code for code in codes}
    else:
        if bins < 2:
            raise ValueError(f"bins={bins} must be at least 2")
        edges = value.quantile(torch.linspace(0, 1, bins + 1).double()).unique()
        part = torch.bucketize(value, edges[1:-1], right=True)
        ends = itertools.pairwise(_end(edge, kind) for edge in edges.tolist())
        groups = {f"{name} {a} to {b}": part == k for k, (a, b) in enumerate(ends)}
    if len(groups) < 2:
        raise ValueError(f"by: all rows have the same {name}; it has no groups to tell apart")
    return groups


def _end(edge: float, kind: Variable) -> str:
    """Write where a group ends, a date as one."""
    if getattr(kind, "unit", "") == SINCE:
        return str(np.datetime64(0, "D") + np.timedelta64(math.floor(edge), "D"))
    return f"{edge:.4g}"


def numbers(name: str, value: Tensor, kind: Variable) -> list[Tensor]:
    """Return a column as numbers: indicators of categories, or what is standardised, `(n,)` each.

    Raises:
        ValueError: If it is an image.
    """
    if isinstance(kind, Discrete):
        return list(F.one_hot(value.long(), kind.classes).double()[:, 1:].unbind(1))
    if isinstance(kind, Continuous):
        return [standardised(column) for column in value.double().reshape(len(value), -1).unbind(1)]
    raise ValueError(f"{name}: is {kind}; adjust for numbers or categories that describe it")


def standardised(column: Tensor) -> Tensor:
    """Return a column with mean 0 and deviation 1; zero where it does not vary."""
    middle, scale = unit_of(column)
    return (column - middle) / scale


def unit_of(column: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of a column and its deviation, whatever its unit; 1 if it does not vary."""
    constant = column.amax() == column.amin()
    return column.mean(), torch.where(constant, 1.0, column.std())


def products(columns: Sequence[Tensor], degree: int) -> Iterator[Tensor]:
    """Yield the products of up to so many columns, `(n,)` each."""
    for power in range(1, degree + 1):
        for factors in combinations_with_replacement(columns, power):
            yield torch.stack(factors).prod(0)


def independent(columns: Iterable[Tensor], n: int) -> Tensor:
    """Return a constant and those columns that the ones before do not span, `(n, width)`."""
    listed = list(columns)
    constant = torch.ones(n, dtype=torch.float64)
    return torch.stack([constant, *(listed[k] for k in spanning(listed, n))], 1)


def spanning(columns: Iterable[Tensor], n: int) -> list[int]:
    """Return the places of columns `(n,)` that a constant and the ones before do not span."""
    chosen: list[int] = []
    basis = torch.ones(n, 1, dtype=torch.float64) / n**0.5
    for place, column in enumerate(columns):
        rest = column - basis @ (basis.T @ column)
        rest = rest - basis @ (basis.T @ rest)
        if rest.square().sum() > SPANNED * column.square().sum().clamp_min(1e-300):
            chosen.append(place)
            basis = torch.cat([basis, (rest / rest.norm())[:, None]], 1)
    return chosen


def strata_of(rows: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return the number of each row's combination of values, `(n,)`."""
    stratum = torch.zeros(len(next(iter(rows.values()))), dtype=torch.int64)
    for name in names:  # a column at a time: `unique(dim=0)` takes twenty times as long
        code = rows[name].long().unique(return_inverse=True)[1]
        stratum = (stratum * (code.max() + 1) + code).unique(return_inverse=True)[1]
    return stratum


def stratum_of(sample: Sample, names: Sequence[str], row: int) -> str:
    """Spell the stratum of a row: `size = large, sex = f`."""
    return ", ".join(f"{k} = {spell(sample.kinds[k], sample.rows[k][row])}" for k in names)
