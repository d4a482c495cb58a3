"""Latent projection: the graph of the observed variables when others are hidden.

Among the observed there is

    a -> b      where a path a -> ... -> b leads through hidden variables alone,
    a <-> b     where a path with a head at both ends and no collider does

(Verma, 1993). The observed are m-separated in it exactly as they were, and the same effects are
identified. Hidden variables can be taken out one at a time, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, product

from rung3.graph.text import Pair

__all__ = ["projected"]


def projected(
    names: Iterable[str], edges: Sequence[Pair], bidirected: Sequence[Pair]
) -> tuple[list[Pair], list[Pair]]:
    """Return the arrows of both kinds once some variables are hidden.

    Args:
        names: The variables to hide.
        edges: (cause, effect) pairs.
        bidirected: Pairs with a hidden common cause.
    """
    arrows, joined = set(edges), set(bidirected)
    for name in names:
        into = [cause for cause, effect in arrows if effect == name]
        out = [effect for cause, effect in arrows if cause == name]
        beside = [other for pair in joined if name in pair for other in pair if other != name]
        arrows.update(product(into, out))
        joined.update(combinations(out, 2), product(beside, out))
        arrows = {edge for edge in arrows if name not in edge}
        joined = {pair for pair in joined if name not in pair and pair[0] != pair[1]}
    return list(arrows), list(joined)
