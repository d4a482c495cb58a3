"""Smooth deformations that lay one image over another.

Of the velocity v of a flow h, the least of

    sum_p w(p) |x(p) - y(h(p))|^2 + ridge |v|^2

is sought by Gauss-Newton steps. Each solves one small system a place, from what lies in a window
about it, in which the flow is taken as a shift: with s the slopes of y o h, and < > the window's
mean weighted by w,

    (<s s'> + ridge) dv = <s (x - y o h)> - ridge v.

Source: Lucas and Kanade 1981, *An iterative image registration technique* (IJCAI), with the flow of
a velocity (`rung3.mechanisms.networks.deformation`) for their shift, so that it can be undone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rung3.mechanisms.networks.deformation import flow, moved

__all__ = ["registered"]

ROUNDS = 8
"""Gauss-Newton steps: after them a head's fit to an atlas gains little."""

LONGEST = 0.06
"""Longest step along an axis, in halves of the image's side: two pixels of 64."""

RIDGE = 0.015
"""Mean square slope, in levels from 0 to 1 a half of the image's side, below which a place tells
little of a shift: that of one level of 255 a pixel, of 64 pixels."""

WINDOW = 2.0
"""Standard deviation of a window, in points of the grid."""


@torch.no_grad()
def registered(
    image: Float[Tensor, "n c *sizes"],
    template: Float[Tensor, "n c *sizes"],
    weight: Float[Tensor, "n 1 *sizes"],
    grid: Sequence[int],
) -> Float[Tensor, "n a *grid"]:
    """Return the velocity whose flow moves the template to the image.

    Args:
        image: Images or volumes, with levels from 0 to 1.
        template: What each of them is a deformation of.
        weight: How much each pixel counts, from 0 to 1.
        grid: Points at which the velocity is free, by axis.

    Example:
        >>> line = torch.linspace(-1, 1, 33)
        >>> far = (line[:, None] ** 2 + line**2).sqrt()
        >>> disc, smaller = (torch.sigmoid(15 * (r - far))[None, None] for r in (0.6, 0.5))
        >>> velocity = registered(smaller, disc, torch.ones_like(disc), [8, 8])
        >>> off = [(part - smaller).abs().mean() for part in (disc, moved(disc, flow(velocity)))]
        >>> bool(off[1] < 0.1 * off[0])
        True
    """
    axes = image.ndim - 2
    velocity = image.new_zeros(len(image), axes, *grid)
    ridge = RIDGE * torch.eye(axes, dtype=image.dtype, device=image.device)
    for _ in range(ROUNDS):
        laid = moved(template, flow(velocity))
        slopes = _slopes(laid)
        products = [(a * b).sum(1) for a in slopes for b in [*slopes, image - laid]]
        windows = _windows(weight * torch.stack(products, 1), grid).movedim(1, -1)
        system = windows.unflatten(-1, (axes, axes + 1))
        target = system[..., -1] - RIDGE * velocity.movedim(1, -1)
        step = torch.linalg.solve(system[..., :-1] + ridge, target)
        velocity = velocity + step.movedim(-1, 1).clamp(-LONGEST, LONGEST)
    return velocity


def _slopes(image: Tensor) -> list[Tensor]:
    """Return the slopes along x first, a half of the image's side."""
    flat = torch.zeros_like(image)
    return [
        torch.gradient(image, dim=axis)[0] * (image.shape[axis] / 2)
        if image.shape[axis] > 1
        else flat
        for axis in range(image.ndim - 1, 1, -1)
    ]


def _windows(values: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the mean about each point of a grid, by a Gaussian window, `(n, c, *grid)`."""
    for axis, points in enumerate(grid, start=2):
        size = values.shape[axis]
        places = (torch.arange(size, dtype=values.dtype, device=values.device) + 0.5) / size
        middles = torch.arange(points, dtype=values.dtype, device=values.device) + 0.5
        weights = (-0.5 * ((points * places - middles[:, None]) / WINDOW).square()).softmax(1)
        values = (values.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return values
