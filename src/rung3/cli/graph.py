"""What `rung3 graph` answers, in lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rung3 import graph as graphs
from rung3.graph import CausalGraph

__all__ = ["answers"]

WRITERS: dict[str, Callable[[CausalGraph], str]] = {
    "dagitty": graphs.to_dagitty,
    "mermaid": graphs.to_mermaid,
    "text": str,
}


def answers(
    graph: CausalGraph,
    *,
    separated: tuple[str, str] | None = None,
    given: Sequence[str] = (),
    adjustment: tuple[str, str] | None = None,
    effect: tuple[str, str] | None = None,
    query: str | None = None,
    why: bool = False,
    structures: bool = False,
    implied: bool = False,
    data: Path | None = None,
    equivalent: bool = False,
    write: str | None = None,
) -> list[object]:
    """Answers to what is asked, each to be printed; none if nothing is.

    Args:
        graph: The causal graph.
        separated: Two variables: are they d-separated, given those of `given`?
        given: The condition; with `why`, the adjustment set that is judged.
        adjustment: Cause and effect, whose minimal adjustment sets are wanted.
        effect: Cause and effect, for the roles of the others, front-door sets and instruments.
        query: Such as `P(y | do(x))`, to be identified.
        why: Give reasons too.
        structures: Chains, forks, colliders and M-structures.
        implied: The independencies that the graph implies.
        data: A table (CSV) that these are tested against.
        equivalent: What all graphs of its equivalence class share.
        write: A format to write the graph in: dagitty, mermaid or text.

    Raises:
        ValueError: If a variable or the format is unknown, or the query cannot be read.

    Example:
        >>> answers(CausalGraph("a -> b -> c"), separated=("a", "c"), given=["b"])
        ['a and c d-separated given b: yes']
    """
    said: list[object] = []
    if separated is not None and why:
        said.append(graphs.separation(graph, *separated, given))
    elif separated is not None:
        answer = "yes" if graph.d_separated(*separated, given) else "no"
        condition = f" given {', '.join(given)}" if given else ""
        said.append(f"{separated[0]} and {separated[1]} d-separated{condition}: {answer}")
    if adjustment is not None:
        spelt = _sets(graph.adjustment_sets(*adjustment))
        said.append(f"adjustment sets for {adjustment[0]} on {adjustment[1]}: {spelt}")
        if why:
            said.append(graphs.check_adjustment(graph, *adjustment, given))
    if effect is not None:
        said.append(graph.roles(*effect))
        said.append(f"front-door sets: {_sets(graph.front_door_sets(*effect))}")
        spelt = "; ".join(map(str, graph.instruments(*effect)))
        said.append(f"instruments: {spelt or 'none'}")
    if query is not None:
        from rung3 import identify

        said.append(identify(graph, query))
    if structures:
        said += graphs.structures(graph)
    if implied and data is None:
        said += graphs.implications(graph)
    if data is not None:
        import pandas as pd

        said.append(graphs.falsify(graph, {str(k): v for k, v in pd.read_csv(data).items()}))
    if equivalent:
        said.append(graphs.equivalence_class(graph))
    if write is not None:
        if write not in WRITERS:
            raise ValueError(f"--write: expected one of {', '.join(WRITERS)}, got {write!r}")
        said.append(WRITERS[write](graph))
    return said


def _sets(sets: list[set[str]]) -> str:
    return "; ".join("{" + ", ".join(sorted(one)) + "}" for one in sets) or "none"
