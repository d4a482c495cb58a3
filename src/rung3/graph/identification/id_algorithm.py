r"""The ID algorithm: an interventional distribution from the observational one, or why not.

For sets of variables write Q[C] = P(c | do(v \ c)). With a bidirected arrow for each hidden common
cause, and with districts the parts that such arrows connect, two facts carry all (Tian and Pearl,
AAAI 2002), v_1, v_2, ... being in causal order:

    Q[V] = prod over districts S of Q[S],   Q[S] = prod_{v_i in S} P(v_i | v_1, ..., v_{i-1});
    sum over H \ A of Q[H] = Q[A]   if A holds all its ancestors in the graph of H.

Let Y be asked for under do(X), D be the ancestors of Y in the graph without X, and D_1, D_2, ...
the districts of D. Then

    P(y | do(x)) = sum over D \ Y of prod_i Q[D_i],

and each Q[C] is found from the Q[T] of the district T that C is in. Let A be the ancestors of C in
the graph of T. If A = C, sum. If A is smaller than T, sum to Q[A], and go on with the district of A
that C is in. If A = T, there is a *hedge*: C and T are two nested districts that no distribution
tells apart, and P(y | do(x)) is not identified; so this is complete (Shpitser and Pearl, AAAI
2006; Huang and Valtorta, UAI 2006). Given Z, a z that is separated from Y without the arrows out of
it, in the graph of do(X), may as well be set; then P(y | do(x), z) = P(y, z | do(x)) / P(z | do(x))
(Shpitser and Pearl, UAI 2006). A formula may name variables on which its value does not depend; it
is averaged over them.

This is written out here, and not left to a library: it is short, and its formulas stay readable.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from rung3.graph.identification.estimand import (
    Formula,
    Probability,
    Sum,
    product,
    ratio,
    sum_out,
    variables,
)
from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.separators import closure
from rung3.graph.text import quote

__all__ = ["Hedge", "NotIdentified", "identified"]


@dataclass(frozen=True)
class Hedge:
    """Two nested districts, the outer of which is all ancestors of the inner.

    Attributes:
        outer: T.
        inner: C, without the variables that are set.
        bidirected: The hidden common causes that hold T together.
    """

    outer: tuple[str, ...]
    inner: tuple[str, ...]
    bidirected: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        outer, inner = (", ".join(map(quote, names)) for names in (self.outer, self.inner))
        apart = [name for name in self.outer if name not in self.inner]
        do = "does" if len(apart) == 1 else "do"
        hidden = ", ".join(f"{quote(a)} <-> {quote(b)}" for a, b in self.bidirected)
        return (
            f"hidden common causes ({hidden}) join {{{outer}}}, all of which act on {{{inner}}}: "
            f"what {', '.join(map(quote, apart))} {do} to it cannot be told from what they share "
            "(a hedge)"
        )


class NotIdentified(Exception):  # noqa: N818 - the name of the finding
    """Raised with what stands in the way: a hedge, or that two worlds are asked of at once."""


def identified(
    graph: MixedGraph, outcome: Set[str], treatment: Set[str], given: Set[str] = frozenset()
) -> Formula:
    """Find the formula of `P(outcome | do(treatment), given)` over what is observed.

    Args:
        graph: The graph.
        outcome: Y.
        treatment: X.
        given: Z.

    Raises:
        NotIdentified: If there is none.

    >>> from rung3.graph import CausalGraph
    >>> print(identified(CausalGraph("x -> m -> y; x <-> y"), {"y"}, {"x"}))
    Σ_m P(m | x) Σ_x' P(x') P(y | x', m)
    """
    done = graph.do(*treatment)
    for z in graph.in_order(given):
        others = treatment | given - {z}
        if done.without_outgoing(z).d_separated(outcome, z, others):
            return identified(graph, outcome, treatment | {z}, given - {z})
    joint = _joint(graph, outcome | given, treatment)
    formula = ratio(joint, sum_out(joint, graph.in_order(outcome))) if given else joint
    return averaged(graph, formula, outcome | treatment | given)


def averaged(graph: MixedGraph, formula: Formula, free: Set[str]) -> Formula:
    """Average a formula over variables that it names but does not depend on."""
    other = graph.in_order(variables(formula) - free)
    return Sum(other, product([Probability(other), formula])) if other else formula


def district_factor(graph: MixedGraph, part: Set[str]) -> Formula:
    """Find Q[part], of variables that bidirected arrows among them connect.

    Args:
        graph: The graph.
        part: C.

    Raises:
        NotIdentified: If it is not identified.
    """
    district = _district(graph, graph.in_order(part))
    return identify_within(graph, part, district, _observed(graph, district))


def _joint(graph: MixedGraph, outcome: Set[str], treatment: Set[str]) -> Formula:
    """Find `P(outcome | do(treatment))`."""
    whole = graph.subgraph(outcome | graph.ancestors(outcome))
    acting = whole.subgraph(set(whole.nodes) - treatment)
    relevant = acting.subgraph(outcome | acting.ancestors(outcome))
    factors = [district_factor(whole, frozenset(part)) for part in relevant.districts]
    return sum_out(product(factors), whole.in_order(set(relevant.nodes) - outcome))


def identify_within(
    graph: MixedGraph, part: Set[str], district: Set[str], known: Formula
) -> Formula:
    """Find Q[part] from `known`, the Q of the district that it is in.

    Args:
        graph: The graph.
        part: C.
        district: T.
        known: Q[T].

    Raises:
        NotIdentified: If it is not identified.
    """
    inner = graph.subgraph(district)
    above = part | inner.ancestors(part)
    total = sum_out(known, graph.in_order(district - above))
    if above == part:
        return total
    if above == district:
        hedge = Hedge(graph.in_order(district), graph.in_order(part), inner.bidirected)
        raise NotIdentified(str(hedge))
    smaller = _district(graph.subgraph(above), graph.in_order(part))
    order = [name for name in graph.order if name in above]
    until = [sum_out(total, order[at:]) for at in range(len(order) + 1)]
    factors = [
        ratio(until[at + 1], until[at]) for at, name in enumerate(order) if name in smaller
    ]  # fmt: skip
    return identify_within(graph, part, smaller, product(factors))


def _district(graph: MixedGraph, part: tuple[str, ...]) -> frozenset[str]:
    """Return the variables that bidirected arrows connect to a part."""
    return frozenset(closure(graph.spouses, part))


def _observed(graph: MixedGraph, district: Set[str]) -> Formula:
    """Return Q[district]: each variable given the predecessors that it depends on."""
    factors = []
    for at, name in enumerate(graph.order):
        if name in district:
            before = graph.subgraph(graph.order[: at + 1])
            beside = _district(before, (name,))
            causes = frozenset[str]().union(*(before.parents(one) for one in beside))
            factors.append(Probability((name,), graph.in_order((beside | causes) - {name})))
    return product(factors)
