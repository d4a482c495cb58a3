"""Mixed graphs: arrows, hidden common causes, surgery, and m-separation.

A mixed graph has arrows ``a -> b`` without a cycle, and bidirected arrows ``a <-> b`` where a
hidden common cause makes the noises of a and b dependent. A bidirected arrow is answered for as a
hidden parent of both its ends (an acyclic directed mixed graph; Richardson, Scand. J. Stat. 2003).
Everything that has an order follows the order in which names are first mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import chain
from typing import Any, Self

import networkx as nx

from rung3.data.spelling import did_you_mean, listed
from rung3.graph.projection import projected
from rung3.graph.text import (
    Names,
    Pair,
    Step,
    checked_name,
    pairs_of,
    quote,
    read_graph,
    write,
)

__all__ = ["MixedGraph"]


class MixedGraph:
    """The structure of an acyclic mixed graph, which never changes: surgery returns a new one.

    Args:
        spec: Text in the grammar of `rung3.graph.text`, (cause, effect) pairs, a networkx
            ``DiGraph``, or another graph.
        nodes: Further names, which need no arrow.
        bidirected: Further pairs with a hidden common cause.

    Raises:
        ValueError: If the text cannot be read, a name is not a string, or there is a cycle, which
            the message spells out.

    >>> graph = MixedGraph("size -> treatment; {size treatment} -> recovery")
    >>> graph.parents("recovery"), graph.do("treatment").parents("treatment")
    (('size', 'treatment'), ())
    """

    def __init__(
        self,
        spec: str | Iterable[Pair] | nx.DiGraph | MixedGraph = "",
        *,
        nodes: Names = (),
        bidirected: Iterable[Pair] = (),
    ) -> None:
        read = read_graph(spec.to_networkx() if isinstance(spec, MixedGraph) else spec)
        hidden = [*read.bidirected, *pairs_of(bidirected, "bidirected")]
        extra = map(checked_name, [nodes] if isinstance(nodes, str) else nodes)
        mentioned = chain(read.nodes, *read.edges, *read.bidirected, extra, *hidden)
        self._rank = {name: rank for rank, name in enumerate(dict.fromkeys(mentioned))}
        self._dag = nx.DiGraph()
        self._dag.add_nodes_from(self._rank)
        self._dag.add_edges_from(sorted(set(read.edges), key=self._ranks))
        if not nx.is_directed_acyclic_graph(self._dag):
            cycle = _cycle(self._dag)
            raise ValueError(f"the graph has a cycle: {cycle}; no variable may cause itself.")
        if loops := [left for left, right in hidden if left == right]:
            raise ValueError(f"{loops[0]!r} <-> itself: a hidden common cause needs two variables.")
        self._hidden = tuple(sorted({self._sorted_pair(pair) for pair in hidden}, key=self._ranks))

    @staticmethod
    def given(spec: Any) -> MixedGraph:
        """Return a graph as it is, or make one from text, pairs or a networkx graph."""
        return spec if isinstance(spec, MixedGraph) else MixedGraph(spec)

    @classmethod
    def of(
        cls, nodes: Iterable[str], edges: Iterable[Pair] = (), bidirected: Iterable[Pair] = ()
    ) -> Self:
        """Make a graph of these nodes, in this order, and these pairs of them."""
        dag = nx.DiGraph()
        dag.add_nodes_from(nodes)
        dag.add_edges_from(edges)
        return cls(dag, bidirected=bidirected)

    # Structure

    @property
    def nodes(self) -> tuple[str, ...]:
        """All names, in order of first mention."""
        return tuple(self._rank)

    @property
    def edges(self) -> tuple[Pair, ...]:
        """All (cause, effect) pairs, by the order of the causes, then of the effects."""
        return tuple(self._dag.edges)

    @property
    def bidirected(self) -> tuple[Pair, ...]:
        """All pairs with a hidden common cause, each in the order of `nodes`."""
        return self._hidden

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Causes before effects; where that leaves a choice, first mentioned first."""
        return tuple(nx.lexicographical_topological_sort(self._dag, key=self._rank.__getitem__))

    @property
    def roots(self) -> tuple[str, ...]:
        """The nodes without parents."""
        return tuple(name for name in self.nodes if not self._dag.pred[name])

    @cached_property
    def districts(self) -> tuple[tuple[str, ...], ...]:
        """The nodes in parts that bidirected arrows connect (c-components)."""
        mixed = nx.Graph()
        mixed.add_nodes_from(self.nodes)
        mixed.add_edges_from(self._hidden)
        return tuple(self.in_order(part) for part in nx.connected_components(mixed))

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the direct causes of a variable, in the order of `nodes`."""
        return tuple(self._dag.pred[self._one(name)])

    def children(self, name: str) -> tuple[str, ...]:
        """Return the direct effects of a variable, in the order of `nodes`."""
        return tuple(self._dag.succ[self._one(name)])

    def spouses(self, name: str) -> tuple[str, ...]:
        """Return the variables that share a hidden cause with this one, in order."""
        self._one(name)
        return self.in_order(
            {other for pair in self._hidden if name in pair for other in pair} - {name}
        )

    def ancestors(self, names: Names) -> frozenset[str]:
        """Return the direct and indirect causes of one or several variables, these aside."""
        known = self.names(names)
        return frozenset[str]().union(*(nx.ancestors(self._dag, name) for name in known)) - known

    def descendants(self, names: Names) -> frozenset[str]:
        """Return the direct and indirect effects of one or several variables, these aside."""
        known = self.names(names)
        return frozenset[str]().union(*(nx.descendants(self._dag, name) for name in known)) - known

    @cached_property
    def steps(self) -> Mapping[str, list[Step]]:
        """From each node: the arrow, as seen from it, and the neighbour."""
        ways = {"->": self.children, "<-": self.parents, "<->": self.spouses}
        return {
            name: [(arrow, other) for arrow, others in ways.items() for other in others(name)]
            for name in self.nodes
        }

    @cached_property
    def expanded(self) -> nx.DiGraph:
        """The graph with a node for each hidden common cause, named by its pair."""
        expanded = self._dag.copy()
        expanded.add_edges_from((pair, name) for pair in self._hidden for name in pair)
        return expanded

    # Surgery

    def do(self, *names: str) -> Self:
        """Return the graph after an intervention: no arrow points into these names."""
        cut = self.names(names)
        edges = [edge for edge in self.edges if edge[1] not in cut]
        hidden = [pair for pair in self._hidden if not cut.intersection(pair)]
        return self.of(self.nodes, edges, hidden)

    def without_outgoing(self, *names: str) -> Self:
        """Return the graph without the arrows out of these names: only their back doors stay."""
        cut = self.names(names)
        return self.without_edges(edge for edge in self.edges if edge[0] in cut)

    def without_edges(self, edges: Iterable[Pair]) -> Self:
        """Return the graph without these (cause, effect) pairs; bidirected arrows stay."""
        cut = set(edges)
        left = [edge for edge in self.edges if edge not in cut]
        return self.of(self.nodes, left, self._hidden)

    def subgraph(self, names: Names) -> Self:
        """Return the graph of these variables, and the arrows among them."""
        inside = self.names(names)
        edges = [edge for edge in self.edges if inside.issuperset(edge)]
        hidden = [pair for pair in self._hidden if inside.issuperset(pair)]
        return self.of(self.in_order(inside), edges, hidden)

    def hide(self, *names: str) -> Self:
        """Return the graph of the others when these are not observed (`rung3.graph.projection`).

        >>> MixedGraph("wealth -> {chocolate prizes}").hide("wealth")
        MixedGraph('chocolate <-> prizes')
        """
        hidden = self.names(names)
        arrows = projected(hidden, self.edges, self._hidden)
        return self.of(self.in_order(set(self.nodes) - hidden), *arrows)

    # Separation

    def d_separated(self, x: Names, y: Names, given: Names = ()) -> bool:
        """Return whether x and y are independent given Z in every model of the graph.

        With bidirected arrows this is m-separation. `rung3.graph.separation` gives the reasons.

        Raises:
            ValueError: If a name is unknown or in two of the sets.

        >>> MixedGraph("smoking -> tar -> cancer").d_separated("smoking", "cancer", given="tar")
        True
        """
        return bool(nx.is_d_separator(self.expanded, *self.disjoint(x=x, y=y, given=given)))

    # Names

    def names(self, names: Names) -> frozenset[str]:
        """Return one name or several as a set, all of which the graph has.

        Raises:
            ValueError: If one is unknown; the message has the nearest right one.
        """
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in self:
                hint = did_you_mean(name, self.nodes) or listed(self.nodes, "its variables")
                raise ValueError(f"the graph has no variable {name!r}; {hint}")
        return frozenset(wanted)

    def disjoint(self, **sets: Names) -> tuple[frozenset[str], ...]:
        """Return sets of names that the graph has, none of which is in two of them.

        Raises:
            ValueError: If a name is unknown, or in two of the sets; the message names all three.
        """
        known = {label: self.names(names) for label, names in sets.items()}
        owner: dict[str, str] = {}
        for label, names in known.items():
            for name in self.in_order(names):
                if name in owner:
                    raise ValueError(
                        f"{name!r} is in both {owner[name]} and {label}; it can be in one only."
                    )
                owner[name] = label
        return tuple(known.values())

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Sort names by the order of `nodes`."""
        return tuple(sorted(names, key=self._rank.__getitem__))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._rank

    # As text, as a networkx graph, as a value

    def to_text(self) -> str:
        """Write the text from which this graph is read, names in the same order."""
        return write(self.nodes, {name: self.parents(name) for name in self.nodes}, self._hidden)

    def to_networkx(self) -> nx.DiGraph:
        """Copy the graph to networkx; ``.graph["bidirected"]`` has the bidirected pairs."""
        copy = self._dag.copy()
        copy.graph["bidirected"] = self._hidden
        return copy

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_text()!r})"

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, MixedGraph) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    # Internals

    @cached_property
    def _key(self) -> tuple[frozenset[object], ...]:
        """What two equal graphs share, in whatever order they were written."""
        return frozenset(self.nodes), frozenset(self.edges), frozenset(map(frozenset, self._hidden))

    def _one(self, name: str) -> str:
        """Return a name that the graph has, or refuse it."""
        self.names([name])
        return name

    def _ranks(self, pair: Pair) -> tuple[int, int]:
        return self._rank[pair[0]], self._rank[pair[1]]

    def _sorted_pair(self, pair: Pair) -> Pair:
        left, right = self.in_order(pair)
        return left, right


def _cycle(dag: nx.DiGraph) -> str:
    """Return a cycle, from its first mentioned node back to it."""
    names = [cause for cause, _ in nx.find_cycle(dag)]
    start = names.index(min(names, key=list(dag).index))
    return " -> ".join(map(quote, [*names[start:], *names[:start], names[start]]))
