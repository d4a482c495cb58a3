"""What regressions minimise, as functions of f and of columns like it, also with heavy tails.

Each gives its value, its derivative and its expected curvature in f, `(n,)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import StudentT

__all__ = ["Loss", "adaptive", "heavy_tailed", "normal_spread", "squared_error", "student_t"]

FREEDOMS = (1.5, 2.0, 3.0, 5.0, 8.0)
"""Degrees of freedom of the Student's t that are tried: above 8 they are nearly normal."""

WIDTH_STEPS = 30
"""Steps of expectation and maximisation to a width: each closes a constant share of the gap."""

MOST_ROWS = 100_000
"""Rows that a density is judged by, at most: they tell it from a normal as well as more would."""

TAIL_GAIN = 20.0
"""Nats, in all rows, that heavy tails must gain over a normal: far more than chance gives."""

SHAPE_GAIN = 500.0
"""Nats, in all rows, that a fitted density must gain over a normal: ten for each parameter of a
flow."""

GRID_POINTS = 4_096
"""Points of noise that a fitted density is interpolated between."""

Loss = Callable[..., tuple[Tensor, Tensor, Tensor]]


def squared_error(f: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return `((y - f) / scale)^2 / 2`, its derivative and its curvature, each `(n,)`."""
    residual = (f - y) / scale
    return residual.square() / 2, residual / scale, scale.pow(-2)


def normal_spread(f: Tensor, residual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return `-log N(residual; 0, exp(f)) + const`, its derivative and its expected curvature."""
    ratio = residual.square() * (-2 * f).exp()
    return f + ratio / 2, 1 - ratio, torch.full_like(f, 2.0)


def student_t(freedom: float, width: float) -> Loss:
    """Return the loss `-log t((y - f) / scale) + const` of a Student's t of freedom and width."""

    def loss(f: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        residual, spread = (f - y) / scale, freedom * width**2
        value = (freedom + 1) / 2 * (residual.square() / spread).log1p()
        slope = (freedom + 1) * residual / (spread + residual.square()) / scale
        return value, slope, (freedom + 1) / (freedom + 3) / (width * scale).square()

    return loss


def heavy_tailed(residual: Tensor) -> Loss | None:
    """Return the loss of the likeliest Student's t of residuals `(n,)`, if a normal is far worse.

    Its width is found by the steps of expectation and maximisation (Lange, Little and Taylor, JASA
    1989).
    """
    step = max(1, len(residual) // MOST_ROWS)
    square = residual[::step].double().square()
    normal = -float(1 + math.log(2 * math.pi) + square.mean().log()) / 2 * len(square)
    highest, best = normal + TAIL_GAIN, None
    for freedom in FREEDOMS:
        width = square.median()
        for _ in range(WIDTH_STEPS):
            width = ((freedom + 1) * square / (freedom + square / width)).mean()
        log_prob = float(StudentT(freedom, 0.0, width.sqrt()).log_prob(square.sqrt()).sum())
        if log_prob > highest:
            highest, best = log_prob, student_t(freedom, float(width.sqrt()))
    return best


@torch.no_grad()
def adaptive(log_prob: Callable[[Tensor], Tensor], residual: Tensor) -> Loss | None:
    """Return `-log p_e((y - f) / scale)`, or a t's, if it tells much more of f than squares do.

    Args:
        log_prob: `log p_e`, fitted to the residuals.
        residual: The residuals, `(n,)`.
    """
    low, high = residual.aminmax()
    grid = torch.linspace(float(low), float(high), GRID_POINTS).to(residual)
    log_p = log_prob(grid)
    step = grid[1] - grid[0]
    slope = log_p.diff() / step

    def interpolate(e: Tensor) -> tuple[Tensor, Tensor]:
        """Return `log p_e`, linear between points of the grid and beyond, and its slope."""
        left = ((e - low) / step).long().clamp(0, GRID_POINTS - 2)
        return log_p[left] + slope[left] * (e - grid[left]), slope[left]

    some = residual[:: max(1, len(residual) // MOST_ROWS)]
    fitted, score = interpolate(some)
    normal = -(1 + math.log(2 * math.pi) + some.var().log()) / 2
    if not float((fitted.mean() - normal) * len(residual)) > SHAPE_GAIN:
        return heavy_tailed(residual)
    information = float(score.square().mean())

    def loss(f: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_prob, score = interpolate((y - f) / scale)
        return -log_prob, score / scale, information / scale.square()

    return loss
