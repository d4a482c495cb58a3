"""Augmented rows in bulk: a folder of Parquet shards, and a table of what was accepted."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rung3.data.files import write
from rung3.data.seeding import base_seed
from rung3.data.variables import Discrete
from rung3.scm.generation import generate, generated
from rung3.scm.scm import SCM
from rung3.scm.shards import read_answers
from rung3.training.augmentation.augmenting import prepared
from rung3.training.augmentation.confirmation import Confirmation, fit_confirmation
from rung3.training.augmentation.plan import Plan
from rung3.training.augmentation.target import Assignment, Target

if TYPE_CHECKING:
    from rung3.data.rows import Values

__all__ = ["LEDGER", "augment_shards"]

LEDGER = "_augmentation.csv"
"""Name of the table; readers of Parquet folders pass over names that begin so."""


@torch.no_grad()
def augment_shards(
    model: SCM,
    rows: Values,
    plan: Plan,
    out: str | Path,
    *,
    confirmation: Confirmation | None = None,
    seed: int = 0,
    shard_rows: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Make counterfactual rows as `augment` does, written by `rung3.scm.generation.generate`.

    Shards hold every counterfactual; the table says which of them the predictors accept. Each is
    tried once. A call that was killed resumes when it is made again.

    Args:
        model: A fitted model, or a world.
        rows: Complete rows, those of training.
        plan: Which variable is set, and the joint asked for.
        out: The folder; made if it is not there.
        confirmation: What accepts images; if not given, predictors are trained on the rows.
        seed: Of values, noise, and the predictors.
        shard_rows: Rows of a shard.
        workers: Processes on this machine, as of `generate`.
        progress: Whether to show progress bars.

    Returns:
        The path of the table, one line a row of the answer: `row`, its number in the shards;
        `source`, the row that it comes from; what was `set`; whether it is `factual`, and then in
        no shard; `accepted`; and its `weight` among those accepted.

    Raises:
        ValueError: If the plan cannot be met, or asks for a temperature other than 1.
    """
    if plan.temperature != 1:
        raise ValueError(f"temperature={plan.temperature:g}: shards are made with all noise, 1")
    base = base_seed(seed, "augment")
    target = prepared(model, rows, plan)
    assignment = target.assign(base)
    if assignment.factual.all():
        raise ValueError(f"{plan.change}: every row has the value asked for; nothing is to be made")
    confirmation = confirmation or fit_confirmation(model, target, base, progress)
    generate(
        model,
        target.rows[assignment.source],
        {plan.change: assignment.value},
        out,
        hold=plan.hold,
        seed=base_seed(base, "shards"),
        numbers=(~assignment.factual).nonzero()[:, 0].tolist(),
        shard_rows=shard_rows,
        workers=workers,
        progress=progress,
    )
    accepted = _accepted(model, Path(out), assignment, confirmation)
    return _written(Path(out), target, assignment, accepted)


def _accepted(
    model: SCM, folder: Path, assignment: Assignment, confirmation: Confirmation
) -> torch.Tensor:
    """Return which rows are accepted, `(m,)`, shard by shard; factual ones all are."""
    accepted = assignment.factual.clone()
    for table in generated(folder):
        numbers = torch.tensor(table["row"].to_pylist())
        passed = torch.ones(len(numbers), dtype=torch.bool)
        for verdict in confirmation.accepts(read_answers(table, model.variables)).values():
            passed &= verdict
        accepted[numbers] = passed
    return accepted


def _written(folder: Path, target: Target, assignment: Assignment, accepted: torch.Tensor) -> Path:
    cells = target.cell(assignment.source[accepted], assignment.value[accepted])
    weights = torch.zeros(len(accepted))
    weights[accepted] = target.weights(cells).float()
    kind = target.variable
    values = [
        kind.label(int(value)) if isinstance(kind, Discrete) else repr(value)
        for value in assignment.value.tolist()
    ]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("row", "source", "set", "factual", "accepted", "weight"))
    writer.writerows(
        zip(
            range(len(values)),
            assignment.source.tolist(),
            values,
            assignment.factual.int().tolist(),
            accepted.int().tolist(),
            (f"{weight:.6g}" for weight in weights.tolist()),
            strict=True,
        )
    )
    path = folder / LEDGER
    write(path, text.getvalue().encode())
    return path
