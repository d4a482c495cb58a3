"""The command `rung3 augment`: counterfactual rows that balance or decorrelate, as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from rung3.cli.arguments import RunPath, Seed
from rung3.cli.console import say, say_path

__all__ = ["augment"]


def augment(
    folder: RunPath,
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A YAML file: change, independent_of ...")
    ],
    out: Annotated[Path, typer.Option("--out", "--output", help="Folder to write to.")],
    shards: Annotated[
        bool, typer.Option("--shards", help="Write Parquet shards, for many rows.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Make counterfactuals of a run's training rows with a joint distribution that you choose.

    Writes rows.csv and images; each row says which row it comes from, what was set, with which
    seed, and its weight. With --shards, it writes what
    `rung3 generate` writes, and _augmentation.csv.
    """
    from rung3.study.folder import RunFolder
    from rung3.study.plans import read_plan
    from rung3.training.augmentation import augmenting, sharded

    run, wanted = RunFolder(folder), read_plan(plan)
    rows = run.study().splits().train
    model = run.model()
    if shards:
        say_path("accepted", sharded.augment_shards(model, rows, wanted, out, seed=seed))
        return
    augmented = augmenting.augment(model, rows, wanted, seed=seed, progress=True)
    say(escape(str(augmented)))
    say_path("rows", augmented.save(out, model.variables))
