"""The truth's rank among a model's draws: uniform, if it might as well have been one of them.

With draws x_k, k = 1 ... K, the truth x*, and ties broken at random by `u ~ U(0, 1)`,

    v = (#{x_k < x*} + u (1 + #{x_k = x*})) / (K + 1)  ~  U(0, 1),

so that the interval between the quantiles (1 - p)/2 and (1 + p)/2 holds the truth with probability
p, exactly, for any K. More seldom: the model is overconfident; more often: it is too wide.

Source: Dawid 1984 (probability integral transform); Hamill 2001 (ranks in ensembles).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Generator, Tensor

from rung3.data.variables import Image, Variable

__all__ = ["covered", "ranks"]


def ranks(
    variable: Variable, draws: Iterable[Tensor], true: Tensor, ties: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return the truth's rank v among the draws, and where there is any uncertainty.

    Args:
        variable: The variable; pixels are compared in whole grey levels.
        draws: Draws `(k, n, *shape)`, some at a time.
        true: The truth, `(n, *shape)`.
        ties: Random numbers by which ties are broken.

    Returns:
        The rank v in [0, 1], `(n, *shape)`; and a mask `(n, *shape)`, false where all draws and the
        truth agree.

    Example:
        >>> from rung3 import Continuous
        >>> draws, true = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([2.0])
        >>> v, unsure = ranks(Continuous(), [draws], true, torch.Generator().manual_seed(0))
        >>> 2 / 4 < v.item() < 3 / 4, unsure
        (True, tensor([True]))
    """
    target = _whole(variable, true)
    below, equal = torch.zeros_like(target), torch.zeros_like(target)
    count = 0
    for some in draws:
        drawn = _whole(variable, some)
        below += (drawn < target).sum(0)
        equal += (drawn == target).sum(0)
        count += len(some)
    u = torch.rand(true.shape, generator=ties, device=true.device)
    return (below + u * (1 + equal)) / (count + 1), equal < count


def covered(v: Tensor, unsure: Tensor, level: float) -> Tensor:
    """Share of each row's numbers that lie within the draws' central interval, `(n,)`.

    Args:
        v: Ranks from `ranks`, `(n, *shape)`.
        unsure: The mask from `ranks`; other places do not count.
        level: Nominal level p of the interval, between 0 and 1.

    Returns:
        Shares, whose mean over rows should be p; NaN for a row in which nothing is unsure.

    Raises:
        ValueError: If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"levels: expected numbers between 0 and 1, got {level}")
    within, where = ((2 * v - 1).abs() <= level).reshape(len(v), -1), unsure.reshape(len(v), -1)
    share: Tensor = (within & where).sum(1).double() / where.sum(1)
    return share


def _whole(variable: Variable, value: Tensor) -> Tensor:
    """Return pixels as whole grey levels, so that equal ones compare equal; codes as floats."""
    if isinstance(variable, Image) and variable.levels is not None:
        value = (value * variable.levels).round()
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())
