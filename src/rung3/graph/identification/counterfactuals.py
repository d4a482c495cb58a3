r"""ID* and IDC*: the probability of events in several worlds, from the data that there are.

Asked is P(g | e), of events g given events e, each in a world of its own. In the counterfactual
graph of g and e (`rung3.graph.identification.counterfactual_graph`), let R be the copies without a
value, and S the districts: copies of variables that hidden common causes connect. Then

    P(g, e) = sum over R of prod_S Q[S],    P(g | e) = P(g, e) / P(e),

where Q[S] = P(s | do(pa(s))) if S and its parents hold each variable with one value only; it is
then found from the data (`rung3.graph.identification.sources`). If they hold two values of one
variable, with one noise behind S, no data, experiments included, show both, and P(g, e) is not
identified. Districts that no sum connects to g are the same in P(g, e) and in P(e), and drop out:
they need no formula.

Shpitser and Pearl, JMLR 2008 (ID*, IDC*); Correa, Lee and Bareinboim, NeurIPS 2021 (districts of
ancestors, nested counterfactuals). Values matter: what was seen in one world may be what is set in
another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rung3.data.printed import Printed
from rung3.graph.causal_graph import CausalGraph
from rung3.graph.given import as_graph
from rung3.graph.identification.counterfactual_graph import (
    Copy,
    CounterfactualGraph,
    Impossible,
    Token,
    Value,
)
from rung3.graph.identification.estimand import (
    ZERO,
    Formula,
    Probability,
    evaluate,
    spell,
    symbols_of,
)
from rung3.graph.identification.events import (
    CounterfactualQuery,
    Event,
    World,
    read_counterfactual,
)
from rung3.graph.identification.factorisation import Data, Symbols, TwoValues, quotient
from rung3.graph.identification.id_algorithm import NotIdentified
from rung3.graph.identification.simplification import simplified
from rung3.graph.identification.sources import Source, check_sources
from rung3.graph.text import Names

__all__ = ["Estimand", "counterfactual_graph", "identify_counterfactual"]


@dataclass(frozen=True)
class Estimand(Printed):
    """Whether a query is identified from the data that there are, and its formula.

    Attributes:
        query: The query, with the names of the graph.
        formula: Its formula; `None` if it is not identified. The object itself is true if it is.
        reason: Why it is not identified, or why its probability is zero.
        values: The value of each symbol in the formula that has one.
        axes: The symbols that stand for any value: outcomes, what is set, what was seen.
        determined: Of these, outcomes that the observations determine, with their value.
        conflict: The variable that is needed with two values, if that is the reason.
    """

    query: CounterfactualQuery
    formula: Formula | None
    reason: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    axes: tuple[str, ...] = ()
    determined: Mapping[str, str] = field(default_factory=dict)
    conflict: TwoValues | None = None

    def __bool__(self) -> bool:
        return self.formula is not None

    @property
    def text(self) -> str:
        """The formula with the values of the query; empty if there is none."""
        if self.formula is None:
            return ""
        return spell(self.formula, {one: f"{_bare(one)}={v}" for one, v in self.values.items()})

    def __str__(self) -> str:
        if self.formula is None:
            return f"{self.query} is not identified\n  {self.reason}"
        lines = [f"{self.query} is identified", f"= {self.text}"]
        lines += [
            f"{_bare(one)} is {value} by what was seen" for one, value in self.determined.items()
        ]
        return "\n  ".join([*lines, *([self.reason] if self.reason else [])])

    def evaluate(
        self,
        tables: npt.ArrayLike | Mapping[Source, npt.ArrayLike],
        names: Sequence[str],
        labels: Mapping[str, Sequence[object]] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Evaluate the formula on tables of probabilities.

        Args:
            tables: `P(names)`, one axis a variable, in the order of the names; or such a table of
                each source. That of an experiment has, for each value of what it set, the
                probabilities of the others; the axes of variables that it lacks have length 1.
            names: The variables.
            labels: The values of each variable, in the order of its axis; by default values are
                numbers from 0.

        Returns:
            The probability, with one axis for each of `axes`; NaN where the tables have no row to
            tell it by.

        Raises:
            ValueError: If it is not identified, or a table or a value is lacking.

        >>> answer = identify_counterfactual("x -> y", "P(y[x=1]=1 | x=0)")
        >>> float(answer.evaluate([[0.3, 0.1], [0.2, 0.4]], ["x", "y"]).round(3))
        0.667
        """
        if self.formula is None:
            raise ValueError(str(self))
        given = (
            {source.regime: table for source, table in tables.items()}
            if isinstance(tables, Mapping)
            else {Source().regime: tables}
        )
        shape = np.max([np.shape(table) for table in given.values()], axis=0)
        known = {
            name: [str(label) for label in (labels or {}).get(name, range(size))]
            for name, size in zip(names, shape, strict=True)
        }
        whole, symbols = evaluate(self.formula, given, names), symbols_of(self.formula, names)
        at = [self._place(one, known, size) for one, size in zip(symbols, whole.shape, strict=True)]
        free = [symbol for symbol in symbols if symbol in self.axes]
        answer = whole[tuple(at)].transpose([free.index(one) for one in self.axes if one in free])
        answer = np.expand_dims(answer, [k for k, one in enumerate(self.axes) if one not in free])
        for axis, symbol in enumerate(self.axes):
            if symbol in self.determined:
                values = known[_bare(symbol)]
                point = np.arange(len(values)) == _code(symbol, self.determined[symbol], values)
                answer = answer * point.reshape([-1] + [1] * (answer.ndim - axis - 1))
        return np.broadcast_to(answer, [len(known[_bare(one)]) for one in self.axes]).copy()

    def _place(self, symbol: str, known: Mapping[str, list[str]], size: int) -> int | slice:
        """Return where an axis of the formula is read: of what is not asked for, anywhere."""
        if symbol in self.axes:
            return slice(None)
        if symbol not in self.values:
            return 0
        return min(_code(symbol, self.values[symbol], known[_bare(symbol)]), size - 1)


def identify_counterfactual(
    graph: Any,
    query: str | CounterfactualQuery,
    *,
    experiments: Iterable[Names] | Literal["all"] = (),
    sources: Iterable[Source] | None = None,
) -> Estimand:
    """Say whether the probability of events in several worlds is identified, and by which formula.

    Args:
        graph: The graph, or what makes one.
        query: Such as `"P(Y[x=1] | X=0, Y=0)"` (see `rung3.graph.identification.events`).
        experiments: Which variables were set in experiments on this population, beside the rows as
            they are; `"all"` if any may be.
        sources: Instead, which data there are.

    Returns:
        The formula, or why there is none.

    Raises:
        ValueError: If the query cannot be read, the graph lacks a name, or what was seen
            contradicts itself.

    >>> print(identify_counterfactual("x -> m -> y; x <-> y", "P(y[x=1]=1 | x=0)"))
    P(y[x=1]=1 | x=0) is identified
      = Σ_m P(y=1 | x=0, m) P(m | x=1)
    >>> print(identify_counterfactual("x -> y", "P(y[x=1] | x=0, y=0)"))
    P(y[x=1] | x=0, y=0) is not identified
      y is needed as y and as y[x=1], and one noise is behind both: no data, experiments included,
      show the two together
    """
    whole = as_graph(graph)
    read = (read_counterfactual(query) if isinstance(query, str) else query).on(whole)
    if primed := [name for name in whole.nodes if name.endswith("'")]:
        raise ValueError(
            f"{primed[0]!r} ends with a prime, which marks a second value in formulas."
        )
    every = experiments == "all"
    tables = [Source(), *(Source(do=names) for names in (() if every else experiments))]
    data = Data(check_sources(whole, tables if sources is None else sources), every)
    return _identified(whole, read, data)


def counterfactual_graph(graph: Any, query: str | CounterfactualQuery) -> CausalGraph:
    """Return the counterfactual graph of a query: each variable as often as worlds differ in it.

    Args:
        graph: The graph, or what makes one.
        query: As `identify_counterfactual` takes it.

    Returns:
        A graph whose nodes are named as in queries; copies of one variable share their noise.

    Raises:
        ValueError: If the events of the query contradict each other.

    >>> print(counterfactual_graph("x -> m -> y", "P(y[x=1] | x=0, m=1)"))
    x -> m; "x=1" -> "m[x=1]"; "m[x=1]" -> "y[x=1]"; m <-> "m[x=1]"
    """
    whole = as_graph(graph)
    read = (read_counterfactual(query) if isinstance(query, str) else query).on(whole)
    events = (*read.outcome, *read.given)
    try:
        return CounterfactualGraph(whole, events, frozenset(read.given), {}).drawn()
    except Impossible as fault:
        raise ValueError(f"{read}: {fault}.") from None


def _identified(graph: CausalGraph, query: CounterfactualQuery, data: Data) -> Estimand:
    """Return the answer."""
    seen = frozenset(query.given)
    register: dict[Any, Copy] = {}
    try:
        before = CounterfactualGraph(graph, query.given, seen, register)
    except Impossible as fault:
        raise ValueError(f"{query}: what was seen contradicts itself: {fault}.") from None
    symbols = Symbols()
    try:
        whole = CounterfactualGraph(graph, (*query.outcome, *query.given), seen, register)
    except Impossible as fault:
        axes = _axes(query, symbols, {})
        reason = f"the events contradict each other: {fault}"
        return Estimand(query, ZERO, reason, axes=axes)
    tokens = {e: whole.token_of(e) for e in query.outcome if e.value is None and e not in seen}
    axes = _axes(query, symbols, tokens)
    determined = {}
    for event, token in tokens.items():
        if isinstance(token, Value):
            if token.text is None:
                raise ValueError(
                    f"{event}: it is what {token.variable} is anyway; give it a value."
                )
            determined[symbols.of(event.variable, event)] = token.text
    open_copies = frozenset(token for token in tokens.values() if isinstance(token, Copy))
    if len(open_copies) + len(determined) < len(tokens):
        same = ", ".join(map(str, tokens))
        raise ValueError(f"{same}: two of these are the same variable here; give them values.")
    for event in (*query.outcome, *query.given):
        _name(event, symbols)
    try:
        formula = _shown(graph, query, data, symbols, tokens)
        formula = formula or simplified(quotient(whole, before, open_copies, data, symbols))
    except NotIdentified as fault:
        conflict = fault if isinstance(fault, TwoValues) else None
        return Estimand(query, None, str(fault), conflict=conflict)
    return Estimand(query, formula, "", symbols.values(), axes, determined)


def _axes(
    query: CounterfactualQuery, symbols: Symbols, tokens: Mapping[Event, Token]
) -> tuple[str, ...]:
    """Name what stands for any value: outcomes, what is set, what was seen."""
    axes = []
    for event in query.outcome:
        if event.value is None and event not in query.given:
            token = tokens.get(event)
            axes.append(symbols.of(event.variable, token if isinstance(token, Copy) else event))
    for event in (*query.outcome, *query.given):
        axes += [symbols.of(one.variable, one) for one in _set(event.world) if one.text is None]
    for event in query.given:
        if event.value is None:
            axes.append(symbols.of(event.variable, Value(event.variable, None, seen=True)))
    return tuple(dict.fromkeys(axes))


def _name(event: Event, symbols: Symbols) -> None:
    """Give the values of an event their symbols."""
    for value in _set(event.world):
        symbols.of(value.variable, value)
    if event.value is not None:
        symbols.of(event.variable, Value(event.variable, event.value))


def _set(world: World) -> list[Value]:
    """Return the values that a world sets, those of worlds within it included."""
    return [
        Value(name, setting)
        for one in world.nested()
        for name, setting in one.settings
        if not isinstance(setting, World)
    ]


def _shown(
    graph: CausalGraph,
    query: CounterfactualQuery,
    data: Data,
    symbols: Symbols,
    tokens: Mapping[Event, Token],
) -> Formula | None:
    """Return `P(y | do(x), z)` if one source shows it as it is asked for."""
    events = (*query.outcome, *query.given)
    names = [event.variable for event in events]
    worlds = {event.world for event in events}
    do = {name for world in worlds for name, _ in world.settings}
    nested = any(isinstance(one, World) for world in worlds for _, one in world.settings)
    if len(worlds) > 1 or nested or len({*names, *do}) < len(names) + len(do):
        return None
    needed = {*names, *graph.do(*do).ancestors(names)} - do
    source = next((one for one in data.sources if one.shows(do, names, needed)), None)
    if source is None:
        return None

    def symbol(event: Event) -> str:
        seen = Value(event.variable, event.value, seen=event.value is None)
        return symbols.of(event.variable, tokens.get(event, seen))

    of, given = (tuple(map(symbol, events)) for events in (query.outcome, query.given))
    setting = tuple(symbols.of(one.variable, one) for one in _set(events[0].world))
    return Probability(of, given, setting, source.regime.population)


def _bare(symbol: str) -> str:
    """Return the variable of a symbol."""
    return symbol.rstrip("'")


def _code(symbol: str, text: str, known: Sequence[str]) -> int:
    """Return the number of a value.

    Raises:
        ValueError: If it is none of the variable's.
    """
    if text not in known:
        raise ValueError(f"{_bare(symbol)}={text}: its values are {', '.join(known)}.")
    return known.index(text)
