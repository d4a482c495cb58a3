r"""Which variables to adjust for: the adjustment criterion, and all minimal sets that satisfy it.

Adjusting for Z gives the effect of X on Y,

    p(y | do(x)) = sum_z p(y | x, z) p(z),

in every model of the graph if and only if

    1. no z in Z is in Forb = De(PCP), where PCP are the nodes, X aside, on causal paths from X to Y
       that do not return to X;
    2. Z d-separates X and Y in the proper back-door graph: the graph without the arrows X -> PCP

(Shpitser, VanderWeele and Robins, UAI 2010; Perkovic et al., JMLR 2018; in this form van der
Zander, Liskiewicz and Textor, UAI 2014). Hidden common causes are nodes that cannot be chosen.

Every minimal Z lies among the ancestors of X and Y. There, d-separation is plain separation in the
moral graph H, so the minimal Z are the minimal separators of H among the nodes that may be chosen.
Let C(S) be the part of H - S that Y is in. For each minimal S and each v in S, the separator
nearest to C(S) + v is minimal too, and all are reached in this way from the one nearest to Y
(Kloks and Kratsch, SIAM J. Comput. 1998), in O(nodes * edges) each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import networkx as nx

Nodes = AbstractSet[Hashable]


def criterion(
    dag: nx.DiGraph, treatment: Nodes, outcome: Nodes
) -> tuple[nx.DiGraph, set[Hashable]]:
    """The proper back-door graph, and the set Forb of the nodes never to adjust for.

    Args:
        dag: The graph, hidden common causes included as nodes.
        treatment: X.
        outcome: Y.
    """
    cut = nx.restricted_view(dag, [], list(dag.in_edges(treatment)))
    kept = nx.restricted_view(dag, [], list(dag.out_edges(treatment)))
    after = _closure(cut.successors, treatment) - treatment
    on_the_way = after & _closure(kept.predecessors, outcome)
    backdoor = nx.restricted_view(
        dag, [], [edge for edge in dag.out_edges(treatment) if edge[1] in on_the_way]
    )
    return backdoor, _closure(dag.successors, on_the_way)


def minimal_adjustments(
    dag: nx.DiGraph, treatment: Nodes, outcome: Nodes, rank: Mapping[Any, int]
) -> Iterator[frozenset[Hashable]]:
    """All minimal adjustment sets, the one nearest to the outcome first.

    Without hidden causes this first one gives the least asymptotic variance of all minimal sets
    (Rotnitzky and Smucler, JMLR 2020).

    Args:
        dag: The graph, hidden common causes included as nodes.
        treatment: X.
        outcome: Y.
        rank: The nodes that may be chosen, and the order in which they are tried.
    """
    backdoor, forbidden = criterion(dag, treatment, outcome)
    ancestral = _closure(backdoor.predecessors, treatment | outcome)
    moral = nx.moral_graph(backdoor.subgraph(ancestral))
    links = {node: set(moral[node]) for node in moral}
    choice = (ancestral & set(rank)) - treatment - outcome - forbidden
    return minimal_separators(links, outcome, treatment, choice, rank)


def minimal_separators(
    links: Mapping[Hashable, Nodes],
    near: Nodes,
    far: Nodes,
    allowed: Nodes,
    rank: Mapping[Any, int],
) -> Iterator[frozenset[Hashable]]:
    """All minimal sets of allowed nodes that part two sides of an undirected graph, each once.

    Args:
        links: The neighbours of each node.
        near: The nodes on one side; the separators closest to them come first.
        far: The nodes on the other side.
        allowed: The nodes that may be chosen, none of them near or far.
        rank: The order in which nodes are tried.
    """

    def part(start: Nodes, walls: Nodes) -> set[Hashable]:
        return _closure(lambda node: links[node] - walls, start)

    def border(side: Nodes) -> frozenset[Hashable]:
        return frozenset[Hashable]().union(*(links[node] for node in side)) - side

    def separator(side: Nodes) -> frozenset[Hashable] | None:
        side = part(side, allowed - side)
        return None if side & far else border(part(far, border(side)))

    first = separator(near)
    queue = deque([] if first is None else [first])
    seen = set(queue)
    while queue:
        found = queue.popleft()
        yield found
        side = part(near, found)
        for node in sorted(found, key=rank.__getitem__):
            other = separator(side | {node})
            if other is not None and other not in seen:
                seen.add(other)
                queue.append(other)


def _closure(
    step: Callable[[Hashable], Iterable[Hashable]], start: Iterable[Hashable]
) -> set[Hashable]:
    """Everything that steps lead to from the start, which is included."""
    seen = set(start)
    frontier = list(seen)
    while frontier:
        fresh = set(step(frontier.pop())) - seen
        seen |= fresh
        frontier.extend(fresh)
    return seen
