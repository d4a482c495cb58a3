r"""Graphs in the text of DAGitty (dagitty.net; Textor et al., Int. J. Epidemiol. 2016).

    text      := "dag" [name] "{" statement* "}"            statements may be parted by ";"
    statement := group [attributes] (arrow group [attributes])*  |  key "=" value
    group     := name | "{" name* "}"                       arrow := "->" | "<-" | "<->"
    attributes := "[" (key ["=" value]) ("," ...)* "]"

A variable may be an ``exposure``, an ``outcome``, ``adjusted``, ``latent``, or ``selected`` (rows
are there for one value of it: see `rung3.graph.recover`); ``pos="x,y"`` is its place in a drawing.
Attributes of arrows, and any others, are left out. Text of DAGitty's other kinds of graph, whose
arrows may be undirected, is refused.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rung3.graph.causal_graph import CausalGraph
from rung3.graph.given import as_graph
from rung3.graph.text import Pair, checked_name

__all__ = ["Dagitty", "read_dagitty", "to_dagitty"]

ROLES = {
    "exposure": "exposures", "e": "exposures", "source": "exposures",
    "outcome": "outcomes", "o": "outcomes", "target": "outcomes",
    "adjusted": "adjusted", "a": "adjusted", "adjustednode": "adjusted",
    "latent": "latents", "l": "latents", "unobserved": "latents", "u": "latents",
    "selected": "selected", "s": "selected", "selectednode": "selected",
}  # fmt: skip
"""DAGitty's names of the roles of variables, short and old ones too, and the field of each."""


@dataclass(frozen=True)
class Dagitty:
    """A graph, and what a DAGitty text says of its variables.

    Attributes:
        graph: The graph; latent variables are nodes.
        exposures: The treatments.
        outcomes: The outcomes.
        adjusted: The variables conditioned on.
        latents: The variables that are not observed.
        positions: The place of each variable that has one; y grows downwards.
        selected: The variables that decide which rows there are.
    """

    graph: CausalGraph
    exposures: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    adjusted: tuple[str, ...] = ()
    latents: tuple[str, ...] = ()
    positions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    selected: tuple[str, ...] = ()

    @property
    def observed(self) -> CausalGraph:
        """The graph of the observed variables: latent ones leave bidirected arrows behind."""
        return self.graph.hide(*self.latents)


def read_dagitty(text: str) -> Dagitty:
    """Read a graph from DAGitty's text.

    Args:
        text: As dagitty.net shows it under "Model code", or R's dagitty prints it.

    Raises:
        ValueError: If it is not of that form, is not a directed graph, or has a cycle.

    >>> read = read_dagitty('dag { x [exposure] y [outcome] u [latent] u -> { x y } x -> y }')
    >>> read.exposures, read.outcomes, read.observed
    (('x',), ('y',), CausalGraph('x -> y; x <-> y'))
    """
    head = _WHOLE.match(text)
    if head is None:
        start = text.strip().split("\n")[0][:40]
        raise ValueError(f"DAGitty text is of the form 'dag {{ ... }}', got {start!r}.")
    nodes: dict[str, None] = {}
    edges: list[Pair] = []
    hidden: list[Pair] = []
    members: dict[str, list[str]] = {place: [] for place in dict.fromkeys(ROLES.values())}
    positions: dict[str, tuple[float, float]] = {}
    for group, arrow, right, attributes in _statements(_tokens(head["body"])):
        nodes.update(dict.fromkeys([*group, *right]))
        pairs = [(a, b) for a in group for b in right]
        if arrow == "<->":
            hidden += pairs
        elif arrow:
            edges += pairs if arrow == "->" else [(b, a) for a, b in pairs]
        else:
            for key, value in attributes.items():
                if key in ROLES:
                    members[ROLES[key]] += group
                if key == "pos":
                    positions.update(dict.fromkeys(group, _position(group[0], value)))
    graph = CausalGraph.of(nodes, edges, hidden)
    roles = {place: tuple(dict.fromkeys(names)) for place, names in members.items()}
    return Dagitty(graph, **roles, positions=positions)


def is_dagitty(text: str) -> bool:
    """Return whether a text has the form of DAGitty's, and not of `rung3.graph.text`."""
    return _WHOLE.match(text) is not None


def to_dagitty(
    graph: Any,
    *,
    exposures: Iterable[str] = (),
    outcomes: Iterable[str] = (),
    adjusted: Iterable[str] = (),
    latents: Iterable[str] = (),
    positions: Mapping[str, tuple[float, float]] | None = None,
    selected: Iterable[str] = (),
) -> str:
    """Return the text that DAGitty reads as this graph.

    Args:
        graph: The graph.
        exposures: The treatments.
        outcomes: The outcomes.
        adjusted: The variables conditioned on.
        latents: The variables that are not observed.
        positions: The place of each variable in a drawing; y grows downwards.
        selected: The variables that decide which rows there are.

    Raises:
        ValueError: If the graph lacks a name.

    >>> from rung3.graph import CausalGraph
    >>> print(to_dagitty(CausalGraph("x -> y; x <-> y"), exposures=["x"], outcomes=["y"]))
    dag {
    x [exposure]
    y [outcome]
    x -> y
    x <-> y
    }
    """
    graph = as_graph(graph)
    roles = {"exposure": exposures, "outcome": outcomes, "adjusted": adjusted, "latent": latents}
    roles["selected"] = selected
    members = {role: graph.names(names) for role, names in roles.items()}
    places = positions or {}
    graph.names(places)
    lines = []
    for name in graph.nodes:
        marks = [role for role, names in members.items() if name in names]
        marks += [f'pos="{places[name][0]:.3f},{places[name][1]:.3f}"'] if name in places else []
        lines.append(_quoted(name) + (f" [{','.join(marks)}]" if marks else ""))
    lines += [f"{_quoted(a)} -> {_quoted(b)}" for a, b in graph.edges]
    lines += [f"{_quoted(a)} <-> {_quoted(b)}" for a, b in graph.bidirected]
    return "\n".join(["dag {", *lines, "}"])


_WHOLE = re.compile(r"""\s*dag\b\s*(?:\w+|"[^"]*")?\s*\{(?P<body>.*)\}\s*$""", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?: (?P<arrow><->|->|<-) | (?P<attributes>\[(?:"[^"]*"|[^\]"])*\]) | (?P<mark>[{}=;,])
      | (?P<quoted>"(?:\\.|[^"\\])*") | (?P<word>[\w.]+) )""",
    re.VERBOSE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r'(\w+)\s*(?:=\s*(?:"([^"]*)"|([^,\]\s]+)))?')


def _quoted(name: str) -> str:
    r"""Return the name bare if it is a plain word, in double quotes otherwise."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def _tokens(body: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each token between the braces."""
    at, end = 0, len(body.rstrip())
    while at < end:
        match = _TOKEN.match(body, at)
        if match is None:
            near = body[at:].strip().split("\n")[0]
            raise ValueError(
                f"cannot read {near!r} in DAGitty text: arrows are ->, <- or <->, and a name with "
                "a space in it goes in double quotes."
            )
        kind = str(match.lastgroup)
        text = match[kind]
        yield kind, re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "quoted" else text
        at = match.end()


def _statements(
    tokens: Iterable[tuple[str, str]],
) -> Iterator[tuple[list[str], str, list[str], dict[str, str]]]:
    """Yield each link: left names, arrow and right names; or a lone group's attributes."""
    rest = deque(tokens)
    while rest:
        if rest[0] == ("mark", ";"):
            rest.popleft()
            continue
        group = _group(rest)
        if rest and rest[0] == ("mark", "="):  # a setting of the drawing, such as bb="0,0,1,1"
            rest.popleft()
            _group(rest)
            continue
        yield group, "", [], _attributes(rest)
        while rest and rest[0][0] == "arrow":
            arrow = rest.popleft()[1]
            right = _group(rest)
            _attributes(rest)
            yield group, arrow, right, {}
            group = right


def _group(rest: deque[tuple[str, str]]) -> list[str]:
    """Take one name, or several in braces, off the tokens."""
    kind, text = rest.popleft() if rest else ("", "the end")
    if kind in ("word", "quoted"):
        return [checked_name(text)]
    names = []
    while (kind, text) != ("mark", "}"):
        if kind in ("word", "quoted"):
            names.append(checked_name(text))
        elif (kind, text) not in (("mark", "{"), ("mark", ",")):
            raise ValueError(f"a variable is missing at {text!r} in DAGitty text.")
        kind, text = rest.popleft() if rest else ("", "the end")
    return names


def _attributes(rest: deque[tuple[str, str]]) -> dict[str, str]:
    """Take what stands in brackets off the tokens, if anything does."""
    if not rest or rest[0][0] != "attributes":
        return {}
    attributes = _ATTRIBUTE.findall(rest.popleft()[1])
    return {key: quoted or plain for key, quoted, plain in attributes}


def _position(name: str, text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"pos of {name}: expected two numbers, got {text!r}.") from None
    return x, y
