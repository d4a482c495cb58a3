"""The command `rung3 graph`: ask a causal graph, or draw it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from rung3.cli.columns import read_columns
from rung3.cli.console import print_table, save_picture, say, say_path

if TYPE_CHECKING:
    from rung3.graph import CausalGraph

__all__ = ["graph", "read_graph"]

Source = Annotated[
    str,
    typer.Argument(
        metavar="STUDY_OR_TEXT", help='A study file, or text such as "a -> b <- c"; DAGitty\'s too.'
    ),
]

Separated = Annotated[
    tuple[str, str] | None, typer.Option(metavar="X Y", help="Say whether X and Y are d-separated.")
]

Given = Annotated[list[str] | None, typer.Option(help="Condition on this variable.")]

Adjustment = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="X Y", help="List minimal adjustment sets for the effect of X on Y."),
]

Effect = Annotated[
    tuple[str, str] | None,
    typer.Option(metavar="X Y", help="List roles of the others, front-door sets, instruments."),
]

Query = Annotated[
    str | None,
    typer.Option(
        "--identify",
        metavar="QUERY",
        help='Identify a query, such as "P(y | do(x))" or "P(y[x=1] | x=0)".',
    ),
]

Why = Annotated[
    bool, typer.Option("--why", help="Give reasons: paths, or what --given does as adjustment.")
]

Structures = Annotated[
    bool, typer.Option("--structures", help="List chains, forks, colliders, M-structures.")
]

Implied = Annotated[bool, typer.Option("--implied", help="List the implied independencies.")]

Data = Annotated[Path | None, typer.Option(help="Test these independencies against a table (CSV).")]

Equivalent = Annotated[
    bool, typer.Option("--equivalent", help="Print what all equivalent graphs share.")
]

Format = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help="Print the graph as dagitty, mermaid or text."),
]


def graph(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Picture to write.")] = None,
    separated: Separated = None,
    given: Given = None,
    adjustment: Adjustment = None,
    effect: Effect = None,
    query: Query = None,
    why: Why = False,
    structures: Structures = False,
    implied: Implied = False,
    data: Data = None,
    equivalent: Equivalent = False,
    write: Format = None,
) -> None:
    """Answer questions about a causal graph, or draw it; no data or model is needed."""
    causal, images = read_graph(source)
    answers = [
        *_separation(causal, separated, given or (), why),
        *_adjustment(causal, adjustment, given or (), why),
        *_effect(causal, effect),
        *_identified(causal, query),
        *_implications(causal, structures, implied, data, equivalent),
        *_written(causal, write),
    ]
    for answer in answers:
        say(escape(str(answer)))
    if not answers:
        lines = [(name, ", ".join(causal.parents(name))) for name in causal.order]
        print_table("graph", ["variable", "parents"], lines)
    if out is not None:
        from rung3.graph import draw_graph

        save_picture(draw_graph(causal, square=images), out, dpi=150, transparent=True)
        say_path("picture", out)


def read_graph(source: str) -> tuple[CausalGraph, list[str]]:
    """Read the graph of a study file or of a text, and which of its variables are images.

    Args:
        source: The path of a study file (YAML), or text: ours, DAGitty's or DOT.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> str(read_graph("a -> b")[0])
        'a -> b'
    """
    from rung3.graph import CausalGraph
    from rung3.graph.dagitty import is_dagitty, read_dagitty
    from rung3.graph.formats import is_dot, read_dot

    if Path(source).suffix in (".yaml", ".yml"):
        from rung3.data.variables import Image
        from rung3.study.study import Study

        study = Study.load(source)
        images = [name for name, kind in study.declared().items() if isinstance(kind, Image)]
        return CausalGraph(study.graph), images
    if is_dagitty(source):
        read = read_dagitty(source)
        if read.selected:
            raise ValueError(
                f"{', '.join(read.selected)} decides which rows there are (selected), and answers "
                "here are about all rows: ask rung3.graph.recover, or leave the mark out."
            )
        return read.observed, []
    if is_dot(source):
        return read_dot(source), []
    return CausalGraph(source), []


# Each of the following answers one option, and yields nothing where it is not given.


def _separation(
    causal: CausalGraph, pair: tuple[str, str] | None, given: Sequence[str], why: bool
) -> Iterator[object]:
    from rung3.graph import separation

    if pair is None:
        return
    if why:
        yield separation(causal, *pair, given)
        return
    answer = "yes" if causal.d_separated(*pair, given) else "no"
    condition = f" given {', '.join(given)}" if given else ""
    yield f"{pair[0]} and {pair[1]} d-separated{condition}: {answer}"


def _adjustment(
    causal: CausalGraph, pair: tuple[str, str] | None, given: Sequence[str], why: bool
) -> Iterator[object]:
    from rung3.graph import check_adjustment

    if pair is None:
        return
    sets = causal.adjustment_sets(*pair)
    yield f"adjustment sets for {pair[0]} on {pair[1]}: {_spell_sets(sets)}"
    if why:
        yield check_adjustment(causal, *pair, given)


def _effect(causal: CausalGraph, pair: tuple[str, str] | None) -> Iterator[object]:
    if pair is None:
        return
    yield causal.roles(*pair)
    yield f"front-door sets: {_spell_sets(causal.front_door_sets(*pair))}"
    yield f"instruments: {'; '.join(map(str, causal.instruments(*pair))) or 'none'}"


def _identified(causal: CausalGraph, query: str | None) -> Iterator[object]:
    if query is not None and "[" in query:  # events in several worlds, with their values
        from rung3.graph import identify_counterfactual

        yield identify_counterfactual(causal, query)
    elif query is not None:
        from rung3 import identify

        yield identify(causal, query)


def _implications(
    causal: CausalGraph, structures: bool, implied: bool, data: Path | None, equivalent: bool
) -> Iterator[object]:
    from rung3 import graph as graphs

    if structures:
        yield from graphs.structures(causal)
    if implied and data is None:
        yield from graphs.implications(causal)
    if data is not None:
        yield graphs.falsify(causal, read_columns(data))
    if equivalent:
        yield graphs.equivalence_class(causal)


def _written(causal: CausalGraph, form: str | None) -> Iterator[str]:
    from rung3.graph import to_dagitty, to_mermaid

    writers: dict[str, Callable[[CausalGraph], str]] = {
        "dagitty": to_dagitty,
        "mermaid": to_mermaid,
        "text": str,
    }
    if form is None:
        return
    if form not in writers:
        raise ValueError(f"--write: expected one of {', '.join(writers)}, got {form!r}")
    yield writers[form](causal)


def _spell_sets(sets: Sequence[set[str]]) -> str:
    return "; ".join("{" + ", ".join(sorted(names)) + "}" for names in sets) or "none"
