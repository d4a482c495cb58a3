r"""Causal graphs as text, as pairs and as networkx graphs, all read into the same names and pairs.

    text      := statement ((";" | newline) statement)*
    statement := group (arrow group)*                 arrow := "->" | "<-" | "<->"
    group     := name | "{" name* "}"                 name  := word | "quoted" | 'quoted'

``a -> b`` says that a causes b, and ``a <-> b`` that a hidden cause is common to both. A group
stands for each of its names (commas and newlines within are optional), a chain ``a -> b <- c`` for
each of its links, a lone group for nodes. A word is made of letters, digits, ``_``, ``.`` and inner
``-``; any other name goes in quotes, with a backslash before a quote or a backslash in it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

import networkx as nx

Pair: TypeAlias = tuple[str, str]
"""A cause and its effect, or two variables with a hidden common cause."""

Names: TypeAlias = str | Iterable[str]
"""One name or several."""

Step: TypeAlias = tuple[str, str]
"""An arrow, as seen from the node that it starts at, and the neighbour that it leads to."""

WORD = r"\w(?:[\w.]|-(?=\w))*"
"""A name that needs no quotes, as a regular expression."""

_TOKEN = re.compile(
    rf"""(?P<space>[^\S\n]+) | (?P<end>[;\n]) | (?P<arrow><->|->|<-) | (?P<brace>[{{}}])
      | (?P<comma>,) | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*') | (?P<word>{WORD})""",
    re.VERBOSE | re.DOTALL,
)


_FOREIGN = re.compile(
    r"""\s*(?:strict\s+)?(?P<kind>(?:di)?graph|p?dag|[mp]ag)\b\s*(?:[\w.]+|"[^"]*")?\s*\{""",
    re.I,
)
"""The head of a graph in another language, such as `digraph name {`."""


class Parsed(NamedTuple):
    """Names in order of mention, (cause, effect) pairs, and pairs with a hidden common cause."""

    nodes: list[str]
    edges: list[tuple[str, str]]
    bidirected: list[tuple[str, str]]


class _Token(NamedTuple):
    kind: str
    text: str


def quote(name: str) -> str:
    r"""Write a name: bare if it is a word, in double quotes otherwise.

    >>> quote("age"), quote("blood pressure")
    ('age', '"blood pressure"')
    """
    if re.fullmatch(WORD, name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def parse(text: str) -> Parsed:
    """Read a graph from text, in the grammar of this module.

    Args:
        text: The statements, separated by ``;`` or newlines.

    Returns:
        The names in order of mention, repeats included, and the pairs.

    Raises:
        ValueError: If a statement cannot be read; the message quotes it.

    >>> parse("{a b} -> c <-> d").edges
    [('a', 'c'), ('b', 'c')]
    """
    if head := _FOREIGN.match(text):
        raise ValueError(_foreign(head["kind"].lower()))
    nodes: list[str] = []
    edges: list[tuple[str, str]] = []
    bidirected: list[tuple[str, str]] = []
    for statement, tokens in _statements(text):
        groups, arrows = _chain(statement, tokens)
        nodes += [name for group in groups for name in group]
        for left, arrow, right in zip(groups, arrows, groups[1:], strict=False):
            if arrow == "<->":
                bidirected += product(left, right)
            else:
                edges += product(left, right) if arrow == "->" else product(right, left)
    return Parsed(nodes, edges, bidirected)


def read_graph(spec: object) -> Parsed:
    """Read a graph from text, from a networkx graph, or from (cause, effect) pairs.

    Args:
        spec: The text; the graph, whose ``.graph["bidirected"]`` may have pairs; or the pairs.

    Raises:
        ValueError: If it is none of these, the text cannot be read, the graph is undirected, or a
            pair is not a pair.
    """
    if isinstance(spec, str):
        return parse(spec)
    if not isinstance(spec, Iterable):
        raise ValueError(f"a graph is text, pairs or a networkx graph, got {spec!r}.")
    if not isinstance(spec, nx.Graph):
        return Parsed([], pairs_of(spec, "a graph"), [])
    if not spec.is_directed():
        raise ValueError(f"expected a directed networkx graph, got {spec}; use nx.DiGraph.")
    hidden = pairs_of(spec.graph.get("bidirected", ()), "bidirected")
    return Parsed(list(map(checked_name, spec)), pairs_of(spec.edges(), "a graph"), hidden)


def pairs_of(given: Iterable[object], what: str) -> list[tuple[str, str]]:
    """Return the given pairs as tuples, or refuse what is none, saying what takes pairs."""
    pairs: list[tuple[str, str]] = []
    for pair in given:
        both = () if isinstance(pair, str) or not isinstance(pair, Iterable) else tuple(pair)
        if len(both) != 2:
            raise ValueError(f"{what} takes pairs such as ('size', 'treatment'), got {pair!r}.")
        pairs.append((checked_name(both[0]), checked_name(both[1])))
    return pairs


def checked_name(name: object) -> str:
    """Return a name as it is, if it can be one."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"a variable's name is a string that is not empty, got {name!r}")
    return name


def write(
    nodes: Sequence[str], causes: dict[str, Sequence[str]], bidirected: Iterable[tuple[str, str]]
) -> str:
    """Write the text from which `parse` reads the same graph, names in the same order.

    Args:
        nodes: The names, in order.
        causes: The parents of each name.
        bidirected: The pairs with a hidden common cause.
    """
    statements = [(tuple(causes[name]), "->", name) for name in nodes if causes[name]]
    statements += [((left,), "<->", right) for left, right in bidirected]
    mentioned = dict.fromkeys(name for left, _, right in statements for name in (*left, right))
    alone = [name for name in nodes if name not in mentioned]
    texts = [f"{_group(left)} {arrow} {quote(right)}" for left, arrow, right in statements]
    if [*mentioned, *alone] == list(nodes):
        return "; ".join(texts + [quote(name) for name in alone])
    return "; ".join([_group(nodes), *texts])


def _group(names: Sequence[str]) -> str:
    """Write one name as it is, several in braces."""
    return quote(names[0]) if len(names) == 1 else "{" + " ".join(map(quote, names)) + "}"


def tokens_of(text: str, token: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Cut a text into tokens: the name of the group that matched, and what it holds.

    Raises:
        ValueError: If a part of the text is not a token.
    """
    at, end = 0, len(text.rstrip())
    while at < end:
        match = token.match(text, at)
        if match is None:
            raise ValueError(f"what is {text[at:].strip()!r}?")
        kind = str(match.lastgroup)
        yield kind, match[kind]
        at = match.end()


def _statements(text: str) -> Iterator[tuple[str, list[_Token]]]:
    """Cut a text into statements: each one's source, and its tokens without space."""
    tokens: list[_Token] = []
    start = at = 0
    inside = False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(text, start, at)
        kind, token, at = str(match.lastgroup), match.group(), match.end()
        inside = (inside or token == "{") and token != "}"
        if kind == "end" and not (inside and token == "\n"):
            if tokens:
                yield text[start : at - 1].strip(), tokens
            tokens, start, inside = [], at, False
        elif kind not in ("space", "end"):
            tokens.append(_Token(kind, token))
    if tokens:
        yield text[start:].strip(), tokens


def _unreadable(text: str, start: int, at: int) -> ValueError:
    """Return the error for a text of which no token can be made from `at` on."""
    rest = re.split(r"[;\n]", text[at:])[0]
    where = f"cannot read {rest.strip()!r} in the graph {(text[start:at] + rest).strip()!r}"
    if rest[0] in "\"'":
        return ValueError(f"{where}: its closing quote is missing.")
    return ValueError(
        f"{where}: arrows are ->, <- or <->, and a name with characters other than letters, "
        f'digits, _ - . goes in quotes ("blood pressure").'
    )


def _foreign(kind: str) -> str:
    """Say what a text is whose head is `kind {`."""
    if kind.endswith("graph"):
        return (
            f"this is Graphviz's text, {kind} {{ ... }}: read it with rung3.graph.read_dot(text)."
        )
    return f"this is DAGitty's text, {kind} {{ ... }}: read it with rung3.graph.read_dagitty(text)."


def _chain(statement: str, tokens: list[_Token]) -> tuple[list[list[str]], list[str]]:
    """Read one statement: n groups of names, and the n - 1 arrows between them."""
    rest = deque(tokens)
    groups: list[list[str]] = []
    arrows: list[str] = []
    try:
        groups.append(_read_group(rest))
        while rest:
            kind, text = rest.popleft()
            if kind != "arrow":
                raise ValueError(
                    f"an arrow or a semicolon is missing at {text!r}; several variables go in "
                    'braces, {a b}, and a name with a space in quotes, "a b"'
                )
            arrows.append(text)
            groups.append(_read_group(rest))
    except ValueError as fault:
        raise ValueError(f"cannot read the graph {statement!r}: {fault}.") from None
    return groups, arrows


def _read_group(rest: deque[_Token]) -> list[str]:
    """Take one name, or several in braces, off the tokens."""
    if not rest:
        raise ValueError("it ends with an arrow; a variable is missing on its right")
    token = rest.popleft()
    if token.kind in ("word", "quoted"):
        return [_read_name(token)]
    if token.text != "{":
        raise ValueError(f"a variable is missing at {token.text!r}")
    names: list[str] = []
    while rest:
        token = rest.popleft()
        if token.text == "}" and names:
            return names
        if token.kind in ("word", "quoted"):
            names.append(_read_name(token))
        elif token.kind != "comma":
            raise ValueError(f"a variable is missing at {token.text!r}; braces hold names alone")
    raise ValueError("a brace is not closed")


def _read_name(token: _Token) -> str:
    """Return the name that a token stands for."""
    if token.kind == "word":
        return token.text
    return checked_name(re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL))
