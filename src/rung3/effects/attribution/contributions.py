"""Attribution: which cause made a row unusual, and which changed mechanism moved an average.

`attribute_anomaly`. With a score t of how unusual an outcome is, a row's outlier score and its
sharing among the exogenous noises of what causes the outcome are (Budhathoki et al. 2022, *Causal
structure-based root cause analysis of outliers*, ICML)

    s(x) = -log P(t(X) >= t(x)),    v(S) = log P(t(X) >= t(x) | U_S = u_S),

so that the Shapley values of v sum to s(x). Noise is what is *new* at a variable: a variable that
only handed on what came from its causes is not blamed.

`attribute_change`. With two models of one graph, one from before and one from after a change, and
`v(S) = E[Y]` where the mechanisms in S are those from after, the Shapley values of v sum to the
change of the average (Budhathoki et al. 2021, *Why did the distribution change?*, AISTATS). Noise
is paired throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import spell_unknown
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Discrete
from rung3.effects.attribution.coalitions import (
    BLOCKS,
    CHUNK_NUMBERS,
    Coalitions,
    predict,
    prior,
)
from rung3.effects.attribution.shapley import shapley
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Attribution", "Shift", "attribute_anomaly", "attribute_change"]


@dataclass(frozen=True)
class Attribution:
    """Why rows are unusual.

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
    rows: Mapping[str, Any],
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
    ancestors = outcome_and_causes(model, outcome)
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


@dataclass(frozen=True)
class Shift:
    """Why an average changed.

    Attributes:
        outcome: Name of the outcome.
        before: Average of the outcome under the first model.
        after: Average of the outcome under the second model.
        shares: What each mechanism's change adds to the difference; they sum to it.
        errors: Standard errors of the shares, from the draws alone: the fit is not in them.
    """

    outcome: str
    before: float
    after: float
    shares: Mapping[str, float]
    errors: Mapping[str, float]

    def __str__(self) -> str:
        change = self.after - self.before
        lines = [f"average {self.outcome}: {self.before:.4g} -> {self.after:.4g} ({change:+.4g})"]
        ranked = sorted(self.shares, key=lambda name: -abs(self.shares[name]))
        lines += [f"    {k}: {self.shares[k]:+.4g} +- {self.errors[k]:.2g}" for k in ranked]
        return "\n".join(lines)


@in_own_precision
@torch.no_grad()
def attribute_change(
    before: SCM,
    after: SCM,
    outcome: str,
    *,
    only: Iterable[str] | None = None,
    draws: int = 20_000,
    seed: Seed = 0,
) -> Shift:
    """Attribute the change of an outcome's average to the mechanisms that changed.

    Args:
        before: A model fitted on the first data set.
        after: One of the same graph, fitted on the second.
        outcome: Name of the outcome: a number, or a category of two (its share).
        only: Names of the mechanisms that changed, as `rung3.effects.attribution.changes` finds
            them; all others are taken from `before`. The outcome and all its causes if not given.
        draws: Draws of the noise.
        seed: Of the draws.

    Raises:
        ValueError: If the graphs differ, a name is unknown, the outcome is no scalar, or hidden
            causes join variables.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> before = SCM(x=Equation("u"), y=Equation("2*x + u"))
        >>> after = SCM(x=Equation("u + 1"), y=Equation("2*x + u + 3"))
        >>> shift = attribute_change(before, after, "y")
        >>> round(shift.shares["x"], 3), round(shift.shares["y"], 3)
        (2.0, 3.0)
    """
    players, ancestors = models_of_one_graph(before, after, outcome, only)
    if isinstance(kind := before.variables[outcome], Discrete) and kind.classes > 2:
        raise ValueError(f"{outcome}: {kind} has no average; give a number, or yes and no")
    base = base_seed(seed, "attribution")
    old, new = before.mechanisms, after.mechanisms

    def value(team: frozenset[str]) -> Tensor:
        mixed = {k: new[k] if k in team else old[k] for k in ancestors}
        noise = prior(mixed, ancestors, draws, base, before.device)
        return predict(mixed, ancestors, noise)[outcome].double()

    shares, errors = shapley(players, value, base)
    ends = value(frozenset()), value(frozenset(players))
    return Shift(
        outcome,
        float(ends[0].mean()),
        float(ends[1].mean()),
        {k: float(v.mean()) for k, v in shares.items()},
        {k: float((v.var() / draws + errors[k].mean() ** 2).sqrt()) for k, v in shares.items()},
    )


def models_of_one_graph(
    before: SCM, after: SCM, outcome: str, only: Iterable[str] | None
) -> tuple[list[str], list[str]]:
    """Return the mechanisms that changed, and all that cause the outcome, causes first.

    Args:
        before: A model.
        after: Another, of the same graph.
        outcome: Name of the outcome.
        only: Names of the mechanisms that changed; all if not given.

    Raises:
        ValueError: If the graphs differ or a name is unknown.
    """
    ancestors = outcome_and_causes(before, outcome)
    if set(before.graph.edges) != set(after.graph.edges) or before.variables != after.variables:
        raise ValueError(
            f"the models differ: {before.graph} and {after.graph}; fit one graph twice"
        )
    named = ancestors if only is None else list(only)
    if unknown := [name for name in named if name not in before.variables]:
        raise ValueError(f"only: {spell_unknown(unknown, before.variables)}")
    return [name for name in ancestors if name in named], ancestors


def outcome_and_causes(model: SCM, outcome: str) -> list[str]:
    """Return the outcome and its causes, causes first.

    Args:
        model: The model.
        outcome: Name of the outcome.

    Raises:
        ValueError: If it is unknown or no scalar, or hidden causes join variables.
    """
    if outcome not in model.variables:
        raise ValueError(f"outcome: {spell_unknown([outcome], model.variables)}")
    if model.variables[outcome].shape:
        raise ValueError(f"{outcome}: expected one number a row, and it is an array")
    if model.confounding.members:
        raise ValueError("attribution: hidden causes join variables, whose noise is not their own")
    wanted = {outcome, *model.graph.ancestors(outcome)}
    return [name for name in model.graph.order if name in wanted]
