r"""Effects in a class of graphs with hidden causes (a PAG): IDP.

Q[C] is the distribution of C when all else is set. In the part P_T of a PAG, buckets are the
variables that paths of o-o join; two variables are in one possible c-component if a path joins
them whose inner nodes are colliders and whose edges are not visible, in one definite c-component if
a path of <-> does. With D the possible ancestors of Y once X is gone,

    P(y | do(x)) = sum_{D \ Y} Q[D],

and Q[C] is found from Q[T], T = all variables at first, in turn by

1. leaving out a bucket B of T \ C, none of whose possible children outside of B is in its possible
   c-component: with S its definite c-component, and the buckets in a partial order,

       Q[T \ B] = Q[T] / q sum_B q,    q = prod_{B_i in S} Q[T](B_i | B_1, ..., B_{i-1});

2. taking C apart, R_A being the union of the buckets that meet the possible c-component of A in C:

       Q[C] = Q[R_B] Q[R_{C \ R_B}] / Q[R_B n R_{C \ R_B}].

What neither takes further is not the same in all graphs of the class (Jaber, Zhang and Bareinboim,
ICML 2019, complete). Where a set is right to adjust for in all graphs, that formula is given: it is
shorter (the generalised criterion: Perkovic, Textor, Kalisch and Maathuis, JMLR 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rung3.data.printed import Printed
from rung3.graph.ancestral import AncestralClass
from rung3.graph.causal_graph import CausalGraph
from rung3.graph.identification.estimand import (
    Formula,
    Probability,
    product,
    ratio,
    sum_out,
)
from rung3.graph.identification.simplification import simplified
from rung3.graph.text import Names, Pair, quote

__all__ = ["AncestralEffect", "identify_in_ancestral_class"]

Part = frozenset[str]


@dataclass(frozen=True)
class AncestralEffect(Printed):
    """Whether all graphs of a class, hidden causes included, agree on an effect.

    Attributes:
        treatment: X.
        outcome: Y.
        formula: `P(y | do(x))` in all of them; `None` if they differ. The object itself is true if
            they agree.
        edge: If they differ, an edge out of which a hidden cause, or the other direction, cannot be
            told apart.
    """

    treatment: tuple[str, ...]
    outcome: tuple[str, ...]
    formula: Formula | None
    edge: str = ""

    def __bool__(self) -> bool:
        return self.formula is not None

    def __str__(self) -> str:
        x, y = (", ".join(map(quote, names)) for names in (self.treatment, self.outcome))
        if self.formula is not None:
            return f"P({y} | do({x})) is the same in all graphs of the class\n  = {self.formula}"
        why = f": {self.edge} may be a cause, a hidden common cause, or both" if self.edge else ""
        return f"P({y} | do({x})) differs among the graphs of the class{why}"


def identify_in_ancestral_class(members: Any, treatment: Names, outcome: Names) -> AncestralEffect:
    """Say whether all graphs of a class with hidden causes agree on an effect, and on its formula.

    Args:
        members: The class, as `rung3.graph.ancestral_class` finds it for a graph; or its text,
            which `read_ancestral` reads; or one of its graphs.
        treatment: X, one name or several.
        outcome: Y, one name or several.

    Raises:
        ValueError: If a name is unknown, or in both.

    >>> from rung3.graph import read_ancestral
    >>> print(identify_in_ancestral_class(read_ancestral("a o-> x; b o-> x; x -> y"), "x", "y"))
    P(y | do(x)) is the same in all graphs of the class
      = P(y | x)
    >>> print(identify_in_ancestral_class("x o-> y; z o-> y", "x", "y"))
    P(y | do(x)) differs among the graphs of the class: x o-> y may be a cause, a hidden common
    cause, or both
    """
    members = AncestralClass.given(members)
    skeleton = CausalGraph.of(members.nodes)
    x, y = skeleton.disjoint(treatment=treatment, outcome=outcome)
    names = skeleton.in_order(x), skeleton.in_order(y)
    everything = frozenset(members.nodes)
    above = members.subgraph(everything - x).possible_ancestors(y)
    first = _towards(members, x, above)
    if not first:
        return AncestralEffect(*names, Probability(names[1]))
    given = _adjustment(members, x, y, first)
    if given is not None:
        return AncestralEffect(*names, _adjusted(*names, skeleton.in_order(given)))
    q = _identify(members, above, everything, Probability(members.nodes))
    if q is None:
        unsure = (pair for pair in first if not members.is_visible(*pair))
        edge = next((str(members.subgraph(frozenset(pair))) for pair in unsure), "")
        return AncestralEffect(*names, None, edge)
    return AncestralEffect(*names, simplified(sum_out(q, skeleton.in_order(above - y))))


def _towards(members: AncestralClass, x: Part, above: Part) -> list[Pair]:
    """Return the edges that possibly directed paths from X to Y begin with."""
    return [
        (a, b)
        for a in members.nodes
        for b in members.adjacent(a)
        if a in x and b in above and members.may_cause(a, b)
    ]


def _adjustment(members: AncestralClass, x: Part, y: Part, first: Sequence[Pair]) -> Part | None:
    """Return a set that is right to adjust for in all graphs of the class; `None` if there is none.

    The possible ancestors of X and Y that are not possible effects on the way are one if any is.
    """
    if not all(members.is_visible(a, b) for a, b in first):
        return None
    without = members.subgraph(frozenset(members.nodes) - x)
    above = without.possible_ancestors(y)
    on_the_way = without.possible_descendants(frozenset(b for _, b in first)) & above
    forbidden = members.possible_descendants(on_the_way)
    known = members.possible_ancestors(x | y) - x - y - forbidden
    rest = members.member().without_edges(first)
    if not rest.d_separated(x, y, known):
        return None
    for name in sorted(known):
        if rest.d_separated(x, y, known - {name}):
            known = known - {name}
    return known


def _adjusted(x: tuple[str, ...], y: tuple[str, ...], given: tuple[str, ...]) -> Formula:
    """Return the formula of adjustment."""
    factors = [Probability(y, (*x, *given)), *([Probability(given)] if given else [])]
    return sum_out(product(factors), given)


def _identify(members: AncestralClass, wanted: Part, known: Part, q: Formula) -> Formula | None:
    """Return Q[wanted] from Q[known]; `None` if the class does not tell it."""
    if not wanted or wanted == known:
        return q if wanted else product([])
    part = members.subgraph(known)
    for bucket in _buckets(part):
        if bucket.isdisjoint(wanted) and _can_leave(members, part, bucket):
            rest = _without(part, bucket, q)
            return _identify(members, wanted, known - bucket, rest)
    inside = members.subgraph(wanted)
    for bucket in _buckets(inside):
        region = _region(members, inside, bucket)
        if region != wanted:
            others = _region(members, inside, wanted - region)
            factors = [_identify(members, c, known, q) for c in (region, others, region & others)]
            if None in factors:
                return None
            first, second, both = factors
            return ratio(product([first, second]), both)  # type: ignore[list-item,arg-type]
    return None


def _buckets(part: AncestralClass) -> list[Part]:
    """Return the variables that o-o edges join, the causes first."""
    buckets = [
        part.reach(frozenset((name,)), lambda a, b: part.is_(a, b, "circle", "circle"))
        for name in part.nodes
    ]
    left, order = list(dict.fromkeys(buckets)), list[Part]()
    while left:
        last = next(one for one in left if _is_last(part, one, frozenset().union(*left)))
        left.remove(last)
        order.insert(0, last)
    return order


def _is_last(part: AncestralClass, bucket: Part, rest: Part) -> bool:
    """Return whether all edges from the rest point to a bucket."""
    return all(
        part.marks[other, name] == "arrow"
        for name in bucket
        for other in part.adjacent(name)
        if other in rest - bucket
    )


def _can_leave(members: AncestralClass, part: AncestralClass, bucket: Part) -> bool:
    """Return whether no possible child of a bucket is in its possible c-component."""
    children = {k for name in bucket for k in part.adjacent(name) if part.may_cause(name, k)}
    return not (_component(members, part, bucket) & children) - bucket


def _without(part: AncestralClass, bucket: Part, q: Formula) -> Formula:
    """Return Q[T without a bucket] from Q[T]."""
    definite = part.reach(bucket, lambda a, b: part.is_(a, b, "arrow", "arrow"))
    order, factors = _buckets(part), list[Formula]()
    for at, one in enumerate(order):
        if one <= definite:
            later = frozenset().union(*order[at + 1 :])
            factors.append(_given(q, one, later, part))
    given = product(factors)
    return product([ratio(q, given), sum_out(given, _listed(part, bucket))])


def _given(q: Formula, bucket: Part, later: Part, part: AncestralClass) -> Formula:
    """Return `Q(bucket | what comes before)`."""
    top = sum_out(q, _listed(part, later))
    return ratio(top, sum_out(top, _listed(part, bucket)))


def _region(members: AncestralClass, part: AncestralClass, names: Part) -> Part:
    """Return the union of the buckets that meet the possible c-component of some variables."""
    component = _component(members, part, names)
    return frozenset().union(*(one for one in _buckets(part) if one & component))


def _component(members: AncestralClass, part: AncestralClass, names: Part) -> Part:
    """Return the possible c-component of some variables in a part."""
    reached, stack = set(names), [(name, True) for name in names]
    seen = set(stack)
    while stack:
        a, free = stack.pop()
        for b in part.adjacent(a):
            visible = members.is_visible(a, b) or members.is_visible(b, a)
            if visible or not (free or part.marks[b, a] == "arrow"):
                continue
            reached.add(b)
            step = (b, False)
            if part.marks[a, b] == "arrow" and step not in seen:  # b may be a collider on the way
                seen.add(step)
                stack.append(step)
    return frozenset(reached)


def _listed(part: AncestralClass, names: Part) -> list[str]:
    return [name for name in part.nodes if name in names]
