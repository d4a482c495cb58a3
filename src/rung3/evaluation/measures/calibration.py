"""Continuous ranked probability score: how near a cloud of counterfactuals is to the truth.

Of draws x_k, k = 1 ... K, and the truth x*, in each number,

    CRPS = 1/K sum_k d(x_k, x*) - 1/(2 K (K - 1)) sum_kl d(x_k, x_l),      d(x, y) = |x - y|.

The spread of the draws is subtracted, so that hedging pays as much as the uncertainty is real: the
expected score is lowest for draws from the true posterior, and for no others (it is *proper*). The
K (K - 1) makes it *fair*: unbiased for the score of infinitely many draws, and hence at times below
zero for one number. For a single certain answer it would be the mean absolute error.

Sorted, x_(1) <= ... <= x_(K), the second sum is `2 sum_k (2k - K - 1) x_(k)`. For categories
`d(x, y)` is 1 where they differ, and the score half of Brier's.

On a circle d is the shorter arc, and the second sum is taken over pairs.

Sources: Gneiting and Raftery 2007 (JASA 102:477), section 5; Ferro 2014 (QJRMS 140:683), fair;
Grimit et al. 2006 (QJRMS 132:2925), on a circle.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.distances import scale
from rung3.data.variables import Continuous, Discrete, Variable

__all__ = ["crps"]


def crps(variable: Variable, draws: Tensor, true: Tensor) -> Tensor:
    """The fair score of each row, in the variable's own unit (grey levels for images), `(n,)`.

    Args:
        variable: The variable.
        draws: Counterfactuals `(K, n, *shape)`, K at least 2.
        true: The true counterfactual, `(n, *shape)`.

    Returns:
        The score, averaged over the pixels or numbers of a row; the lower the better.

    Raises:
        ValueError: If there are fewer than two draws, or shapes do not agree.

    Example:
        >>> from rung3 import Continuous
        >>> draws = torch.tensor([[0.0], [2.0]])
        >>> crps(Continuous(), draws, torch.tensor([1.0])), crps(
        ...     Continuous(), draws, torch.tensor([5.0])
        ... )
        (tensor([0.]), tensor([3.]))
    """
    if draws.shape[1:] != true.shape or len(draws) < 2:
        raise ValueError(
            f"CRPS: expected at least 2 draws of shape {tuple(true.shape)} each, "
            f"got {tuple(draws.shape)}"
        )
    K, kind = len(draws), torch.get_default_dtype()
    if isinstance(variable, Discrete):
        # A pair of draws agrees n_c (n_c - 1) times in class c, of K (K - 1).
        n = F.one_hot(draws.long(), variable.classes).sum(0)
        agree = (n * (n - 1)).sum(-1).to(kind) / (K * (K - 1))
        return (draws != true).to(kind).mean(0) - (1 - agree) / 2
    draws, true = draws.to(kind), true.to(kind)
    error = variable.difference(draws, true).abs().mean(0)
    if isinstance(variable, Continuous) and variable.circular:
        apart = variable.difference(draws[:, None], draws[None]).abs().sum((0, 1))
        return (error - apart / (2 * K * (K - 1))).reshape(len(true), -1).mean(1)
    rank = torch.arange(1, K + 1, device=draws.device, dtype=kind).view(-1, *[1] * true.ndim)
    spread = ((2 * rank - K - 1) * draws.sort(dim=0).values).sum(0) / (K * (K - 1))
    return scale(variable) * (error - spread).reshape(len(true), -1).mean(1)
