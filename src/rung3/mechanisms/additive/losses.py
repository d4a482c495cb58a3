"""What regressions minimise, as functions of f and of columns like it, also with heavy tails.

Each gives its value, its derivative and its expected curvature in f, `(n,)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Loss", "heavy", "spread", "squares", "student"]

FREEDOMS, WIDTHS, TAILS = (1.5, 2.0, 3.0, 5.0, 8.0), 30, 20.0
"""Of heavy tails: degrees of freedom that are tried; steps to a width; nats that they must tell, in
all rows."""

Loss = Callable[..., tuple[Tensor, Tensor, Tensor]]


def squares(f: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`((y - f) / scale)^2 / 2`, its derivative and its curvature, each `(n,)`."""
    rest = (f - y) / scale
    return rest.square() / 2, rest / scale, scale.pow(-2)


def spread(f: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`-log N(rest; 0, exp(f))` up to a constant, its derivative and its expected curvature."""
    ratio = rest.square() * (-2 * f).exp()
    return f + ratio / 2, 1 - ratio, torch.full_like(f, 2.0)


def student(freedom: float, width: float) -> Loss:
    """`-log t((y - f) / scale)` up to a constant, of Student's t of this freedom and width."""

    def loss(f: Tensor, y: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rest, spread = (f - y) / scale, freedom * width**2
        value = (freedom + 1) / 2 * (rest.square() / spread).log1p()
        slope = (freedom + 1) * rest / (spread + rest.square()) / scale
        return value, slope, (freedom + 1) / (freedom + 3) / (width * scale).square()

    return loss


def heavy(rest: Tensor) -> Loss | None:
    """The loss of the likeliest of some Student's t, if far likelier than a normal of these `(n,)`.

    Its width is found by the steps of expectation and maximisation (Lange, Little and Taylor, JASA
    1989).
    """
    square = rest.double().square()
    most, best = -float(1 + math.log(2 * math.pi) + square.mean().log()) / 2 * len(rest), None
    most += TAILS
    for freedom in FREEDOMS:
        width = square.median()
        for _ in range(WIDTHS):
            width = ((freedom + 1) * square / (freedom + square / width)).mean()
        told = torch.distributions.StudentT(freedom, 0.0, width.sqrt()).log_prob(square.sqrt())
        if float(told.sum()) > most:
            most, best = float(told.sum()), student(freedom, float(width.sqrt()))
    return best
