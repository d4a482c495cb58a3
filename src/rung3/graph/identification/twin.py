r"""Counterfactuals from observational data: the ID* algorithm for one imagined world.

Asked is P(y_{x} | e), with e seen in the world as it was. The twin graph holds both worlds: what X
affects is there twice, v as it was and v* as it would have been under the x* that is set, and the
two share their noise, v <-> v*; all else is common to both. In the ancestors R of Y* and E, each
district S gives one factor of

    P(y*, e) = sum over R \ (Y* + E) of prod_S Q[S],     P(y* | e) = P(y*, e) / sum_y* P(y*, e).

If S and its causes hold some variable both as it was and as it would have been, no data, not even
experiments, show both at once, and the query is not identified. Otherwise Q[S] is as in the ID
algorithm (Shpitser and Pearl, JMLR 2008, whose ID* and IDC* this is for two worlds). First, what is
seen but separated from Y* by the rest is left out; and what would be, without the arrows out of it,
may as well be set, where X does not affect it and it affects nothing else that is seen.

In formulas x' is x as it was where x is also set or imagined.
"""

from __future__ import annotations

from collections.abc import Set
from itertools import product as pairs

from rung3.graph.identification.estimand import Formula, product, ratio, rename, sum_out
from rung3.graph.identification.id_algorithm import NotIdentified, averaged, district_factor
from rung3.graph.mixed_graph import MixedGraph

__all__ = ["imagined"]


def imagined(graph: MixedGraph, outcome: Set[str], treatment: Set[str], given: Set[str]) -> Formula:
    """Find the formula of `P(outcome_{treatment} | given)` over what is observed.

    Args:
        graph: The graph.
        outcome: Y, none of it both seen and not affected by X.
        treatment: X.
        given: E, seen in the world as it was.

    Raises:
        NotIdentified: If there is none.

    >>> from rung3.graph import CausalGraph
    >>> print(imagined(CausalGraph("x -> m -> y; x <-> y"), {"y"}, {"x"}, {"x"}))
    Σ_m P(y | x', m) P(m | x)
    """
    twin, star = _twin(graph, treatment)
    base = {star[name]: name for name in star} | {name: name for name in graph.nodes}
    goal, setting = {star.get(y, y) for y in outcome}, {star[x] for x in treatment}
    for name in graph.in_order(given):
        seen = given - {name}
        if twin.d_separated(goal, name, seen | setting):
            return imagined(graph, outcome, treatment, seen)
        inert = name not in star and not seen & graph.descendants(name)
        if inert and twin.without_outgoing(name).d_separated(goal, name, seen | setting):
            return imagined(graph, outcome, treatment | {name}, seen)
    named = goal | given
    relevant = (named | twin.ancestors(named)) - setting
    needed = {base[name] for name in relevant}
    whole = graph.subgraph(needed | graph.ancestors(needed))
    symbol = {name: f"{name}'" if name in star else base[name] for name in twin.nodes}
    factors = []
    for part in twin.subgraph(relevant).districts:
        copies: dict[str, str] = {}
        for name in (*part, *(cause for one in part for cause in twin.parents(one))):
            if copies.setdefault(base[name], name) != name:
                raise NotIdentified(_both(base[name], {base[one] for one in part}))
        factor = district_factor(whole, frozenset(base[name] for name in part))
        factors.append(rename(factor, {name: symbol[copy] for name, copy in copies.items()}))
    total = sum_out(product(factors), [symbol[n] for n in twin.nodes if n in relevant - named])
    formula = ratio(total, sum_out(total, graph.in_order(outcome)))
    return averaged(graph, formula, {symbol[name] for name in named | setting})


def _twin(graph: MixedGraph, treatment: Set[str]) -> tuple[MixedGraph, dict[str, str]]:
    """Return the graph of both worlds, and the name of each variable in the imagined one."""
    below = graph.do(*treatment).descendants(treatment)
    mark = "*"
    while any(f"{name}{mark}" in graph for name in graph.nodes):
        mark += "*"
    star = {name: f"{name}{mark}" for name in graph.in_order(below | treatment)}
    edges = [(star.get(a, a), star[b]) for a, b in graph.edges if b in below]
    copies = {name: [name, star[name]] if name in below else [name] for name in graph.nodes}
    hidden = [pair for a, b in graph.bidirected for pair in pairs(copies[a], copies[b])]
    hidden += [(name, star[name]) for name in graph.in_order(below)]
    nodes = (*graph.nodes, *star.values())
    return graph.of(nodes, [*graph.edges, *edges], hidden), star


def _both(name: str, part: Set[str]) -> str:
    shared = ", ".join(sorted(part))
    return (
        f"{name} enters both as it was and as it would have been, with the same noise behind "
        f"{{{shared}}}: no data show both"
    )
