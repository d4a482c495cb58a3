"""What a graph implies of the data: a basis of independencies, one for each separable pair.

Take the variables in a causal order, and let w come before v. With A the two and their ancestors,

    v is independent of w given mb(v, A),       mb(v, A) = D + pa(D) - v,

where D are the variables that bidirected arrows within A connect to v (its district there), v
included; unless w is in mb(v, A), in which case no set separates the two: they are adjacent, or
joined by an inducing path. Without bidirected arrows mb(v, A) = pa(v), and this is the causal
Markov condition, *each variable is independent of its non-descendants given its direct causes*
(lecture, Figure 12), one pair at a time (Pearl, 1988; with districts: Richardson, Scand. J. Stat.
2003).

These statements are a basis: all others that the graph implies follow from them by the axioms of
compositional graphoids, which hold in Gaussian models, among others. A graph with bidirected arrows
may imply constraints of another kind besides (Verma's), which are not listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.separators import closure

__all__ = ["Independence", "implications"]


@dataclass(frozen=True)
class Independence:
    """The statement that two variables are independent given others."""

    x: str
    y: str
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        known = f" | {', '.join(self.given)}" if self.given else ""
        return f"{self.x} \N{UP TACK} {self.y}{known}"


def implications(graph: Any) -> tuple[Independence, ...]:
    """Return a basis of the independencies that a graph implies, in its causal order.

    Args:
        graph: The graph.

    >>> from rung3.graph import CausalGraph
    >>> print(*implications(CausalGraph("rain -> wet <- sprinkler; wet -> slippery")), sep="; ")
    sprinkler ⊥ rain; slippery ⊥ rain | wet; slippery ⊥ sprinkler | wet
    """
    graph = MixedGraph.given(graph)
    up: dict[str, set[str]] = {}
    for name in graph.order:
        up[name] = {name}.union(*(up[cause] for cause in graph.parents(name)))
    causes = {name: set(graph.parents(name)) for name in graph.nodes}
    beside = {name: set(graph.spouses(name)) for name in graph.nodes}

    def blanket(name: str, within: set[str]) -> set[str]:
        if not beside[name]:
            return causes[name]
        district = closure(lambda node: beside[node] & within, [name])
        return district.union(*(causes[node] for node in district)) - {name}

    basis = []
    for at, v in enumerate(graph.order):
        for w in graph.order[:at]:
            known = blanket(v, up[v] | up[w])
            if w not in known:
                basis.append(Independence(v, w, graph.in_order(known)))
    return tuple(basis)
