"""Changed averages: which mechanism's change moved the average of an outcome?

With two models of one graph, one from before and one from after a change, and `v(S) = E[Y]` where
the mechanisms in S are those from after, the Shapley values of v sum to the change of the average
(Budhathoki et al. 2021, *Why did the distribution change?*, AISTATS). Noise is paired throughout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import spell_unknown
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Discrete
from rung3.effects.attribution.forward import lineage, predict, prior
from rung3.effects.attribution.shapley import shapley
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Shift", "attribute_change"]


@dataclass(frozen=True)
class Shift(Printed):
    """The reasons why an average changed.

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
        ValueError: If the graphs differ, a name is unknown, the outcome is not a scalar, or hidden
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
    ancestors = lineage(before, outcome)
    if set(before.graph.edges) != set(after.graph.edges) or before.variables != after.variables:
        raise ValueError(
            f"the models differ: {before.graph} and {after.graph}; fit one graph twice"
        )
    named = ancestors if only is None else list(only)
    if unknown := [name for name in named if name not in before.variables]:
        raise ValueError(f"only: {spell_unknown(unknown, before.variables)}")
    return [name for name in ancestors if name in named], ancestors
