r"""Equivalence with hidden causes: what all graphs imply that no observational data can tell apart.

An ancestral graph says of each pair of variables that nothing separates which of them, if any, is a
cause of the other: a -> b, or a <-> b if neither is (Richardson and Spirtes, Annals of Statistics
2002). What all ancestral graphs with the same independencies have in common is a partial ancestral
graph (PAG): each end of an edge is an arrowhead or a tail in all of them, or a circle, `a o-> b`,
if it differs. The rules that find the ends (R1 to R4, R8 to R10; no selection) are complete:

    1   a *-> b o-* c,                         a, c not adjacent         b -> c
    2   a -> b *-> c  or  a *-> b -> c,        a *-o c                   a *-> c
    3   a *-> b <-* c,  a *-o d o-* c,         a, c not adjacent, d *-o b    d *-> b
    4   <d, ..., a, b, c> discriminates b,     b o-* c                   b -> c  or  a <-> b <-> c
    8   a -> b -> c,                           a o-> c                   a -> c
    9   a o-> c,  an uncovered possibly directed path <a, b, ..., c>,  b, c not adjacent    a -> c
    10  a o-> c,  b -> c <- d, and such paths from a to b and to d that begin with two that are
        not adjacent                                                     a -> c

(Zhang, Artificial Intelligence 2008). An arrow a -> b is visible if no hidden cause can join a and
b: then a variable that is not adjacent to b has an arrow into a, or a collider path into a through
parents of b.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, Literal

from rung3.graph.causal_graph import CausalGraph
from rung3.graph.equivalence import EquivalenceClass
from rung3.graph.given import as_graph
from rung3.graph.text import Pair, parse, quote

__all__ = ["AncestralClass", "ancestral_class", "read_ancestral"]

Mark = Literal["arrow", "tail", "circle"]

EDGE = re.compile(r"""(\so-o\s|\so->|<-o\s|<->|->|<-)(?=(?:[^"]*"[^"]*")*[^"]*$)""")
"""An arrow outside quotes; a space keeps a circle apart from a name."""

ENDS: Mapping[str, tuple[Mark, Mark]] = {
    "->": ("tail", "arrow"),
    "<-": ("arrow", "tail"),
    "<->": ("arrow", "arrow"),
    "o->": ("circle", "arrow"),
    "<-o": ("arrow", "circle"),
    "o-o": ("circle", "circle"),
}
"""The marks at both ends of an edge, by how it is written."""


@dataclass(frozen=True)
class AncestralClass:
    """All graphs, hidden causes included, that imply the same independencies: a PAG.

    Attributes:
        nodes: The variables.
        marks: Of each pair (a, b) that is adjacent, the mark at b; both ways round.
    """

    nodes: tuple[str, ...]
    marks: Mapping[Pair, Mark]

    @staticmethod
    def given(spec: Any) -> AncestralClass:
        """Return a class as it is, or read one from its text, or find that of a graph."""
        if isinstance(spec, AncestralClass):
            return spec
        return read_ancestral(spec) if isinstance(spec, str) else ancestral_class(spec)

    def adjacent(self, name: str) -> tuple[str, ...]:
        """Return what a variable is adjacent to."""
        return tuple(other for other in self.nodes if (name, other) in self.marks)

    def is_(self, a: str, b: str, at_a: Mark | None = None, at_b: Mark | None = None) -> bool:
        """Return whether there is an edge with these marks; `None` for any."""
        return (
            (a, b) in self.marks
            and at_a in (None, self.marks[b, a])
            and at_b in (None, self.marks[a, b])
        )

    def may_cause(self, a: str, b: str) -> bool:
        """Return whether there is an edge that points from a to b in some member."""
        return (a, b) in self.marks and self.marks[b, a] != "arrow" and self.marks[a, b] != "tail"

    def is_visible(self, a: str, b: str) -> bool:
        """Return whether a -> b in all members, and no hidden cause joins them in any."""
        if not self.is_(a, b, "tail", "arrow"):
            return False
        stack, seen = [a], {a}
        while stack:  # from a back along <->, through parents of b
            name = stack.pop()
            for other in self.adjacent(name):
                if other == b or not self.is_(other, name, at_b="arrow"):
                    continue
                if (other, b) not in self.marks:
                    return True
                through = self.is_(other, name, "arrow", "arrow")
                if through and self.is_(other, b, "tail", "arrow") and other not in seen:
                    seen.add(other)
                    stack.append(other)
        return False

    def subgraph(self, names: frozenset[str]) -> AncestralClass:
        """Return the part among some variables."""
        nodes = tuple(name for name in self.nodes if name in names)
        return AncestralClass(nodes, {k: v for k, v in self.marks.items() if names.issuperset(k)})

    def member(self) -> CausalGraph:
        """Return one ancestral graph of the class."""
        pairs = list(combinations(self.nodes, 2))
        circles = {frozenset(pair) for pair in pairs if self.is_(*pair, "circle", "circle")}
        between = next(iter(EquivalenceClass(self.nodes, frozenset(), frozenset(circles))))
        arrows = [
            (a, b)
            for a, b in permutations(self.nodes, 2)
            if self.is_(a, b, at_b="arrow") and not self.is_(a, b, at_a="arrow")
        ]
        bidirected = [pair for pair in pairs if self.is_(*pair, "arrow", "arrow")]
        return CausalGraph.of(self.nodes, [*arrows, *between.edges], bidirected)

    def possible_ancestors(self, names: frozenset[str]) -> frozenset[str]:
        """Return the variables that are causes of these in some member, and these."""
        return self.reach(names, lambda name, other: self.may_cause(other, name))

    def possible_descendants(self, names: frozenset[str]) -> frozenset[str]:
        """Return the variables that are effects of these in some member, and these."""
        return self.reach(names, self.may_cause)

    def reach(self, names: frozenset[str], step: Callable[[str, str], bool]) -> frozenset[str]:
        """Return these variables, and what steps between adjacent ones lead to from them."""
        stack, seen = list(names), set(names)
        while stack:
            name = stack.pop()
            more = {other for other in self.adjacent(name) if step(name, other)} - seen
            seen |= more
            stack += more
        return frozenset(seen)

    def __str__(self) -> str:
        links, joined = [], set[str]()
        spelled = {ends: arrow for arrow, ends in ENDS.items()}
        for a, b in combinations(self.nodes, 2):
            if (a, b) in self.marks:
                ends = self.marks[b, a], self.marks[a, b]
                turned = spelled[ends] in ("<-", "<-o")
                first, second = (b, a) if turned else (a, b)
                arrow = spelled[ends[::-1] if turned else ends]
                links.append(f"{quote(first)} {arrow} {quote(second)}")
                joined |= {a, b}
        return "; ".join([*links, *(quote(name) for name in self.nodes if name not in joined)])


def ancestral_class(graph: Any) -> AncestralClass:
    """Return the class of a graph that may have hidden common causes.

    Args:
        graph: The graph; its bidirected arrows stand for hidden causes.

    >>> print(ancestral_class(CausalGraph("a -> x; b -> x; x -> y")))
    a o-> x; b o-> x; x -> y
    >>> print(ancestral_class(CausalGraph("a -> x -> y; x <-> y")))
    a o-o x; a o-o y; x o-o y
    """
    graph = as_graph(graph)
    member = _ancestral(graph)
    marks: dict[Pair, Mark] = dict.fromkeys(member, "circle")
    for b in graph.nodes:
        for a, c in combinations((k for k in graph.nodes if (k, b) in member), 2):
            if (a, c) not in member and member[a, b] == member[c, b] == "arrow":
                marks[a, b] = marks[c, b] = "arrow"
    rules = _Rules(graph.nodes, marks, member)
    while rules.step():
        pass
    return AncestralClass(graph.nodes, dict(marks))


def read_ancestral(text: str) -> AncestralClass:
    """Read a partial ancestral graph, as its text is written.

    Args:
        text: Statements such as `a o-> b`, with the arrows `->`, `<->`, `o->` and `o-o`.

    Raises:
        ValueError: If it cannot be read, or joins two variables twice.

    >>> print(read_ancestral("a o-> {x y}; x <-o b"))
    a o-> x; a o-> y; b o-> x
    """
    nodes: dict[str, None] = {}
    marks: dict[Pair, Mark] = {}
    for statement in re.split(r"[;\n]", text):
        parts = EDGE.split(f" {statement} ")
        groups = [parse(part).nodes for part in parts[::2]]
        nodes.update(dict.fromkeys(name for group in groups for name in group))
        if len(groups) > 1 and not all(groups):
            raise ValueError(f"{statement.strip()}: an arrow lacks a variable at one of its ends")
        for left, arrow, right in zip(groups, parts[1::2], groups[1:], strict=False):
            for a, b in ((a, b) for a in left for b in right):
                if (a, b) in marks or a == b:
                    raise ValueError(f"{statement.strip()}: {a} and {b} are joined twice")
                marks[b, a], marks[a, b] = ENDS[arrow.strip()]
    return AncestralClass(tuple(nodes), marks)


def _ancestral(graph: CausalGraph) -> dict[Pair, Mark]:
    """Return the ancestral graph of a graph with hidden causes: the mark at b of each (a, b)."""
    above = {name: graph.ancestors(name) for name in graph.nodes}
    marks: dict[Pair, Mark] = {}
    for a, b in combinations(graph.nodes, 2):
        if not graph.d_separated(a, b, (above[a] | above[b]) - {a, b}):
            marks[a, b] = "tail" if b in above[a] else "arrow"
            marks[b, a] = "tail" if a in above[b] else "arrow"
    return marks


class _Rules:
    """The rules that orient circles, in place; `member` says what a discriminated node is."""

    def __init__(
        self, nodes: tuple[str, ...], marks: dict[Pair, Mark], member: Mapping[Pair, Mark]
    ) -> None:
        self.graph, self.marks, self.member = AncestralClass(nodes, marks), marks, member

    def step(self) -> bool:
        """Orient what follows at once; return whether anything did."""
        before = dict(self.marks)
        for a, c in permutations(self.graph.nodes, 2):
            if self.graph.is_(c, a, at_b="circle") and self._leads_on(a, c):
                self.marks[c, a], self.marks[a, c] = "tail", "arrow"
            if self.graph.is_(a, c, at_b="circle"):
                self._at(a, c)
            if self.graph.is_(a, c, "circle", "arrow") and self._is_tail(a, c):
                self.marks[c, a] = "tail"
        return before != self.marks

    def _at(self, a: str, c: str) -> None:
        """Orient the circle of a *-o c."""
        if self._in_chain(a, c) or self._between_colliders(a, c):
            self.marks[a, c] = "arrow"
        elif (before := self._discriminated(c, a)) is not None:  # rule 4
            self._discriminate(before, c, a)

    def _leads_on(self, b: str, c: str) -> bool:
        """Return whether b -> c by rule 1: a *-> b, a and c not adjacent."""
        others = (a for a in self.graph.adjacent(b) if a != c and (a, c) not in self.marks)
        return any(self.graph.is_(a, b, at_b="arrow") for a in others)

    def _in_chain(self, a: str, c: str) -> bool:
        """Return whether a *-> c by rule 2."""
        is_ = self.graph.is_
        return any(
            (is_(a, b, "tail", "arrow") and is_(b, c, at_b="arrow"))
            or (is_(a, b, at_b="arrow") and is_(b, c, "tail", "arrow"))
            for b in self.graph.nodes
        )

    def _between_colliders(self, d: str, b: str) -> bool:
        """Return whether d *-> b by rule 3."""
        sides = [
            k
            for k in self.graph.adjacent(b)
            if self.graph.is_(k, b, at_b="arrow") and self.graph.is_(k, d, at_b="circle")
        ]
        return any((a, c) not in self.marks for a, c in combinations(sides, 2))

    def _discriminated(self, b: str, c: str) -> str | None:
        """Return a of a path <d, ..., a, b, c> that discriminates b: all before cause c."""
        is_ = self.graph.is_
        for a in self.graph.adjacent(b):
            if not (is_(a, c, "tail", "arrow") and is_(b, a, at_b="arrow")):
                continue
            stack, seen = [a], {a, b, c}
            while stack:
                name = stack.pop()
                for other in self.graph.adjacent(name):
                    if other in seen or not is_(other, name, at_b="arrow"):
                        continue
                    if (other, c) not in self.marks:
                        return a
                    if is_(other, name, "arrow", "arrow") and is_(other, c, "tail", "arrow"):
                        seen.add(other)
                        stack.append(other)
        return None

    def _discriminate(self, a: str, b: str, c: str) -> None:
        if self.member[c, b] == "tail":
            self.marks[c, b], self.marks[b, c] = "tail", "arrow"
        else:
            for pair in ((a, b), (b, a), (b, c), (c, b)):
                self.marks[pair] = "arrow"

    def _is_tail(self, a: str, c: str) -> bool:
        """Return whether a o-> c is a -> c, by rules 8 to 10."""
        is_, graph = self.graph.is_, self.graph
        if any(is_(a, b, "tail", "arrow") and is_(b, c, "tail", "arrow") for b in graph.nodes):
            return True
        firsts = {b: self._first(a, b) for b in graph.nodes if b != a}
        if any(b != c and (b, c) not in self.marks for b in firsts[c] - {c}):
            return True
        causes = [b for b in graph.nodes if is_(b, c, "tail", "arrow")]
        return any(
            first != second and (first, second) not in self.marks
            for b, d in combinations(causes, 2)
            for first in firsts[b]
            for second in firsts[d]
        )

    def _first(self, a: str, end: str) -> set[str]:
        """Return the second nodes of the uncovered possibly directed paths from a to an end."""
        return {path[1] for path in self._paths((a,), end)}

    def _paths(self, path: tuple[str, ...], end: str) -> Iterator[tuple[str, ...]]:
        if path[-1] == end:
            yield path
            return
        for name in self.graph.adjacent(path[-1]):
            covered = len(path) > 1 and (path[-2], name) in self.marks
            if name not in path and not covered and self.graph.may_cause(path[-1], name):
                yield from self._paths((*path, name), end)
