r"""Effects in many groups, partially pooled: what is told of small groups leans on all.

The groups' effects are taken to be drawn from a normal distribution,

    b_g ~ N(theta_g, v_g),        theta_g ~ N(mu, tau^2),

with v_g the squared error of group g. Where the groups differ less than their errors would make
them, tau is small, and each effect is drawn towards mu by the share `B_g = v_g / (v_g + tau^2)`:

    theta_g = (1 - B_g) b_g + B_g mu,
    Var = v_g (1 - B_g (k - 1) / k) + 2 / (k - 3) B_g^2 (b_g - mu)^2 (v + tau^2) / (v_g + tau^2)

(Morris, JASA 1983; v the mean of the v_g, tau^2 by the method of Paule and Mandel 1982). Over all
groups, such intervals hold the effect as often as they say; of an odd group alone, less often.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rung3.effects.estimate import Estimate, Form

__all__ = ["partially_pooled"]

LEAST_GROUPS = 4
"""Groups from which their spread can be told."""

HALVINGS = 60
"""Bisections of tau^2: down to the rounding error of a double."""


def partially_pooled(
    effects: Tensor, errors: Tensor, level: float, form: Form
) -> tuple[list[Estimate[float]], float]:
    """Return the groups' effects, and tau.

    Args:
        effects: `(k,)`.
        errors: Standard errors `(k,)`.
        level: Nominal coverage of each interval, over the groups.
        form: How they are printed.

    Raises:
        ValueError: If there are fewer than 4 groups, or one has no error.
    """
    from scipy.special import ndtri

    k, v = len(effects), errors.square()
    if k < LEAST_GROUPS:
        raise ValueError(f"pool: {k} groups are too few; expected at least {LEAST_GROUPS}")
    if not bool((v > 0).all()):
        raise ValueError(
            "pool: a group has no error: its outcomes are all alike; give larger groups"
        )
    between = _between(effects, v)
    weight = 1 / (v + between)
    mean = (weight * effects).sum() / weight.sum()
    share = (k - 3) / (k - 1) * v * weight  # a little less than B: tau is estimated
    value = effects - share * (effects - mean)
    more = 2 / (k - 3) * share.square() * (effects - mean).square()
    more = more * (v.mean() + between) * weight
    half = float(ndtri((1 + level) / 2)) * (v * (1 - (k - 1) / k * share) + more).sqrt()
    estimates = [
        Estimate(float(x), float(x - h), float(x + h), level=level, form=form)
        for x, h in zip(value, half, strict=True)
    ]
    return estimates, float(between.sqrt())


def _between(effects: Tensor, v: Tensor) -> Tensor:
    """Return tau^2: so that the squared distances from mu have the mean that they should."""

    def excess(between: Tensor) -> Tensor:
        weight = 1 / (v + between)
        mean = (weight * effects).sum() / weight.sum()
        return (weight * (effects - mean).square()).sum() - (len(v) - 1)

    low, high = torch.zeros(()).double(), 10 * effects.var() + v.max()
    if excess(low) <= 0:
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low
