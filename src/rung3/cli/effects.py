"""The command `rung3 effects`: a grid of effects on the test rows of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from rung3.cli.arguments import Out, RunPath, Seed, indices
from rung3.cli.console import print_table, save_picture, say_path

if TYPE_CHECKING:
    from rung3.data.rows import Rows
    from rung3.effects.image_grid import Grid
    from rung3.scm.scm import SCM
    from rung3.study.folder import RunFolder

__all__ = ["complete", "effects", "grid_of_run"]

ROWS = 4
"""Test rows that the grid has by default."""

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--do",
        metavar="NAME=VALUE",
        help="A column; 'a=1; b=2' sets several at once. By default, usual values of each cause.",
    ),
]

Through = Annotated[
    list[str] | None, typer.Option(help="A mediator, or latent; by default, all mediators.")
]

Scale = Annotated[
    float | None, typer.Option(help="Grey levels at the end of the colours; by default, all.")
]


def effects(
    folder: RunPath,
    rows: Annotated[
        str | None, typer.Option(help="Which test rows, from 0; by default, the first four.")
    ] = None,
    do: Columns = None,
    through: Through = None,
    outcome: Annotated[str | None, typer.Option(help="The image; by default, the first.")] = None,
    scale: Scale = None,
    particles: Annotated[
        int | None, typer.Option(help="Number of draws of the noise.", min=2)
    ] = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Draw direct, indirect and total effects on test rows, one column per intervention."""
    from rung3.study.folder import RunFolder

    run = RunFolder(folder)
    grid = grid_of_run(
        run,
        None if rows is None else indices(rows),
        do or (),
        outcome=outcome,
        through=through or (),
        particles=particles,
        seed=seed,
    )
    columns = ["intervention", "through", "direct", "indirect", "total", "interaction", "skill"]
    title = f"mean absolute effect on {grid.outcome}, {grid.unit}"
    print_table(title, columns if grid.known else columns[:-1], grid.table())
    path = out or run.answers_path / "effects.png"
    save_picture(grid.figure(scale), path)
    say_path("picture", path)


def grid_of_run(
    run: RunFolder,
    rows: Iterable[int] | None = None,
    do: Iterable[str] = (),
    *,
    outcome: str | None = None,
    through: Iterable[str] = (),
    particles: int | None = None,
    seed: int = 0,
) -> Grid:
    """Compute the grid of effects for a run's model and test rows.

    Args:
        run: The folder of the run.
        rows: Which test rows, from 0; by default, the first four in which nothing is missing.
        do: One text for each column, as `rung3.data.expressions` reads it, with semicolons between
            several interventions; by default, usual values of each cause.
        outcome: Name of the image; by default, the first that has causes.
        through: Mediators; by default, those of `grid`.
        particles: Number K of draws of the noise.
        seed: Seed of the draws.

    Raises:
        ValueError: If the run has no fitted model, or there is no such row or variable.
    """
    import torch

    from rung3.data.expressions import interventions
    from rung3.effects.image_grid import grid

    model = run.model()
    columns = {f"do({text})": interventions(text.split(";"), model.variables) for text in do}
    test, truth = run.test()
    wanted = complete(model, test)[:ROWS] if rows is None else list(rows)
    beyond = [row for row in wanted if not 0 <= row < test.n]
    if beyond or not wanted:
        raise ValueError(f"rows: {beyond or 'none'}; the test rows are 0 to {test.n - 1}")
    return grid(
        model,
        test[torch.tensor(wanted)],
        columns or None,
        outcome=outcome,
        through=list(through) or None,
        labels=[f"row {row}" for row in wanted],
        typical=test,
        truth=truth,
        particles=particles,
        seed=seed,
    )


def complete(model: SCM, rows: Rows) -> list[int]:
    """Return the rows in which nothing is missing."""
    from rung3.scm.imputation import whole

    return [int(row) for row in whole(model, rows).nonzero()]
