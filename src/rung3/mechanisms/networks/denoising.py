"""Images without their noise, which need not be told how much there is.

    s = argmin_s |s - x|^2 / 2 + w TV(s),      TV(s) = sum_p |grad s(p)|,      w = sigma,

is found by Chambolle's projections: s = x - div q for the field q, no longer than w, whose
divergence is nearest to x. The noise sigma is read off each image: the median of its second
differences along all axes, which vanish on slopes, and on edges along an axis. Differences of
exactly 0 are left out, because there is no noise outside a mask.

Sources: Chambolle 2004 (Journal of Mathematical Imaging and Vision 20:89-97); Immerkaer 1996
(Computer Vision and Image Understanding 64:300-302) for the noise.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["denoised", "noise_level"]

ROUNDS = 30
"""Projections: more change levels by less than one of 255."""

MEDIAN = 0.6745
"""Median of the magnitude of a standard normal number."""

LEAST = 1e-6
"""Least standard deviation of noise, with levels from 0 to 1: of images without any."""


def denoised(image: Float[Tensor, "n c *sizes"]) -> Float[Tensor, "n c *sizes"]:
    """Return images without their noise.

    Example:
        >>> noise = 0.05 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> flat = torch.full_like(noise, 0.5)
        >>> bool((denoised(flat + noise) - flat).abs().mean() < 0.2 * noise.abs().mean())
        True
    """
    axes = range(2, image.ndim)
    step = 0.5 / len(axes)
    weight = noise_level(image).clamp_min(LEAST)
    field = [torch.zeros_like(image) for _ in axes]
    clean = image
    for _ in range(ROUNDS):
        slopes = [_forward(clean, axis) for axis in axes]
        steep = torch.stack(slopes).square().sum(0).sqrt()
        field = [
            (along - step * slope) / (1 + step / weight * steep)
            for along, slope in zip(field, slopes, strict=True)
        ]
        clean = image - sum(_backward(along, axis) for along, axis in zip(field, axes, strict=True))
    return clean


def noise_level(image: Float[Tensor, "n c *sizes"]) -> Float[Tensor, "n c *ones"]:
    """Estimate the standard deviation of each image's noise, in the image's unit.

    Example:
        >>> noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> slope = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
        >>> noise_level(slope + 0.05 * noise).flatten()
        tensor([0.0498])
        >>> masked = torch.cat([0.5 + 0.05 * noise, torch.zeros(1, 1, 200, 64)], dim=2)
        >>> noise_level(masked).flatten()
        tensor([0.0492])
    """
    left = image
    for axis in range(2, image.ndim):
        if left.shape[axis] > 2:
            left = left.diff(n=2, dim=axis) / 6**0.5  # 1, -2, 1: six times the variance
    size = left.flatten(2).abs()
    level = torch.where(size > 0, size, torch.nan).nanmedian(2).values.nan_to_num(0) / MEDIAN
    return level.view(*level.shape, *[1] * (image.ndim - 2))


def _forward(image: Tensor, axis: int) -> Tensor:
    """Return the step to the next pixel, 0 at the last."""
    return F.pad(image.diff(dim=axis), _ends(image, axis, after=1))


def _backward(field: Tensor, axis: int) -> Tensor:
    """Return the step from the pixel before, the field 0 at the last: minus the adjoint."""
    inner = field.narrow(axis, 0, field.shape[axis] - 1)
    return F.pad(inner, _ends(field, axis, after=1)) - F.pad(inner, _ends(field, axis, before=1))


def _ends(image: Tensor, axis: int, before: int = 0, after: int = 0) -> list[int]:
    return [0, 0] * (image.ndim - 1 - axis) + [before, after]
