"""A what-if of one row of a run, and its answer to read and to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung3.cli.picture import picture
from rung3.data.questions import interventions
from rung3.data.rows import Rows
from rung3.data.variables import Discrete, Image, Variable
from rung3.study.folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["WhatIf", "ask", "spell"]


@dataclass(frozen=True)
class WhatIf:
    """One row, and what it would have been.

    Attributes:
        variables: The variables of the model.
        factual: The row.
        imagined: Its counterfactual, with a leading axis K if there are particles.
        truth: The true counterfactual, where the world is known.
    """

    variables: Mapping[str, Variable]
    factual: Rows
    imagined: Rows
    truth: Rows | None

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Of each variable: name, value before, value after, true value if known, and status."""
        status = self.imagined.explain().status
        return [
            (
                name,
                spell(variable, self.factual[name]),
                spell(variable, self.imagined[name]),
                "" if self.truth is None else spell(variable, self.truth[name]),
                status[name],
            )
            for name, variable in self.variables.items()
        ]

    def pictures(self, title: str = "") -> dict[str, Figure]:
        """A picture of each image variable; see `rung3.cli.picture`."""
        images = [name for name, v in self.variables.items() if isinstance(v, Image)]
        return {
            name: picture(
                self.factual[name],
                self.imagined[name],
                truth=None if self.truth is None else self.truth[name],
                title=title,
            )
            for name in images
        }


def ask(
    run: RunFolder,
    row: int,
    do: Iterable[str],
    *,
    hold: Iterable[str] = (),
    particles: int | None = None,
    seed: int = 0,
) -> WhatIf:
    """Ask what one test row of a run would have been.

    Args:
        run: The folder of the run.
        row: Which test row, from 0.
        do: Interventions, as `rung3.data.questions` reads them.
        hold: Variables kept at their factual values.
        particles: Number K of draws of the noise; `None` for one.
        seed: Seed of those draws.

    Raises:
        ValueError: If the run has no fitted model, or there is no such row or variable.
    """
    model = run.model()
    questions = interventions(do, model.variables)
    if not questions:
        raise ValueError("nothing to ask: say what shall be different with --do name=value")
    factual, world = run.test(row)
    kept = list(hold)
    with torch.no_grad():
        imagined = model.counterfactual(
            factual, questions, hold=kept, particles=particles, seed=seed
        )
        truth = None
        if world is not None:
            try:
                truth = world.counterfactual(factual, questions, hold=kept)
            except ValueError:  # a world need not know every counterfactual
                truth = None
    return WhatIf(model.variables, factual, imagined, truth)


def spell(variable: Variable, value: Tensor) -> str:
    """A value, or the draws of one, in words."""
    if variable.shape:
        return "x".join(map(str, variable.shape)) + (
            " image" if isinstance(variable, Image) else ""
        )
    if isinstance(variable, Discrete):
        codes, counts = value.reshape(-1).long().unique(return_counts=True)
        most = int(counts.argmax())
        label = variable.label(int(codes[most]))
        share = float(counts[most] / counts.sum())
        return label if share == 1 else f"{label} in {share:.0%} of draws"
    mean = f"{value.mean():.4g}"
    spread = value.std(correction=0) if value.numel() > 1 else 0.0
    return f"{mean} ± {spread:.2g} {variable.unit}".strip() if spread else f"{mean} {variable.unit}"
