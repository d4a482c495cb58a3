"""How much noise images have, which need not be told.

It is read off each image: the median of its second differences along all axes, which vanish on
slopes, and on edges along an axis. Differences of exactly 0 are left out, because there is no noise
outside a mask.

Source: Immerkaer 1996, *Fast noise variance estimation* (Computer Vision and Image Understanding
64:300-302).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["noise_level"]

MEDIAN = 0.6745
"""Median of the magnitude of a standard normal number."""


def noise_level(image: Float[Tensor, "n c *sizes"]) -> Float[Tensor, "n c"]:
    """Estimate the standard deviation of each image's noise, in the image's unit.

    Example:
        >>> noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> slope = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
        >>> noise_level(slope + 0.05 * noise)
        tensor([[0.0498]])
        >>> masked = torch.cat([0.5 + 0.05 * noise, torch.zeros(1, 1, 200, 64)], dim=2)
        >>> noise_level(masked)
        tensor([[0.0492]])
    """
    left = image
    for axis in range(2, image.ndim):
        if left.shape[axis] > 2:
            left = left.diff(n=2, dim=axis) / 6**0.5  # 1, -2, 1: six times the variance
    size = left.flatten(2).abs()
    return torch.where(size > 0, size, torch.nan).nanmedian(2).values.nan_to_num(0) / MEDIAN
