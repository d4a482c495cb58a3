"""All minimal sets that separate two sets of nodes of a directed graph, one at a time.

Every minimal separator of X and Y, given W, lies among the ancestors of X, Y and W. There,
d-separation is plain separation in the moral graph H without W, so the minimal separators are those
of H among the nodes that may be chosen. Let C(S) be the part of H - S that Y is in. For each
minimal S and each v in S, the separator nearest to C(S) + v is minimal too, and all are reached in
this way from the one nearest to Y (Kloks and Kratsch, SIAM J. Comput. 1998), in
O(nodes * edges) each. Hidden common causes are nodes that cannot be chosen (van der Zander,
Liskiewicz and Textor, UAI 2014).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

import networkx as nx

Nodes = AbstractSet[Any]
Node = TypeVar("Node", bound=Hashable)


def minimal_separators(
    dag: nx.DiGraph,
    near: Nodes,
    far: Nodes,
    allowed: Sequence[str],
    given: Nodes = frozenset(),
) -> Iterator[frozenset[str]]:
    """Yield all minimal sets that d-separate two sets of nodes, each once.

    Args:
        dag: The graph, hidden common causes included as nodes.
        near: The nodes on one side; the separators closest to them come first.
        far: The nodes on the other side.
        allowed: The nodes that may be chosen, in the order in which they are tried; those near,
            far or given are not.
        given: Nodes conditioned on in any case; they are not part of the sets.
    """
    ancestral = closure(dag.predecessors, near | far | given)
    moral = nx.moral_graph(dag.subgraph(ancestral))
    links = {node: set(moral[node]) - given for node in moral if node not in given}
    rank = {name: at for at, name in enumerate(allowed) if name in ancestral - near - far - given}
    return _undirected(links, near, far, rank)


def _undirected(
    links: Mapping[Any, Nodes],
    near: Nodes,
    far: Nodes,
    rank: Mapping[str, int],
) -> Iterator[frozenset[str]]:
    """Yield all minimal sets that separate two sides of an undirected graph, each once.

    Args:
        links: The neighbours of each node.
        near: The nodes on one side.
        far: The nodes on the other side.
        rank: The nodes that may be chosen, none of them near or far, and their order.
    """

    def part(start: Nodes, walls: Nodes) -> set[Any]:
        return closure(lambda node: links[node] - walls, start)

    def border(side: Nodes) -> frozenset[str]:
        return frozenset[str]().union(*(links[node] for node in side)) - side

    def separator(side: Nodes) -> frozenset[str] | None:
        side = part(side, rank.keys() - side)
        return None if side & far else border(part(far, border(side)))

    first = separator(near)
    queue = deque([] if first is None else [first])
    seen = set(queue)
    while queue:
        minimal = queue.popleft()
        yield minimal
        side = part(near, minimal)
        for node in sorted(minimal, key=rank.__getitem__):
            other = separator(side | {node})
            if other is not None and other not in seen:
                seen.add(other)
                queue.append(other)


def closure(step: Callable[[Node], Iterable[Node]], start: Iterable[Node]) -> set[Node]:
    """Return everything that steps lead to from the start, which is included."""
    seen = set(start)
    frontier = list(seen)
    while frontier:
        fresh = set(step(frontier.pop())) - seen
        seen |= fresh
        frontier.extend(fresh)
    return seen
