"""A graph as it was given: one, or what makes one."""

from __future__ import annotations

from typing import Any

from rung3.graph.causal_graph import CausalGraph

__all__ = ["as_graph"]


def as_graph(spec: Any) -> CausalGraph:
    """Return a graph as it is, or make one from text, pairs or a networkx graph.

    >>> as_graph("x -> y") == as_graph(CausalGraph([("x", "y")]))
    True
    """
    return spec if isinstance(spec, CausalGraph) else CausalGraph(spec)
