r"""Answers from other populations, from experiments, and from rows that are selected.

*Transport* (Pearl and Bareinboim, AAAI 2011; Bareinboim and Pearl, NeurIPS 2014): a selection
diagram is a graph with the variables whose mechanisms differ between two populations. Each district
of hidden common causes that has none of these is the same in both, and is taken from where it is
known, so that

    P(y | do(x)) = sum_z P_trial(y | do(x), z) P(z)        where the populations differ in z.

*Recovery* (Bareinboim and Tian, AAAI 2015): rows are there for one value of a variable S only. What
S does not tell of, given the rest, is as in all rows.

Both are `rung3.graph.identify_counterfactual` with other sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rung3.graph.given import as_graph
from rung3.graph.identification.counterfactuals import Estimand, identify_counterfactual
from rung3.graph.identification.events import CounterfactualQuery
from rung3.graph.identification.sources import Source
from rung3.graph.text import Names

__all__ = ["recover", "transport"]


def transport(graph: Any, query: str | CounterfactualQuery, sources: Iterable[Source]) -> Estimand:
    """Say whether an answer for one population follows from data of others, and by which formula.

    Args:
        graph: The graph of all populations, or what makes one.
        query: Such as `"P(y | do(x))"`, about the population without a name.
        sources: What data there are, tried in this order; `Source()` are the rows of the population
            that is asked about.

    Raises:
        ValueError: If the query cannot be read, or the graph lacks a name.

    >>> trial = Source("trial", do="x", differs="z")
    >>> print(transport("z -> y; x -> y; x <-> y", "P(y | do(x))", [trial, Source()]))
    P(y[x]) is identified
      = Σ_z P(z) P_trial(y | do(x), z)
    """
    return identify_counterfactual(graph, query, sources=sources)


def recover(
    graph: Any, query: str | CounterfactualQuery, selected: Names, *, also: Iterable[Source] = ()
) -> Estimand:
    """Say whether an answer for all rows follows from those that are selected, and how.

    Args:
        graph: The graph, the variables that select among its nodes, or what makes one.
        query: Such as `"P(y | do(x))"` or `"P(y | x)"`, without what selects.
        selected: The variables that have one value in all rows.
        also: Further data, such as a census of some variables, `Source(only="age")`.

    Raises:
        ValueError: If the query cannot be read, names what selects, or the graph lacks a name.

    >>> print(recover("x -> y; x -> s", "P(y | do(x))", "s"))
    P(y[x]) is identified
      = P_selected(y | x)
    >>> print(recover("x -> y -> s", "P(y | do(x))", "s"))
    P(y[x]) is not identified
      what selects rows (s) cannot be told from {y}: each district of hidden common causes has a
      cause of it
    """
    chosen = as_graph(graph).names(selected)
    sources = [Source(selected=as_graph(graph).in_order(chosen)), *also]
    return identify_counterfactual(graph, query, sources=sources)
