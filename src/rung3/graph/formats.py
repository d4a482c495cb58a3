r"""Graphs in the formats of other tools: Graphviz's DOT, GML, and adjacency tables.

    DOT   digraph [name] { a -> b [dir=both]; {c d} -> b; e [label="..."] }

`dir=both` is a hidden common cause, `a <-> b`, and `dir=back` turns the arrow. Other attributes are
left out, and so are the bounds of subgraphs. A GML edge may have ``bidirected 1``. In an adjacency
table an entry that is not zero is an arrow from its row to its column.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, TypeAlias

import networkx as nx
import numpy as np

from rung3.graph.causal_graph import CausalGraph
from rung3.graph.text import Pair, Parsed, checked_name

__all__ = ["from_adjacency", "read_dot", "read_gml"]

_HEAD = re.compile(
    r"""\s*(?:strict\s+)?(?P<kind>(?:di)?graph)\b\s*(?:[\w.]+|"[^"]*")?\s*\{(?P<body>.*)\}\s*$""",
    re.DOTALL | re.IGNORECASE,
)
_COMMENT = re.compile(
    r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/|^\s*#[^\n]*', re.DOTALL | re.MULTILINE
)
_TOKEN = re.compile(
    r"""\s*(?: (?P<arrow>->) | (?P<attributes>\[(?:"(?:\\.|[^"\\])*"|[^\]"])*\]) | (?P<mark>[{}=;,])
      | (?P<quoted>"(?:\\.|[^"\\])*") | (?P<word>[\w.]+|-?\d+(?:\.\d*)?) )""",
    re.VERBOSE | re.DOTALL,
)
_DIRECTION = re.compile(r"""\bdir\s*=\s*"?(\w+)""")
_DEFAULTS = {"node", "edge", "graph"}
"""Words whose attributes are of all nodes or arrows."""

_Tokens: TypeAlias = deque[tuple[str, str]]


def is_dot(text: str) -> bool:
    """Return whether a text has the form of DOT's."""
    return _HEAD.match(text) is not None


def read_dot(text: str) -> CausalGraph:
    """Read a graph from Graphviz's DOT.

    Args:
        text: A digraph.

    Raises:
        ValueError: If it is not of that form, is not directed, or has a cycle.

    >>> read_dot('digraph { size -> treatment -> recovery; size -> recovery [color=red] }')
    CausalGraph('size -> treatment; {size treatment} -> recovery')
    >>> read_dot('digraph G { x -> y; x -> y [dir=both, label="hidden"] }')
    CausalGraph('x -> y; x <-> y')
    """
    head = _HEAD.match(_COMMENT.sub(lambda match: match[1] or " ", text))
    if head is None:
        start = text.strip().split("\n")[0][:40]
        raise ValueError(f"DOT is of the form 'digraph {{ ... }}', got {start!r}.")
    if head["kind"].lower() == "graph":
        raise ValueError("a graph in DOT has no direction; a causal graph is a digraph, with ->.")
    read, tokens = Parsed([], [], []), _tokens(head["body"])
    while tokens:
        _statement(tokens, read)
    return CausalGraph.of(dict.fromkeys(read.nodes), read.edges, read.bidirected)


def _tokens(body: str) -> _Tokens:
    tokens: _Tokens = deque()
    at, end = 0, len(body.rstrip())
    while at < end:
        match = _TOKEN.match(body, at)
        if match is None:
            near = body[at:].strip().split("\n")[0]
            raise ValueError(f"cannot read {near!r} in DOT: arrows are ->, and names quoted.")
        kind = str(match.lastgroup)
        text = match[kind]
        tokens.append((kind, re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "quoted" else text))
        at = match.end()
    return tokens


def _statement(tokens: _Tokens, read: Parsed) -> list[str]:
    """Take a statement off the tokens, and return the names in it."""
    if tokens[0] in (("mark", ";"), ("mark", ",")):
        tokens.popleft()
        return []
    kind, text = tokens[0]
    groups = [_group(tokens, read)]
    if tokens and tokens[0] == ("mark", "="):  # a setting of the drawing, such as rankdir=LR
        tokens.popleft()
        _group(tokens, Parsed([], [], []))
        return []
    if kind == "word" and text.lower() in _DEFAULTS and _next(tokens, "attributes"):
        tokens.popleft()
        return []
    while _next(tokens, "arrow"):
        tokens.popleft()
        groups.append(_group(tokens, read))
    attributes = ""
    while _next(tokens, "attributes"):
        attributes += tokens.popleft()[1]
    names = [name for group in groups for name in group]
    read.nodes.extend(names)
    pairs = [pair for left, right in pairwise(groups) for pair in product(left, right)]
    _link(pairs, attributes, read)
    return names


def _link(pairs: list[Pair], attributes: str, read: Parsed) -> None:
    """Add arrows, as their direction says."""
    direction = _DIRECTION.search(attributes) if pairs else None
    match direction[1] if direction else "forward":
        case "forward":
            read.edges.extend(pairs)
        case "back":
            read.edges.extend((b, a) for a, b in pairs)
        case "both":
            read.bidirected.extend(pairs)
        case way:
            raise ValueError(f"dir={way} in DOT: expected forward, back, or both (a hidden cause).")


def _next(tokens: _Tokens, kind: str) -> bool:
    return bool(tokens) and tokens[0][0] == kind


def _group(tokens: _Tokens, read: Parsed) -> list[str]:
    """Take one name, or the statements in braces, off the tokens; return the names."""
    kind, text = tokens.popleft() if tokens else ("", "the end")
    if kind == "word" and text.lower() == "subgraph":
        if tokens and tokens[0] != ("mark", "{"):
            tokens.popleft()
        kind, text = tokens.popleft() if tokens else ("", "the end")
    if kind in ("word", "quoted"):
        return [checked_name(text)]
    if (kind, text) != ("mark", "{"):
        raise ValueError(f"a name is missing at {text!r} in DOT.")
    names: list[str] = []
    while tokens and tokens[0] != ("mark", "}"):
        names += _statement(tokens, read)
    if not tokens:
        raise ValueError("a closing brace is missing in DOT.")
    tokens.popleft()
    return list(dict.fromkeys(names))


def read_gml(text: str) -> CausalGraph:
    """Read a graph from GML.

    Args:
        text: A directed graph; nodes are named by their labels.

    Raises:
        ValueError: If it cannot be read, is not directed, or has a cycle.

    >>> read_gml('''graph [ directed 1
    ...   node [ id 0 label "x" ]
    ...   node [ id 1 label "y" ]
    ...   edge [ source 0 target 1 ]
    ... ]''')
    CausalGraph('x -> y')
    """
    labelled = "label" if re.search(r"\blabel\s", text) else "id"
    try:
        # A multigraph, for x -> y and x <-> y are two edges.
        multigraph = re.sub(r"graph\s*\[", "graph [ multigraph 1 ", text, count=1)
        graph = nx.parse_gml(multigraph if "multigraph" not in text else text, label=labelled)
    except nx.NetworkXError as fault:
        raise ValueError(f"cannot read GML: {fault}.") from None
    if not graph.is_directed():
        raise ValueError("this GML has no direction; a causal graph says 'directed 1'.")
    edges = [
        (str(a), str(b), bool(data.get("bidirected"))) for a, b, data in graph.edges(data=True)
    ]
    directed = [(a, b) for a, b, both in edges if not both]
    hidden = [(a, b) for a, b, both in edges if both]
    return CausalGraph.of(map(str, graph), directed, hidden)


def from_adjacency(table: Any, names: Sequence[str] | None = None) -> CausalGraph:
    """Read a graph from an adjacency table.

    Args:
        table: A data frame whose rows and columns are the variables, or an array `(k, k)`; an entry
            that is not zero is an arrow from its row to its column (transpose what has its causes
            in columns).
        names: The variables, for an array.

    Raises:
        ValueError: If it is not square, rows and columns are named differently, an entry is
            missing, or there is a cycle.

    >>> import pandas as pd
    >>> from_adjacency(pd.DataFrame([[0, 1], [0, 0]], index=["x", "y"], columns=["x", "y"]))
    CausalGraph('x -> y')
    """
    columns = getattr(table, "columns", None)
    given = columns if names is None else names
    if given is None:
        raise ValueError("names: an array does not name its variables; give names=.")
    known = [checked_name(name) for name in given]
    if columns is not None and list(table.index) != list(columns):
        raise ValueError(f"rows {list(table.index)} and columns {list(columns)} must be the same.")
    entries = np.asarray(table, dtype=np.float64)
    if entries.shape != (len(known), len(known)) or len(set(known)) < len(known):
        raise ValueError(f"expected a table of {len(known)} by {len(known)}, got {entries.shape}.")
    if np.isnan(entries).any():
        raise ValueError("an entry of the table is missing; give 0 where there is no arrow.")
    pairs = [(known[a], known[b]) for a, b in np.argwhere(entries != 0)]
    return CausalGraph.of(known, pairs)
