r"""Which changed mechanism moved an outcome's distribution, not its average alone.

With two models of one graph and `v(S)` how far the outcome, with the mechanisms in S from after, is
from the outcome before, the Shapley values of v share the whole change (Budhathoki et al. 2021,
*Why did the distribution change?*, AISTATS; DoWhy's `distribution_change`). Noise is paired among
the v(S), so that a mechanism that did not change has no share at all.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rung3.data.seeding import Seed, base_seed
from rung3.effects.attribution.average_change import models_of_one_graph
from rung3.effects.attribution.divergence import Difference, difference_of
from rung3.effects.attribution.forward import predict, prior
from rung3.effects.attribution.influence import Influence, averaged_shares
from rung3.effects.attribution.shapley import shapley
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["distribution_change"]

BLOCKS = 5
"""Parts of the draws, whose spread is the standard error."""


@in_own_precision
@torch.no_grad()
def distribution_change(
    before: SCM,
    after: SCM,
    outcome: str,
    *,
    difference: Difference = "kl",
    only: Iterable[str] | None = None,
    draws: int = 50_000,
    seed: Seed = 0,
) -> Influence:
    """Attribute the change of an outcome's distribution to the mechanisms that changed.

    Args:
        before: A model fitted on the first data set.
        after: One of the same graph, fitted on the second.
        outcome: Name of the outcome.
        difference: `"kl"`, `"mean"`, `"variance"`, or a function of an old and a new sample, `(m,)`
            each; the shares sum to it.
        only: Names of the mechanisms that changed, as `rung3.effects.attribution.changes` finds
            them; all others are taken from `before`. The outcome and all its causes if not given.
        draws: Draws of the noise.
        seed: Of the draws.

    Raises:
        ValueError: If the graphs differ, a name is unknown, the outcome is not a scalar, or hidden
            causes join variables.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> before = SCM(x=Equation("u"), y=Equation("x + u"))
        >>> after = SCM(x=Equation("2*u"), y=Equation("x + u"))
        >>> shares = distribution_change(before, after, "y", difference="variance")
        >>> round(shares["x"], 1), shares["y"]
        (3.0, 0.0)
    """
    players, ancestors = models_of_one_graph(before, after, outcome, only)
    function = difference_of(difference, before.variables[outcome])
    base = base_seed(seed, "attribution")
    old, new = before.mechanisms, after.mechanisms

    def sample(team: frozenset[str], seed: int) -> tuple[Tensor, ...]:
        mixed = {k: new[k] if k in team else old[k] for k in ancestors}
        noise = prior(mixed, ancestors, draws, seed, before.device)
        return predict(mixed, ancestors, noise)[outcome].tensor_split(BLOCKS)

    reference = sample(frozenset(), base_seed(base, "reference"))

    def value(team: frozenset[str]) -> Tensor:
        parts = zip(reference, sample(team, base), strict=True)
        return torch.tensor([function(*pair) for pair in parts], dtype=torch.float64)

    unit = difference if isinstance(difference, str) else "difference"
    return averaged_shares(outcome, unit, *shapley(players, value, base))
