"""Features of parents that have no long tails: numbers by their normal scores.

What a parent does is seldom linear in its own unit, and more nearly in its normal score, the
quantile z of a standard normal below which as many numbers lie as below it in the training data:

    P(X <= x) = Phi(z(x)).

It is tabulated at a few z and linear between them and beyond, so that one number that lies far from
all others weighs little, and numbers that no row had go on as the last ones do. Other parents have
the features of `rung3.mechanisms.networks.encoding`. All are centred.

Source: van der Waerden 1952, *Order tests for the two-sample problem* (Indagationes Mathematicae
14:453-458).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rung3.data.variables import Continuous, Variable
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.encoding import ParentEncoder

__all__ = ["Scores"]

KNOTS = torch.linspace(-2, 2, 9)
"""Normal scores at which their quantiles are tabulated."""


class Scores(nn.Module):
    """A mapping of parents' values, in their own units, to features `(n, width)`.

    Args:
        parents: The parents' variables, by name.

    Example:
        >>> scores = Scores({"volume": Continuous(lower=0)})
        >>> volume = torch.randn(4000, generator=torch.Generator().manual_seed(0)).exp()
        >>> scores.calibrate({"volume": volume})
        >>> far = scores({"volume": torch.tensor([1.0, torch.e])}, 2).flatten()
        >>> bool((far - torch.tensor([0.0, 1.0])).abs().max() < 0.1)
        True
    """

    numeric: Tensor
    quantiles: Tensor
    levels: Tensor
    loc: Tensor

    def __init__(self, parents: Mapping[str, Variable]) -> None:
        super().__init__()
        self.encoder = ParentEncoder(parents)
        self.width = self.encoder.width
        numeric = [
            isinstance(variable, Continuous) and not variable.circular
            for name, variable in parents.items()
            for _ in range(ParentEncoder({name: variable}).width)
        ]
        self.register_buffer("numeric", torch.tensor(numeric, dtype=torch.bool), persistent=False)
        for name in ("quantiles", "levels"):
            self.register_buffer(name, KNOTS.repeat(sum(numeric), 1))
        self.register_buffer("loc", torch.zeros(self.width))

    def calibrate(self, parents: Parents) -> None:
        """Take the statistics of the parents from training data."""
        self.encoder.calibrate(parents)
        self.loc.zero_()
        n = len(next(iter(parents.values()), ()))
        with torch.no_grad():
            columns = self.encoder(parents, n)[:, self.numeric].T
            for k, column in enumerate(columns):
                self.quantiles[k], self.levels[k] = _tabulated(column)
            self.loc.copy_(self(parents, n).mean(0))

    def forward(self, parents: Parents, n: int) -> Float[Tensor, "n f"]:
        """Return features; `n` is the number of rows, needed without parents."""
        features: Tensor = self.encoder(parents, n).float()
        numbers = [
            _interpolated(column, quantiles, levels)
            for column, quantiles, levels in zip(
                features[:, self.numeric].T, self.quantiles, self.levels, strict=True
            )
        ]
        if numbers:
            features = features.index_copy(1, self.numeric.nonzero()[:, 0], torch.stack(numbers, 1))
        return features - self.loc


def _tabulated(column: Tensor) -> tuple[Tensor, Tensor]:
    """Return rising quantiles and their normal scores, as many as there are knots.

    Numbers that many rows share have the mean of their scores; what is missing then is made up for
    beyond the last one.
    """
    knots = KNOTS.to(column)
    at = column.quantile(torch.special.ndtr(knots))
    quantiles, which, counts = at.unique(return_inverse=True, return_counts=True)
    levels = torch.zeros_like(quantiles).index_add_(0, which, knots) / counts
    missing = torch.arange(1, len(knots) - len(quantiles) + 1).to(column)
    step = quantiles[-1] - quantiles[-2] if len(quantiles) > 1 else column.new_ones(())
    rise = levels[-1] - levels[-2] if len(levels) > 1 else column.new_ones(())
    beyond = (quantiles[-1] + step * missing, levels[-1] + rise * missing)
    return torch.cat([quantiles, beyond[0]]), torch.cat([levels, beyond[1]])


def _interpolated(value: Tensor, at: Tensor, levels: Tensor) -> Tensor:
    """Return the piecewise linear function with these levels at rising places, at values."""
    right = torch.searchsorted(at, value.contiguous()).clamp(1, len(at) - 1)
    share = (value - at[right - 1]) / (at[right] - at[right - 1])
    return torch.lerp(levels[right - 1], levels[right], share)
