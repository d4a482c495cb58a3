r"""The districts of a counterfactual graph, their symbols, and the formula that they make.

See `rung3.graph.identification.counterfactuals` for the equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import networkx as nx

from rung3.graph.identification.counterfactual_graph import (
    Copy,
    CounterfactualGraph,
    Token,
    Value,
    spelt,
)
from rung3.graph.identification.estimand import (
    Formula,
    Probability,
    product,
    ratio,
    rename,
    sum_out,
)
from rung3.graph.identification.events import Event
from rung3.graph.identification.id_algorithm import NotIdentified
from rung3.graph.identification.sources import Source, factor
from rung3.graph.mixed_graph import MixedGraph

__all__ = ["Data", "Symbols", "TwoValues", "quotient"]

Part: TypeAlias = frozenset[tuple[Copy, Token]]
"""A district: its copies, each with what it is to its children."""

Component: TypeAlias = frozenset[Part]
"""Districts that sums connect."""


class TwoValues(NotIdentified):
    """Raised if one noise would have to give a variable's value in two worlds.

    Args:
        variable: The variable that is there with two values.
        tokens: The two.
        part: The copies behind which the noise is.
        copied: Whether the variable is itself twice among them (a recanting witness), and not only
            a cause of two of them (a recanting district).
    """

    def __init__(
        self, variable: str, tokens: Sequence[Token], part: Sequence[Copy], copied: bool
    ) -> None:
        self.variable, self.part, self.copied = variable, tuple(part), copied
        first, second = map(spelt, tokens)
        behind = "both" if copied else f"{{{', '.join(copy.label for copy in part)}}}"
        super().__init__(
            f"{variable} is needed as {first} and as {second}, and one noise is behind {behind}: "
            "no data, experiments included, show the two together"
        )


@dataclass(frozen=True)
class Data:
    """What data there are.

    Attributes:
        sources: The tables, in the order in which they are tried.
        every: Whether any further experiment on the population is there too.
    """

    sources: tuple[Source, ...]
    every: bool = False

    def factor(self, graph: MixedGraph, part: frozenset[str]) -> Formula:
        """Find Q[part].

        Raises:
            NotIdentified: If no source tells it.
        """
        try:
            return factor(graph, part, self.sources)
        except NotIdentified:
            if not self.every:
                raise
        causes = frozenset[str]().union(*(graph.parents(name) for name in part)) - part
        return Probability(graph.in_order(part), do=graph.in_order(causes))


@dataclass
class Symbols:
    """The name of each value and copy in a formula: the variable's, with primes where it has more.

    Attributes:
        tokens: What has a symbol so far, by variable.
    """

    tokens: dict[str, list[Token | Event]] = field(default_factory=dict)

    def of(self, variable: str, token: Token | Event) -> str:
        """Return the symbol of a value or a copy, a new one if it has none yet."""
        known = self.tokens.setdefault(variable, [])
        if token not in known:
            known.append(token)
        return variable + "'" * known.index(token)

    def values(self) -> dict[str, str]:
        """Return the values that symbols stand for."""
        return {
            name + "'" * at: token.text
            for name, tokens in self.tokens.items()
            for at, token in enumerate(tokens)
            if isinstance(token, Value) and token.text is not None
        }


def quotient(
    whole: CounterfactualGraph,
    before: CounterfactualGraph,
    open_copies: frozenset[Copy],
    data: Data,
    symbols: Symbols,
) -> Formula:
    """Find `P(g, e) / P(e)`.

    Args:
        whole: The counterfactual graph of g and e.
        before: That of e.
        open_copies: The copies in g without a value, which are not summed over.
        data: What data there are.
        symbols: The symbols.

    Raises:
        NotIdentified: If it is not identified.
    """
    above, below = _components(whole), _components(before)

    def formula(components: Sequence[Component], others: Sequence[Component]) -> Formula:
        rest = [one for one in components if one not in others]
        return product(_sum(whole.graph, one, open_copies, data, symbols) for one in rest)

    return ratio(formula(above, below), formula(below, above))


def _components(graph: CounterfactualGraph) -> list[Component]:
    """Return the districts of a counterfactual graph, grouped by the sums that connect them."""
    copies = graph.copies
    variables = {copy.variable for copy in copies}
    parts: list[Part] = [
        frozenset((copy, graph.token(copy)) for copy in copies if copy.variable in district)
        for district in graph.graph.subgraph(variables).districts
    ]
    links = nx.Graph()
    links.add_nodes_from(parts)
    links.add_edges_from((part, copy) for part in parts for copy in _summed(part))
    groups = [[p for p in parts if p in group] for group in nx.connected_components(links)]
    return [frozenset(group) for group in groups]


def _summed(part: Part) -> set[Copy]:
    """Return the copies without a value that a district holds or depends on."""
    tokens = [token for copy, value in part for token in (value, *copy.parents)]
    return {token for token in tokens if isinstance(token, Copy)}


def _sum(
    graph: MixedGraph,
    component: Component,
    open_copies: frozenset[Copy],
    data: Data,
    symbols: Symbols,
) -> Formula:
    """Sum the product of some districts' factors over the copies without a value."""
    parts = sorted(component, key=lambda part: min(_rank(graph, copy) for copy, _ in part))
    factors = [_factor(graph, part, data, symbols) for part in parts]
    copies = set[Copy]().union(*map(_summed, parts)) - open_copies
    ordered = sorted(copies, key=lambda copy: _rank(graph, copy))
    return sum_out(product(factors), [symbols.of(copy.variable, copy) for copy in ordered])


def _factor(graph: MixedGraph, part: Part, data: Data, symbols: Symbols) -> Formula:
    """Find the factor of a district, in symbols."""
    copies = sorted((copy for copy, _ in part), key=lambda copy: _rank(graph, copy))
    values = dict(part)
    tokens: dict[str, Token] = {}
    for copy in copies:
        if copy.variable in tokens:
            twice = [one for one in copies if one.variable == copy.variable]
            raise TwoValues(copy.variable, twice[:2], copies, True)
        tokens[copy.variable] = values[copy]
    for copy in copies:
        for name, token in zip(graph.parents(copy.variable), copy.parents, strict=True):
            if tokens.setdefault(name, token) != token:
                raise TwoValues(name, [tokens[name], token], copies, False)
    formula = data.factor(graph, frozenset(copy.variable for copy in copies))
    return rename(formula, {name: symbols.of(name, token) for name, token in tokens.items()})


def _rank(graph: MixedGraph, copy: Copy) -> tuple[int, str]:
    return graph.nodes.index(copy.variable), copy.label
