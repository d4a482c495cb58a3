"""Simpson's paradox: reversals found in a table, and resolved by the graph.

The association of y with x is the slope of least squares,

    b = cov(x, y) / var(x),

which for a binary x is the difference of the two means (of a binary y, of the two rates). Its
interval is

    b +- t sqrt(sum_i d_i^2 e_i^2 / (1 - h_i)) / S,    d_i = x_i - mean x,    S = sum_i d_i^2,

with the residuals e, the leverages `h_i = 1/n + d_i^2 / S` (HC2: MacKinnon and White, J.
Econometrics 1985), and Student's t of n - 2, so the spread may differ between groups. A variable z
reverses the association if it has one sign in all rows, and the other in every stratum of z.

The same numbers, with another graph, have another answer: data do not say which association is the
effect of x. If z alone meets the adjustment criterion (`rung3.graph.adjustment`), that within the
strata is; if the empty set does, that in all rows is (Pearl 2014, The American Statistician
68:8-13).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from rung3.data.columns import gaps, read, say_gaps
from rung3.data.printed import Printed
from rung3.data.rows import Values, spell_unknown
from rung3.data.variables import Categorical, Continuous, Discrete, Variable
from rung3.effects.estimate import SLOPE, Estimate
from rung3.graph import CausalGraph, Path
from rung3.graph.given import as_graph

__all__ = ["Advice", "Reversal", "advise", "association", "find_reversals"]

Advice = Literal["aggregate", "stratify", "either", "neither"]
Contrast = tuple[str, Tensor, Tensor]
"""A label of what is compared, its value in each row, and a mask of the rows that it is about."""


@dataclass(frozen=True)
class Reversal(Printed):
    """An association that has one sign in all rows and the other within every stratum.

    Attributes:
        cause: Name of the cause.
        outcome: Name of the outcome.
        by: Name of the variable whose strata reverse it.
        contrast: What is compared, as text.
        aggregate: The association in all rows.
        strata: The association in each stratum.
        left_out: Strata in which the cause does not vary.
        advice: Which of the two is the effect of the cause: `aggregate`, `stratify`, `either`, or
            `neither`; `None` without a graph.
        reason: Why, naming the path; empty without a graph.
        gaps: How many rows were left out, for a gap in any of the three.
    """

    cause: str
    outcome: str
    by: str
    contrast: str
    aggregate: Estimate[float]
    strata: Mapping[str, Estimate[float]]
    left_out: tuple[str, ...]
    advice: Advice | None
    reason: str
    gaps: int = 0

    def __str__(self) -> str:
        head = f"{self.contrast}, by {self.by}{say_gaps(self.gaps)}"
        lines = [head, f"  in all rows: {self.aggregate}"]
        lines += [f"  {stratum}: {slope}" for stratum, slope in self.strata.items()]
        if self.advice is not None:
            lines.append(f"  {self.advice}: {self.reason}")
        return "\n".join(lines)


def find_reversals(
    table: Values,
    cause: str | None = None,
    outcome: str | None = None,
    by: str | None = None,
    *,
    graph: Any = None,
    variables: Mapping[str, Variable] | None = None,
    bins: int = 4,
    level: float = 0.95,
) -> list[Reversal]:
    """Find Simpson's reversals, and say from the graph which association to believe.

    Signs alone decide: look at the intervals before believing in a reversal of a small table.

    Args:
        table: A mapping from name to values, a data frame, or rows. Scalar columns are looked at.
        cause: Name of the cause; every column (with a graph, before the outcome) if not given.
        outcome: Name of the outcome; every column if not given.
        by: Name of the variable that makes the strata; every other column if not given.
        graph: A graph on (at least) these columns, for the advice.
        variables: What the columns are; read off their values where not given.
        bins: Quantile bins that a continuous `by` is cut into.
        level: Nominal coverage of the intervals.

    Raises:
        ValueError: If a column is lacking, is not scalar, or the graph lacks it.

    Example:
        >>> from rung3 import data
        >>> from rung3.data.readers.kidney_stones import VARIABLES
        >>> graph = CausalGraph("size -> treatment; {size treatment} -> recovery")
        >>> reversal, = find_reversals(data.kidney_stones(), "treatment", "recovery", graph=graph,
        ...     variables=VARIABLES)
        >>> print(reversal)
        recovery with treatment = A against B, by size
          in all rows: -0.046 [-0.105, +0.013] (n = 700)
          small: +0.064 [-0.003, +0.132] (n = 357)
          large: +0.043 [-0.073, +0.158] (n = 343)
          stratify: size blocks the open back-door path treatment <- size -> recovery
    """
    if bins < 2 or not 0 < level < 1:
        raise ValueError(f"bins={bins} must be at least 2, and level={level} between 0 and 1")
    kinds = {name: read(table, variables, [name])[1][name] for name in map(str, table)}
    named = [name for name in (cause, outcome, by) if name is not None]
    graph = None if graph is None else as_graph(graph)
    known = _scalar_columns(kinds, named, graph)
    whole = read(table, kinds)[0] if gaps(table, kinds) == 0 else None
    reversals = []
    for x, y in _pairs(known, cause, outcome, graph):
        for z in [by] if by is not None else [name for name in known if name not in (x, y)]:
            advice, reason = (None, "") if graph is None else advise(graph, x, y, z)
            rows = whole or read(table, kinds, [x, y, z])[0]
            left_out = 0 if whole else gaps(table, [x, y, z])
            strata = dict(_strata(z, rows[z], kinds[z], bins))
            for contrast, a, b, within in _contrasts(x, y, rows, kinds):
                reversed_ = _reversal(a, b, within, strata, level)
                if reversed_ is not None:
                    reversals.append(
                        Reversal(x, y, z, contrast, *reversed_, advice, reason, left_out)
                    )
    return reversals


def _scalar_columns(
    kinds: Mapping[str, Variable], named: list[str], graph: CausalGraph | None
) -> list[str]:
    """Return the scalar columns that the graph knows; refuse names that are not among them."""
    if len(set(named)) < len(named):
        raise ValueError(f"cause, outcome and by must differ, got {named}")
    unknown = [name for name in named if name not in kinds]
    if unknown:
        raise ValueError(f"the table lacks a column: {spell_unknown(unknown, kinds)}")
    if graph is not None:
        graph.names(named)
    scalar = [name for name, kind in kinds.items() if kind.shape == ()]
    vectors = [name for name in named if name not in scalar]
    if vectors:
        raise ValueError(f"{vectors[0]}: is {kinds[vectors[0]]}; expected a scalar column")
    return [name for name in scalar if graph is None or name in graph]


def advise(graph: CausalGraph, cause: str, outcome: str, by: str) -> tuple[Advice, str]:
    """Say whether the effect of the cause is the association in all rows or within strata.

    Args:
        graph: The causal graph.
        cause: Name of the cause.
        outcome: Name of the outcome.
        by: Name of the variable that makes the strata.

    Returns:
        `"stratify"` (a confounder), `"aggregate"` (a mediator, a collider), `"either"` or
        `"neither"`; and the reason.

    Raises:
        ValueError: If the graph lacks a name, or two are the same.

    Example:
        >>> advise(CausalGraph("drug -> pressure -> heart; drug -> heart"), "drug", "heart",
        ...     "pressure")[0]
        'aggregate'
        >>> advise(CausalGraph("drug -> ward <- heart; drug -> heart"), "drug", "heart", "ward")
        ('aggregate', 'ward is a collider: its strata open the path drug -> ward <- heart')
    """
    graph.disjoint(cause=cause, outcome=outcome, by=by)
    if outcome not in graph.descendants(cause):
        return "neither", f"{outcome} is not an effect of {cause}: the effect is zero"
    whole = graph.is_adjustment_set(cause, outcome, ())
    parts = graph.is_adjustment_set(cause, outcome, by)
    if whole and parts:
        return "either", f"{by} neither confounds {cause} and {outcome} nor carries the effect"
    if parts:
        blocked = next(p for p in graph.backdoor_paths(cause, outcome) if p.is_open())
        return "stratify", f"{by} blocks the open back-door path {blocked}"
    if whole:
        return "aggregate", _harm(graph, cause, outcome, by)
    other = graph.minimal_adjustment_set(cause, outcome)
    if other is not None:
        return "neither", f"adjust for {sorted(other)} instead"
    left = next((p for p in graph.backdoor_paths(cause, outcome) if p.is_open(by)), None)
    if left is not None:
        return "neither", f"no columns block every back-door path; {by} leaves {left} open"
    return "neither", f"no columns will do; {_harm(graph, cause, outcome, by)}"


def _harm(graph: CausalGraph, cause: str, outcome: str, by: str) -> str:
    """Say why strata would not give the effect."""
    first, last = (next(graph.causal_paths(*ends), None) for ends in ((cause, by), (by, outcome)))
    if first and last:  # without a cycle, the two meet nowhere else
        path = Path(first.nodes + last.nodes[1:], first.arrows + last.arrows, graph)
        return f"{by} is a mediator: its strata take away what passes along {path}"
    for path in graph.paths(cause, outcome):
        if not path.directed and path.is_open(by) and not path.is_open():
            what = "a collider" if by in path.colliders else "an effect of a collider"
            return f"{by} is {what}: its strata open the path {path}"
    return f"{by} is an effect of {outcome}, or of what carries the effect to it"


def _pairs(
    names: list[str], cause: str | None, outcome: str | None, graph: CausalGraph | None
) -> Iterator[tuple[str, str]]:
    """List the pairs to look at, each once: the sign of a slope does not depend on direction."""
    if cause is not None or outcome is not None:
        causes = names if cause is None else [cause]
        outcomes = names if outcome is None else [outcome]
        yield from ((x, y) for x in causes for y in outcomes if x != y)
        return
    ordered = names if graph is None else [name for name in graph.order if name in names]
    yield from combinations(ordered, 2)


def _contrasts(
    x: str, y: str, rows: Mapping[str, Tensor], kinds: Mapping[str, Variable]
) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    for cause, a, within in _causes(x, rows[x], kinds[x]):
        for outcome, b in _outcomes(y, rows[y], kinds[y]):
            yield f"{outcome} with {cause}", a, b, within


def _causes(name: str, value: Tensor, kind: Variable) -> Iterator[Contrast]:
    everywhere = torch.ones(len(value), dtype=torch.bool)
    if isinstance(kind, Categorical) or (isinstance(kind, Discrete) and kind.classes == 2):
        for low, high in combinations(range(kind.classes), 2):
            label = f"{name} = {kind.label(high)} against {kind.label(low)}"
            yield label, (value == high).double(), (value == low) | (value == high)
    else:
        yield name, value.double(), everywhere


def _outcomes(name: str, value: Tensor, kind: Variable) -> Iterator[tuple[str, Tensor]]:
    if isinstance(kind, Categorical):
        for code in range(kind.classes):
            yield f"{name} = {kind.label(code)}", (value == code).double()
    else:
        yield name, value.double()


def _strata(name: str, value: Tensor, kind: Variable, bins: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(kind, Discrete):
        for code in range(kind.classes):
            yield (kind.label(code) if kind.labels else f"{name} = {code}"), value == code
        return
    assert isinstance(kind, Continuous)
    cuts = torch.quantile(value.double(), torch.linspace(0, 1, bins + 1).double()).unique()
    for low, high in pairwise(cuts):
        last = bool(high == cuts[-1])
        inside = (value >= low) & ((value <= high) if last else (value < high))
        yield f"{name} in [{low:.3g}, {high:.3g}{']' if last else ')'}", inside


def _reversal(
    a: Tensor, b: Tensor, within: Tensor, strata: Mapping[str, Tensor], level: float
) -> tuple[Estimate[float], dict[str, Estimate[float]], tuple[str, ...]] | None:
    whole = association(a[within], b[within], level)
    if whole is None or whole.slope == 0:
        return None
    parts: dict[str, Estimate[float]] = {}
    for stratum, inside in strata.items():
        part = association(a[within & inside], b[within & inside], level)
        if part is None:
            continue
        if part.slope * whole.slope >= 0:
            return None
        parts[stratum] = part
    left_out = tuple(stratum for stratum in strata if stratum not in parts)
    return (whole, parts, left_out) if len(parts) > 1 else None


def association(x: Tensor, y: Tensor, level: float = 0.95) -> Estimate[float] | None:
    """Estimate the slope of y on x; return `None` where x does not vary.

    Args:
        x: The cause, `(n,)`.
        y: The outcome, `(n,)`.
        level: Nominal coverage of the interval.
    """
    from scipy.stats import t

    if len(x) < 3 or bool(x.min() == x.max()):
        return None
    from_mean = x - x.mean()
    scale = from_mean.square().sum()
    away = y - y.mean()
    slope = (from_mean * away).sum() / scale
    residual = away - slope * from_mean
    share = (1 - 1 / len(x) - from_mean.square() / scale).clamp_min(
        1e-9
    )  # zero for a row that alone decides the slope
    spread = ((from_mean * residual).square() / share).sum().sqrt()
    half = t.ppf((1 + level) / 2, len(x) - 2) * spread / scale
    low, high = float(slope - half), float(slope + half)
    return Estimate(float(slope), low, high, len(x), level, form=SLOPE)
