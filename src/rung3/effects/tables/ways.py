"""By which way an effect is estimated: what the graph allows, from plain to general."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rung3.graph import CausalGraph, CausalQuery, check_adjustment
from rung3.graph.adjustment import minimal_adjustments
from rung3.graph.given import as_graph
from rung3.graph.identification.estimand import Formula, mentioned
from rung3.scm.identifiability import identify

__all__ = ["Way", "WayName", "find_way"]

WayName = Literal["back-door", "front-door", "ID algorithm", "instrument"]


@dataclass(frozen=True)
class Way:
    """How an effect is identified.

    Attributes:
        name: The way.
        given: What is adjusted for; of instruments, what they are instruments given.
        through: The mediators of a front door, or the instruments.
        formula: Of the ID algorithm.
    """

    name: WayName
    given: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    formula: Formula | None = None

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that it needs, treatment and outcome aside or not."""
        free = () if self.formula is None else mentioned(self.formula)
        return tuple(dict.fromkeys([*self.given, *self.through, *free]))


def find_way(
    treatment: str,
    outcome: str,
    adjust: Iterable[str] | str | None,
    graph: Any,
    instrument: Iterable[str] | str | None,
    by: str | None,
) -> Way:
    """Find the way; the arguments are those of `effect`.

    Raises:
        ValueError: If neither a graph nor a set is given, the graph does not allow it, or there is
            no way.
    """
    given, instruments = _listed(adjust), _listed(instrument)
    names = [treatment, outcome, *(given or ()), *(instruments or ())]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"treatment, outcome and adjust must differ, got {twice} twice")
    causal = None if graph is None else as_graph(graph)
    if instruments is not None:
        return _instrumental(causal, treatment, outcome, instruments, given or ())
    if causal is None:
        if given is None:
            raise ValueError("adjust: say what to adjust for (`[]` for nothing), or give a graph")
        return Way("back-door", _with(given, by))
    if by is not None:
        _check_group(causal, treatment, by)
    if given is not None:
        check_adjustment(causal, treatment, outcome, _with(given, by)).require()
        return Way("back-door", _with(given, by))
    return _from_graph(causal, treatment, outcome, by)


def _listed(names: Iterable[str] | str | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)


def _with(given: Sequence[str], by: str | None) -> tuple[str, ...]:
    """Return what is adjusted for, and the column of the groups: effects are within them."""
    return tuple(dict.fromkeys([*given, *([by] if by else [])]))


def _check_group(graph: CausalGraph, treatment: str, by: str) -> None:
    graph.names([by])
    if by in graph.descendants(treatment):
        raise ValueError(
            f"by: {by} is an effect of {treatment}; groups must be known before the treatment"
        )


def _from_graph(graph: CausalGraph, treatment: str, outcome: str, by: str | None) -> Way:
    cause, effect, known = graph.disjoint(
        treatment=treatment, outcome=outcome, by=[] if by is None else [by]
    )
    block = next(minimal_adjustments(graph, cause, effect, known), None)
    if block is not None:
        return Way("back-door", graph.in_order(block | known))
    if by is not None:
        raise ValueError(f"by: no set of variables with {by} in it gives the effect by adjustment")
    answer = identify(graph, CausalQuery((outcome,), do=(treatment,)))
    if answer.method == "no effect":
        raise ValueError(
            f"{treatment} has no effect on {outcome} in this graph, so that it is zero; turn the "
            "question round, or correct the graph"
        )
    if answer.method == "front-door":
        return Way("front-door", through=answer.through)
    if answer:
        return Way("ID algorithm", formula=answer.formula)
    instruments = graph.instruments(treatment, outcome)
    if instruments:
        given = min((one.given for one in instruments), key=len)
        names = tuple(one.name for one in instruments if one.given == given)
        return Way("instrument", graph.in_order(given), names)
    raise ValueError(_no_way(graph, treatment, outcome, answer.reason))


def _no_way(graph: CausalGraph, treatment: str, outcome: str, reason: str) -> str:
    """Say why there is no way, and what would help."""
    path = next((p for p in graph.backdoor_paths(treatment, outcome) if p.is_open()), "")
    hidden = sorted({f"{a} <-> {b}" for a, b in graph.bidirected})
    return (
        f"no set of variables closes every back-door path of {treatment} and {outcome} ({path}); "
        f"see rung3.effects.bounds.bounds for what the data allow. The effect is not identified: "
        f"{reason}. What would help: to measure the common cause behind {' or '.join(hidden)}; a "
        f"mediator that carries all of the effect and shares no hidden cause with them; or an "
        f"instrument, which moves {treatment} and reaches {outcome} through it alone"
    )


def _instrumental(
    graph: CausalGraph | None,
    treatment: str,
    outcome: str,
    instruments: tuple[str, ...],
    given: tuple[str, ...],
) -> Way:
    if not instruments:
        raise ValueError("instrument: expected at least one name")
    if graph is None:
        return Way("instrument", given, instruments)
    graph.disjoint(treatment=[treatment], outcome=[outcome], instrument=instruments, adjust=given)
    inert = graph.without_outgoing(treatment)
    for name in instruments:
        if not inert.d_separated(name, outcome, given):
            raise ValueError(
                f"instrument: {name} reaches {outcome} by another way than through {treatment}"
                f"{' given ' + ', '.join(given) if given else ''}; the graph's instruments are "
                f"{'; '.join(map(str, graph.instruments(treatment, outcome))) or 'none'}"
            )
        if graph.d_separated(name, treatment, given):
            raise ValueError(f"instrument: {name} does not move {treatment} in this graph")
    if after := graph.in_order(set(given) & graph.descendants(treatment)):
        raise ValueError(f"adjust: {after[0]} is an effect of {treatment}")
    return Way("instrument", given, instruments)
