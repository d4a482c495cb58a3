"""Questions about a graph that is drawn on the page: paths, adjustment, roles, what it implies.

No model and no data are needed: all answers come from `rung3.graph`. The graph is sent as text with
every question, so that the server keeps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import yaml

from rung3.explorer.session import Session
from rung3.graph import CausalGraph, Path, check_adjustment, implications, to_dagitty
from rung3.study.folder import RunFolder

__all__ = ["ask_graph", "levels"]

Json = dict[str, Any]

MAX_NAMES = 60
"""Variables of a drawn graph, at most: more do not fit on a page."""

MAX_TEXT = 20_000
"""Letters of its text, at most."""

LISTED = 40
"""Paths, sets and independencies that are listed, at most: there can be exponentially many."""


def ask_graph(session: Session, given: Mapping[str, Any]) -> Json:
    """Return what a drawn graph tells.

    Args:
        session: The session; a study is written after that of its first model.
        given: `text`, the graph; and of the question `treatment`, `outcome` and `adjusted`, where
            they are chosen.

    Raises:
        ValueError: If the text is not a graph, or too large; if a name is unknown, or chosen twice.

    Example:
        >>> from rung3 import worlds
        >>> from rung3.explorer import Opened
        >>> world = worlds.lecture()
        >>> session = Session([Opened("lecture", world, world.sample(5, seed=0), world)])
        >>> asked = {"text": "a -> {x y}; x -> y", "treatment": "x", "outcome": "y"}
        >>> ask_graph(session, asked)["sets"]
        [['a']]
    """
    graph = _read(given.get("text"))
    reply: Json = {
        "text": graph.to_text(),
        "nodes": list(graph.nodes),
        "edges": [list(edge) for edge in graph.edges],
        "bidirected": [list(edge) for edge in graph.bidirected],
        "levels": levels(graph),
        "implied": [str(one) for one in islice(implications(graph), LISTED)],
        "study": _study_text(session, graph),
        "dagitty": to_dagitty(graph),
    }
    treatment, outcome = given.get("treatment"), given.get("outcome")
    if isinstance(treatment, str) and isinstance(outcome, str):
        adjusted = given.get("adjusted", [])
        if not isinstance(adjusted, list) or not all(isinstance(name, str) for name in adjusted):
            raise ValueError("adjusted: expected a list of names")
        reply |= _effect(graph, treatment, outcome, adjusted)
    return reply


def levels(graph: CausalGraph) -> dict[str, int]:
    """Return the line of each variable, from 0 at the top: a cause just above its nearest effect.

    Example:
        >>> levels(CausalGraph("a -> b -> c; d -> c"))
        {'a': 0, 'b': 1, 'c': 2, 'd': 1}
    """
    depth: dict[str, int] = {}
    for name in graph.order:
        depth[name] = 1 + max((depth[parent] for parent in graph.parents(name)), default=-1)
    for name in reversed(graph.order):
        if below := [depth[child] for child in graph.children(name)]:
            depth[name] = max(depth[name], min(below) - 1)
    return {name: depth[name] for name in graph.nodes}


def _read(text: object) -> CausalGraph:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ValueError(
            f"text: expected a graph such as 'a -> b', of {MAX_TEXT:,} letters at most"
        )
    graph = CausalGraph(text)
    if len(graph.nodes) > MAX_NAMES:
        raise ValueError(
            f"text: {len(graph.nodes)} variables, and the page draws {MAX_NAMES} at most; "
            "ask `rung3 graph`"
        )
    return graph


def _effect(graph: CausalGraph, treatment: str, outcome: str, adjusted: list[str]) -> Json:
    """Return what the graph says of an effect under an adjustment."""
    check = check_adjustment(graph, treatment, outcome, adjusted)
    paths = [_described(path, adjusted) for path in graph.paths(treatment, outcome, LISTED)]
    roles = graph.roles(treatment, outcome)
    carried: dict[tuple[str, str], str] = {}
    for kind in ("biasing", "causal"):  # an arrow of both carries the effect
        lit = (edge for path in paths if path["kind"] == kind for edge in path["edges"])
        carried |= dict.fromkeys(map(tuple, lit), kind)
    return {
        "valid": bool(check),
        "faults": list(check.faults),
        "paths": paths,
        "carried": [[*edge, kind] for edge, kind in carried.items()],
        "sets": _sorted(graph.adjustment_sets(treatment, outcome, LISTED)),
        "front": _sorted(graph.front_door_sets(treatment, outcome, LISTED)),
        "instruments": [str(one) for one in islice(graph.instruments(treatment, outcome), LISTED)],
        "roles": dict(roles),
        "hidden": [list(pair) for pair in roles.hidden],
    }


def _described(path: Path, adjusted: list[str]) -> Json:
    """Return a path: causal, or biasing as far as it is open."""
    blocked = path.blocked_by(adjusted)
    kind = "causal" if path.directed else "blocked" if blocked else "biasing"
    return {
        "text": str(path), "kind": kind, "blocked": list(blocked), "edges": list(_edges(path)),
    }  # fmt: skip


def _edges(path: Path) -> Iterator[list[str]]:
    """Yield a path's arrows as the graph has them, cause first; those of hidden causes as pairs."""
    hidden = {frozenset(pair): pair for pair in path.graph.bidirected}
    for left, arrow, right in zip(path.nodes, path.arrows, path.nodes[1:], strict=False):
        if arrow == "<->":
            yield list(hidden[frozenset((left, right))])
        else:
            yield [left, right] if arrow == "->" else [right, left]


def _sorted(sets: Iterable[set[str]]) -> list[list[str]]:
    return [sorted(names) for names in sets]


def _study_text(session: Session, graph: CausalGraph) -> str:
    """Return a study with this graph: that of the first model's run, if it has all the variables.

    Without a run, or of other variables, it is the line of the graph alone.
    """
    path, known = session.models[0].path, session.variables
    if path is None or set(graph.nodes) != set(known):
        line: str = yaml.safe_dump({"graph": graph.to_text()}, allow_unicode=True, width=10**6)
        return line
    study = RunFolder(path).study()
    changed = {"graph": graph.to_text(), "name": f"{study.name}-redrawn"}
    return study.model_copy(update=changed).to_yaml()
