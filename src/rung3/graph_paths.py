"""Paths of a causal graph, and what blocks them.

A path visits no node twice and may follow arrows either way. An inner node is a collider if both
arrows point at it, ``-> m <-``. Given a set Z, a node blocks the path if

    it is no collider and is in Z,    or
    it is a collider, and neither it nor any descendant of it is in Z;

x and y are d-separated given Z if every path between them is blocked (Pearl, Causality, 2009,
definition 1.2.3; where there are hidden common causes, ``<->``, m-separated: Richardson, Scand. J.
Stat. 2003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from rung3.graph_text import quote

if TYPE_CHECKING:
    from rung3.graph import CausalGraph

Step: TypeAlias = tuple[str, str]
"""An arrow, as seen from the node that it starts at, and the neighbour that it leads to."""


@dataclass(frozen=True, repr=False)
class Path:
    """A path of a graph: its nodes, and the arrow (``->``, ``<-`` or ``<->``) between each two.

    >>> from rung3.graph import CausalGraph
    >>> path, = CausalGraph("treatment <- size -> recovery").paths("treatment", "recovery")
    >>> path, path.backdoor, path.is_open(), path.is_open(given="size")
    (Path('treatment <- size -> recovery'), True, True, False)
    """

    nodes: tuple[str, ...]
    arrows: tuple[str, ...]
    graph: CausalGraph = field(compare=False)

    @property
    def directed(self) -> bool:
        """Whether every arrow points forwards: a causal path."""
        return all(arrow == "->" for arrow in self.arrows)

    @property
    def backdoor(self) -> bool:
        """Whether the first arrow points into the first node."""
        return self.arrows[0].startswith("<")

    @property
    def colliders(self) -> tuple[str, ...]:
        """The inner nodes at which two arrowheads meet."""
        turns = zip(self.nodes[1:-1], self.arrows, self.arrows[1:], strict=False)
        return tuple(node for node, come, go in turns if come.endswith(">") and go.startswith("<"))

    def blocked_by(self, given: str | Iterable[str] = ()) -> tuple[str, ...]:
        """The nodes that block the path, in its order; none if it is open.

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
        """Whether nothing blocks the path given these names; see `blocked_by`."""
        return not self.blocked_by(given)

    def __str__(self) -> str:
        links = zip(self.arrows, self.nodes[1:], strict=True)
        return quote(self.nodes[0]) + "".join(f" {arrow} {quote(node)}" for arrow, node in links)

    def __repr__(self) -> str:
        return f"Path({str(self)!r})"


def walk(
    start: str, goal: str, ahead: Callable[[list[str]], Iterable[Step]]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """All ways from start to goal, depth first, each as its nodes and its arrows.

    Args:
        start: The first node.
        goal: The last node.
        ahead: The steps that go on from the nodes walked so far. If each of them can still come to
            the goal, the time between two ways is polynomial.
    """
    nodes: list[str] = [start]
    arrows: list[str] = []
    branches = [iter(ahead(nodes))]
    while branches:
        for arrow, node in branches[-1]:
            if node == goal:
                yield (*nodes, node), (*arrows, arrow)
                continue
            nodes.append(node)
            arrows.append(arrow)
            branches.append(iter(ahead(nodes)))
            break
        else:
            branches.pop()
            nodes.pop()
            del arrows[-1:]


def fruitful(steps: Mapping[str, list[Step]], nodes: list[str], goal: str) -> list[Step]:
    """The steps from the last of the nodes that can still come to the goal by other nodes.

    Args:
        steps: The steps from each node; for each there is one back.
        nodes: The nodes walked so far.
        goal: The node to come to.
    """
    seen = {goal, *nodes}
    frontier = [goal]
    while frontier:
        fresh = {node for _, node in steps[frontier.pop()]} - seen
        seen |= fresh
        frontier.extend(fresh)
    walked = set(nodes)
    return [step for step in steps[nodes[-1]] if step[1] in seen and step[1] not in walked]
