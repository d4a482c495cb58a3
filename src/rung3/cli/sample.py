"""The command `rung3 sample`: a run's population as it is, and given evidence or interventions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from rung3.cli.arguments import Out, RunPath, Seed
from rung3.cli.console import print_table, save_pictures, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rung3.data.rows import Rows
    from rung3.data.variables import Variable
    from rung3.study.folder import RunFolder

__all__ = ["Population", "draw_population", "sample"]


def sample(
    folder: RunPath,
    do: Annotated[
        list[str] | None,
        typer.Option("--do", metavar="NAME=VALUE", help="Set a variable for the whole population."),
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Evidence: draw only such rows.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Number of rows to draw.")] = 1000,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Draw the population: as it is, given evidence, or under interventions."""
    from rung3.study.folder import RunFolder

    run = RunFolder(folder)
    population = draw_population(run, do or (), given or (), n=n, seed=seed)
    query = [*(f"do({text})" for text in do or ()), *(f"given {text}" for text in given or ())]
    title = ", ".join(query) or "as it is"
    print_table(f"{n} rows", ["variable", "as it is", title], population.table())
    say(escape(str(population.after.explain())))
    save_pictures(population.pictures(title), run.answers_path, title, out)


@dataclass(frozen=True)
class Population:
    """Rows of a model's population, before and after a query.

    Attributes:
        variables: The variables of the model.
        before: Rows `(n, ...)` of the population as it is.
        after: Rows `(n, ...)` given the evidence, under the interventions.
    """

    variables: Mapping[str, Variable]
    before: Rows
    after: Rows

    def table(self) -> list[tuple[str, ...]]:
        """Return each variable's name, and its mean and deviation or mode, before and after."""
        from rung3.data.display import spell_draws

        return [
            (name, *(spell_draws(variable, rows[name]) for rows in (self.before, self.after)))
            for name, variable in self.variables.items()
        ]

    def pictures(self, title: str = "") -> dict[str, Figure]:
        """Draw the mean of each image before and after, and the difference."""
        from rung3.data.distances import scale
        from rung3.data.pictures import picture
        from rung3.data.variables import Image

        names = ("mean as it is", "mean as asked")
        return {
            name: picture(
                self.before[name].mean(0),
                self.after[name].mean(0),
                title=title,
                names=names,
                levels=scale(variable),
            )
            for name, variable in self.variables.items()
            if isinstance(variable, Image)
        }


def draw_population(
    run: RunFolder,
    do: Iterable[str] = (),
    given: Iterable[str] = (),
    *,
    n: int = 1000,
    seed: int = 0,
) -> Population:
    """Draw rows of a run's population as it is, and given evidence or interventions.

    Args:
        run: The folder of the run.
        do: Interventions, as `rung3.data.expressions` reads them.
        given: Evidence, `name=value` each; after the interventions, if there are any.
        n: Number of rows.
        seed: Seed of the draws, the same for both.

    Raises:
        ValueError: If the run has no fitted model, there is no such variable, or evidence is an
            expression instead of a value.
    """
    import torch

    from rung3.data.expressions import interventions

    model = run.model()
    settings = interventions(do, model.variables)
    evidence = interventions(given, model.variables)
    for name, value in evidence.items():
        if callable(value):
            raise ValueError(f"--given {name}: expected a value, such as {name}=4")
    with torch.no_grad():
        before = model.sample(n, seed=seed)
        acted = model.do(settings) if settings else model
        after = acted.sample(n, given=evidence or None, seed=seed)
    return Population(model.variables, before, after)
