"""`Sums`: what an average and its interval need of values, part by part; two parts add up.

With n values of mean m, and S_k = sum (x - m)^k, two parts join as one with d = m2 - m1 (Pebay
2008, *Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
moments*):

    m = m1 + d n2 / n,   S_2 = S_2,1 + S_2,2 + d^2 n1 n2 / n,
    S_3 = S_3,1 + S_3,2 + d^3 n1 n2 (n1 - n2) / n^2 + 3 d (n1 S_2,2 - n2 S_2,1) / n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

__all__ = ["Sums"]


@dataclass(frozen=True)
class Sums:
    """Sums over values `(n, *shape)`; all but n have their shape.

    Attributes:
        n: Number of values.
        mean: Their mean.
        squares: Sum of the squares of what they are away from it.
        cubes: Sum of its cubes.
        low: Least value.
        high: Greatest value.
        counted: Whether every value is 0, or one number or its negative.
        rose: How many are above 0.
        fell: How many are below.

    Example:
        >>> values = torch.tensor([1.0, 2.0, 6.0])
        >>> both = Sums.of(values[:1]) + Sums.of(values[1:])
        >>> both.mean.item(), both.squares.item(), both.cubes.item()
        (3.0, 14.0, 18.0)
    """

    n: int
    mean: Tensor
    squares: Tensor
    cubes: Tensor
    low: Tensor
    high: Tensor
    counted: Tensor
    rose: Tensor
    fell: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """Return the sums of values `(n, *shape)`, of which there is at least one."""
        exact = values.double()
        mean = exact.mean(0)
        away = exact - mean
        unit = exact.abs().amax(0)
        return cls(
            n=len(exact),
            mean=mean,
            squares=away.square().sum(0),
            cubes=(away**3).sum(0),
            low=exact.amin(0),
            high=exact.amax(0),
            counted=((exact == 0) | (exact.abs() == unit)).all(0),
            rose=(exact > 0).sum(0),
            fell=(exact < 0).sum(0),
        )

    @property
    def unit(self) -> Tensor:
        """The greatest size of a value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def __add__(self, other: Sums) -> Sums:
        n, d = self.n + other.n, other.mean - self.mean
        product = self.n * other.n / n
        alike = (self.unit == other.unit) | (self.unit == 0) | (other.unit == 0)
        return Sums(
            n=n,
            mean=self.mean + d * (other.n / n),
            squares=self.squares + other.squares + d.square() * product,
            cubes=self.cubes
            + other.cubes
            + d**3 * (product * (self.n - other.n) / n)
            + 3 * d * (self.n * other.squares - other.n * self.squares) / n,
            low=torch.minimum(self.low, other.low),
            high=torch.maximum(self.high, other.high),
            counted=self.counted & other.counted & alike,
            rose=self.rose + other.rose,
            fell=self.fell + other.fell,
        )
