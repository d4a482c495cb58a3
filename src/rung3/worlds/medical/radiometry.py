"""What can be measured on a chest radiograph itself: fluid, and the cardiothoracic ratio.

Positions are as in `rung3.worlds.medical.thorax`: half widths of the image, y downwards. With q the
95 % quantile of an image's levels, a pixel shows air where it is darker than 0.62 q.

    fluid(x) = max over both sides of the share of pixels without air in a box of the costophrenic
               angle, which air fills in a healthy chest
    ratio(x) = greatest width of the heart / greatest width of the lungs
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rung3.worlds.medical.scanner import blurred

__all__ = ["cardiothoracic_ratio", "fluid_share", "has_fluid"]

AIR = 0.62
"""Level below which a pixel shows air, relative to the bright end."""

BRIGHT = 0.95
"""Quantile that is the bright end."""

ANGLE = ((0.54, 0.62), (0.30, 0.54))
"""Box of the costophrenic angle: from and to, in |x| and in y."""

MUCH = 0.25
"""Share of the box without air from which on fluid is reported."""

HEART_ROWS = (0.05, 0.42)
"""Least and greatest y at which the heart is the widest thing between the lungs."""


def fluid_share(images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Measure fluid: the share of the costophrenic angle that holds no air, on the worse side."""
    solid = ~_air(images)
    y, x = _positions(images)
    (inner, outer), (upper, lower) = ANGLE
    rows = (y >= upper) & (y <= lower)
    sides = [rows & (s * x >= inner) & (s * x <= outer) for s in (-1, 1)]
    shares = [solid[:, box].float().mean(1) for box in sides]
    return torch.stack(shares).amax(0)


def has_fluid(images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Read pleural effusion off the fluid: 1 where there is much of it, 0 elsewhere."""
    return (fluid_share(images) > MUCH).to(images.dtype)


def cardiothoracic_ratio(images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, " n"]:
    """Measure the width of the heart relative to that of the lungs; NaN where no lung is seen."""
    air = _air(images)
    y, x = (axis[None] for axis in _positions(images))
    left, right = air & (x > 0), air & (x < 0)
    both = left.any(2) & right.any(2)
    far = torch.inf
    thorax = torch.where(left, x, -far).amax(2) - torch.where(right, x, far).amin(2)
    heart = torch.where(left, x, far).amin(2) - torch.where(right, x, -far).amax(2)
    rows = both & (y[:, :, 0] >= HEART_ROWS[0]) & (y[:, :, 0] <= HEART_ROWS[1])
    widest = torch.where(both, thorax, -far).amax(1)
    ratio = torch.where(rows, heart, -far).amax(1) / widest
    return torch.where(ratio.isfinite() & (widest > 0), ratio, torch.nan)


def _air(images: Tensor) -> Bool[Tensor, "n h w"]:
    """Return where there is air inside the body: dark, and not beside it."""
    smooth = blurred(images, images.shape[-1] / 64)[:, 0]
    bright = smooth.flatten(1).quantile(BRIGHT, dim=1)[:, None, None]
    x = _positions(images)[1]
    return (smooth < AIR * bright) & (x.abs() < 0.80)


def _positions(images: Tensor) -> tuple[Tensor, Tensor]:
    height, width = images.shape[-2:]
    down, across = (
        (torch.arange(size, device=images.device) + 0.5) * 2 / size - 1 for size in (height, width)
    )
    y, x = torch.meshgrid(down, across, indexing="ij")
    return y, x
