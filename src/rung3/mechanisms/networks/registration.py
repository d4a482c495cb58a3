"""Shapes that lay an atlas over an image.

Of the coefficients c of an individual's shape (`rung3.mechanisms.networks.shape`), normal with mean
m and covariance S, the most probable given its image x,

    argmax_c sum_p log p(x(p) - g(p) y(p)) + log N(c; m, S),

with g and y the gain and the level of the atlas where c displaces it, and p logistic, which leaves
room for what no shape explains. It is sought by Levenberg's and Marquardt's steps: with J the
slopes of g y in c, w the weights at which squares have the gradients of log p, and e = x - g y,

    (J'wJ + S^-1 + l D) dc = J'we - S^-1 (c - m),      D the diagonal of the rest,

taken where they are better, for l that falls with every step that is, and else rises. J is a
product of cosines along each axis, so J'wJ is summed along one axis after another, and J is never
written down.

Sources: Ashburner and Friston 1999, *Nonlinear spatial normalization using basis functions* (Human
Brain Mapping 7:254-266); Marquardt 1963 (Journal of SIAM 11:431-441).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rung3.mechanisms.networks.shape import Shape

__all__ = ["Laid", "Registered", "registered"]

DAMPING = 0.03
"""Share of the diagonal that is added at the first step."""

BETTER, WORSE = 0.3, 10.0
"""What the damping is multiplied by after a step that was taken, and one that was not."""

NARROW = math.sqrt(3) / math.pi
"""Scale of a logistic distribution of variance 1."""


class Laid(NamedTuple):
    """An atlas, as it looks where places are displaced.

    Attributes:
        level: Expected levels, `(n, c, *sizes)`.
        slopes: Their slopes along each axis, `(n, a, c, *sizes)`.
        variance: Variance of the pixels about them, `(n, c, *sizes)`.
    """

    level: Tensor
    slopes: Tensor
    variance: Tensor


class Linear(NamedTuple):
    """What an image shows about its shape, near a shape.

    Attributes:
        level: Expected levels, gain included, `(n, c, *sizes)`.
        slopes: Their slopes along each axis, `(n, a, c, *sizes)`.
        error: What the image differs by from them, `(n, c, *sizes)`.
        weight: How much the square of an error counts, `(n, c, *sizes)`.
    """

    level: Tensor
    slopes: Tensor
    error: Tensor
    weight: Tensor


class Registered(NamedTuple):
    """The shape that fits an image.

    Attributes:
        coefficients: The most probable ones, `(n, k)`.
        deviation: What they differ by from those that were expected, `(n, k)`.
        precision: The second derivative there, `(n, k, k)`, about the inverse of their covariance.
        seen: What the image shows there.
    """

    coefficients: Tensor
    deviation: Tensor
    precision: Tensor
    seen: Linear


@torch.no_grad()
def registered(
    image: Float[Tensor, "n c *sizes"],
    weight: Float[Tensor, "n 1 *sizes"],
    laid: Callable[[Tensor], Laid],
    shape: Shape,
    expected: Float[Tensor, "n k"],
    rounds: int,
) -> Registered:
    """Return the most probable shape of each image.

    Args:
        image: Images or volumes, with levels from 0 to 1.
        weight: How much each pixel counts, from 0 to 1.
        laid: How the atlas looks without a gain, by the displacements `(n, a, *sizes)`.
        shape: The law of shapes.
        expected: Coefficients that are expected of each image's parents.
        rounds: Steps to try.

    Example:
        >>> line = (torch.arange(32) + 0.5) / 16 - 1
        >>> def laid(displacement):
        ...     at = line + displacement[:, 0, 0]
        ...     level = torch.exp(-8 * at**2)[:, None, None]
        ...     slopes = (-16 * at[:, None, None] * level)[:, None]
        ...     slopes = torch.cat([slopes, torch.zeros_like(slopes)], 1)
        ...     return Laid(level, slopes, torch.full_like(level, 1e-4))
        >>> shape = Shape((1, 32), waves=1, gains=1, lights=0)
        >>> image = torch.exp(-8 * (line + 0.05) ** 2)[None, None, None]
        >>> fit = registered(image, torch.ones_like(image), laid, shape, torch.zeros(1, 2), 8)
        >>> round(float(fit.coefficients[0, 0]), 3)
        0.05
    """
    prior = shape.precision

    def loss(coefficients: Tensor, atlas: Laid) -> Tensor:
        gain, off = shape.gain(coefficients), coefficients - expected
        misfit = _misfit(image - gain * atlas.level, gain.square() * atlas.variance)
        unlikely: Tensor = 0.5 * ((off @ prior) * off).sum(1)
        return (weight * misfit).flatten(1).sum(1) + unlikely

    best = expected
    atlas = laid(shape.displacement(best))
    least, damping = loss(best, atlas), image.new_full((len(image), 1, 1), DAMPING)
    for step in range(rounds + 1):
        linear = _linear(image, weight, atlas, shape.gain(best))
        curvature, slope = _expanded(linear, shape)
        precision = curvature + prior
        if step == rounds:
            break
        damped = precision + damping * torch.diag_embed(precision.diagonal(dim1=1, dim2=2))
        tried = best + torch.linalg.solve(damped, slope - (best - expected) @ prior)
        seen = laid(shape.displacement(tried))
        now = loss(tried, seen)
        better = now < least
        least, best = torch.where(better, now, least), torch.where(better[:, None], tried, best)
        atlas = Laid(*(_either(better, *parts) for parts in zip(seen, atlas, strict=True)))
        damping = damping * torch.where(better, BETTER, WORSE).view(-1, 1, 1)
    return Registered(best, best - expected, precision, linear)


def _either(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (one.ndim - 1)), one, other)


def _misfit(error: Tensor, variance: Tensor) -> Tensor:
    """Return the negative log-density of logistic errors, but for a constant."""
    scale = NARROW * variance.sqrt()
    return error / scale + 2 * F.softplus(-error / scale) + scale.log()


def _weights(error: Tensor, variance: Tensor) -> Tensor:
    """Return the weights at which halves of squares have the gradients of `_misfit`."""
    scale = NARROW * variance.sqrt()
    half = error.abs().clamp_min(1e-3 * scale) / (2 * scale)
    return half.tanh() / (2 * half * scale.square())


def _linear(image: Tensor, weight: Tensor, atlas: Laid, gain: Tensor) -> Linear:
    level, slopes = gain * atlas.level, gain[:, None] * atlas.slopes
    error = image - level
    return Linear(level, slopes, error, weight * _weights(error, gain.square() * atlas.variance))


def _expanded(linear: Linear, shape: Shape) -> tuple[Tensor, Tensor]:
    """Return `J'wJ` `(n, k, k)` and `J'we` `(n, k)`."""
    weight, error = linear.weight[:, None], linear.error
    parts = [(linear.slopes, shape.waves), (linear.level[:, None], shape.gains)]
    rows = []
    for left, waves in parts:
        blocks = [
            _products(torch.einsum("nac...,nbc...->nab...", left * weight, right), shape, waves, w)
            for right, w in parts
        ]
        rows.append(torch.cat(blocks, 2))
    projected = [
        _projected(torch.einsum("nac...,nc...->na...", part * weight, error), shape, waves)
        for part, waves in parts
    ]
    free = [k for k in range(shape.count + 1) if k != shape.moving]  # no constant gain
    return torch.cat(rows, 1)[:, free][:, :, free], torch.cat(projected, 1)[:, free]


def _projected(values: Tensor, shape: Shape, waves: int) -> Float[Tensor, "n k"]:
    """Return sums of values `(n, a, *sizes)` times the cosines."""
    for line in shape.cosines:
        values = values.movedim(2, -1) @ line[:, :waves]
    return values.flatten(1)


def _products(values: Tensor, shape: Shape, one: int, other: int) -> Float[Tensor, "n k l"]:
    """Return sums of values `(n, a, b, *sizes)` times the products of two cosines each."""
    for line in shape.cosines:
        pairs = line[:, :one, None] * line[:, None, :other]
        values = values.movedim(3, -1) @ pairs.flatten(1)
    axes = values.ndim - 3
    for axis in range(axes):
        values = values.unflatten(3 + 2 * axis, (one, other))
    first, second = range(3, 3 + 2 * axes, 2), range(4, 4 + 2 * axes, 2)
    return values.permute(0, 1, *first, 2, *second).flatten(2 + axes).flatten(1, 1 + axes)
