"""Front-door sets: mediators that tell the effect although treatment and outcome are confounded.

Z satisfies the front-door criterion for X and Y (Pearl, Biometrika 1995), so that

    p(y | do(x)) = sum_z p(z | x) sum_x' p(y | x', z) p(x'),

if

    1. Z meets every causal path from X to Y;
    2. no back-door path from X to Z is open: X and Z are separated without the arrows out of X;
    3. X blocks all back-door paths from Z to Y: Z and Y are separated given X without the arrows
       out of Z.

What satisfies 2 and 3 is closed under union. So among the nodes R that may be chosen there is a
greatest such set M(R), and a front-door set exists in R if and only if M(R) satisfies 1, too
(Jeong, Tian and Bareinboim, NeurIPS 2022). Both steps here take linear time, as in Wienöbst, van
der Zander and Liskiewicz (Linear-time algorithms for front-door adjustment, 2022).

M(R). No node of it is an ancestor of X, or 2 would fail; so it does not matter to colliders which
arrows out of R there are. One search from Y, given X, without these arrows, finds what violates 3.
Each node that it reaches is dropped, and the steps along the arrows out of it, which had to wait,
are taken then.

A minimal set. Let A be the nodes of M(R) with a causal path to Y that meets no other of M(R), and
B those of A with a causal path from X that meets no other of A. B meets every causal path, and
needs all its nodes for it. A back door from B to Y that is open must use an arrow out of M(R), for
M(R) leaves none open. The last node that it leaves so, it leaves by a causal path to Y, and is one
of A. So S is the least set that holds B, and every node of A to which an open way leads from S
without arrows out of A (but the last, taken backwards). Every other minimal set lacks some node v
of S, and so lies in R - v.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Set

from rung3.graph.m_separation import connected, passes
from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.separators import closure
from rung3.graph.text import Step

__all__ = ["minimal_front_doors"]


def minimal_front_doors(
    graph: MixedGraph, treatment: Set[str], outcome: Set[str]
) -> Iterator[frozenset[str]]:
    """Yield all minimal sets that satisfy the front-door criterion, each once.

    The first takes time linear in the size of the graph; each further one, so much times its own
    size.

    Args:
        graph: The graph.
        treatment: X.
        outcome: Y.
    """
    search = _Search(graph, treatment, outcome)
    unconfounded = set(graph.nodes) - connected(graph.without_outgoing(*treatment), treatment)
    queue = deque([search.greatest(unconfounded - treatment - outcome)])
    seen: set[frozenset[str] | None] = {None}
    while queue:
        room = queue.popleft()
        if room in seen or room is None:
            continue
        minimal = search.smallest(room)
        if minimal not in seen:
            yield minimal
        seen |= {room, minimal}
        # Every other minimal set lacks a node of this one.
        queue.extend(search.greatest(room - {node}) for node in graph.in_order(minimal))


class _Search:
    """The two searches for sets that tell the effect of X on Y."""

    def __init__(self, graph: MixedGraph, treatment: Set[str], outcome: Set[str]) -> None:
        self.graph, self.treatment, self.outcome = graph, treatment, outcome
        self.lifted = treatment | graph.ancestors(treatment)

    def steps(self, state: Step) -> Iterator[Step]:
        """Yield the steps from a state that X leaves open."""
        steps = self.graph.steps[state[1]]
        return (step for step in steps if passes(state, step, self.treatment, self.lifted))

    def greatest(self, room: Set[str]) -> frozenset[str] | None:
        """Return M(R), if it meets every causal path."""
        chosen = set(room)
        waiting = defaultdict[str, list[Step]](list)  # steps along the arrows out of a chosen node
        frontier = deque[Step](("", name) for name in self.outcome)
        seen = set[Step]()
        while frontier:
            state = frontier.popleft()
            if state in seen:
                continue
            seen.add(state)
            if state[1] in chosen:
                chosen.remove(state[1])
                frontier.extend(waiting.pop(state[1], ()))
            for step in self.steps(state):
                tail = {"->": state[1], "<-": step[1]}.get(step[0], "")
                (waiting[tail] if tail in chosen else frontier).append(step)
        reached = closure(lambda node: set(self.graph.children(node)) - chosen, self.treatment)
        return None if reached & self.outcome else frozenset(chosen)

    def smallest(self, room: frozenset[str]) -> frozenset[str]:
        """Return S, of M(R)."""
        graph = self.graph
        before = closure(lambda node: () if node in room else graph.parents(node), self.outcome)
        last = before & room
        behind = closure(lambda node: () if node in last else graph.children(node), self.treatment)
        chosen = behind & last
        frontier = deque[Step](("", name) for name in chosen)
        seen = set[Step]()
        while frontier:
            state = frontier.popleft()
            if state in seen:
                continue
            seen.add(state)
            for step in self.steps(state):
                if step[0] == "->" and state[1] in last:
                    continue
                if step[1] in last:
                    chosen.add(step[1])
                frontier.append(("", step[1]) if step[1] in last else step)
        return frozenset(chosen)
