"""Effect heterogeneity: for which groups of rows is an effect larger?

With the effect tau_i of each row and groups g of a column (quantiles of a number, or categories),

    E[tau | g] with its interval,    eta^2 = Var(E[tau | g]) / Var(tau),

and Fisher's F test of whether the groups differ at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rung3.data.columns import complete_rows, read, say_gaps
from rung3.data.printed import Printed
from rung3.data.rows import Values
from rung3.data.variables import Discrete
from rung3.effects.averages import average_of
from rung3.effects.estimate import Estimate
from rung3.effects.learning import widened

__all__ = ["Heterogeneity", "heterogeneity"]


@dataclass(frozen=True)
class Heterogeneity(Printed):
    """The differences of an effect between groups of rows.

    Attributes:
        by: The column that makes the groups.
        groups: The average effect in each group, with its interval.
        explained: Share eta^2 of the effect's variance that the groups explain.
        p: P-value of the F test that they do not differ.
        gaps: How many rows were left out, for a gap in the column.
    """

    by: str
    groups: Mapping[str, Estimate[Tensor]]
    explained: float
    p: float
    gaps: int = 0

    def __str__(self) -> str:
        head = f"by {self.by}: {self.explained:.0%} of the effect's variance (p = {self.p:.2g})"
        head += say_gaps(self.gaps)
        return "\n".join([head, *(f"    {k}: {v} in {v.n} rows" for k, v in self.groups.items())])


def heterogeneity(
    effect: Tensor,
    rows: Values,
    by: str,
    *,
    bins: int = 4,
    level: float = 0.95,
    refits: Sequence[Tensor] = (),
) -> Heterogeneity:
    """Estimate average effects in groups of rows.

    Args:
        effect: The effect on each row, `(n,)`: a difference of two potential outcomes, such as
            `counterfactual(...)["y"] - rows["y"]` (of particles, the mean).
        rows: The rows, `n` of them.
        by: The column to group by; a number in `bins` groups of about the same size.
        bins: Number of groups of a number.
        level: Nominal coverage of the intervals.
        refits: The effect on each row by fits to resampled rows (`rung3.effects.refits`), two or
            more, by which the intervals hold the learning.

    Raises:
        ValueError: If the effect has not one value a row, the column is unknown, has one group
            only, or a group has fewer than 2 rows.

    Example:
        >>> from rung3 import SCM
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), d=Equation("u"), y=Equation("x*d + u"))
        >>> rows = model.sample(400, seed=0)
        >>> treated = model.counterfactual(rows, do={"d": lambda d: d + 1})
        >>> effects = heterogeneity(treated["y"] - rows["y"], rows, "x", bins=2)
        >>> [average.effect > 0 for average in effects.groups.values()]
        [tensor(False), tensor(True)]
    """
    table, kinds = read(rows, names=[by])
    complete = complete_rows(rows, [by])
    column, kind = table[by], kinds[by]
    if len(refits) == 1 or any(one.shape != effect.shape for one in refits):
        raise ValueError("refits: expected the effects of two fits or more, one value a row each")
    if effect.shape != complete.shape:
        raise ValueError(f"effect: expected shape ({len(complete)},), got {tuple(effect.shape)}")
    effect = effect[complete.to(effect.device)]
    if column.ndim > 1:
        raise ValueError(f"{by}: expected one number a row, got shape {tuple(column.shape)}")
    if isinstance(kind, Discrete):
        codes = column.long()
        names = [kind.label(k) for k in range(kind.classes)]
    else:
        if bins < 2:
            raise ValueError(f"bins={bins} must be at least 2")
        edges = column.double().quantile(torch.linspace(0, 1, bins + 1).double())
        codes = torch.bucketize(column.double(), edges[1:-1], right=True)
        names = [f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(edges.tolist())]
    present = codes.unique().tolist()
    if len(present) < 2:
        raise ValueError(f"{by}: all rows are in one group; it has nothing to tell apart")
    parts = {names[k]: effect[codes == k].detach().double() for k in present}
    if small := [name for name, part in parts.items() if len(part) < 2]:
        raise ValueError(f"{by}: the group {small[0]} has one row; give fewer bins, or more rows")
    explained, p = _f_test(list(parts.values()))
    groups = {}
    for k in present:
        estimate = average_of(parts[names[k]], level)
        answers = [one[complete.to(one.device)][codes == k].double().mean() for one in refits]
        groups[names[k]] = widened(estimate, answers)
    return Heterogeneity(by, groups, explained, p, int((~complete).sum()))


def _f_test(parts: list[Tensor]) -> tuple[float, float]:
    """Return the share of the variance between groups, and its p-value."""
    from scipy.stats import f

    joint = torch.cat(parts)
    total = float((joint - joint.mean()).square().sum())
    within = sum(float((part - part.mean()).square().sum()) for part in parts)
    if total == 0:
        return 0.0, 1.0
    between, k, n = total - within, len(parts), len(joint)
    statistic = between / (k - 1) / max(within / (n - k), 1e-300)
    return between / total, float(f.sf(statistic, k - 1, n - k))
