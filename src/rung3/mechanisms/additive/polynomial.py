"""`Polynomial`: a function of encoded parents, fitted by Newton's method; squares take one step.

Its curved terms, those of degree two and more, are then shrunk as far as the evidence says, each
with a decay of its own (see `rung3.mechanisms.additive.regression`): near the optimum w0 the loss
is quadratic, of curvature B, so the rows are not needed again. With S the inverse of
`b B + diag(a)`, and a = 0 for the constant and the linear terms,

    w = b S B w0,   k_j = 1 - a_j S_jj,   a_j = k_j / w_j^2,   b = (n - sum k) / sum(g^2 / c),

in turn. Terms that curve no more than noise does are pruned, and do no harm beyond the data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rung3.mechanisms.additive.losses import Loss, squared_error
from rung3.mechanisms.additive.quadratic import LEAST_DIVISOR, Quadratic, split

__all__ = ["Polynomial"]

CHUNK_TERMS = 4_000_000
"""Terms, in all rows, that are held at a time: it bounds the memory to 32 MB."""

NEWTON_STEPS = 20
"""Most steps of Newton's method: squares take one, likelihoods a few."""

LEAST_GAIN = 1e-6
"""Expected gain of a step, in nats a row, below which the steps end."""

SHRINK_ROUNDS = 50
"""Rounds in which decays and terms are found in turn: they settle in fewer."""


class Polynomial(nn.Module):
    """Polynomials, `(n, inputs) -> (n, outputs)`, constants included; no gradients.

    Args:
        degree: Highest degree of a term, at least 1.
        inputs: Number of features; they should be standardised.
        outputs: Number of outputs.

    Example:
        >>> from rung3.mechanisms.additive.losses import squared_error
        >>> z = torch.linspace(-2, 2, 400)[:, None]
        >>> polynomial = Polynomial(2, 1)
        >>> polynomial.solve(z, squared_error, 3 * z**2, torch.ones(400, 1))
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
        return self.design(z) @ self.weights

    def solve(self, z: Tensor, loss: Loss, *columns: Tensor) -> None:
        """Fit it; where there are many solutions (one-hot codes), the least is taken.

        Args:
            z: Features `(n, inputs)`.
            loss: Of `f` and of columns like it, `(n,)`: its value, derivative and curvature.
            columns: Those columns, each `(n, outputs)`.
        """
        rows = max(1, CHUNK_TERMS // len(self.terms))
        for take in self.passes(loss):
            for part in split([z, *columns], rows):
                take(*part)

    def passes(self, loss: Loss) -> Iterator[Callable[..., None]]:
        """Fit it to rows that are read some at a time, going on from the weights that it has.

        Args:
            loss: As of `solve`.

        Yields:
            Of each pass over all rows, what takes features and columns of some, as `solve` does.
        """
        squares = loss is squared_error
        for k in range(self.weights.shape[1]):
            lowest, weights = math.inf, self.weights[:, k].double()
            step = torch.zeros_like(weights)
            for _ in range(NEWTON_STEPS):
                here = Quadratic.at(weights)
                yield self._adding(here, weights + step, loss, k)
                if here.value > lowest:
                    step = step / 2
                    continue
                lowest, weights = here.value, weights + step
                step = -_inverse(here.curvature) @ here.slope
                gain = -float(here.slope @ step) / 2
                if squares or gain < LEAST_GAIN * here.n:  # a step on squares is exact
                    break
            if squares:
                here.chi2 = max(here.chi2 - 2 * gain, LEAST_DIVISOR * here.n)
            self.weights[:, k], self.determined[k] = self._shrink(weights + step, here)

    def _adding(
        self, here: Quadratic, weights: Tensor, loss: Loss, output: int
    ) -> Callable[..., None]:
        """Return what adds rows to an expansion at these weights."""

        def take(z: Tensor, *columns: Tensor) -> None:
            design = self.design(z.double())
            outputs = (column[:, output].double() for column in columns)
            here.add(design @ weights, design, loss, *outputs)

        return take

    def _shrink(self, optimum: Tensor, here: Quadratic) -> tuple[Tensor, Tensor]:
        """Return the shrunk terms, and how many of them the data determine."""
        curved = optimum.new_tensor([len(term) > 1 for term in self.terms])
        decay, precision = LEAST_DIVISOR * curved, here.n / here.chi2
        weights, shares = optimum, torch.ones_like(optimum)
        for _ in range(SHRINK_ROUNDS if curved.any() else 0):
            inverse = _inverse(precision * here.curvature + decay.diag())
            weights = precision * inverse @ (here.curvature @ optimum)
            shares = 1 - decay * inverse.diagonal()
            squares = weights.square().clamp_min(LEAST_DIVISOR)
            decay = curved * shares.clamp_min(LEAST_DIVISOR) / squares
            shift = weights - optimum
            misfit = here.chi2 + max(float(shift @ here.curvature @ shift), 0.0)
            precision = max(here.n - float(shares.sum()), 1.0) / misfit
        return weights, shares.sum()

    def design(self, z: Tensor) -> Tensor:
        """Return the terms of features `(n, inputs)`, `(n, terms)`."""
        columns = list(z.T)
        products = [
            math.prod([columns[k] for k in term[1:]], start=columns[term[0]])[:, None]
            for term in self.terms[1 + len(columns) :]
        ]
        return torch.cat([z.new_ones(len(z), 1), z, *products], 1)


def _inverse(matrix: Tensor) -> Tensor:
    """Return the inverse, or the pseudoinverse where there is none."""
    inverse: Tensor = torch.linalg.pinv(matrix, hermitian=True, rtol=1e-12)
    return inverse
