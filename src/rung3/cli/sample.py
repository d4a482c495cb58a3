"""The first two rungs for a run: the population as it is, and given evidence or interventions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rung3.cli.whatif import spell
from rung3.data.expressions import interventions
from rung3.data.pictures import picture
from rung3.data.rows import Rows
from rung3.data.variables import Image, Variable
from rung3.study.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Population", "draw"]


@dataclass(frozen=True)
class Population:
    """Rows of a model's population, and of the one that was asked for.

    Attributes:
        variables: The variables of the model.
        before: Rows `(n, ...)` of the population as it is.
        after: Rows `(n, ...)` given the evidence, under the interventions.
    """

    variables: Mapping[str, Variable]
    before: Rows
    after: Rows

    def table(self) -> list[tuple[str, str, str]]:
        """Of each variable: name, and mean and deviation (or the most frequent) in both."""
        return [
            (name, spell(variable, self.before[name]), spell(variable, self.after[name]))
            for name, variable in self.variables.items()
        ]

    def pictures(self, title: str = "") -> dict[str, Figure]:
        """Of each image variable: the mean image of both, and their difference."""
        images = [name for name, v in self.variables.items() if isinstance(v, Image)]
        names = ("mean as it is", "mean as asked")
        return {
            name: picture(
                self.before[name].mean(0), self.after[name].mean(0), title=title, names=names
            )
            for name in images
        }


def draw(
    run: RunFolder,
    do: Iterable[str] = (),
    given: Iterable[str] = (),
    *,
    n: int = 1000,
    seed: int = 0,
) -> Population:
    """Draw rows of a run's population, and of another.

    Args:
        run: The folder of the run.
        do: Interventions, as `rung3.data.expressions` reads them.
        given: Evidence, `name=value` each; after the interventions, if there are any.
        n: Number of rows.
        seed: Seed of the draws, the same for both.

    Raises:
        ValueError: If the run has no fitted model, there is no such variable, or evidence is no
            value.
    """
    model = run.model()
    acted = interventions(do, model.variables)
    evidence = interventions(given, model.variables)
    for name, value in evidence.items():
        if callable(value):
            raise ValueError(f"--given {name}: expected a value, such as {name}=4")
    with torch.no_grad():
        before = model.sample(n, seed=seed)
        other = model.do(acted) if acted else model
        return Population(
            model.variables, before, other.sample(n, given=evidence or None, seed=seed)
        )
