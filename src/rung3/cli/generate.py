"""The command `rung3 generate`: what many rows would have been, as a folder of shards."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rung3.cli.arguments import Held, Interventions, Particles, RunPath, Seed
from rung3.cli.console import say, say_path

__all__ = ["generate"]


class Form(StrEnum):
    """What shards are."""

    PARQUET = "parquet"
    TAR = "tar"


def generate(
    folder: RunPath,
    out: Annotated[Path, typer.Option("--out", "--output", help="Folder to write to.")],
    do: Interventions,
    rows: Annotated[
        str,
        typer.Option(
            metavar="ROWS",
            help="Test rows, such as all, 0:100 or 0,3; or a table, an image, a folder of images.",
        ),
    ] = "all",
    hold: Held = None,
    particles: Particles = None,
    seed: Seed = 0,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Rows of a shard.")] = None,
    form: Annotated[
        Form,
        typer.Option("--format", help="Parquet files, or tar archives as WebDataset has them."),
    ] = Form.PARQUET,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each on one thread.")] = 1,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Workers on a Ray cluster: RAY_ADDRESS, or here.")
    ] = False,
) -> None:
    """Write the counterfactuals of many rows as shards; run it again to resume."""
    from rung3.scm import generation
    from rung3.study.bulk import find_rows
    from rung3.study.folder import RunFolder

    run = RunFolder(folder)
    model = run.model()
    selection = find_rows(run, model, rows)
    settings = {name.strip(): value.strip() for name, value in map(_halves, do)}
    if len(settings) < len(do):
        raise ValueError(f"--do: a variable is set twice in {', '.join(do)}")
    shards = generation.generate(
        model,
        selection.rows,
        settings,
        out,
        hold=hold or (),
        particles=particles,
        seed=seed,
        numbers=sorted(set(selection.numbers)),
        shard_rows=shard_rows,
        form=form.value,
        workers=workers,
        cluster=cluster,
    )
    say(f"{len(selection.numbers)} rows: do({escape(', '.join(do))}), shards: {len(shards)}")
    say_path("answers", out)


def _halves(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.strip() and value.strip()):
        raise ValueError(f"{text}: expected name=value, such as thickness=4")
    return name, value
