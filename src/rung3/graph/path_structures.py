"""The structures that every path is made of (lecture, Figure 11).

    fork       a <- m -> b              dependent; independent given m    Figure 11 a: confounding
    collider   a -> m <- b              independent; dependent given m    Figure 11 b: selection
    chain      a -> m -> b              dependent; independent given m    Figure 11 c: mediation
    M          a <- u -> m <- v -> b    independent; dependent given m    a collider of two forks

so far as these arrows alone are concerned. A bidirected arrow has a head at both ends, so that
`a <-> m <- b` is a collider and `a <-> m -> b` a chain; in an M it may stand for either fork, which
it is, with a hidden middle. A structure whose ends are joined by an arrow as well is *shielded*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, TypeAlias, get_args

from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.paths import Path
from rung3.graph.text import Step

__all__ = ["Kind", "Structure", "structures"]

Kind: TypeAlias = Literal["chain", "fork", "collider", "M"]


@dataclass(frozen=True)
class Structure:
    """A chain, fork, collider or M.

    Attributes:
        kind: Which of them.
        path: Its nodes and arrows.
        middle: The node that tells: a fork's cause, a chain's mediator, a collider.
    """

    kind: Kind
    path: Path
    middle: str

    @property
    def ends(self) -> tuple[str, str]:
        """The two variables that it makes dependent or not."""
        return self.path.nodes[0], self.path.nodes[-1]

    @property
    def shielded(self) -> bool:
        """Whether an arrow joins the ends directly."""
        first, last = self.ends
        return any(node == last for _, node in self.path.graph.steps[first])

    def __str__(self) -> str:
        a, b = self.ends
        means = (
            f"{a} and {b} are independent by this path, and dependent given {self.middle}"
            if self.kind in ("collider", "M")
            else f"{a} and {b} are dependent by this path, and independent given {self.middle}"
        )
        joined = "; they are joined directly too" if self.shielded else ""
        return f"{self.kind} {self.path}: {means}{joined}"


def structures(
    graph: Any, kind: Kind | None = None, *, ends: tuple[str, str] | None = None
) -> Iterator[Structure]:
    """Yield all structures of a graph, by their middle in the graph's order.

    Args:
        graph: The graph.
        kind: Only of this kind.
        ends: Only those between these two variables.

    Raises:
        ValueError: If the kind is none, or a name is unknown.

    >>> from rung3.graph import CausalGraph
    >>> for one in structures(CausalGraph("size -> {treatment recovery}; treatment -> recovery")):
    ...     print(one.kind, one.path)
    fork treatment <- size -> recovery
    chain size -> treatment -> recovery
    collider size -> recovery <- treatment
    """
    graph = MixedGraph.given(graph)
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"kind: expected one of {', '.join(get_args(Kind))}, got {kind!r}.")
    if ends is not None:
        graph.disjoint(ends=[ends[0]], other=[ends[1]])
    every = _all(graph, kind)
    return every if ends is None else (one for one in every if set(one.ends) == set(ends))


def _all(graph: MixedGraph, kind: Kind | None) -> Iterator[Structure]:
    for middle in graph.nodes:
        towards = sorted(graph.steps[middle], key=lambda step: step[0] == "->")  # causes first
        for one, other in combinations(towards, 2):
            path = _through(graph, [one], middle, [other])
            if path and kind in (None, path.turns[middle]):
                yield Structure(path.turns[middle], path, middle)
        for left, right in combinations(_forks(graph, middle), 2) if kind in (None, "M") else ():
            path = _through(graph, left, middle, right)
            if path:
                yield Structure("M", path, middle)


def _forks(graph: MixedGraph, middle: str) -> Iterator[list[Step]]:
    """Yield the steps from an M's middle to either end, by a cause or by a hidden one."""
    for cause in graph.parents(middle):
        yield from ([("<-", cause), ("->", end)] for end in graph.children(cause) if end != middle)
    yield from ([("<->", spouse)] for spouse in graph.spouses(middle))


def _through(graph: MixedGraph, left: list[Step], middle: str, right: list[Step]) -> Path | None:
    """Return the path of two ways from its middle, if they have no node in common."""
    flipped = {"->": "<-", "<-": "->", "<->": "<->"}
    nodes = (*(node for _, node in reversed(left)), middle, *(node for _, node in right))
    arrows = (*(flipped[arrow] for arrow, _ in reversed(left)), *(arrow for arrow, _ in right))
    return Path(nodes, arrows, graph) if len(set(nodes)) == len(nodes) else None
