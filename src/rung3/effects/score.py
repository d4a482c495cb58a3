r"""Intervals of a mean of values -1, 0 or 1: shares, and differences of paired yes and no.

Of n pairs b rose and c fell. The mean theta = P(rose) - P(fell) is tested by

    T(theta) = (b - c - n theta) / sqrt(n (2 q + theta (1 - theta))),

with q the likeliest P(fell) under theta: the greater root of

    2 n q^2 + ((2 n - b + c) theta - b - c) q - c theta (1 - theta) = 0,

and the interval is of the theta with |T| < z. If nothing can fall (a share) q = 0, and it is
Wilson's. Unlike intervals made of the mean and its error, it has a width where all rows are alike.

Source: Tango 1998, *Equivalence test and confidence interval for the difference in proportions for
the paired-sample design* (Statistics in Medicine 17); Wilson 1927 (JASA 22).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["score_interval"]

HALVINGS = 60
"""Bisections of [-1, 1]: down to the rounding error of a double, 2^-53."""


def score_interval(
    rose: Tensor, fell: Tensor, n: int, level: float, signed: bool = True
) -> tuple[Tensor, Tensor]:
    """Return both ends of the interval, of the shape of the counts, in double.

    Args:
        rose: How many are 1.
        fell: How many are -1.
        n: How many there are.
        level: Nominal coverage.
        signed: Whether any could have been -1.

    Example:
        >>> score_interval(torch.tensor(2), torch.tensor(0), 100, 0.95, signed=False)  # Wilson's
        (tensor(0.0055, dtype=torch.float64), tensor(0.0700, dtype=torch.float64))
    """
    from scipy.special import ndtri

    b, c = rose.double(), fell.double()
    z = float(ndtri((1 + level) / 2))

    def beyond(theta: Tensor) -> Tensor:
        """Return `b - c - n theta` in units of its deviation under theta."""
        linear = (2 * n - b + c) * theta - b - c
        root = (linear.square() + 8 * n * c * theta * (1 - theta)).clamp_min(0).sqrt()
        q = (root - linear) / (4 * n) if signed else torch.zeros_like(theta)
        deviation = (n * (2 * q + theta * (1 - theta))).clamp_min(1e-300).sqrt()
        return (b - c - n * theta) / deviation

    middle, ends = (b - c) / n, []
    for side in (-1.0, 1.0):
        inside, outside = middle, torch.full_like(middle, side if signed else max(side, 0.0))
        for _ in range(HALVINGS):
            theta = (inside + outside) / 2
            near = beyond(theta).abs() < z
            inside, outside = torch.where(near, theta, inside), torch.where(near, outside, theta)
        ends.append(inside)
    return ends[0], ends[1]
