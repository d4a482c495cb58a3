"""`Polynomial`: of encoded parents, fitted by Newton's method; least squares take one step.

Its curved terms, those of degree two and more, are then shrunk as far as the evidence says, each
with a decay of its own (see `rung3.mechanisms.additive.regression`): near the optimum w0 the loss
is quadratic, of curvature B, so nothing more is asked of the rows. With S the inverse of
`b B + diag(a)`, and a = 0 for the constant and the linear terms,

    w = b S B w0,   k_j = 1 - a_j S_jj,   a_j = k_j / w_j^2,   b = (n - sum k) / sum(g^2 / c),

in turn. What curves no more than noise does is pruned, and does no harm beyond the data.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from rung3.mechanisms.additive.losses import Loss
from rung3.mechanisms.additive.regression import LEAST, Point, look

__all__ = ["Polynomial"]

HELD, STEPS, ENOUGH = 4_000_000, 20, 1e-6
"""Terms, in all rows, that are held at once; most steps; gain a row, foreseen, that is too
little."""
ROUNDS = 50
"""Of shrinking."""


class Polynomial(nn.Module):
    """Polynomials, `(n, inputs) -> (n, outputs)`, constants included; no gradients.

    Args:
        degree: At least 1.
        inputs: Number of features; they should be standardised.
        outputs: Number of outputs.

    Example:
        >>> from rung3.mechanisms.additive.losses import squares
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
        self.register_buffer("determined", torch.zeros(outputs))

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
                here = self._look(at + step, data, loss)
                if here.value > best:
                    step = step / 2
                    continue
                best, at = here.value, at + step
                step = -_inverse(here.curvature) @ here.slope
                if -(here.slope @ step) / 2 < ENOUGH * here.n:
                    break
            shrunk, self.determined[k] = self._shrink(at + step, here)
            self.weights[:, k] = shrunk

    def _look(self, at: Tensor, data: list[Tensor], loss: Loss) -> Point:
        def run(z: Tensor) -> tuple[Tensor, Tensor]:
            design = self._design(z)
            return design @ at, design

        return look(at, run, data, loss, max(1, HELD // len(self.terms)))

    def _shrink(self, best: Tensor, here: Point) -> tuple[Tensor, Tensor]:
        """The terms, and how many of them the data determine."""
        curved = best.new_tensor([len(term) > 1 for term in self.terms])
        decay, precision = LEAST * curved, here.n / here.chi2
        weights, kept = best, torch.ones_like(best)
        for _ in range(ROUNDS if curved.any() else 0):
            inverse = _inverse(precision * here.curvature + decay.diag())
            weights = precision * inverse @ (here.curvature @ best)
            kept = 1 - decay * inverse.diagonal()
            decay = curved * kept.clamp_min(LEAST) / weights.square().clamp_min(LEAST)
            off = weights - best
            misfit = here.chi2 + max(float(off @ here.curvature @ off), 0.0)
            precision = max(here.n - float(kept.sum()), 1.0) / misfit
        return weights, kept.sum()

    def _design(self, z: Tensor) -> Tensor:
        one, columns = z.new_ones(len(z)), list(z.T)
        products = [
            math.prod([columns[k] for k in term[1:]], start=columns[term[0]])
            for term in self.terms[1:]
        ]
        return torch.stack([one, *products], 1)


def _inverse(matrix: Tensor) -> Tensor:
    """The inverse, or what comes nearest to it."""
    inverse: Tensor = torch.linalg.pinv(matrix, hermitian=True, rtol=1e-12)
    return inverse
