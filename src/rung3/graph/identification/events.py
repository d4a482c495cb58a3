r"""Counterfactual queries as text: events in several worlds at once, with their values.

    query     := ["P("] term ("," term)* ["|" condition ("," condition)*] [")"]
    condition := term | "do(" setting ("," setting)* ")"
    term      := name [world] ["=" value]
    world     := "[" [setting ("," setting)*] "]"  |  "_{" [setting ("," setting)*] "}"
    setting   := name ["=" value]  |  name world

`Y[x=1]` is Y had X been set to 1, and `Y[x=1, M[x=0]]` Y had X been 1 and M what it would have been
under X = 0. A term without a value asks for the whole distribution; a setting or an observation
without one stands for any value, and what is set and what was seen are then two. `do(x)` sets X for
all terms. Names are those of the graph, or, as usual for values, the same in another case.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from rung3.graph.mixed_graph import MixedGraph
from rung3.graph.text import WORD, quote, tokens_of

__all__ = ["CounterfactualQuery", "Event", "World", "read_counterfactual"]

FORM = (
    "Counterfactual queries are of the form P(Y[x=1] | X=0, Y=0), or P(y | do(x), z) where all is "
    "in one world."
)


@dataclass(frozen=True)
class World:
    """What is set: nothing, in the world as it was.

    Attributes:
        settings: Each variable that is set, and its value: a text, `None` for any, or the world
            from which it is taken.
    """

    settings: tuple[tuple[str, Setting], ...] = ()

    def __getitem__(self, name: str) -> Setting:
        return dict(self.settings)[name]

    def __contains__(self, name: object) -> bool:
        return any(name == one for one, _ in self.settings)

    def __str__(self) -> str:
        parts = [
            quote(name) + (str(setting) or "[]" if isinstance(setting, World) else _equals(setting))
            for name, setting in self.settings
        ]
        return f"[{', '.join(parts)}]" if parts else ""

    def nested(self) -> Iterator[World]:
        """Yield the worlds from which values are taken, inner ones first, then this one."""
        for _, setting in self.settings:
            if isinstance(setting, World):
                yield from setting.nested()
        yield self


Setting: TypeAlias = str | World | None


@dataclass(frozen=True)
class Event:
    """That a variable has a value in a world; any value, where it is `None`."""

    variable: str
    world: World = World()
    value: str | None = None

    def __str__(self) -> str:
        return f"{quote(self.variable)}{self.world}{_equals(self.value)}"


@dataclass(frozen=True)
class CounterfactualQuery:
    """The probability of some events given others, in whatever worlds.

    Attributes:
        outcome: The events that are asked for.
        given: What was seen.
    """

    outcome: tuple[Event, ...]
    given: tuple[Event, ...] = ()

    def __str__(self) -> str:
        sides = [", ".join(map(str, events)) for events in (self.outcome, self.given) if events]
        return f"P({' | '.join(sides)})"

    def on(self, graph: MixedGraph) -> CounterfactualQuery:
        """Return the query with the names of a graph.

        Raises:
            ValueError: If the graph lacks a variable.
        """
        outcome = tuple(_event_on(graph, event) for event in self.outcome)
        return CounterfactualQuery(outcome, tuple(_event_on(graph, event) for event in self.given))


def _equals(value: str | None) -> str:
    return "" if value is None else f"={value}"


def _event_on(graph: MixedGraph, event: Event) -> Event:
    return Event(name_in(graph, event.variable), _world_on(graph, event.world), event.value)


def _world_on(graph: MixedGraph, world: World) -> World:
    settings: dict[str, Setting] = {}
    for name, setting in world.settings:
        known = name_in(graph, name)
        if known in settings:
            raise ValueError(f"{world}: {known} is set twice.")
        settings[known] = _world_on(graph, setting) if isinstance(setting, World) else setting
    return World(tuple((name, settings[name]) for name in graph.in_order(settings)))


def name_in(graph: MixedGraph, name: str) -> str:
    """Return the graph's name for a variable, which may be written in another case.

    Raises:
        ValueError: If the graph has none; the message has the nearest right one.
    """
    if name in graph:
        return name
    folded = [known for known in graph.nodes if known.casefold() == name.casefold()]
    return folded[0] if len(folded) == 1 else graph.in_order(graph.names(name))[0]


_TOKEN = re.compile(
    rf"""\s*(?: (?P<do>do\s*\() | (?P<sub>_\s*\{{)
      | =\s*(?P<value>"[^"]*"|'[^']*'|[^\s,|(){{}}\[\]=]+)
      | (?P<mark>[(){{}}\[\],|]) | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<word>{WORD}?(?=_\s*\{{)|{WORD}) )""",
    re.VERBOSE | re.DOTALL,
)

_Tokens: TypeAlias = deque[tuple[str, str]]


def read_counterfactual(text: str) -> CounterfactualQuery:
    """Read a query about one world or several.

    Args:
        text: In the grammar of this module.

    Raises:
        ValueError: If it cannot be read.

    >>> print(read_counterfactual("Y[x=1] | X=0, Y=0"))
    P(Y[x=1] | X=0, Y=0)
    >>> print(read_counterfactual("P(y | do(x=1), z)"))
    P(y[x=1] | z[x=1])
    """
    try:
        tokens = deque(tokens_of(text, _TOKEN))
        whole = list(tokens)[:2] == [("word", "P"), ("mark", "(")]
        for _ in range(2 if whole else 0):
            tokens.popleft()
        query = _read(tokens)
        if whole and (not tokens or tokens.popleft() != ("mark", ")")):
            raise ValueError("the closing bracket is missing")
        if tokens:
            raise ValueError(f"nothing was expected after it, and there is {tokens[0][1]!r}")
    except ValueError as fault:
        raise ValueError(f"cannot read the query {text!r}: {fault}. {FORM}") from None
    return query


def _read(tokens: _Tokens) -> CounterfactualQuery:
    sides: list[list[Event]] = [[], []]
    done: tuple[tuple[str, Setting], ...] = ()
    side = 0
    while True:
        if side and tokens and tokens[0][0] == "do":
            tokens.popleft()
            done += _settings(tokens, ")")
        else:
            sides[side].append(_term(tokens))
        if tokens and tokens[0] == ("mark", "|") and not side:
            side = 1
        elif not tokens or tokens[0] != ("mark", ","):
            break
        tokens.popleft()
    events = [event for part in sides for event in part]
    if done and any(event.world.settings for event in events):
        raise ValueError(
            "do(...) sets variables for all terms, so that none has a world of its own"
        )
    within = [tuple(replace(e, world=World(done)) if done else e for e in part) for part in sides]
    return CounterfactualQuery(*within)


def _term(tokens: _Tokens) -> Event:
    name = _name(tokens)
    world = _world(tokens) or World()
    return Event(name, world, _value(tokens))


def _world(tokens: _Tokens) -> World | None:
    """Take a world off the tokens, if one is next."""
    closing = {("mark", "["): "]", ("sub", "_{"): "}"}
    if not tokens or tokens[0][0] not in ("mark", "sub"):
        return None
    kind, text = tokens[0]
    mark = closing.get((kind, re.sub(r"\s", "", text)))
    if mark is None:
        return None
    tokens.popleft()
    if tokens and tokens[0] == ("mark", mark):
        tokens.popleft()
        return World()
    return World(_settings(tokens, mark))


def _settings(tokens: _Tokens, closing: str) -> tuple[tuple[str, Setting], ...]:
    """Take settings up to a closing mark off the tokens."""
    settings: list[tuple[str, Setting]] = []
    while True:
        name = _name(tokens)
        world = _world(tokens)
        settings.append((name, _value(tokens) if world is None else world))
        mark = tokens.popleft() if tokens else ("", "the end")
        if mark == ("mark", closing):
            return tuple(settings)
        if mark != ("mark", ","):
            raise ValueError(f"a {closing!r} is missing at {mark[1]!r}")


def _name(tokens: _Tokens) -> str:
    kind, text = tokens.popleft() if tokens else ("", "the end")
    if kind not in ("word", "quoted"):
        raise ValueError(f"a variable is missing at {text!r}")
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "quoted" else text


def _value(tokens: _Tokens) -> str | None:
    """Take a value off the tokens, if one is next; whole numbers are spelt alike."""
    if not tokens or tokens[0][0] != "value":
        return None
    text = tokens.popleft()[1]
    if text[0] in "\"'":
        return text[1:-1]
    try:
        return str(int(float(text))) if float(text).is_integer() else text
    except ValueError:
        return text
