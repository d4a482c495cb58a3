"""Front-door sets: mediators that tell the effect although treatment and outcome are confounded.

Z satisfies the front-door criterion for X and Y (Pearl, Biometrika 1995), so that

    p(y | do(x)) = sum_z p(z | x) sum_x' p(y | x', z) p(x'),

if

    1. Z meets every causal path from X to Y;
    2. no back-door path from X to Z is open: X and Z are separated without the arrows out of X;
    3. X blocks all back-door paths from Z to Y: Z and Y are separated given X without the arrows
       out of Z.

What satisfies 2 and 3 is closed under union. So among the nodes R that may be chosen there is a
greatest such set M(R): drop what violates 2, then what violates 3, until nothing does. A front-door
set exists in R if and only if M(R) satisfies 1, too (Jeong, Tian and Bareinboim, NeurIPS 2022). A
minimal one, S, is what is left when no node can be dropped; every other minimal set lacks some node
v of S, and so lies in R - v.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from typing import TYPE_CHECKING

from rung3.graph.separation import connected
from rung3.graph.separators import closure

if TYPE_CHECKING:
    from rung3.graph.causal_graph import CausalGraph

__all__ = ["minimal_front_doors"]


def minimal_front_doors(
    graph: CausalGraph, treatment: Set[str], outcome: Set[str]
) -> Iterator[frozenset[str]]:
    """All minimal sets that satisfy the front-door criterion, each once.

    Args:
        graph: The graph.
        treatment: X.
        outcome: Y.
    """

    def greatest(room: Set[str]) -> frozenset[str] | None:
        """M(R), if it meets every causal path."""
        chosen, before = frozenset(room), None
        while chosen != before:
            before = chosen
            chosen -= connected(graph.without_outgoing(*chosen), outcome, treatment)
        reached = closure(lambda node: set(graph.children(node)) - chosen, treatment)
        return None if reached & outcome else chosen

    def smallest(found: frozenset[str]) -> frozenset[str]:
        for node in graph.in_order(found):
            fewer = greatest(found - {node})
            found = found if fewer is None else fewer
        return found

    unconfounded = set(graph.nodes) - connected(graph.without_outgoing(*treatment), treatment)
    queue = deque([greatest(unconfounded - treatment - outcome)])
    seen: set[frozenset[str] | None] = {None}
    while queue:
        room = queue.popleft()
        if room in seen or room is None:
            continue
        found = smallest(room)
        if found not in seen:
            yield found
        seen |= {room, found}
        queue.extend(greatest(room - {node}) for node in graph.in_order(found))
