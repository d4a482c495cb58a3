r"""Effects from data by adjustment, with intervals.

For a set Z that meets the adjustment criterion, treatment T and an arm t,

    mu_t = E[Y | do(t)] = E[ E[Y | t, Z] ]                                        standardisation
         = E[ 1{T = t} Y / e_t(Z) ] / E[ 1{T = t} / e_t(Z) ]                      weighting (IPW)
         = E[ m_t(Z) + 1{T = t} (Y - m_t(Z)) / e_t(Z) ]                           both (AIPW)

with `m_t(z) = E[Y | t, z]` and `e_t(z) = P(t | z)`. The last is right if either model is (Robins,
Rotnitzky and Zhao, JASA 1994). Where Z is discrete the models have one value a stratum, and the
three are one estimate; else they are linear in features of Z, on the scale of the logit for `e`,
and for `m` of a binary outcome.

Intervals come from `rung3.effects.tables.m_estimation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.columns import amounts, gaps, read, say_gaps
from rung3.data.rows import Rows, Values
from rung3.data.values import coded
from rung3.data.variables import Binary, Categorical, Continuous, Discrete, Variable
from rung3.effects.estimate import Estimate
from rung3.effects.tables.m_estimation import Equations, Method
from rung3.graph import CausalGraph, CausalQuery, check_adjustment
from rung3.graph.given import as_graph
from rung3.scm.identifiability import identify

__all__ = ["Effect", "Method", "effect"]


@dataclass(frozen=True)
class Effect:
    """An effect estimated by adjustment.

    Attributes:
        effect: `E[Y | do] - E[Y | versus]`, in the outcome's unit.
        do: `E[Y | do]`.
        versus: `E[Y | versus]`.
        adjusted: Names of the variables that were adjusted for.
        method: How it was estimated.
        least: Smallest estimated probability of an arm in any row; where it is far below 1 / n,
            the estimate rests on few rows.
        level: Nominal coverage of the intervals.
        n: Number of rows.
        gaps: How many more rows were left out, for a gap in a column that is used.
        kinds: Variables that were not declared, and were read off their values.
    """

    effect: Estimate[float]
    do: Estimate[float]
    versus: Estimate[float]
    adjusted: tuple[str, ...]
    method: Method
    least: float
    level: float
    n: int
    gaps: int = 0
    kinds: Mapping[str, Variable] = field(default_factory=dict)

    def __str__(self) -> str:
        given = ", ".join(self.adjusted) or "nothing"
        read_off = ", ".join(f"{name}: {kind}" for name, kind in self.kinds.items())
        head = f"{self.effect} ({self.do} against {self.versus}), adjusted for {given}"
        head += say_gaps(self.gaps)
        return f"{head}; read off their values: {read_off}" if read_off else head


def effect(
    table: Values,
    treatment: str,
    outcome: str,
    *,
    do: Any = None,
    versus: Any = None,
    adjust: Iterable[str] | None = None,
    graph: Any = None,
    method: Method = "aipw",
    event: Any = None,
    degree: int = 1,
    variables: Mapping[str, Variable] | None = None,
    level: float = 0.95,
) -> Effect:
    """Estimate the average effect of a discrete treatment by adjustment.

    Args:
        table: A mapping from name to values, a data frame, or rows; of its rows those that have
            the treatment, the outcome and what is adjusted for.
        treatment: Name of the treatment.
        outcome: Name of the outcome: numbers, or levels taken as numbers.
        do: The value of the treatment; 1 if not given (of a labelled one, the second).
        versus: The value that it is compared with; 0 if not given (the first).
        adjust: Names of what is adjusted for. With a graph they are checked; if not given, it is
            the graph's minimal set that is nearest to the outcome.
        graph: The causal graph, or what makes one.
        method: `"standardise"`, `"ipw"` or `"aipw"`.
        event: A value of the outcome, whose probability is then the outcome.
        degree: Degree of the polynomial that continuous variables enter the models by.
        variables: What the columns are; read off their values where not given.
        level: Nominal coverage of the intervals.

    Raises:
        ValueError: If a column is lacking or of the wrong kind, the set does not meet the
            adjustment criterion, a stratum lacks an arm (named), or a model cannot be fitted.

    Example:
        >>> from rung3 import data
        >>> from rung3.data.readers.kidney_stones import VARIABLES
        >>> graph = CausalGraph("size -> treatment; {size treatment} -> recovery")
        >>> print(effect(data.kidney_stones(), "treatment", "recovery", do="A", versus="B",
        ...     graph=graph, variables=VARIABLES))
        0.054 [-0.013, 0.120] (0.833 [0.794, 0.871] against 0.779 [0.724, 0.834]),
        adjusted for size
    """
    _check_options(method, level, degree)
    given = _adjustment(treatment, outcome, adjust, graph)
    rows, kinds = read(table, variables, [treatment, outcome, *given])
    y = _outcome(outcome, rows[outcome], kinds[outcome], event)
    compared = coded(do, 1), coded(versus, 0)
    arms = _arms(treatment, rows[treatment], kinds[treatment], compared)
    if saturated := all(isinstance(kinds[name], Discrete) for name in given):
        features = _strata(rows, kinds, given, treatment, arms, compared)
    else:
        features = _features(rows, kinds, given, degree)
    binary = not saturated and (isinstance(kinds[outcome], Binary) or event is not None)
    problem = Equations(y, arms, features, binary, method)
    difference, treated, control = _estimates(problem, level, amounts(kinds, given))
    return Effect(
        effect=difference,
        do=treated,
        versus=control,
        adjusted=given,
        method=method,
        least=problem.least(),
        level=level,
        n=len(y),
        gaps=gaps(table, kinds),
        kinds={name: kind for name, kind in kinds.items() if name not in (variables or {})},
    )


def _check_options(method: str, level: float, degree: int) -> None:
    if method not in get_args(Method):
        raise ValueError(f"method: expected one of {list(get_args(Method))}, got {method!r}")
    if not 0 < level < 1 or degree < 1:
        raise ValueError(f"level={level} must lie between 0 and 1, and degree={degree} be positive")


def _adjustment(
    treatment: str, outcome: str, adjust: Iterable[str] | None, graph: Any
) -> tuple[str, ...]:
    """Return what to adjust for, as the graph allows."""
    given = None if adjust is None else tuple([adjust] if isinstance(adjust, str) else adjust)
    if graph is None:
        if given is None:
            raise ValueError("adjust: say what to adjust for (`[]` for nothing), or give a graph")
        both = {treatment, outcome}.intersection(given)
        if both or treatment == outcome:
            raise ValueError(f"treatment, outcome and adjust must differ, got {sorted(both)} twice")
        return given
    graph = as_graph(graph)
    if given is None:
        minimal = graph.minimal_adjustment_set(treatment, outcome)
        if minimal is None:
            path = next((p for p in graph.backdoor_paths(treatment, outcome) if p.is_open()), "")
            raise ValueError(
                f"no set of variables closes every back-door path of {treatment} and {outcome} "
                f"({path}); {_other_way(graph, treatment, outcome)}"
            )
        return tuple(name for name in graph.nodes if name in minimal)
    check_adjustment(graph, treatment, outcome, given).require()
    return given


def _other_way(graph: CausalGraph, treatment: str, outcome: str) -> str:
    """Return the end of the refusal: how the effect is identified, if not by adjustment."""
    identification = identify(graph, CausalQuery((outcome,), do=(treatment,)))
    if not identification:
        return "see rung3.effects.bounds.bounds for what the data allow"
    return (
        f"this estimates by adjustment alone, yet rung3.identify tells the effect: {identification}"
    )


def _outcome(name: str, value: Tensor, kind: Variable, event: Any) -> Tensor:
    if event is not None:
        return (value == kind.validate(name, event).to(value)).double()
    if isinstance(kind, Categorical) or kind.shape:
        raise ValueError(
            f"{name}: is {kind}; expected numbers or levels, or give event="
            + amounts({name: kind}, [name])
        )
    return value.double()


def _arms(name: str, value: Tensor, kind: Variable, arms: tuple[Any, Any]) -> Tensor:
    """Return masks of the rows of both arms, `(2, n)`."""
    if not isinstance(kind, Discrete):
        raise ValueError(
            f"{name}: is {kind}; expected a discrete treatment: cut it into levels, or declare it "
            "with variables="
        )
    codes = [int(kind.validate(name, arm)) for arm in arms]
    if codes[0] == codes[1]:
        raise ValueError(f"{name}: do and versus are the same value, {arms[0]!r}")
    return torch.stack([value == code for code in codes])


def _strata(
    rows: Rows,
    kinds: Mapping[str, Variable],
    names: tuple[str, ...],
    treatment: str,
    arms: Tensor,
    values: tuple[Any, Any],
) -> Tensor:
    """Return an indicator for each combination of values that occurs, `(n, strata)`.

    Raises:
        ValueError: If one has no rows of an arm.
    """
    codes = [rows[name].long() for name in names] or [torch.zeros(rows.n, dtype=torch.long)]
    _, stratum = torch.stack(codes, 1).unique(dim=0, return_inverse=True)
    indicators = F.one_hot(stratum).double()
    for arm, value in zip(arms, values, strict=True):
        empty = (indicators[arm].sum(0) == 0).nonzero()
        if len(empty):
            first = int(indicators[:, int(empty[0])].nonzero()[0])
            stratum = ", ".join(f"{k} = {_spell(kinds[k], rows[k][first])}" for k in names)
            raise ValueError(
                f"{treatment}: no rows with {treatment} = {_spell(kinds[treatment], value)} in the "
                f"stratum {stratum or 'of all rows'}; adjust for less, or join levels"
                f"{amounts(kinds, names)}"
            )
    return indicators


def _spell(kind: Variable, value: Any) -> str:
    return kind.label(int(kind.validate("", value))) if isinstance(kind, Discrete) else str(value)


def _features(
    rows: Rows, kinds: Mapping[str, Variable], names: tuple[str, ...], degree: int
) -> Tensor:
    """Return a constant, indicators of categories and products up to `degree`, `(n, width)`."""
    columns = []
    for name in names:
        kind, value = kinds[name], rows[name]
        if isinstance(kind, Discrete):
            columns += list(F.one_hot(value.long(), kind.classes).double()[:, 1:].unbind(1))
        elif isinstance(kind, Continuous):
            flat = value.double().reshape(len(value), -1)
            columns += list(((flat - flat.mean(0)) / flat.std(0).clamp_min(1e-12)).unbind(1))
        else:
            raise ValueError(
                f"{name}: is {kind}; adjust for numbers or categories that describe it"
            )
    terms = [torch.ones(rows.n, dtype=torch.float64)]
    for power in range(1, degree + 1):
        for factors in combinations_with_replacement(columns, power):
            column = torch.stack(factors).prod(0)
            longer = torch.stack([*terms, column], 1)
            # A product that the earlier terms already span (an indicator squared) is left out.
            if torch.linalg.matrix_rank(longer) == longer.shape[1]:
                terms.append(column)
    return torch.stack(terms, 1)


def _estimates(problem: Equations, level: float, cure: str) -> list[Estimate[float]]:
    """Return the difference and both means, with intervals of Student's t."""
    from scipy.stats import t

    try:
        mu, covariance = problem.solve()
    except ValueError as error:
        raise ValueError(f"{error}{cure}") from None
    n, width = problem.features.shape
    z = float(t.ppf((1 + level) / 2, max(1, n - 2 * width)))
    weights = torch.tensor([[1.0, -1.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    values = weights @ mu
    half = z * (weights @ covariance @ weights.T).diagonal().clamp_min(0).sqrt()
    return [
        Estimate(float(v), float(v - h), float(v + h), level=level)
        for v, h in zip(values, half, strict=True)
    ]
