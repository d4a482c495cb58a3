"""Whether counterfactual images show what they were set to: anti-causal predictors say so.

A predictor of variable v, trained on real rows alone, accepts an image x that should show v if

    -log q(v | x) <= c    for categories,        |r(x) - v| <= c    for numbers,

with c the quantile 1 - a of the same on real rows that it was not trained on: an image is rejected
if v is harder to read off it than off all but a share a of real images. However good the predictor
is on real ones, a category with more than half of the probability is accepted, and so is a number
that is off by less than half an interval of the plan.

The rows that it learns from have a spurious joint, and a predictor of one cause would read the
other instead. So rows are drawn, with replacement, with the weights that give them the joint that
is asked for; both those that it learns from and those that c is taken from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.seeding import base_seed, stream
from rung3.data.variables import Discrete, Image
from rung3.scm.scm import SCM
from rung3.training.augmentation.target import Target
from rung3.training.oracles.oracles import Oracles, fit_oracles

__all__ = ["Confirmation", "fit_confirmation"]

HELD = 0.25
"""Share of the rows that thresholds are taken from."""

SURE = math.log(2)
"""Nats: a category that has more than half of the probability is confirmed."""

IMAGES = 20_000
"""Images that predictors see in training, at least: few rows are seen more often."""

AT_ONCE = 512
"""Images read at once."""


class Confirmation:
    """Predictors, and the thresholds that they accept images by.

    Args:
        predictors: Measured oracles, by image and variable.
        thresholds: The greatest log-loss of a category, or error of a number, that is accepted.
    """

    def __init__(self, predictors: Oracles, thresholds: Mapping[tuple[str, str], float]) -> None:
        self.predictors = predictors
        self.thresholds = dict(thresholds)

    @classmethod
    def measured(
        cls,
        predictors: Oracles,
        held: Rows,
        doubt: float,
        floors: Mapping[tuple[str, str], float],
    ) -> Confirmation:
        """Take thresholds from real rows that the predictors were not trained on.

        Args:
            predictors: The predictors.
            held: The rows.
            doubt: Share of them that each would reject.
            floors: The least threshold of each.
        """
        thresholds = {}
        for pair in predictors:
            quantile = losses(predictors, pair, held).double().quantile(1 - doubt)
            thresholds[pair] = max(float(quantile), floors[pair])
        return cls(predictors, thresholds)

    def accepts(self, rows: Rows) -> dict[str, Tensor]:
        """Return which rows' images show what they should, `(n,)`, by the variable that is read."""
        accepted: dict[str, Tensor] = {}
        for pair, threshold in self.thresholds.items():
            passed = (losses(self.predictors, pair, rows) <= threshold).cpu()
            accepted[pair[1]] = passed & accepted.get(pair[1], torch.tensor(True))
        return accepted


@torch.no_grad()
def losses(predictors: Oracles, pair: tuple[str, str], rows: Rows) -> Tensor:
    """Return each row's log-loss of a category, in nats, or error of a number, in its unit."""
    image, name = pair
    oracle = predictors[pair]
    device = oracle.ranks.device
    parts = []
    for images, values in zip(rows[image].split(AT_ONCE), rows[name].split(AT_ONCE), strict=True):
        if isinstance(oracle.target, Discrete):
            parts.append(oracle.log_loss(images.to(device), values.long().to(device)).cpu())
        else:
            parts.append(oracle.error(images, values))
    return torch.cat(parts)


def fit_confirmation(model: SCM, target: Target, seed: int, progress: bool = False) -> Confirmation:
    """Train a predictor of what is set, and of each variable that must stay, for every image.

    Args:
        model: Whose variables and graph are meant; its mechanisms are not used.
        target: The joint that is asked for, and the rows.
        seed: Of the division of the rows and of training.
        progress: Whether to show a progress bar.
    """
    rows, plan = target.rows, target.plan
    below = model.graph.descendants(plan.change)
    pairs = [
        (image, name)
        for image, kind in model.variables.items()
        if isinstance(kind, Image) and image in below
        for name in (plan.change, *plan.others)
    ]
    base = base_seed(seed, "augmentation: predictors")
    generator = stream(base, "rows")
    order = torch.randperm(rows.n, generator=generator)
    cells = target.cell(torch.arange(rows.n), rows[plan.change])
    first = max(1, round(HELD * rows.n))
    drawn = [_drawn(target, cells, part, generator) for part in (order[:first], order[first:])]
    held, train = (Rows({name: rows[name][at] for name in rows}) for at in drawn)
    epochs = max(4, -(-IMAGES // train.n))
    oracles = fit_oracles(
        model, train, held, pairs=pairs, epochs=epochs, seed=base, progress=progress
    )
    return Confirmation.measured(
        oracles, held, plan.doubt, {pair: _floor(target, pair[1]) for pair in pairs}
    )


def _floor(target: Target, name: str) -> float:
    """Return the log-loss or error up to which a variable is confirmed in any case."""
    levels = target.levels if name == target.plan.change else target.strata.levels[name]
    return SURE if levels.edges is None else levels.width / 2


def _drawn(target: Target, cells: Tensor, at: Tensor, generator: torch.Generator) -> Tensor:
    """Draw as many rows of these, with the weights that give them the joint asked for."""
    weights = target.weights(cells[at]).double()
    if not weights.sum() > 0:  # none of them is in a cell that is asked for
        weights = torch.ones(len(at), dtype=torch.float64)
    return at[torch.multinomial(weights, len(at), replacement=True, generator=generator)]
