r"""Effects in an equivalence class: what all of its graphs agree on.

Where arrows are known in part, `P(y | do(x))` is the same in every graph of the class if and only
if each possibly causal path from X to Y, none of whose inner nodes is in X, starts with an arrow
out of X that is known. Then, with D the ancestors of Y in the graph without X, and its buckets
B_1, B_2, ... the variables of D that undirected edges of the whole graph connect,

    P(y | do(x)) = sum over D \ Y of prod_i P(b_i | pa(b_i))

(Perkovic, UAI 2020; complete without hidden common causes, background knowledge included).
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

import networkx as nx

from rung3.data.printed import Printed
from rung3.graph.causal_graph import CausalGraph
from rung3.graph.equivalence import EquivalenceClass
from rung3.graph.identification.estimand import Formula, Probability, product, sum_out
from rung3.graph.identification.id_algorithm import identified
from rung3.graph.identification.simplification import simplified
from rung3.graph.text import Names, quote

__all__ = ["ClassEffect", "identify_in_class"]


@dataclass(frozen=True)
class ClassEffect(Printed):
    """Whether all graphs of a class agree on an effect.

    Attributes:
        treatment: X.
        outcome: Y.
        formula: `P(y | do(x))` in all of them; `None` if they differ. The object itself is true if
            they agree.
        path: If they differ, a path that is causal in some of them alone.
        members: Two that differ, with the first edge of the path one way and the other.
        formulas: `P(y | do(x))` in these two.
    """

    treatment: tuple[str, ...]
    outcome: tuple[str, ...]
    formula: Formula | None
    path: tuple[str, ...] = ()
    members: tuple[CausalGraph, ...] = ()
    formulas: tuple[Formula, ...] = ()

    def __bool__(self) -> bool:
        return self.formula is not None

    def __str__(self) -> str:
        x, y = (", ".join(map(quote, names)) for names in (self.treatment, self.outcome))
        if self.formula is not None:
            return f"P({y} | do({x})) is the same in all graphs of the class\n  = {self.formula}"
        way = " -- ".join(map(quote, self.path[:2]))
        rest = " ... ".join(map(quote, dict.fromkeys((self.path[1], self.path[-1]))))
        lines = [
            f"P({y} | do({x})) differs among the graphs of the class: {way} points either way, and "
            f"leads on to {rest}"
        ]
        ends = [" -> ".join(map(quote, way)) for way in (self.path[:2], self.path[1::-1])]
        pairs = zip(self.formulas, ends, strict=True)
        return "\n  ".join([*lines, *(f"= {formula} where {arrow}" for formula, arrow in pairs)])


def identify_in_class(members: Any, treatment: Names, outcome: Names) -> ClassEffect:
    """Say whether all graphs of an equivalence class agree on an effect, and on which formula.

    Args:
        members: The class, as `rung3.graph.equivalence_class` finds it for a graph; or its text,
            which `read_class` reads; or one of its graphs.
        treatment: X, one name or several.
        outcome: Y, one name or several.

    Raises:
        ValueError: If a name is unknown, or in both.

    >>> from rung3.graph import read_class
    >>> print(identify_in_class(read_class("a -- b; b -> d; c -> d"), "b", "d"))
    P(d | do(b)) is the same in all graphs of the class
      = Σ_c P(c) P(d | b, c)
    >>> print(identify_in_class("x -- y", "x", "y"))
    P(y | do(x)) differs among the graphs of the class: x -- y points either way, and leads on to y
      = P(y | x) where x -> y
      = P(y) where y -> x
    """
    members = EquivalenceClass.given(members)
    skeleton = CausalGraph.of(members.nodes)
    x, y = skeleton.disjoint(treatment=treatment, outcome=outcome)
    names = skeleton.in_order(x), skeleton.in_order(y)
    path = next(_unsure(members, x, y), None)
    if path is None:
        return ClassEffect(*names, _by_buckets(members, x, y))
    ways = (path[:2], path[1::-1])
    graphs = tuple(next(iter(members.knowing([(a, b)]))) for a, b in ways)
    formulas = tuple(simplified(identified(graph, y, x)) for graph in graphs)
    return ClassEffect(*names, None, path, graphs, formulas)


def _unsure(members: EquivalenceClass, x: Set[str], y: Set[str]) -> Iterator[tuple[str, ...]]:
    """Yield the possibly causal paths from X to Y whose first edge is undirected."""
    beside: dict[str, list[str]] = {name: [] for name in members.nodes}
    after: dict[str, list[str]] = {name: [] for name in members.nodes}
    for a, b in (sorted(pair) for pair in members.undirected):
        beside[a].append(b)
        beside[b].append(a)
    for cause, effect in sorted(members.directed):
        after[cause].append(effect)
    starts = [name for name in members.nodes if name in x]
    stack: list[tuple[str, ...]] = [(name, other) for name in starts for other in beside[name]]
    while stack:
        way = stack.pop()
        if way[-1] in x or any(name in way[:-1] for name in after[way[-1]]) or way[-1] in way[:-1]:
            continue
        if way[-1] in y:
            yield way
        stack += [(*way, name) for name in (*beside[way[-1]], *after[way[-1]])]


def _by_buckets(members: EquivalenceClass, x: Set[str], y: Set[str]) -> Formula:
    """Return `P(y | do(x))`, where all graphs of a class agree."""
    directed = CausalGraph.of(members.nodes, members.directed)
    inner = directed.subgraph(set(members.nodes) - x)
    above = y | inner.ancestors(y)
    undirected = nx.Graph()
    undirected.add_nodes_from(members.nodes)
    undirected.add_edges_from(map(tuple, members.undirected))
    rank = next(iter(members)).order
    factors = []
    for part in nx.connected_components(undirected):
        bucket = part & above
        if bucket:
            causes = set().union(*(directed.parents(name) for name in bucket)) - bucket
            factors.append(Probability(directed.in_order(bucket), directed.in_order(causes)))
    factors.sort(key=lambda factor: min(map(rank.index, factor.of)))
    return sum_out(product(factors), directed.in_order(above - y))
