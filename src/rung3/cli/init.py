"""The command `rung3 init`: a first study for a table, or for a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rung3.cli.console import print_table, say, say_path, warn

__all__ = ["init"]


def init(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A table (.csv, .parquet), or a folder.")
    ],
    labels: Annotated[
        Path | None,
        typer.Argument(metavar="[LABELS]", help="A table with a column that names the images."),
    ] = None,
    graph: Annotated[
        str | None,
        typer.Option(help="The causal graph, such as 'age -> sick; {age sick} -> scan'."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Study to write; by default <name>.yaml.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study.")] = None,
    size: Annotated[
        int | None,
        typer.Option(min=8, help="Pixels of an image's longer side; by default, at most 64."),
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.5, help="Minutes that a run may take on this machine.")
    ] = 10.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier study.")
    ] = False,
) -> None:
    """Look at your own data, and write a first study for them, with a comment on every guess."""
    from rung3.data.names import slug
    from rung3.study.drafting import propose

    path = out or Path(f"{name or slug(source.resolve().stem)}.yaml")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there; write elsewhere with --out, or give --overwrite")
    proposal = propose(
        source, labels, out=path, graph=graph, name=name, longest=size, minutes=minutes
    )
    heads = ["column", "kind", "unit", "gaps", "what it holds", "why"]
    print_table(f"{len(proposal.source.frame):,} rows of {source}", heads, proposal.table())
    for note in proposal.notes:
        say(escape(note))
    proposal.save(path)
    if not proposal.given:
        warn(f"the graph is a placeholder ({proposal.graph}): draw yours in {path}, or --graph")
    for image, sizes in proposal.sizes.items():
        say(
            escape(
                f"{image}: {sizes.epochs} epochs, {sizes.steps:,} steps, about "
                f"{max(1, round(sizes.minutes))} min of training here"
            )
        )
    if proposal.source.written:
        say_path("rows", proposal.source.path)
    say_path("study", path)
    say(f"next: rung3 check {escape(str(path))}; rung3 run {escape(str(path))}")
