r"""Effects by any identified formula, on discrete columns: the rows' shares are plugged in.

A formula is a function of the joint probabilities p of the columns. Of n rows with shares p^,

    psi(p^) - psi(p) = mean_i phi_i,        phi_i = d psi / d p_{c(i)} - sum_c p_c d psi / d p_c,

with c(i) the cell of row i (the influence function). The outcome may be a number: identified
formulas are linear in its law, so that a row with outcome y counts as one of the highest value to
the share `s = (y - min) / (max - min)`, and as one of the lowest to 1 - s, without any error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung3.data.variables import Discrete
from rung3.effects.tables.answer import Answer, of_means
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.sample import Sample
from rung3.graph.identification.estimand import Formula, evaluate

__all__ = ["plug_in_effect"]

STEP = 1e-6
"""Step of the numerical derivative in a probability: half of the digits of a double."""

FEW_ROWS = 50
"""Rows a cell, on average, below which intervals hold the truth a few percent too rarely."""

MOST_CELLS = 20_000
"""Cells of the table of probabilities, at most."""


def plug_in_effect(
    sample: Sample, names: Sequence[str], formula: Formula, arms: tuple[int, int]
) -> Answer:
    """Estimate the effect of a discrete treatment by a formula.

    Args:
        sample: The rows.
        names: The columns of the formula, outcome and treatment among them.
        formula: Of `P(outcome | do(treatment))`.
        arms: Codes of both values of the treatment.

    Raises:
        ValueError: If a column is not a category, or the table of all combinations is too large; if
            the rows lack a combination that the formula asks for.
    """
    others = [name for name in names if name != sample.outcome]
    codes = _coded(sample, others, formula)
    low, high = float(sample.y.min()), float(sample.y.max())
    high = high if high > low else low + 1
    shape = [2, *(len(levels) for levels, _ in codes)]
    cell = np.ravel_multi_index([code.numpy() for _, code in codes], shape[1:])
    share = ((sample.y - low) / (high - low)).numpy()
    size, w = int(np.prod(shape[1:])), (sample.weights / sample.n).numpy()
    joint = np.stack([np.bincount(cell, w * part, size) for part in (1 - share, share)]).astype(
        np.float64
    )
    at = others.index(sample.treatment)
    places = [int((codes[at][0] == arm).nonzero()[0]) for arm in arms]
    everything = [sample.outcome, *others]
    given = _Given(formula, everything, sample.treatment, joint, tuple(shape), places)
    values = given(joint)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{formula}: the rows lack a combination that it asks for (positivity); join levels of "
            f"{', '.join(others)}"
        )
    slopes = _gradient(given, joint)  # (2, 2, cells)
    inner = (slopes * joint).sum((1, 2))
    by_row = (1 - share) * slopes[:, 0, cell] + share * slopes[:, 1, cell]
    cells = int(np.count_nonzero(joint.sum(0)))
    freedom = max(1, sample.total - cells)
    # As in a regression with one term a cell, residuals are too small by so much.
    weights = (sample.total / freedom) ** 0.5 * sample.weights[:, None]
    scores = weights * torch.from_numpy((by_row - inner[:, None]).T)
    scale = high - low
    means = Influence(
        torch.from_numpy(values), scores, float(freedom), sample.clusters, counts=sample.counts
    )
    note = (
        f"{sample.total} rows are few for {cells} combinations of values: the interval may be too "
        "short"
    )
    notes = (note,) if sample.total < FEW_ROWS * cells else ()
    return of_means(means.then(lambda v: low + scale * v), float("nan"), notes)


def _coded(sample: Sample, names: Sequence[str], formula: Formula) -> list[tuple[Tensor, Tensor]]:
    """Return the levels of each column, and the place of each row's value among them."""
    if numeric := [name for name in names if not isinstance(sample.kinds[name], Discrete)]:
        raise ValueError(
            f"{numeric[0]}: is {sample.kinds[numeric[0]]}; this effect is identified by a formula "
            f"alone ({formula}), which is estimated on categories: cut it into levels, or fit an "
            "SCM and ask rung3.effects.average"
        )
    codes = [sample.rows[name].unique(return_inverse=True) for name in names]
    combinations = 2 * math.prod(len(levels) for levels, _ in codes)
    if combinations > MOST_CELLS:
        raise ValueError(
            f"{names}: {combinations:,} combinations, more than {MOST_CELLS:,}; join levels"
        )
    return codes


class _Given:
    """The probability of the highest outcome under each arm, as a function of the joint.

    A formula may mention variables on which the answer does not depend; over their values it is
    averaged as they occur.
    """

    def __init__(
        self,
        formula: Formula,
        names: list[str],
        treatment: str,
        joint: NDArray[np.float64],
        shape: tuple[int, ...],
        places: list[int],
    ) -> None:
        self.formula, self.names, self.shape, self.places = formula, names, shape, places
        self.axis = names.index(treatment) - 1
        occurring = joint.sum(0).reshape(shape[1:]).sum(self.axis, keepdims=True)
        self.weights = np.broadcast_to(occurring, shape[1:])

    def __call__(self, joint: NDArray[np.float64]) -> NDArray[np.float64]:
        answer = evaluate(self.formula, joint.reshape(self.shape), self.names)[1]
        answer = np.broadcast_to(answer, self.shape[1:])
        by_arm, weights = (
            np.moveaxis(part, self.axis, 0)[self.places].reshape(2, -1)
            for part in (answer, self.weights)
        )
        present = np.isfinite(by_arm) & (weights > 0)
        shares = np.where(present, weights, 0)
        whole = np.where(present.any(1), shares.sum(1), np.nan)
        return np.asarray(np.where(present, by_arm * shares, 0).sum(1) / whole)


def _gradient(given: _Given, joint: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the derivative in each cell that has rows, `(2, *joint.shape)`."""
    slopes = np.zeros((2, *joint.shape))
    for place in np.flatnonzero(joint.sum(0) > 0):
        for level in range(2):
            ends = []
            for sign in (-1, 1):
                moved = joint.copy()
                moved[level, place] += sign * STEP
                ends.append(given(moved))
            slopes[:, level, place] = (ends[1] - ends[0]) / (2 * STEP)
    return slopes
