"""Separation with its reasons: which paths are open, and what blocks the others.

X and Y are m-separated given Z if each path between them is blocked: by a non-collider in Z, or by
a collider such that neither it nor any descendant of it is in Z (see `rung3.graph.paths`; without
bidirected arrows this is d-separation). If they are, X and Y are independent given Z in every model
of the graph; if not, they are dependent in almost every one.

A path that is open is found in linear time. The state of the search is a node and the arrow by
which the search reached it, so that each step can be judged. Its shortest way visits no node twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.paths import Path, Turn, paths
from rung3.graph.text import Names, Step

__all__ = ["Separation", "connected", "open_path", "passes", "separation"]


@dataclass(frozen=True)
class Separation:
    """The answer whether X and Y are separated given Z, and why.

    Attributes:
        x: X, in the graph's order.
        y: Y.
        given: Z.
        separated: The answer; the object itself is true or false like it.
        open: Paths that are open, shorter ones first; at least one if not separated.
        blocked: Paths that are blocked.
        complete: Whether these are all paths; if not, there were more than the limit.
    """

    x: tuple[str, ...]
    y: tuple[str, ...]
    given: tuple[str, ...]
    separated: bool
    open: tuple[Path, ...]
    blocked: tuple[Path, ...]
    complete: bool

    def __bool__(self) -> bool:
        return self.separated

    def __str__(self) -> str:
        verdict = "separated" if self.separated else "not separated"
        known = f" given {', '.join(self.given)}" if self.given else ""
        lines = [f"{', '.join(self.x)} and {', '.join(self.y)} are {verdict}{known}"]
        lines += [_reason(path, self.given) for path in (*self.open, *self.blocked)]
        if not (self.open or self.blocked):
            lines.append("  no path joins them")
        return "\n".join(lines if self.complete else [*lines, "  and other paths"])


def separation(graph: Any, x: Names, y: Names, given: Names = (), *, limit: int = 20) -> Separation:
    """Say whether X and Y are separated given Z, with every path and what blocks it.

    Args:
        graph: The graph.
        x: One name or several.
        y: One name or several.
        given: Z, the names conditioned on.
        limit: List at most so many paths; the answer itself does not depend on it.

    Raises:
        ValueError: If a name is unknown or in two of the sets.

    >>> from rung3.graph import CausalGraph
    >>> graph = CausalGraph("size -> {treatment recovery}; {treatment recovery} -> cost")
    >>> print(separation(graph, "treatment", "recovery", given="cost"))
    treatment and recovery are not separated given cost
      open: treatment -> cost <- recovery, for cost (a collider) is given
      open: treatment <- size -> recovery
    """
    graph = MixedGraph.given(graph)
    starts, goals, known = (graph.in_order(s) for s in graph.disjoint(x=x, y=y, given=given))
    between = (path for a, b in product(starts, goals) for path in paths(graph, a, b))
    listed = list(islice(between, limit + 1))
    complete = len(listed) <= limit
    opened = [path for path in listed[:limit] if path.is_open(known)]
    blocked = [path for path in listed[:limit] if path not in opened]
    shown = None if opened else open_path(graph, starts, goals, known)
    if shown is not None:
        opened = [shown]
    return Separation(starts, goals, known, not opened, tuple(opened), tuple(blocked), complete)


def open_path(graph: MixedGraph, x: Names, y: Names, given: Names = ()) -> Path | None:
    """Find a shortest path between X and Y that is open given Z; `None` if separated.

    Args:
        graph: The graph.
        x: One name or several.
        y: One name or several.
        given: Z.
    """
    starts, goals, known = graph.disjoint(x=x, y=y, given=given)
    previous = dict[Step, Step | None]()
    for state, before in _search(graph, graph.in_order(starts), known):
        previous[state] = before
        if state[1] in goals:
            return _path(graph, previous, state)
    return None


def connected(graph: MixedGraph, x: Names, given: Names = ()) -> set[str]:
    """Return X, and all variables not in Z that are not separated from X given Z.

    Args:
        graph: The graph.
        x: One name or several.
        given: Z.
    """
    starts, known = graph.disjoint(x=x, given=given)
    return {node for (_, node), _ in _search(graph, graph.in_order(starts), known)} - known


def _search(
    graph: MixedGraph, starts: Sequence[str], known: Set[str]
) -> Iterator[tuple[Step, Step | None]]:
    """Yield every state that an open way reaches, nearest first, and the state before it."""
    lifted = known | graph.ancestors(known)
    frontier: deque[tuple[Step, Step | None]] = deque((("", name), None) for name in starts)
    seen = {state for state, _ in frontier}
    while frontier:
        state, before = frontier.popleft()
        yield state, before
        for step in graph.steps[state[1]]:
            if step not in seen and passes(state, step, known, lifted):
                seen.add(step)
                frontier.append((step, state))


def passes(state: Step, step: Step, known: Set[str], lifted: Set[str]) -> bool:
    """Return whether an open way that enters a node by one arrow may leave by another.

    Args:
        state: The arrow that it came by, empty at its start, and the node.
        step: The arrow that it leaves by, and where to.
        known: What is given.
        lifted: What is given, and its ancestors: the colliders that are open.
    """
    arrow, node = state
    collider = arrow.endswith(">") and step[0].startswith("<")
    return not arrow or (node in lifted if collider else node not in known)


def _path(graph: MixedGraph, previous: Mapping[Step, Step | None], last: Step) -> Path:
    """Return the path by which the search reached a state."""
    nodes, arrows = list[str](), list[str]()
    state: Step | None = last
    while state is not None:
        arrows.append(state[0])
        nodes.append(state[1])
        state = previous[state]
    return Path(tuple(reversed(nodes)), tuple(reversed(arrows[:-1])), graph)


def _reason(path: Path, given: Sequence[str]) -> str:
    """Write one line: the path, and what blocks it, or what opens its colliders."""
    if blocks := path.blocked_by(given):
        whys = [f"{node} ({_block(path.turns[node])})" for node in blocks]
        return f"  blocked: {path}, by {' and '.join(whys)}"
    opened = []
    for node in path.colliders:
        state = "is" if node in given else "has an effect that is"
        opened.append(f"{node} (a collider) {state} given")
    return f"  open: {path}" + (f", for {' and '.join(opened)}" if opened else "")


def _block(turn: Turn) -> str:
    if turn == "collider":
        return "a collider, neither it nor an effect of it given"
    return f"a {turn}, given" if turn == "fork" else "in a chain, given"
