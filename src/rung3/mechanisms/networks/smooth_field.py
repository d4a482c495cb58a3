"""Smooth fields that parents cause, and affine functions of their features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rung3.data.variables import Variable
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.context import Context
from rung3.mechanisms.networks.convolutional import zero

__all__ = ["Affine", "SmoothField"]

STEP = 0.1
"""A number of the field per unit of the network's output: small, so that training starts gently."""

HIDDEN = 64
"""Width of the hidden layer from the parents to the field."""


class Affine(nn.Module):
    """An affine function of features, 0 at the start; of none, a learned constant."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(features, self.weight, self.bias)


class SmoothField(nn.Module):
    """Numbers on a coarse grid that parents cause, `(n, numbers, *grid)`; 0 at the start.

    Without parents they are 0 for good.

    Args:
        parents: The parents' variables, by name.
        numbers: Numbers at each point of the grid.
        grid: Points of the grid, by axis.

    Example:
        >>> from rung3 import Continuous
        >>> field = SmoothField({"age": Continuous()}, numbers=2, grid=[3, 4])
        >>> field({"age": torch.zeros(5)}, 5).shape
        torch.Size([5, 2, 3, 4])
    """

    def __init__(self, parents: Mapping[str, Variable], numbers: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.shape = (numbers, *grid)
        self.context = Context(parents)
        self.network = nn.Sequential()
        if parents:
            hidden = nn.Linear(self.context.width, HIDDEN)
            outer = nn.Linear(HIDDEN, math.prod(self.shape))
            zero(outer)
            self.network.extend([hidden, nn.SiLU(), outer])

    def calibrate(self, parents: Parents) -> None:
        """Take the location and scale of the parents from training data."""
        self.context.calibrate(parents)

    def forward(self, parents: Parents, n: int) -> Tensor:
        if not len(self.network):
            return self.context.none.new_zeros(n, *self.shape)
        field: Tensor = STEP * self.network(self.context(parents, n)).float()
        return field.view(n, *self.shape)
