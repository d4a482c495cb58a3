"""The text of a first study: YAML with a comment on everything that a reader may want to change."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rung3.graph import CausalGraph
from rung3.study.drafting.columns import Column
from rung3.study.drafting.sizes import Sizes
from rung3.study.drafting.source import Source

__all__ = ["study_text"]

LEAST_HELD = 10
"""Rows held out, from which on they say when training has lasted too long."""

PATIENCE = 0.2
"""Share of the epochs for which the loss on rows held out may not fall."""

MOST_ASKED = 400
"""Test rows that are asked: enough for intervals of a few per cent."""


def study_text(
    *,
    name: str,
    table: Source,
    out: Path,
    columns: Sequence[Column],
    graph: str,
    given: bool,
    chosen: Mapping[str, Column],
    sizes: Mapping[str, Sizes],
    numbers: tuple[int, int],
    shares: tuple[float, float],
) -> str:
    """Return a study as text.

    Args:
        name: Its name.
        table: Where its rows come from.
        out: Where it is to be written: paths are relative to that.
        columns: All columns of the table.
        graph: The causal graph.
        given: Whether the graph was given; if not, it is a placeholder.
        chosen: The columns that the graph names.
        sizes: What is proposed for each image.
        numbers: Epochs and batch size of all else.
        shares: Shares of the rows that test, and that validate.
    """
    lines = [
        f"# A first study, by `rung3 init` from {len(table.frame):,} rows. What was guessed is",
        "# said beside it: change what is wrong, then",
        "#",
        f"#   rung3 check {out}    # what it would do and how long that takes",
        f"#   rung3 run {out}",
        "",
        f"name: {_inline(name)}",
        "seed: 0",
        "",
        *_data(table, out, columns, chosen, shares),
        "",
        *_graph(graph, given),
        "",
        *_variables(columns, chosen),
        "",
        *_mechanisms(chosen, sizes),
        *_training(sizes, numbers, round(len(table.frame) * (1 - shares[0]) * shares[1])),
        "",
        *_evaluation(chosen, graph, sizes, round(len(table.frame) * shares[0])),
    ]
    return "\n".join(lines) + "\n"


def _data(
    table: Source,
    out: Path,
    columns: Sequence[Column],
    chosen: Mapping[str, Column],
    shares: tuple[float, float],
) -> Iterator[str]:
    path = Path(os.path.relpath(table.path.resolve(), out.resolve().parent)).as_posix()
    yield "data:"
    yield "  kind: table"
    yield f"  path: {_inline(path)} # paths of images are relative to it"
    if subject := next((column.name for column in columns if column.names_subjects), None):
        yield f"  subject: {_inline(subject)} # all rows of a subject are in the same part"
    if scans := {name: dict(column.scans) for name, column in chosen.items() if column.scans}:
        yield f"  scans: {_inline(scans)} # what is taken; black and white are each scan's own,"
        yield "  # unless `black` and `white` say which numbers they are"
    yield f"  test: {shares[0]} # share of the rows set aside to test on, at random by the seed"
    yield f"  validation: {shares[1]} # share of the others on which training is watched"


def _graph(graph: str, given: bool) -> Iterator[str]:
    if not given:
        yield "# THE GRAPH IS YOURS TO DRAW. This placeholder says that every column is a cause of"
        yield "# the image and that no column causes another. Write `a -> b` for each cause and"
        yield "# effect, and `a <-> b` where something hidden causes both."
    yield f"graph: {_inline(graph)}"


def _variables(columns: Sequence[Column], chosen: Mapping[str, Column]) -> Iterator[str]:
    yield "variables:"
    for column in columns:
        gaps = f"; {column.gaps} gaps" if column.gaps else ""
        comment = f" # {column.saw}: {column.why}{gaps}"
        if column.name in chosen:
            yield f"  {_inline(column.name)}: {_inline(dict(column.fields))}{comment}"
        elif column.fields:
            yield (
                f"  # not in the graph: {_inline(column.name)}: {_inline(dict(column.fields))}"
                f"{comment}"
            )
        else:
            yield f"  # left out: {_inline(column.name)}{comment}"


def _mechanisms(chosen: Mapping[str, Column], sizes: Mapping[str, Sizes]) -> Iterator[str]:
    lines = [
        f"  {_inline(name)}: {{kind: {column.mechanism}}}"
        for name, column in chosen.items()
        if column.mechanism
    ]
    for name, size in sizes.items():
        network = size.network
        fields: dict[str, Any] = {"kind": "VAE", "latent": network.latent}
        fields |= {"width": network.width, "depth": network.depth, "pose": True}
        if chosen[name].fields.get("bits", 8) is None:
            fields["likelihood"] = "gaussian"
        lines.append(
            f"  {_inline(name)}: {_inline(fields)} # {{kind: HVAE}} is sharper, and takes longer"
        )
    if lines:
        yield "mechanisms: # the others get the default of their kind, which `check` names"
        yield from lines
        yield ""


def _training(sizes: Mapping[str, Sizes], numbers: tuple[int, int], held: int) -> Iterator[str]:
    watched = held >= LEAST_HELD
    yield "training:"
    yield f"  epochs: {numbers[0]}"
    yield f"  batch_size: {numbers[1]}"
    if watched:
        yield f"  patience: {_patience(numbers[0])} # epochs without a better fit of rows held out;"
        yield "  # the weights are those of the best epoch"
    if sizes:
        yield "  mechanisms:"
    for name, size in sizes.items():
        options = {"epochs": size.epochs, "batch_size": size.batch}
        options |= {"patience": _patience(size.epochs)} if watched else {}
        yield (
            f"    {_inline(name)}: {_inline(options)} # {size.steps:,} steps, about "
            f"{max(1, round(size.minutes))} min on this machine"
        )


def _patience(epochs: int) -> int:
    return max(5, round(PATIENCE * epochs))


def _evaluation(
    chosen: Mapping[str, Column], graph: str, sizes: Mapping[str, Sizes], test: int
) -> Iterator[str]:
    causal = CausalGraph(graph)
    causes = [
        name for name, column in chosen.items() if column.kind != "Image" and causal.children(name)
    ]
    yield "evaluation:"
    if causes:
        yield "  # each is set to the values of other rows; or name values, such as"
        yield f"  # interventions: {{{_example(chosen[causes[0]])}}}"
        yield f"  interventions: {_inline(causes)}"
    if test > MOST_ASKED:
        yield f"  n: {MOST_ASKED} # of the test rows"
    if sizes:
        epochs = max(size.predictor_epochs for size in sizes.values())
        yield "  # small networks that read each cause off the image, and judge the answers"
        yield f"  oracles: {{epochs: {epochs}}}"
    elif not causes:
        yield "  bootstrap: 1000"


def _example(column: Column) -> str:
    name = _inline(column.name)
    if column.median is not None:
        return f"{name}: {column.median:.4g}"
    labels = column.fields.get("labels") or ["1"]
    return f"{name}: {_inline(labels[-1])}"


def _inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6
    )
    return text.removesuffix("\n").removesuffix("\n...")
