"""Random graphs, and the definitions of graph theory by brute force, for tests to compare with."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Set
from itertools import chain, combinations, pairwise, permutations
from typing import Any, TypeAlias

import numpy as np

from rung3.graph import CausalGraph

Pairs: TypeAlias = Collection[tuple[str, str]]
Link: TypeAlias = tuple[str, bool, str, bool]
Values: TypeAlias = dict[str, "np.ndarray[Any, Any]"]


def random_graph(seed: int, size: int, hidden: bool) -> CausalGraph:
    """A random graph whose names are not in topological order."""
    rng = random.Random(seed)
    names = rng.sample("abcdefgh"[:size], size)
    density = rng.uniform(0.2, 0.7)
    pairs = list(combinations(names, 2))
    edges = [pair for pair in pairs if rng.random() < density]
    bidirected = [pair for pair in pairs if hidden and rng.random() < 0.2]
    return CausalGraph(edges, nodes=sorted(names), bidirected=bidirected)


def subsets(names: Iterable[str]) -> list[set[str]]:
    names = sorted(names)
    sizes = range(len(names) + 1)
    return [set(s) for s in chain.from_iterable(combinations(names, k) for k in sizes)]


def reachable(edges: Pairs, start: str) -> set[str]:
    """The start and everything that directed edges lead to from it."""
    seen = {start}
    while more := {b for a, b in edges if a in seen} - seen:
        seen |= more
    return seen


def marked_paths(graph: CausalGraph, x: str, y: str) -> list[list[Link]]:
    """All paths, as lists of (node, head at node?, next, head at next?), by trying permutations."""
    links = [(a, False, b, True) for a, b in graph.edges] + [
        (b, True, a, False) for a, b in graph.edges
    ]
    links += [(a, True, b, True) for a, b in graph.bidirected]
    links += [(b, True, a, True) for a, b in graph.bidirected]
    between: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        between.setdefault((link[0], link[2]), []).append(link)
    inner = [name for name in graph.nodes if name not in (x, y)]
    paths: list[list[Link]] = []
    for length in range(len(inner) + 1):
        for middle in permutations(inner, length):
            trail = [x, *middle, y]
            partial: list[list[Link]] = [[]]
            for pair in pairwise(trail):
                partial = [[*done, link] for done in partial for link in between.get(pair, [])]
            paths += partial
    return paths


def is_open(graph: CausalGraph, path: list[Link], known: Set[str]) -> bool:
    for into, out in pairwise(path):
        node = into[2]
        if into[3] and out[1]:
            if not reachable(graph.edges, node) & known:
                return False
        elif node in known:
            return False
    return True


def is_causal(path: list[Link]) -> bool:
    return all(not tail and head for _, tail, _, head in path)


def valid_adjustments(graph: CausalGraph, x: str, y: str) -> list[set[str]]:
    """All sets that satisfy the criterion as Shpitser et al. (2010) word it, for single x and y."""
    paths = marked_paths(graph, x, y)
    on_the_way = {link[2] for path in paths if is_causal(path) for link in path}
    forbidden = set().union(*(reachable(graph.edges, name) for name in on_the_way))
    others = set(graph.nodes) - {x, y}
    return [
        known
        for known in subsets(others)
        if not known & forbidden
        and not any(is_open(graph, path, known) for path in paths if not is_causal(path))
    ]


def minimal(sets: list[set[str]]) -> list[set[str]]:
    return [one for one in sets if not any(other < one for other in sets)]


def moral_separated(graph: CausalGraph, x: Set[str], y: Set[str], known: Set[str]) -> bool:
    """d-separation for sets by Lauritzen's moralised ancestral graph, hidden causes as nodes."""
    edges = [*graph.edges, *((f"hidden {a}{b}", c) for a, b in graph.bidirected for c in (a, b))]
    nodes = set().union(*(reachable([(b, a) for a, b in edges], name) for name in x | y | known))
    parents = {n: {a for a, b in edges if b == n} for n in nodes}
    moral = {(a, n) for n in nodes for a in parents[n]}
    moral |= {pair for n in nodes for pair in permutations(parents[n], 2)}
    moral = {(a, b) for a, b in moral if not {a, b} & known}
    both_ways = moral | {(b, a) for a, b in moral}
    return not any(reachable(both_ways, name) & y for name in x)


def statements(graph: CausalGraph) -> set[tuple[frozenset[str], frozenset[str]]]:
    """All pairs and sets that separate them, each as ({x, y}, Z)."""
    return {
        (frozenset(pair), frozenset(known))
        for pair in combinations(graph.nodes, 2)
        for known in subsets(set(graph.nodes) - set(pair))
        if moral_separated(graph, {pair[0]}, {pair[1]}, known)
    }


class Tables:
    """A random model of a graph, all variables binary: exact tables under any intervention.

    Every variable is a random function of its causes, of a hidden cause for each bidirected arrow,
    and of noise of its own with four values, two of which fix the variable.
    """

    def __init__(self, graph: CausalGraph, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.graph = graph
        size = [2] * len(graph.bidirected) + [4] * len(graph.nodes)
        grid = np.indices(size).reshape(len(size), -1)
        self.chance = np.prod(
            [rng.dirichlet([2] * n)[column] for n, column in zip(size, grid, strict=True)], axis=0
        )
        self.hidden = dict(zip(graph.bidirected, grid, strict=False))
        self.private = dict(zip(graph.nodes, grid[len(graph.bidirected) :], strict=True))
        self.functions: Values = {}
        for name in graph.nodes:
            inputs = len(graph.parents(name)) + sum(name in pair for pair in graph.bidirected)
            self.functions[name] = rng.integers(0, 2, (2,) * inputs + (4,))
            self.functions[name][..., :2] = 0, 1

    def values(self, do: Mapping[str, int] | None = None) -> Values:
        """Every variable's value for every value of the noise, some of them set."""
        content: Values = {}
        do = do or {}
        for name in self.graph.order:
            causes = [content[cause] for cause in self.graph.parents(name)]
            causes += [column for pair, column in self.hidden.items() if name in pair]
            drawn = self.functions[name][(*causes, self.private[name])]
            content[name] = np.full_like(drawn, do[name]) if name in do else drawn
        return content

    def table(self, columns: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """The joint distribution of columns of values."""
        joint = np.zeros([2] * len(columns))
        np.add.at(joint, tuple(columns), self.chance)
        return joint

    def observed(self) -> np.ndarray[Any, Any]:
        values = self.values()
        return self.table([values[name] for name in self.graph.nodes])
