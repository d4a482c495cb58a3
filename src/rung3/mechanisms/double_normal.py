"""Mechanisms that are monotone in standard normal noise held in double, fitted by likelihood.

    x = F^-1(Phi(u) | pa),      u ~ N(0, 1)

Without hidden layers the parents enter by a line, which is solved at once.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.mechanisms.base import NORMAL, Abduction, Mechanism, Parents
from rung3.mechanisms.maximum import maximise_likelihood

__all__ = ["DoubleNormal"]


class DoubleNormal(Mechanism):
    """A distribution of the parents by a line or a network; noise `(n,)`, normal.

    Args:
        hidden: Widths of the network from the parents; of none, a line.
    """

    abduction: ClassVar[Abduction] = "posterior"
    learning_rate: ClassVar[float] = 1e-2
    flexibility: ClassVar[int] = 1

    def __init__(self, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.hidden = tuple(hidden)
        self.closed_form = not hidden

    def solve_line(self, value: Tensor, parents: Parents) -> None:
        """Maximise the likelihood, where the parents enter by a line that may learn."""
        if self.closed_form and all(part.requires_grad for part in self.parameters()):
            maximise_likelihood(self, value, parents)

    def effective_parameters(self) -> float:
        if self.hidden:
            return math.nan
        return float(sum(part.numel() for part in self.parameters()))

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = self.observed.device
        return torch.randn(n, generator=generator, device=device, dtype=torch.float64)

    def noise_prior(self) -> str:
        return NORMAL

    def reverse(self, noise: Tensor) -> Tensor | None:
        return -noise
