r"""The counterfactual graph: each variable as often as the worlds of a query make it differ.

Two copies of a variable, in two worlds, are one and the same if their parents are, or have the same
value: the mechanism and the noise are the same (consistency, and Shpitser and Pearl, JMLR 2008,
Lemma 24 and *make-cg*). So, causes before effects, the copies of each variable are merged by what
their parents are, and a copy that an event gives a value is that value to its children. Two events
that give one copy two values cannot both be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeAlias

from rung3.graph.causal_graph import CausalGraph
from rung3.graph.identification.events import Event, World
from rung3.graph.mixed_graph import MixedGraph

__all__ = ["Copy", "CounterfactualGraph", "Impossible", "Token", "Value"]


class Impossible(Exception):  # noqa: N818 - the name of the finding
    """Raised with the events that cannot all be."""


@dataclass(frozen=True)
class Value:
    """A value of a variable.

    Attributes:
        variable: The variable.
        text: The value; `None` for any.
        seen: Whether, of any values, it is the one that was seen, not the one that is set.
    """

    variable: str
    text: str | None
    seen: bool = False


@dataclass(frozen=True, eq=False)
class Copy:
    """A variable in some worlds: its parents, as they are there.

    Attributes:
        variable: The variable.
        parents: What each of its parents is: a copy, or a value.
        label: The copy as text, as in the first world that has it.
    """

    variable: str
    parents: tuple[Token, ...]
    label: str


Token: TypeAlias = Copy | Value

Register: TypeAlias = dict[tuple[str, tuple[Token, ...]], Copy]
"""The copies so far, by variable and parents: one for graphs that are compared."""


@dataclass
class CounterfactualGraph:
    """The copies of variables that events speak of, and of their causes.

    Args:
        graph: The graph.
        events: The events, with names of the graph.
        seen: Those of them that were seen; of the others, those without a value stay open.
        register: The copies of earlier graphs.

    Attributes:
        known: The copies that have a value.
        told_by: The event that gave them it.
        at: What each variable is in each world.
        copy_of: The copy that each event speaks of, or the value that was set.

    Raises:
        Impossible: If two events cannot both be.
    """

    graph: MixedGraph
    events: tuple[Event, ...]
    seen: frozenset[Event]
    register: Register
    known: dict[Copy, Value] = field(default_factory=dict)
    told_by: dict[Copy, Event] = field(default_factory=dict)
    at: dict[tuple[str, World], Token] = field(default_factory=dict)
    copy_of: dict[Event, Token] = field(default_factory=dict)

    def __post_init__(self) -> None:
        worlds = list(dict.fromkeys(w for event in self.events for w in event.world.nested()))
        worlds.sort(key=lambda world: bool(world.settings))  # labels as in the world as it was
        names = {event.variable for event in self.events}
        names |= {name for world in worlds for name, _ in world.settings}
        above = names | self.graph.ancestors(names)
        for name in (name for name in self.graph.order if name in above):
            for world in worlds:
                self.at[name, world] = self._token(name, world)
            for event in (event for event in self.events if event.variable == name):
                self.copy_of[event] = self.at[name, event.world]
                self._learn(event, self.at[name, event.world])
            for world in worlds:
                token = self.at[name, world]
                self.at[name, world] = self._value(token)

    @property
    def copies(self) -> tuple[Copy, ...]:
        """The copies that the events speak of, and their causes that have no value."""
        stack = [token for token in self.copy_of.values() if isinstance(token, Copy)]
        copies: dict[Copy, None] = {}
        while stack:
            copy = stack.pop()
            if copy not in copies:
                copies[copy] = None
                stack += [parent for parent in copy.parents if isinstance(parent, Copy)]
        rank = {name: at for at, name in enumerate(self.graph.order)}
        return tuple(sorted(copies, key=lambda copy: (rank[copy.variable], copy.label)))

    def token(self, copy: Copy) -> Token:
        """Return what a copy is to its children: its value, where it has one."""
        return self._value(copy)

    def token_of(self, event: Event) -> Token:
        """Return the copy that an event speaks of, or its value, where it has one."""
        return self._value(self.copy_of[event])

    def drawn(self) -> CausalGraph:
        """Return the copies, and the values that were set, as a graph to look at."""
        copies = self.copies
        label: dict[Token, str] = {copy: copy.label for copy in copies}
        label |= {value: copy.label for copy, value in self.known.items()}
        causes = {copy.label: [label.get(p, spelt(p)) for p in copy.parents] for copy in copies}
        nodes = dict.fromkeys(name for effect, names in causes.items() for name in (*names, effect))
        edges = [(cause, effect) for effect, names in causes.items() for cause in names]
        joined = {frozenset(pair) for pair in self.graph.bidirected}
        hidden = [
            (a.label, b.label)
            for a, b in combinations(copies, 2)
            if a.variable == b.variable or {a.variable, b.variable} in joined
        ]
        return CausalGraph.of(nodes, edges, hidden)

    def _token(self, name: str, world: World) -> Token:
        if name in world:
            setting = world[name]
            return self.at[name, setting] if isinstance(setting, World) else Value(name, setting)
        parents = tuple(self.at[parent, world] for parent in self.graph.parents(name))
        key = name, parents
        if key not in self.register:
            self.register[key] = Copy(name, parents, str(Event(name, self._least(name, world))))
        return self.register[key]

    def _least(self, name: str, world: World) -> World:
        """Return the settings of a world that act on a variable."""
        acting = self.graph.do(*(one for one, _ in world.settings)).ancestors(name)
        return World(tuple(pair for pair in world.settings if pair[0] in acting))

    def _learn(self, event: Event, token: Token) -> None:
        """Take an event's value down."""
        if event.value is None and event not in self.seen:
            return
        value = Value(event.variable, event.value, seen=event.value is None)
        before = self._value(token)
        if isinstance(before, Copy):
            self.known[before], self.told_by[before] = value, event
        elif None in (before.text, value.text) and before != value:
            raise ValueError(
                f"{event}: it is the same variable as another of the query; give both a value."
            )
        elif before != value:
            other = self.told_by.get(token) if isinstance(token, Copy) else None
            same = f"{other} and {event} are one variable" if other else f"{event} is set otherwise"
            raise Impossible(same)

    def _value(self, token: Token) -> Token:
        return self.known.get(token, token) if isinstance(token, Copy) else token


def spelt(token: Token) -> str:
    """Write a copy or a value as in a query."""
    if isinstance(token, Copy):
        return token.label
    if token.text is not None:
        return f"{token.variable}={token.text}"
    return f"the {token.variable} that {'was seen' if token.seen else 'is set'}"
