"""What stands for latents in a mechanism whose noise has the value's own shape: a path's noise.

Nothing is left out of such noise, so there is no divergence that tells what it holds. What can be
told is whether abducted noise is like the prior's: its mean square by number, 1 under the prior.
Far below 1, values fill less of their space than noise does, as images on a black background; and a
model that is asked for answers to noise that it never saw in training is asked beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.seeding import stream
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.log_prob import batches
from rung3.mechanisms.path import Path

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["mean_squares"]

MOST_ROWS = 100
"""Rows whose noise is abducted: a path costs many evaluations of a network."""


@torch.no_grad()
def mean_squares(
    model: SCM, rows: Mapping[str, Tensor], batch_size: int, bootstrap: Bootstrap, seed: int
) -> dict[str, Any]:
    """Measure the mean square of abducted noise by number, for every mechanism that is a path.

    Args:
        model: The model.
        rows: Test rows, complete.
        batch_size: Rows at once.
        bootstrap: For the intervals.
        seed: Of abduction that draws.

    Returns:
        By variable: `mean`, `low`, `high`, `unit` and the number of `dimensions`.
    """
    by_variable: dict[str, Any] = {}
    some = {name: value[:MOST_ROWS] for name, value in rows.items()}
    for name, mechanism in model.mechanisms.items():
        if not isinstance(mechanism, Path):
            continue
        squares, generator = [], stream(seed, f"{name}/path noise", model.device)
        for value, parents in batches(mechanism, some, batch_size, model.device):
            noise = mechanism.abduct(value, parents, None, generator)
            assert not isinstance(noise, Tensor)
            squares.append(noise["u"].square().reshape(len(value), -1).mean(1).cpu())
        means = torch.cat(squares)
        mean = bootstrap.of(len(means)).mean(means)
        by_variable[name] = {**mean, "unit": "", "dimensions": math.prod(mechanism.variable.shape)}
    return by_variable
