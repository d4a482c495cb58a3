"""The grid of effects of a run: what the command `rung3 effects` shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from rung3.data.expressions import interventions
from rung3.data.rows import Rows
from rung3.effects.grid import Grid, grid
from rung3.scm.imputation import gaps

if TYPE_CHECKING:
    from rung3.scm.scm import SCM
    from rung3.study.folder import RunFolder

__all__ = ["indices", "of_run"]


def of_run(
    run: RunFolder,
    rows: Iterable[int] | None = None,
    do: Iterable[str] = (),
    *,
    outcome: str | None = None,
    through: Iterable[str] = (),
    particles: int | None = None,
    seed: int = 0,
) -> Grid:
    """The grid of a run's model and test rows.

    Args:
        run: The folder of the run.
        rows: Which test rows, from 0; the first four in which nothing is missing, if not given.
        do: One text a column, as `rung3.data.expressions` reads it; several interventions at once
            are parted by semicolons. Usual ones, if there are none.
        outcome: Name of the image; the first that has causes, if not given.
        through: Mediators; those of `grid`, if there are none.
        particles: Number K of draws of the noise.
        seed: Of the draws.

    Raises:
        ValueError: If the run has no fitted model, or there is no such row or variable.
    """
    model = run.model()
    columns = {f"do({text})": interventions(text.split(";"), model.variables) for text in do}
    test, truth = run.test()
    wanted = _whole(model, test)[:4] if rows is None else list(rows)
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


def _whole(model: SCM, rows: Rows) -> list[int]:
    """The rows in which nothing is missing."""
    lacking = torch.zeros(rows.n, dtype=torch.bool)
    for mask in gaps(model, rows).values():
        lacking |= mask
    return [int(row) for row in (~lacking).nonzero()]


def indices(text: str) -> list[int]:
    """Whole numbers from text, such as `0,3,7`.

    Raises:
        ValueError: If it is something else.

    Example:
        >>> indices("0, 3,7")
        [0, 3, 7]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"rows: expected whole numbers such as 0,3,7, got {text!r}")
    return [int(part) for part in parts]
