"""Paths of a causal graph, and what blocks them.

A path visits no node twice and may follow arrows either way. An inner node is a collider if both
arrows point at it, ``-> m <-``, a fork if neither does, ``<- m ->``, and in a chain if one does.
Given a set Z, a node blocks the path if

    it is not a collider and is in Z,    or
    it is a collider, and neither it nor any descendant of it is in Z;

x and y are d-separated given Z if every path between them is blocked (Pearl, Causality, 2009,
definition 1.2.3; where there are hidden common causes, ``<->``, m-separated: Richardson, Scand. J.
Stat. 2003).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.text import Step, quote

Turn: TypeAlias = Literal["chain", "fork", "collider"]


@dataclass(frozen=True, repr=False)
class Path:
    """A path of a graph: its nodes, and the arrow (``->``, ``<-`` or ``<->``) between each two.

    >>> from rung3.graph.causal_graph import CausalGraph
    >>> path, = CausalGraph("treatment <- size -> recovery").paths("treatment", "recovery")
    >>> path, path.backdoor, path.is_open(), path.is_open(given="size")
    (Path('treatment <- size -> recovery'), True, True, False)
    """

    nodes: tuple[str, ...]
    arrows: tuple[str, ...]
    graph: MixedGraph = field(compare=False)

    @property
    def directed(self) -> bool:
        """Whether every arrow points forwards: a causal path."""
        return all(arrow == "->" for arrow in self.arrows)

    @property
    def backdoor(self) -> bool:
        """Whether the first arrow points into the first node."""
        return self.arrows[0].startswith("<")

    @property
    def turns(self) -> dict[str, Turn]:
        """What each inner node is on the path, by the arrowheads that meet there.

        >>> from rung3.graph import CausalGraph
        >>> next(CausalGraph("a -> b <- c -> d <- e <-> f -> g").paths("a", "g")).turns
        {'b': 'collider', 'c': 'fork', 'd': 'collider', 'e': 'chain', 'f': 'chain'}
        """
        kinds: tuple[Turn, ...] = ("fork", "chain", "collider")
        met = zip(self.nodes[1:-1], self.arrows, self.arrows[1:], strict=False)
        return {node: kinds[into.endswith(">") + out.startswith("<")] for node, into, out in met}

    @property
    def colliders(self) -> tuple[str, ...]:
        """The inner nodes at which two arrowheads meet."""
        return tuple(node for node, kind in self.turns.items() if kind == "collider")

    def blocked_by(self, given: str | Iterable[str] = ()) -> tuple[str, ...]:
        """Return the nodes that block the path, in its order; none if it is open.

        Args:
            given: The names conditioned on.

        Raises:
            ValueError: If a given name is unknown or an end of the path.
        """
        _, known = self.graph.disjoint(ends=(self.nodes[0], self.nodes[-1]), given=given)
        lifted = known | self.graph.ancestors(known)
        return tuple(
            node
            for node in self.nodes[1:-1]
            if (node not in lifted if node in self.colliders else node in known)
        )

    def is_open(self, given: str | Iterable[str] = ()) -> bool:
        """Return whether nothing blocks the path given these names; see `blocked_by`."""
        return not self.blocked_by(given)

    def __str__(self) -> str:
        links = zip(self.arrows, self.nodes[1:], strict=True)
        return quote(self.nodes[0]) + "".join(f" {arrow} {quote(node)}" for arrow, node in links)

    def __repr__(self) -> str:
        return f"Path({str(self)!r})"


def paths(graph: MixedGraph, x: str, y: str) -> Iterator[Path]:
    """Yield all paths between two variables, however their arrows point, shorter ones first."""
    return _paths(graph, x, y, graph.steps)


def causal_paths(graph: MixedGraph, x: str, y: str) -> Iterator[Path]:
    """Yield the paths from x to y whose arrows all point forwards, shorter ones first."""
    return _paths(
        graph,
        x,
        y,
        {name: [("->", child) for child in graph.children(name)] for name in graph.nodes},
    )


def backdoor_paths(graph: MixedGraph, x: str, y: str) -> Iterator[Path]:
    """Yield the paths between x and y whose first arrow points into x, shorter ones first."""
    graph.names([x])
    into = [step for step in graph.steps[x] if step[0] != "->"]
    return _paths(graph, x, y, {**graph.steps, x: into})


def _paths(
    graph: MixedGraph, x: str, y: str, steps: Mapping[str, Sequence[Step]]
) -> Iterator[Path]:
    graph.disjoint(x=[x], y=[y])
    return (Path(nodes, arrows, graph) for nodes, arrows in walk(steps, x, y))


def walk(
    steps: Mapping[str, Sequence[Step]], start: str, goal: str
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield all ways from start to goal that visit no node twice, shorter ones first.

    Depth first, as far as the goal is still near enough; then again for ways one step longer, while
    there are any. Time between two ways is polynomial, but for those that were found before.

    Args:
        steps: From each node the arrow and the neighbour of every step.
        start: The first node.
        goal: The last node.

    Returns:
        Each way as its nodes and its arrows.
    """
    back: dict[str, list[str]] = {node: [] for node in steps}
    for node, ways in steps.items():
        for _, other in ways:
            back[other].append(node)
    shortest = _distances(back, goal, set())
    length, longer = shortest.get(start, 0) - 1, start in shortest
    while longer:
        length, longer = length + 1, False
        nodes, arrows = [start], list[str]()
        branches = [iter(steps[start])]
        near = [_distances(back, goal, {start})]
        while branches:
            left = length - len(nodes)
            for arrow, node in branches[-1]:
                if near[-1].get(node, 0) > left:
                    longer = True
                elif node == goal and left == 0:
                    yield (*nodes, node), (*arrows, arrow)
                elif node != goal and node in near[-1]:
                    nodes.append(node)
                    arrows.append(arrow)
                    branches.append(iter(steps[node]))
                    near.append(_distances(back, goal, set(nodes)))
                    break
            else:
                branches.pop()
                near.pop()
                nodes.pop()
                del arrows[-1:]


def _distances(back: Mapping[str, Sequence[str]], goal: str, walked: Set[str]) -> dict[str, int]:
    """Count the steps to the goal from every node that can reach it."""
    distance = {goal: 0}
    frontier = deque([goal])
    while frontier:
        node = frontier.popleft()
        for other in back[node]:
            if other not in distance and other not in walked:
                distance[other] = distance[node] + 1
                frontier.append(other)
    return distance
