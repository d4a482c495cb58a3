"""The command `rung3 counterfactual`: one test row of a run, and what it would have been."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from rung3.cli.arguments import Held, Interventions, Particles, Row, RunPath, Seed
from rung3.cli.console import print_table, save_pictures, say, say_path, warn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rung3.data.rows import Rows
    from rung3.data.variables import Variable
    from rung3.study.folder import RunFolder

__all__ = ["WhatIf", "ask", "counterfactual"]


def counterfactual(
    folder: RunPath,
    do: Interventions,
    row: Row = 0,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS",
            help="Test rows, such as all, 0:100 or 0,3; or a table, an image, a folder of images.",
        ),
    ] = None,
    hold: Held = None,
    particles: Particles = None,
    backtrack: Annotated[
        bool,
        typer.Option(
            "--backtrack",
            help="Also answer by backtracking: keep all mechanisms, move the noise.",
        ),
    ] = False,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            help="Picture to write, or with --rows a folder; by default, in RUN.",
        ),
    ] = None,
    scan: Annotated[
        Path | None,
        typer.Option(help="File to write the image to, as a scan in the row's own format."),
    ] = None,
) -> None:
    """Compute counterfactuals of rows: one as a table and a picture, many as CSV and PNGs."""
    from rung3.study.folder import RunFolder

    run = RunFolder(folder)
    if backtrack and (rows is not None or hold or particles):
        raise ValueError(
            "--backtrack: answers for one row alone; leave out --rows, --hold, --particles"
        )
    if rows is not None:
        _of_many(run, rows, do, out, hold or (), particles, seed)
        return
    if scan is not None:
        run.test_scan(row)  # refused before anything is computed
    answer = ask(run, row, do, hold=hold or (), particles=particles, seed=seed, backtrack=backtrack)
    title = f"row {row}: do({', '.join(do)})"
    print_table(title, answer.columns, answer.table())
    say(escape(str(answer.imagined.explain())))
    if answer.backtracked is not None:
        say(escape(str(answer.backtracked.explain())))
    save_pictures(answer.pictures(title), run.answers_path, f"row{row}-{','.join(do)}", out)
    if scan is not None:
        note = f"do({', '.join(do)})"
        say_path("scan", run.write_scan(scan, row, answer.factual, answer.imagined, note))


def _of_many(
    run: RunFolder,
    rows: str,
    do: Sequence[str],
    out: Path | None,
    hold: Sequence[str],
    particles: int | None,
    seed: int,
) -> None:
    """Answer for many rows, and write the answers to a folder."""
    from rung3.data.names import slug
    from rung3.study.bulk import answer_rows, choose_rows

    model = run.model()
    chosen = choose_rows(run, model, rows)
    target = out or run.answers_path / slug(f"answers-{','.join(do)}")
    for name, mask in chosen.read.items():
        warn(f"{name}: missing in {int(mask.sum())} of {len(mask)} rows, read off the image")
    table = answer_rows(model, chosen, do, target, hold=hold, particles=particles, seed=seed)
    say(f"{chosen.rows.n} row{'s' * (chosen.rows.n > 1)}: do({escape(', '.join(do))})")
    say_path("answers", table)


@dataclass(frozen=True)
class WhatIf:
    """One row, and what it would have been.

    Attributes:
        variables: The variables of the model.
        factual: The row; what it lacked and a predictor could tell is filled.
        imagined: Its counterfactual, with a leading axis K if there are particles.
        truth: The true counterfactual, where the world is known.
        backtracked: The row by backtracking, if it was asked; see `SCM.backtrack`.
    """

    variables: Mapping[str, Variable]
    factual: Rows
    imagined: Rows
    truth: Rows | None
    backtracked: Rows | None = None

    @property
    def columns(self) -> list[str]:
        """The heads of the table; `truth` only where it is known."""
        back = [] if self.backtracked is None else ["by backtracking"]
        known = [] if self.truth is None else ["truth"]
        return ["variable", "was", "would have been", *back, *known, "status"]

    def table(self) -> list[list[str]]:
        """Return a line for each variable: its name, values before and after, and status."""
        from rung3.data.display import spell_draws

        status, read = self.imagined.explain().status, self.imagined.explain().read
        answers = (self.factual, self.imagined, self.backtracked, self.truth)
        rows = [row for row in answers if row is not None]
        return [
            [name, *(spell_draws(variable, row[name]) for row in rows), _status(name, status, read)]
            for name, variable in self.variables.items()
        ]

    def pictures(self, title: str = "") -> dict[str, Figure]:
        """Draw a picture of each image variable; see `rung3.data.pictures`."""
        from rung3.data.distances import scale
        from rung3.data.pictures import picture
        from rung3.data.variables import Image

        return {
            name: picture(
                self.factual[name],
                self.imagined[name],
                truth=None if self.truth is None else self.truth[name],
                beside={} if self.backtracked is None else {"backtracking": self.backtracked[name]},
                title=title,
                levels=scale(variable),
            )
            for name, variable in self.variables.items()
            if isinstance(variable, Image)
        }


def ask(
    run: RunFolder,
    row: int,
    do: Iterable[str],
    *,
    hold: Iterable[str] = (),
    particles: int | None = None,
    seed: int = 0,
    backtrack: bool = False,
) -> WhatIf:
    """Ask what one test row of a run would have been.

    Args:
        run: The folder of the run.
        row: Which test row, from 0.
        do: Interventions, as `rung3.data.expressions` reads them.
        hold: Variables kept at their factual values.
        particles: Number K of draws of the noise; `None` for one.
        seed: Seed of those draws.
        backtrack: Whether to answer by backtracking too, to the values that the interventions set.

    Raises:
        ValueError: If the run has no fitted model, or there is no such row or variable; or if no
            noise gives the antecedents.
    """
    import torch

    from rung3.data.expressions import interventions

    model = run.model()
    settings = interventions(do, model.variables)
    if not settings:
        raise ValueError("no intervention was given: set a variable with --do name=value")
    factual, world = run.test(row)
    filled, read = model.fill(factual)
    held = list(hold)
    with torch.no_grad():
        imagined = model.counterfactual(
            factual, settings, hold=held, particles=particles, seed=seed
        )
        truth = None
        if world is not None and not read:
            try:
                truth = world.counterfactual(factual, settings, hold=held)
            except ValueError:  # a world need not know every counterfactual
                truth = None
    back = None
    if backtrack:
        back = model.backtrack(factual, {name: imagined[name] for name in settings}, seed=seed)
    return WhatIf(model.variables, filled, imagined, truth, back)


def _status(name: str, status: Mapping[str, str], read: Mapping[str, float]) -> str:
    return f"{status[name]}, read off the image" if name in read else status[name]
