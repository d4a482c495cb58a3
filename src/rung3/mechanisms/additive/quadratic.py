"""`Quadratic`: the sum of a loss over rows, expanded to second order around some weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from rung3.mechanisms.additive.losses import Loss

__all__ = ["LEAST_DIVISOR", "Quadratic", "expand", "split"]

LEAST_DIVISOR = 1e-12
"""Least value of a divisor, in standardised units: it keeps quotients finite."""


@dataclass
class Quadratic:
    """The loss of n rows near some weights w, at which `f = f(w)`; rows are added in parts.

    With g_i = dl/df and c_i the expected d2l/df2 of row i, and J the Jacobian of f in w.

    Attributes:
        n: Number of rows.
        value: The loss, `sum(l)`.
        chi2: `sum(g^2 / c)`, at least `1e-12 n`.
        slope: Its derivative `J'g`, `(size,)`.
        curvature: `J' diag(c) J`, `(size, size)`.
    """

    n: int
    value: float
    chi2: float
    slope: Tensor
    curvature: Tensor

    @classmethod
    def at(cls, weights: Tensor) -> Self:
        """Return that of no rows yet, at weights `(size,)`; their number is needed alone."""
        size = len(weights)
        return cls(0, 0.0, 0.0, weights.new_zeros(size), weights.new_zeros(size, size))

    def add(self, f: Tensor, jacobian: Tensor, loss: Loss, *columns: Tensor) -> None:
        """Add rows.

        Args:
            f: Of each row, `(m,)`.
            jacobian: Its derivatives in the weights, `(m, size)`.
            loss: The loss.
            columns: Its columns, `(m,)` each.
        """
        height, g, c = loss(f, *columns)
        self.n += len(f)
        self.value += float(height.double().sum())
        self.chi2 = max(self.chi2 + float((g.square() / c).double().sum()), LEAST_DIVISOR * self.n)
        self.slope += jacobian.T @ g
        if (c == c[:1]).all():  # as of squares
            self.curvature += c[:1].sum() * (jacobian.T @ jacobian)
        else:
            self.curvature += jacobian.T @ (c[:, None] * jacobian)


def expand(
    weights: Tensor,
    run: Callable[[Tensor], tuple[Tensor, Tensor]],
    batches: Iterable[Sequence[Tensor]],
    loss: Loss,
) -> Quadratic:
    """Expand the loss around weights.

    Args:
        weights: The weights, `(size,)`; their number is needed alone.
        run: Gives f `(n,)` and its Jacobian `(n, size)` at these weights, for features `(n, d)`.
        batches: The features, and the loss's columns `(n,)`, of some rows at a time: their
            Jacobian is held.
        loss: The loss.
    """
    here = Quadratic.at(weights)
    for features, *columns in batches:
        here.add(*run(features), loss, *columns)
    return here


def split(data: Sequence[Tensor], rows: int) -> Iterable[Sequence[Tensor]]:
    """Split columns `(n, ...)` into batches of so many rows."""
    return zip(*(column.split(rows) for column in data), strict=True)
