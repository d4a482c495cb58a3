"""Instruments: causes of variation in the treatment that reach the outcome through it alone.

Z is an instrument for the effect of X on Y, given W, if

    1. Z and W are not effects of X, and W holds no effect of Y;
    2. Z and Y are separated given W without the arrows out of X;
    3. Z and X are not separated given W

(Pearl, Causality, 2009, section 7.4.5). An instrument alone does not identify p(y | do(x)). It does
with an assumption more: where effects are linear, the effect is cov(z, y | w) / cov(z, x | w).

To find some W for a given Z is hard in general; to find one among the ancestors of Z and Y is not.
If there is one, the minimal separator nearest to Y is one: it leaves Z dependent on X if any does
(van der Zander, Textor and Liskiewicz, IJCAI 2015). Those are the instruments that are found here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.separators import minimal_separators

__all__ = ["Instrument", "instruments"]


class Instrument(NamedTuple):
    """An instrument, and what to condition on for it to be one."""

    name: str
    given: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.name} given {', '.join(sorted(self.given))}" if self.given else self.name


def instruments(graph: MixedGraph, treatment: str, outcome: str) -> Iterator[Instrument]:
    """Yield the instruments for the effect of one variable on another, in order.

    Args:
        graph: The graph.
        treatment: X.
        outcome: Y.
    """
    inert = graph.without_outgoing(treatment)
    after = {treatment, outcome} | graph.descendants([treatment, outcome])
    allowed = graph.in_order(set(graph.nodes) - after)
    for name in allowed:
        separators = minimal_separators(inert.expanded, {outcome}, {name}, allowed)
        given = next(separators, None)
        if given is not None and not graph.d_separated(name, treatment, given):
            yield Instrument(name, given)
