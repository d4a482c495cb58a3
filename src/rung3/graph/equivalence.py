"""Markov equivalence: the graphs that no observational data can tell apart.

Two directed graphs imply the same independencies if and only if they have the same adjacencies and
the same unshielded colliders a -> c <- b (Verma and Pearl, UAI 1990). What all graphs of a class
have in common is a partly directed graph: from those colliders, by four rules (Meek, UAI 1995) that
orient a - b as a -> b, for the other way would make a cycle or a new collider,

    1. c -> a,                      c and b not adjacent
    2. a -> c -> b
    3. a - c -> b, a - d -> b,      c and d not adjacent
    4. a - d -> c -> b,             d and b not adjacent.

An arrow that is left undirected points either way in some member. To list the members, orient one
such arrow each way, and let the rules go on. What is known beside the independencies, such as an
order in time, directs more of them (Perkovic, Kalisch and Maathuis, UAI 2017).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any, Self

from rung3.graph.causal_graph import CausalGraph
from rung3.graph.given import as_graph
from rung3.graph.local_markov import implications
from rung3.graph.text import Pair, parse, quote

__all__ = ["EquivalenceClass", "equivalence_class", "equivalent", "read_class"]


@dataclass(frozen=True)
class EquivalenceClass:
    """All directed graphs that imply the same independencies, as one partly directed graph.

    Iteration gives its members, one at a time; there can be exponentially many. ``graph in class``
    asks whether a graph is one.

    Attributes:
        nodes: The variables.
        directed: The (cause, effect) pairs that all members share.
        undirected: The adjacent pairs that point one way in some members, the other way in others.
    """

    nodes: tuple[str, ...]
    directed: frozenset[Pair]
    undirected: frozenset[frozenset[str]]

    def __iter__(self) -> Iterator[CausalGraph]:
        stack = [_Partial(self.nodes, self.directed, self.undirected)]
        while stack:
            partial = stack.pop()
            pair = next(((a, b) for a in self.nodes for b in partial.beside[a]), None)
            if pair is None:
                yield partial.graph()
            else:
                stack += [partial.copy().orient([way]) for way in (pair[::-1], pair)]

    def __contains__(self, graph: object) -> bool:
        if not isinstance(graph, CausalGraph) or graph.bidirected:
            return False
        whole = equivalence_class(graph)
        return (
            set(graph.nodes) == set(self.nodes)
            and whole.adjacent == self.adjacent
            and whole.directed <= self.directed <= set(graph.edges)
        )

    @staticmethod
    def given(spec: Any) -> EquivalenceClass:
        """Return a class as it is, or read one from its text, or find that of a graph."""
        if isinstance(spec, EquivalenceClass):
            return spec
        return read_class(spec) if isinstance(spec, str) else equivalence_class(spec)

    @property
    def adjacent(self) -> frozenset[frozenset[str]]:
        """The pairs that are adjacent in all members."""
        return self.undirected | {frozenset(pair) for pair in self.directed}

    def knowing(self, arrows: Iterable[Pair]) -> EquivalenceClass:
        """Return the members that have some arrows, as one partly directed graph.

        Args:
            arrows: (cause, effect) pairs that are known.

        Raises:
            ValueError: If no member has all of them.

        >>> chain = equivalence_class(CausalGraph("a -> b -> c"))
        >>> print(chain.knowing([("a", "b")]))
        a -> b; b -> c
        """
        known = list(arrows)
        partial = _Partial(self.nodes, self.directed, self.undirected)
        adjacent = self.adjacent
        if wrong := [pair for pair in known if frozenset(pair) not in adjacent]:
            raise ValueError(
                f"{wrong[0][0]} -> {wrong[0][1]}: no member has an arrow between them."
            )
        for pair in known:
            partial.orient([pair])
        pattern = partial.described()
        if not pattern.directed.issuperset(known):
            missing = next(pair for pair in known if pair not in pattern.directed)
            raise ValueError(f"{missing[0]} -> {missing[1]}: no member has this arrow.")
        return pattern

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EquivalenceClass):
            return NotImplemented
        return (set(self.nodes), self.directed, self.undirected) == (
            set(other.nodes), other.directed, other.undirected,
        )  # fmt: skip

    def __str__(self) -> str:
        rank = {name: at for at, name in enumerate(self.nodes)}
        pairs = [(pair, "->") for pair in self.directed]
        pairs += [
            ((a, b), "--") for a, b in (sorted(p, key=rank.__getitem__) for p in self.undirected)
        ]
        pairs.sort(key=lambda one: [rank[name] for name in one[0]])
        links = [f"{quote(a)} {arrow} {quote(b)}" for (a, b), arrow in pairs]
        joined = {name for pair, _ in pairs for name in pair}
        return "; ".join([*links, *(quote(name) for name in self.nodes if name not in joined)])


def equivalence_class(graph: Any) -> EquivalenceClass:
    """Return the Markov equivalence class of a graph without bidirected arrows.

    Args:
        graph: The graph.

    Raises:
        ValueError: If it has bidirected arrows: `equivalent` compares such graphs.

    >>> from rung3.graph import CausalGraph
    >>> members = equivalence_class(CausalGraph("a -> b -> c; b -> d <- e"))
    >>> print(members, "|", len(list(members)))
    a -- b; b -- c; b -> d; e -> d | 3
    """
    graph = as_graph(graph)
    if graph.bidirected:
        a, b = graph.bidirected[0]
        raise ValueError(
            f"an equivalence class is of graphs without hidden common causes, and this one has "
            f"{a} <-> {b}; `equivalent` compares two graphs that have some."
        )
    adjacent = {frozenset(edge) for edge in graph.edges}
    partial = _Partial(graph.nodes, (), adjacent)
    partial.orient(
        (cause, effect)
        for effect in graph.nodes
        for pair in combinations(graph.parents(effect), 2)
        for cause in pair
        if frozenset(pair) not in adjacent
    )
    return partial.described()


def read_class(text: str) -> EquivalenceClass:
    """Read an equivalence class, as its text is written, and direct what follows.

    Args:
        text: Statements as of a graph, with `a -- b` for an arrow that points either way.

    Raises:
        ValueError: If it cannot be read, has bidirected arrows, or is of no directed graph.

    >>> print(read_class("a -> b; b -- c"))
    a -> b; b -> c
    """
    nodes: dict[str, None] = {}
    directed: list[Pair] = []
    undirected: list[Pair] = []
    for statement in re.split(r"[;\n]", text):
        groups = [parse(part).nodes for part in statement.split("--")]
        nodes.update(dict.fromkeys(name for group in groups for name in group))
        if len(groups) > 1:
            undirected += [pair for a, b in pairwise(groups) for pair in product(a, b)]
            continue
        read = parse(statement)
        if read.bidirected:
            raise ValueError(f"{statement.strip()}: a class is of graphs without hidden causes.")
        directed += read.edges
    partial = _Partial(nodes, (), [*directed, *undirected])
    members = partial.orient(directed).described()
    first = next(iter(members))
    if not members.directed.issuperset(directed) or first not in members:
        raise ValueError(f"{text!r} is of no directed graph: it makes a collider or a cycle.")
    return members


def equivalent(graph: Any, other: Any) -> bool:
    """Return whether two graphs imply the same independencies, bidirected arrows included.

    Args:
        graph: A graph.
        other: Another, of the same variables.

    Raises:
        ValueError: If their variables are not the same.

    >>> from rung3.graph import CausalGraph
    >>> nobel = [CausalGraph(f"chocolate {arrow} prizes") for arrow in ("->", "<-", "<->")]
    >>> equivalent(nobel[0], nobel[1]), equivalent(nobel[0], nobel[2])
    (True, True)
    """
    graph, other = as_graph(graph), as_graph(other)
    if odd := set(graph.nodes) ^ set(other.nodes):
        raise ValueError(f"the graphs have other variables: {sorted(odd)} are in one of them only.")
    if not (graph.bidirected or other.bidirected):
        return equivalence_class(graph) == equivalence_class(other)
    return all(
        right.d_separated(one.x, one.y, one.given)
        for left, right in ((graph, other), (other, graph))
        for one in implications(left)
    )


class _Partial:
    """A graph some of whose arrows are not directed yet: the neighbours of each node, by kind."""

    def __init__(
        self, nodes: Iterable[str], directed: Iterable[Pair], undirected: Iterable[Iterable[str]]
    ) -> None:
        self.before: dict[str, set[str]] = {name: set() for name in nodes}
        self.after: dict[str, set[str]] = {name: set() for name in nodes}
        self.beside: dict[str, dict[str, None]] = {name: {} for name in nodes}
        for cause, effect in directed:
            self.before[effect].add(cause)
            self.after[cause].add(effect)
        for a, b in undirected:
            self.beside[a][b] = self.beside[b][a] = None

    def copy(self) -> Self:
        copy = type(self)(self.before, (), ())
        copy.before = {name: set(others) for name, others in self.before.items()}
        copy.after = {name: set(others) for name, others in self.after.items()}
        copy.beside = {name: dict(others) for name, others in self.beside.items()}
        return copy

    def graph(self) -> CausalGraph:
        """Return the directed graph, nodes in the same order."""
        edges = ((cause, name) for name, causes in self.before.items() for cause in causes)
        return CausalGraph.of(self.before, edges)

    def described(self) -> EquivalenceClass:
        """Return the class that the graph stands for."""
        directed = {(cause, effect) for cause, effects in self.after.items() for effect in effects}
        rest = {frozenset((a, b)) for a, others in self.beside.items() for b in others}
        return EquivalenceClass(tuple(self.before), frozenset(directed), frozenset(rest))

    def orient(self, pairs: Iterable[Pair]) -> Self:
        """Direct arrows as (cause, effect), and then all that follow."""
        todo = [near for pair in [*pairs] if self._direct(*pair) for near in self._near(*pair)]
        while todo:
            pair = todo.pop()
            if self._follows(*pair) and self._direct(*pair):
                todo.extend(self._near(*pair))
        return self

    def _direct(self, a: str, b: str) -> bool:
        """Direct a - b as a -> b, if it is not directed yet."""
        if b not in self.beside[a]:
            return False
        del self.beside[a][b], self.beside[b][a]
        self.before[b].add(a)
        self.after[a].add(b)
        return True

    def _near(self, a: str, b: str) -> Iterator[Pair]:
        """Return the pairs that a new arrow a -> b may orient."""
        for one in {a, b} | self.after[b]:
            for other in self.beside[one]:
                yield from ((one, other), (other, one))

    def _follows(self, a: str, b: str) -> bool:
        """Return whether one of the rules orients a - b as a -> b."""
        beside = self.beside[a].keys()
        return (
            any(not self._adjacent(c, b) for c in self.before[a])
            or bool(self.after[a] & self.before[b])
            or any(not self._adjacent(c, d) for c, d in combinations(beside & self.before[b], 2))
            or any(
                self.after[d] & self.before[b] and not self._adjacent(d, b) for d in beside - {b}
            )
        )

    def _adjacent(self, a: str, b: str) -> bool:
        return b in self.before[a] or b in self.after[a] or b in self.beside[a]
