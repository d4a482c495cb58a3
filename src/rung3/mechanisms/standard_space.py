"""Where paths run: values without bounds, of mean 0 and variance 1.

Numbers are mapped to the real line and standardised; of pixels, each channel is standardised. With
`by_parents`, numbers are further standardised by a mean and a scale that depend on the parents,

    y = (x' - m(pa)) / s(pa),

fitted by a normal likelihood: what moves and stretches a distribution needs no path then. The field
of a path in these coordinates is one given all parents; so where parents may be left out, nothing
is standardised by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rung3.data.variables import Continuous, Image, Variable
from rung3.mechanisms.base import Parents
from rung3.mechanisms.likelihoods.base import quantised
from rung3.mechanisms.networks.encoding import MLP, ParentEncoder, Standardise, deviation
from rung3.mechanisms.networks.real_line import ToReal

__all__ = ["StandardSpace"]

HIDDEN = (64, 64)
"""Widths of the hidden layers of mean and scale given the parents."""

MOST_LOG_SCALE = 5.0
"""Greatest logarithm of a scale given the parents, and minus the least: 150 times as wide."""


class StandardSpace(nn.Module):
    """The map of a variable's values `(n, *shape)` to standardised ones, and back.

    Args:
        variable: A number, a vector or an image.
        parents: Its parents' variables, by name.
        by_parents: Whether numbers are standardised by their parents too.
    """

    loc: Tensor
    scale: Tensor

    def __init__(
        self, variable: Continuous | Image, parents: Mapping[str, Variable], by_parents: bool
    ) -> None:
        super().__init__()
        self.variable = variable
        self.by_parents = by_parents and bool(parents) and isinstance(variable, Continuous)
        if isinstance(variable, Image):
            shape = (variable.channels, *[1] * (len(variable.shape) - 1))
            self.register_buffer("loc", torch.full(shape, 0.5))
            self.register_buffer("scale", torch.full(shape, 0.5))
            return
        self.to_real = ToReal(variable)
        self.standardise = Standardise(variable.shape)
        if self.by_parents:
            self.encoder = ParentEncoder(parents)
            self.normal = MLP(self.encoder.width, 2 * math.prod(variable.shape), HIDDEN)
            for parameter in list(self.normal.parameters())[-2:]:
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def calibrate(self, value: Tensor, parents: Parents) -> None:
        """Take locations and scales from training data."""
        if isinstance(self.variable, Image):
            pixels = value.transpose(0, 1).flatten(1)
            self.loc.copy_(pixels.mean(1).reshape(self.loc.shape))
            self.scale.copy_(deviation(pixels.T).reshape(self.scale.shape))
            return
        self.to_real.calibrate(value)
        self.standardise.calibrate(self.to_real(value)[0], point=True)
        if self.by_parents:
            self.encoder.calibrate(parents)

    def forward(self, value: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return standardised values `(n, *shape)`, and `log |dy/dx|`, `(n,)`."""
        if isinstance(self.variable, Image):
            slope = -self.scale.log().sum() * value[0, 0].numel()
            return (value - self.loc) / self.scale, slope.expand(len(value))
        y, slope = self._fixed(value)
        if not self.by_parents:
            return y, slope
        mean, log_scale = self._normal(parents, y)
        return (y - mean) * (-log_scale).exp(), slope - log_scale.reshape(len(y), -1).sum(1)

    def inverse(self, y: Tensor, parents: Parents) -> Tensor:
        """Return values inside the support; pixels of whole levels are rounded to the nearest.

        The gradient passes through the rounding, and stops at an end where it leads further out.
        """
        if isinstance(self.variable, Image):
            return quantised(self.loc + self.scale * y, self.variable.levels)
        if self.by_parents:
            mean, log_scale = self._normal(parents, y)
            y = mean + log_scale.exp() * y
        value: Tensor = self.to_real.inverse(self.standardise.inverse(y))
        return value

    def fit_loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the loss of mean and scale given the parents, `()`; 0 where there are none.

        Half the negative log-density of a normal variable, by number.
        """
        if not self.by_parents:
            return value.new_zeros(())
        y, _ = self._fixed(value)
        mean, log_scale = self._normal(parents, y)
        return (0.5 * ((y - mean) * (-log_scale).exp()).square() + log_scale).mean()

    def _fixed(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return values standardised alike in every row, and `log |dy/dx|`, `(n,)`."""
        real, slope = self.to_real(value)
        slope = (slope - self.standardise.scale.log()).reshape(len(value), -1).sum(1)
        return self.standardise(real), slope.to(self.standardise.scale.dtype)

    def _normal(self, parents: Parents, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-scale given the parents, of the shape of `y`."""
        mean, log_scale = self.normal(self.encoder(parents, len(y))).chunk(2, dim=1)
        bounded = MOST_LOG_SCALE * (log_scale / MOST_LOG_SCALE).tanh()
        return mean.reshape(y.shape), bounded.reshape(y.shape)
