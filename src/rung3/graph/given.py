"""A graph as it was given: one, or what makes one."""

from __future__ import annotations

from typing import Any

from rung3.graph.causal_graph import CausalGraph

__all__ = ["as_graph"]


def as_graph(spec: Any) -> CausalGraph:
    """A graph as it is, or the one that a text, pairs or a networkx graph describe.

    >>> as_graph("x -> y") == as_graph(CausalGraph([("x", "y")]))
    True
    """
    return spec if isinstance(spec, CausalGraph) else CausalGraph(spec)
