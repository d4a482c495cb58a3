"""Bounded supports, as a smooth map to the real line and back.

| support | `y = T(x)` | |
|---|---|---|
| real | `x` | |
| `[a, inf)` | `s log(exp(v) - 1)`, `v = (x - a) / s` | large values stay linear |
| `(-inf, b]` | the mirror image | |
| `[a, b]` | `logit((x - a) / (b - a))` | |

`s` is the training data's deviation, so that the map fits any unit. The ends of the support are
at infinity; values closer to them than `LEAST_DISTANCE` are moved to that distance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.variables import Continuous
from rung3.mechanisms.networks.encoding import deviation

__all__ = ["ToReal"]

LEAST_DISTANCE = 1e-6
"""Least distance to an end, in units of `s`, or of `b - a`: single precision's digits."""


class ToReal(nn.Module):
    """The map from a variable's support to the real line, elementwise.

    Args:
        variable: A continuous variable, scalar or vector.
    """

    scale: Tensor

    def __init__(self, variable: Continuous) -> None:
        super().__init__()
        self.lower, self.upper = float(variable.lower), float(variable.upper)
        self.register_buffer("scale", torch.ones(variable.shape))

    def calibrate(self, value: Tensor) -> None:
        """Take the unit `s` from data `(n, *shape)`."""
        self.scale.copy_(deviation(value))

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return `y` and `log |dy/dx|`, both of the shape of `value`."""
        if math.isinf(self.lower) and math.isinf(self.upper):
            return value, torch.zeros_like(value)
        if math.isinf(self.upper) or math.isinf(self.lower):
            distance = value - self.lower if math.isinf(self.upper) else self.upper - value
            v = (distance / self.scale).clamp_min(LEAST_DISTANCE)
            slope = -torch.log(-torch.expm1(-v))  # v + log(1 - exp(-v)) = log(exp(v) - 1)
            y = self.scale * (v - slope)
            return (y if math.isinf(self.upper) else -y), slope
        width = self.upper - self.lower
        left = ((value - self.lower) / width).clamp_min(LEAST_DISTANCE)
        right = ((self.upper - value) / width).clamp_min(LEAST_DISTANCE)
        return left.log() - right.log(), -left.log() - right.log() - math.log(width)

    def inverse(self, y: Tensor) -> Tensor:
        """Map back into the support."""
        if math.isinf(self.lower) and math.isinf(self.upper):
            return y
        if math.isinf(self.upper):
            return self.lower + self.scale * F.softplus(y / self.scale)
        if math.isinf(self.lower):
            return self.upper - self.scale * F.softplus(-y / self.scale)
        inside = self.lower + (self.upper - self.lower) * torch.sigmoid(y)
        return inside.clamp(self.lower, self.upper)
