"""Anomalies: which cause's noise made a row unusual?

With a score t of how unusual an outcome is, a row's outlier score and its sharing among the
exogenous noises of what causes the outcome are (Budhathoki et al. 2022, *Causal structure-based
root cause analysis of outliers*, ICML)

    s(x) = -log P(t(X) >= t(x)),    v(S) = log P(t(X) >= t(x) | U_S = u_S),

so that the Shapley values of v sum to s(x). Noise is what is *new* at a variable: a variable that
only handed on what came from its causes is not blamed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import Values
from rung3.data.seeding import Seed, base_seed
from rung3.effects.attribution.coalitions import BLOCKS, CHUNK_NUMBERS, Coalitions
from rung3.effects.attribution.forward import lineage
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Attribution", "attribute_anomaly"]


@dataclass(frozen=True)
class Attribution(Printed):
    """The reasons why rows are unusual.

    Attributes:
        outcome: Name of the outcome.
        scores: Outlier score of each row, `(n,)`, in nats: `-log P(as unusual, or more)`.
        shares: What the noise of each variable adds to the score, `(n,)`; they sum to the scores.
        errors: Standard errors of the shares, `(n,)`, from the draws (and, with many causes, from
            the random orders).
        bounded: Mask `(n,)` of the rows for which a probability is too small for the draws. The
            smallest that they can tell stands in for it: scores and shares are then bounds, the
            true ones are farther from zero, and the errors do not hold.
    """

    outcome: str
    scores: Tensor
    shares: Mapping[str, Tensor]
    errors: Mapping[str, Tensor]
    bounded: Tensor

    def first(self, row: int = 0) -> str:
        """Return the variable whose noise explains most of a row."""
        return max(self.shares, key=lambda name: float(self.shares[name][row]))

    def __str__(self) -> str:
        lines = []
        for row in range(min(5, len(self.scores))):
            score = float(self.scores[row])
            bounded = " (AT LEAST: too rare for the draws, so that these are bounds)"
            remark = bounded if self.bounded[row] else ""
            lines.append(f"row {row}: {self.outcome} is one in {math.exp(score):.3g}{remark}, for")
            ranked = sorted(self.shares, key=lambda name: -float(self.shares[name][row]))
            for name in ranked:
                part, error = float(self.shares[name][row]), float(self.errors[name][row])
                lines.append(f"    {name}: {part:.2f} +- {error:.2f} of {score:.2f} nats")
        return "\n".join(lines)


@in_own_precision
@torch.no_grad()
def attribute_anomaly(
    model: SCM,
    rows: Values,
    outcome: str,
    *,
    score: Callable[[Tensor], Tensor] | None = None,
    draws: int = 5_000,
    seed: Seed = 0,
) -> Attribution:
    """Attribute how unusual an outcome is to the noise of its causes.

    Probabilities are shares of draws. Those of fewer than 10 draws are estimated by levels, for
    numbers and up to 8 causes (see `rung3.effects.attribution.tails`); otherwise the answer says
    that it is a bound.

    Args:
        model: The model.
        rows: The rows in question, complete.
        outcome: Name of the outcome.
        score: From values `(m,)` to how unusual they are, `(m,)`; by default the distance to the
            median, or for categories how rare they are.
        draws: Draws of the noise.
        seed: Of the draws.

    Raises:
        ValueError: If the outcome is unknown or no scalar, hidden causes join variables, or there
            are too few draws.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), y=Equation("x + u"))
        >>> attribution = attribute_anomaly(model, {"x": [4.0, 0.0], "y": [4.0, 4.0]}, "y")
        >>> attribution.first(0), attribution.first(1)
        ('x', 'y')
    """
    ancestors = lineage(model, outcome)
    if draws < 10 * BLOCKS:
        raise ValueError(f"draws={draws} must be at least {10 * BLOCKS}")
    base = base_seed(seed, "attribution")
    given = model.read(rows)
    batch = dict(given.batch)
    width = max(batch[name][0].numel() for name in ancestors)
    n, chunk = len(batch[outcome]), max(1, CHUNK_NUMBERS // (draws * width))
    scores, bounded, shares, errors = [], [], [], []
    for start in range(0, n, chunk):
        part = {name: value[start : start + chunk] for name, value in batch.items()}
        sets = Coalitions(model, part, outcome, ancestors, score, draws, base)
        share, error = sets.shapley()
        shares.append(share)
        errors.append(error)
        scores.append(-sets.value(frozenset())[0])
        bounded.append(sets.bounded)
    return Attribution(
        outcome,
        torch.cat(scores),
        {k: torch.cat([share[k] for share in shares]) for k in shares[0]},
        {k: torch.cat([error[k] for error in errors]) for k in errors[0]},
        torch.cat(bounded),
    )
