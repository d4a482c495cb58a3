"""Counterfactuals against the truth, where the world is known.

    error = d(x~, x*),      skill = 1 - mean d(x~, x*) / mean d(x, x*)

with x the factual value, x~ the model's answer and x* what would really have been. Skill 1 is
perfect, 0 is doing nothing; it is printed beside that of simple baselines, which are handed the
counterfactual parents and never see a mechanism.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from rung3.data.cache import Truths
from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.data.seeding import base_seed
from rung3.mechanisms.base import Mechanism

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["NOTHING", "Baseline", "baseline_errors", "errors", "true_counterfactual"]

Baseline: TypeAlias = Callable[[Tensor, Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""An image `(n, C, H, W)` from the factual image, its parents, and their counterfactual values."""

NOTHING = "doing nothing"


def true_counterfactual(
    truth: SCM,
    rows: Rows,
    do: Mapping[str, Any],
    device: torch.device,
    hold: Collection[str] = (),
    truths: Truths | None = None,
) -> Rows | str:
    """What would really have been; or why nobody knows.

    Args:
        truth: The world.
        rows: Rows that carry the world's noise, or from which it can be abducted.
        do: The intervention.
        device: Where the answer shall lie.
        hold: Variables kept at their factual values.
        truths: Where answers of this world may have been kept.

    Returns:
        The rows, or the world's own words where it refuses.
    """
    there = truth.device
    moved = {k: v.to(there) if isinstance(v, Tensor | Mechanism) else v for k, v in do.items()}
    asked = rows.to(there)

    def ask() -> Rows:  # under a seed of its own, lest a model that draws alike seem right
        return truth.counterfactual(asked, moved, hold=hold, seed=base_seed(0, "truth"))

    try:
        found = ask() if truths is None else truths.ask(asked, moved, hold, ask)
        return found.to(device)
    except ValueError as refused:
        return str(refused)


def errors(model: SCM, found: Rows, true: Rows, names: list[str]) -> dict[str, Tensor]:
    """Distance of each variable from the truth, in each row, `(n,)`."""
    return {name: distance(model.variables[name], found[name], true[name]) for name in names}


def baseline_errors(
    model: SCM, rows: Rows, true: Rows, image: str, baselines: Mapping[str, Baseline]
) -> dict[str, Tensor]:
    """Distance of each baseline's image from the truth, `(n,)`, by the baseline's name."""
    before = {name: rows[name] for name in model.graph.parents(image)}
    after = {name: true[name] for name in before}
    variable = model.variables[image]
    return {
        name: distance(variable, function(rows[image], before, after), true[image])
        for name, function in baselines.items()
    }
