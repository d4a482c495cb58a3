"""The joint that a plan asks for, in cells of given rows, and the values that rows are set to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Rows, spell_unknown
from rung3.data.seeding import stream
from rung3.data.variables import Discrete, Image, Variable
from rung3.scm.scm import SCM
from rung3.training.augmentation.cells import Cells, Levels
from rung3.training.augmentation.plan import SHARE, Plan

__all__ = ["Assignment", "Target"]


@dataclass(frozen=True)
class Assignment:
    """Rows of the answer, before any is computed.

    Attributes:
        source: The row that each comes from, `(m,)`.
        value: What the changed variable is set to in it, `(m,)`.
        factual: Whether it is that row itself, `(m,)`.
    """

    source: Tensor
    value: Tensor
    factual: Tensor


class Target:
    """What a plan asks of these rows; all that cannot be met is refused here.

    Args:
        model: The model that will answer.
        rows: Complete rows, on the CPU.
        plan: The plan.

    Attributes:
        shares: The shares asked for, by cell of the others and level of the change, `(G, K)`.

    Raises:
        ValueError: If a name is unknown or of the wrong kind, a value is missing or out of its
            support, the change causes nothing or moves what it should be independent of, or no row
            can become what is asked for.
    """

    def __init__(self, model: SCM, rows: Rows, plan: Plan) -> None:
        _check_names(model, plan)
        _check_complete(model, rows)
        self.plan, self.rows = plan, rows
        self.variable = model.variables[plan.change]
        self.strata = Cells(
            {k: Levels.of_rows(model.variables[k], rows[k], plan.bins) for k in plan.others}
        )
        self.values = self._values()
        self.levels = (
            Levels.of_rows(self.variable, rows[plan.change], plan.bins)
            if self.values is None
            else Levels.around(self.variable, self.values)
        )
        self._stratum = self.strata.of(rows)
        self.shares = self._shares(model)

    def _values(self) -> Tensor | None:
        """Return the values that every row comes at; `None` without `every`."""
        if not self.plan.every:
            return None
        if self.plan.values is not None:
            given = self.variable.validate(self.plan.change, list(self.plan.values))
            points: Tensor = torch.unique(given)
            return points
        if isinstance(self.variable, Discrete):
            return torch.arange(self.variable.classes, dtype=self.variable.dtype)
        raise ValueError(
            f"{self.plan.change}: numbers have no list of all values; give some as values=[...]"
        )

    def _shares(self, model: SCM) -> Tensor:
        n = self.rows.n
        present = torch.bincount(self._stratum, minlength=self.strata.count).double() / n
        if self.plan.joint is not None:
            return self._stated(model, present)
        if self.values is not None:
            among = torch.zeros(self.levels.count, dtype=torch.float64)
            among[self.levels.of(self.values)] = 1 / len(self.values)
            return present[:, None] * among
        level = self.levels.of(self.rows[self.plan.change])
        marginal = torch.bincount(level, minlength=self.levels.count).double() / n
        if (marginal > 0).sum() < 2:
            raise ValueError(
                f"{self.plan.change}: all rows have one value, so it is independent of everything; "
                "choose the others with every=True or joint=[...]"
            )
        return present[:, None] * marginal

    def _stated(self, model: SCM, present: Tensor) -> Tensor:
        shares = torch.zeros(self.strata.count, self.levels.count, dtype=torch.float64)
        for cell in self.plan.joint or ():
            codes = [_code(model.variables[k], k, cell[k]) for k in self.plan.others]
            g = self.strata.number(codes)
            k = _code(self.variable, self.plan.change, cell[self.plan.change])
            if shares[g, k]:
                raise ValueError(f"joint: {dict(cell)}: this cell is named twice")
            if cell[SHARE] and not present[g]:
                named = ", ".join(f"{name}={cell[name]}" for name in self.plan.others)
                raise ValueError(
                    f"joint: no row has {named}, and only {self.plan.change} is set; leave the "
                    "cell out, or give such rows"
                )
            shares[g, k] = cell[SHARE]
        return shares

    def assign(self, seed: int) -> Assignment:
        """Say which row is set to what: shares within each stratum are met to one row.

        Args:
            seed: Of the order of values, and of numbers within their intervals.
        """
        generator = stream(seed, "augmentation: values")
        if self.values is not None:
            n, among = self.rows.n, len(self.values)
            source = torch.arange(n).repeat_interleave(among)
            return self._assignment(source, self.values.repeat(n))
        sources, values = [], []
        for _ in range(self.plan.copies):
            level = torch.full((self.rows.n,), -1)
            for g in self._stratum.unique().tolist():
                members = (self._stratum == g).nonzero()[:, 0]
                if self.shares[g].sum() > 0:
                    order = torch.randperm(len(members), generator=generator)
                    level[members[order]] = _quotas(self.shares[g], len(members))
            used = (level >= 0).nonzero()[:, 0]
            sources.append(used)
            values.append(self._drawn(used, level[used], generator))
        return self._assignment(torch.cat(sources), torch.cat(values))

    def _drawn(self, source: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a value of each level: of a number, one that a row has; its own if it is there."""
        current = self.rows[self.plan.change]
        if isinstance(self.variable, Discrete):
            return level.to(current.dtype)
        there = self.levels.of(current)
        value = current[source].clone()
        for k in level.unique().tolist():
            wanted = ((level == k) & (there[source] != k)).nonzero()[:, 0]
            pool = current[there == k]
            value[wanted] = pool[torch.randint(len(pool), (len(wanted),), generator=generator)]
        return value

    def _assignment(self, source: Tensor, value: Tensor) -> Assignment:
        factual = value == self.rows[self.plan.change][source]
        if self.plan.originals:
            everyone = torch.arange(self.rows.n)
            changed = ~factual  # those are there as originals
            source = torch.cat([everyone, source[changed]])
            value = torch.cat([self.rows[self.plan.change], value[changed]])
            factual = torch.arange(len(source)) < self.rows.n
        return Assignment(source, value, factual)

    def cell(self, source: Tensor, value: Tensor) -> Tensor:
        """Return the cell of rows that are set to a value, `(m,)`."""
        return self._stratum[source] * self.levels.count + self.levels.of(value)

    def weights(self, cells: Tensor) -> Tensor:
        """Return `q / n` of each row's cell, with mean one, `(m,)`; 0 if none is asked for."""
        counts = torch.bincount(cells, minlength=self.shares.numel()).double()
        weight = (self.shares.flatten() / counts)[cells]
        mean = weight.mean() if weight.any() else 1.0
        return (weight / mean).to(torch.get_default_dtype())

    def alike(self, source: Tensor) -> Tensor:
        """Return the other rows that the joint treats alike: those with the same others, `(r,)`."""
        rows = (self._stratum == self._stratum[source]).nonzero()[:, 0]
        return rows[rows != source]

    def empty(self, cells: Tensor) -> list[int]:
        """Return the cells that are asked for and that none of the rows is in."""
        counts = torch.bincount(cells, minlength=self.shares.numel())
        return ((self.shares.flatten() > 0) & (counts == 0)).nonzero()[:, 0].tolist()


def _quotas(shares: Tensor, n: int) -> Tensor:
    """Return `n` levels in these shares, by the largest remainders."""
    exact = n * shares / shares.sum()
    counts = exact.floor().long()
    missing = n - int(counts.sum())
    counts[(exact - counts).argsort(descending=True, stable=True)[:missing]] += 1
    return torch.arange(len(shares)).repeat_interleave(counts)


def _code(variable: Variable, name: str, value: Any) -> int:
    return int(variable.validate(name, value))


def _check_names(model: SCM, plan: Plan) -> None:
    """Refuse names that are unknown, of the wrong kind, or that the change would move."""
    for name in (plan.change, *plan.others, *plan.hold):
        if name not in model.variables:
            raise ValueError(spell_unknown([name], model.variables))
    if plan.change in plan.others:
        raise ValueError(f"{plan.change}: it cannot be independent of itself")
    for name in (plan.change, *plan.others):
        kind = model.variables[name]
        if isinstance(kind, Image) or kind.shape:
            raise ValueError(f"{name}: expected a number or a category, it is {kind}")
        if plan.joint is not None and not isinstance(kind, Discrete):
            raise ValueError(
                f"{name}: a joint is of categories, it is {kind}; use independent_of, which "
                "divides numbers into intervals"
            )
    below = model.graph.descendants(plan.change)
    if not below:
        raise ValueError(f"{plan.change} causes nothing; setting it makes no counterfactual")
    moved = [name for name in plan.others if name in below and name not in plan.hold]
    if moved:
        raise ValueError(
            f"{plan.change} causes {moved[0]}, which it should be independent of; keep that as it "
            f"was with hold=[{moved[0]!r}]"
        )


def _check_complete(model: SCM, rows: Rows) -> None:
    names: Sequence[str] = [name for name in model.variables if name not in rows]
    if names:
        raise ValueError(f"{names[0]}: rows have no values of it; every variable is needed")
    for name, variable in model.variables.items():
        if variable.is_missing(rows[name]).any():
            raise ValueError(
                f"{name}: values are missing; fill them first, with model.fill(rows) or by hand"
            )
