"""`Polynomial`: of encoded parents, fitted by Newton's method; least squares take one step."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from rung3.mechanisms.regression import Loss

__all__ = ["Polynomial"]

CHUNK, STEPS, ENOUGH = 65_536, 20, 1e-6
"""Rows whose terms are held at once; most steps; gain a row, foreseen, that is too little."""


class Polynomial(nn.Module):
    """Polynomials, `(n, inputs) -> (n, outputs)`, constants included; no gradients.

    Args:
        degree: At least 1.
        inputs: Number of features; they should be standardised.
        outputs: Number of outputs.

    Example:
        >>> from rung3.mechanisms.regression import squares
        >>> z = torch.linspace(-2, 2, 400)[:, None]
        >>> polynomial = Polynomial(2, 1)
        >>> polynomial.solve(z, squares, 3 * z**2, torch.ones(400, 1))
        >>> bool((polynomial(z) - 3 * z**2).abs().max() < 1e-5)
        True
    """

    weights: Tensor
    determined: Tensor

    def __init__(self, degree: int, inputs: int, outputs: int = 1) -> None:
        super().__init__()
        self.terms = [
            list(term)
            for k in range(degree + 1)
            for term in itertools.combinations_with_replacement(range(inputs), k)
        ]
        self.register_buffer("weights", torch.zeros(len(self.terms), outputs))
        self.register_buffer("determined", torch.full((outputs,), float(len(self.terms))))

    def forward(self, z: Tensor) -> Tensor:
        return self._design(z) @ self.weights

    def solve(self, z: Tensor, loss: Loss, *columns: Tensor) -> None:
        """Fit it; of the solutions, where there are many (one-hot codes), the least.

        Args:
            z: Features `(n, inputs)`.
            loss: As in `Regression.solve`.
            columns: As there, each `(n, outputs)`.
        """
        for k in range(self.weights.shape[1]):
            data = [z.double(), *(column[:, k].double() for column in columns)]
            best, at = math.inf, self.weights[:, k].double()
            step = torch.zeros_like(at)
            for _ in range(STEPS):
                value, slope, curvature = self._look(at + step, data, loss)
                if value > best:
                    step = step / 2
                    continue
                best, at = value, at + step
                step = -torch.linalg.pinv(curvature, hermitian=True, rtol=1e-12) @ slope
                if -(slope @ step) / 2 < ENOUGH * len(z):
                    break
            self.weights[:, k] = at + step

    def _look(self, at: Tensor, data: list[Tensor], loss: Loss) -> tuple[float, Tensor, Tensor]:
        """The loss, its derivative and its curvature."""
        value, slope, curvature = 0.0, torch.zeros_like(at), at.new_zeros(len(at), len(at))
        for z, *own in zip(*(column.split(CHUNK) for column in data), strict=True):
            design = self._design(z)
            height, g, c = loss(design @ at, *own)
            value += float(height.sum())
            slope += design.T @ g
            curvature += design.T @ (c[:, None] * design)
        return value, slope, curvature

    def _design(self, z: Tensor) -> Tensor:
        return torch.stack([z[:, term].prod(1) for term in self.terms], 1)
