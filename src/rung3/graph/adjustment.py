"""Which variables to adjust for: the adjustment criterion, and why a set does not satisfy it.

Adjusting for Z gives the effect of X on Y,

    p(y | do(x)) = sum_z p(y | x, z) p(z),

in every model of the graph if and only if

    1. no z in Z is in Forb = De(PCP), where PCP are the nodes, X aside, on causal paths from X to Y
       that do not return to X;
    2. Z d-separates X and Y in the proper back-door graph: the graph without the arrows X -> PCP

(Shpitser, VanderWeele and Robins, UAI 2010; Perkovic et al., JMLR 2018; in this form van der
Zander, Liskiewicz and Textor, UAI 2014). Hidden common causes are nodes that cannot be chosen. So
the minimal Z are the minimal separators of the proper back-door graph that avoid Forb (see
`rung3.graph.separators`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import networkx as nx

from rung3.data.printed import Printed
from rung3.graph.m_separation import separation
from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.separators import Nodes, closure, minimal_separators
from rung3.graph.text import Names, quote

__all__ = ["Adjustment", "check_adjustment", "criterion", "minimal_adjustments"]


@dataclass(frozen=True)
class Adjustment(Printed):
    """The answer whether adjusting for Z gives the effect of X on Y, and if not, why.

    Attributes:
        treatment: X, in the graph's order.
        outcome: Y.
        given: Z.
        faults: What Z does wrong, one sentence each, with the path; none if it is valid. The object
            itself is true if there are none.
    """

    treatment: tuple[str, ...]
    outcome: tuple[str, ...]
    given: tuple[str, ...]
    faults: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        effect = f"the effect of {', '.join(self.treatment)} on {', '.join(self.outcome)}"
        known = f"adjusting for {', '.join(self.given)}" if self.given else "adjusting for nothing"
        if not self.faults:
            return f"{known} gives {effect}"
        return "\n".join([f"{known} does not give {effect}:", *(f"  {f}" for f in self.faults)])

    def require(self) -> None:
        """Refuse a set that is not valid.

        Raises:
            ValueError: If it is not; the message has the faults.
        """
        if self.faults:
            raise ValueError(str(self))


def check_adjustment(graph: Any, treatment: Names, outcome: Names, given: Names = ()) -> Adjustment:
    """Say whether adjusting for these variables gives the causal effect, and why not.

    Args:
        graph: The graph.
        treatment: X, one name or several.
        outcome: Y, one name or several.
        given: Z.

    Raises:
        ValueError: If a name is unknown, or in two of the sets.

    >>> from rung3.graph import CausalGraph
    >>> print(check_adjustment(CausalGraph("x -> m -> y; m -> d; u -> {x c}; v -> {c y}"),
    ...     "x", "y", given=["c", "d"]))
    adjusting for d, c does not give the effect of x on y:
      d is below a causal path from treatment to outcome: x -> m -> d
      it opens the path x <- u -> c <- v -> y, by the collider c
    """
    graph = MixedGraph.given(graph)
    cause, effect, known = graph.disjoint(treatment=treatment, outcome=outcome, given=given)
    rule = criterion(graph, cause, effect)
    faults = [
        _below(graph, cause, rule.causal, name) for name in graph.in_order(known & rule.forbidden)
    ]
    remaining = graph.without_edges(set(graph.edges).difference(rule.backdoor.edges))
    left_open: dict[bool, str] = {}
    for path in separation(remaining, cause, effect, known).open:
        opens = f"it opens the path {path}, by the collider {' and '.join(path.colliders)}"
        leaves = f"it leaves open the path {path}"
        left_open.setdefault(path.is_open(), leaves if path.is_open() else opens)
    x, y, z = (graph.in_order(names) for names in (cause, effect, known))
    return Adjustment(x, y, z, (*faults, *left_open.values()))


def _below(graph: MixedGraph, cause: Nodes, causal: Nodes, name: str) -> str:
    """Say why a variable is never to be adjusted for, with the path that makes it so."""
    dag = graph.to_networkx()
    ways: list[list[str]] = [
        [*nx.shortest_path(dag, start, middle), *nx.shortest_path(dag, middle, name)[1:]]
        for start in cause
        for middle in causal
        if nx.has_path(dag, start, middle) and nx.has_path(dag, middle, name)
    ]
    way = " -> ".join(map(quote, sorted(ways, key=lambda nodes: (len(nodes), nodes))[0]))
    where = "on" if name in causal else "below"
    return f"{quote(name)} is {where} a causal path from treatment to outcome: {way}"


class Criterion(NamedTuple):
    """The proper back-door graph, PCP, and Forb."""

    backdoor: nx.DiGraph
    causal: set[str]
    forbidden: set[str]


def criterion(graph: MixedGraph, treatment: Nodes, outcome: Nodes) -> Criterion:
    """Return what the adjustment criterion asks of a treatment and an outcome.

    Args:
        graph: The graph.
        treatment: X.
        outcome: Y.
    """
    dag = graph.expanded
    cut = nx.restricted_view(dag, [], list(dag.in_edges(treatment)))
    inert = nx.restricted_view(dag, [], list(dag.out_edges(treatment)))
    after = closure(cut.successors, treatment) - treatment
    causal = after & closure(inert.predecessors, outcome)
    backdoor = nx.restricted_view(
        dag, [], [edge for edge in dag.out_edges(treatment) if edge[1] in causal]
    )
    return Criterion(backdoor, causal, closure(dag.successors, causal))


def minimal_adjustments(
    graph: MixedGraph, treatment: Nodes, outcome: Nodes, given: Nodes = frozenset()
) -> Iterator[frozenset[str]]:
    """Yield all minimal adjustment sets, the one nearest to the outcome first.

    Without hidden causes this first one gives the least asymptotic variance of all minimal sets
    (Rotnitzky and Smucler, JMLR 2020).

    Args:
        graph: The graph.
        treatment: X.
        outcome: Y.
        given: Nodes adjusted for in any case, none of them forbidden; not part of the sets.
    """
    rule = criterion(graph, treatment, outcome)
    allowed = graph.in_order(set(graph.nodes) - rule.forbidden)
    return minimal_separators(rule.backdoor, outcome, treatment, allowed, given)
