"""`Quadratic`: the sum of a loss over rows, expanded to second order around some weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from rung3.mechanisms.additive.losses import Loss

__all__ = ["LEAST_DIVISOR", "Quadratic", "after_squares", "expand", "split"]

LEAST_DIVISOR = 1e-12
"""Least value of a divisor, in standardised units: it keeps quotients finite."""


@dataclass
class Quadratic:
    """The loss of n rows near some weights w, at which `f = f(w)`.

    With g_i = dl/df and c_i the expected d2l/df2 of row i, and J the Jacobian of f in w.

    Attributes:
        n: Number of rows.
        value: The loss, `sum(l)`.
        chi2: `sum(g^2 / c)`.
        slope: Its derivative `J'g`, `(size,)`.
        curvature: `J' diag(c) J`, `(size, size)`.
    """

    n: int
    value: float
    chi2: float
    slope: Tensor
    curvature: Tensor


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
    n, size = 0, len(weights)
    slope, curvature = weights.new_zeros(size), weights.new_zeros(size, size)
    value = chi2 = 0.0
    for features, *columns in batches:
        n += len(features)
        f, jacobian = run(features)
        height, g, c = loss(f, *columns)
        value += float(height.double().sum())
        chi2 += float((g.square() / c).double().sum())
        slope += jacobian.T @ g
        curvature += jacobian.T @ (c[:, None] * jacobian)
    return Quadratic(n, value, max(chi2, LEAST_DIVISOR * n), slope, curvature)


def after_squares(before: Quadratic, step: Tensor) -> Quadratic:
    """Return the expansion after Newton's step on a sum of squares, without reading rows again."""
    value = max(before.value + float(before.slope @ step) / 2, 0.0)
    chi2 = max(2 * value, LEAST_DIVISOR * before.n)
    return Quadratic(before.n, value, chi2, before.slope.new_zeros(len(step)), before.curvature)


def split(data: Sequence[Tensor], rows: int) -> Iterable[Sequence[Tensor]]:
    """Split columns `(n, ...)` into batches of so many rows."""
    return zip(*(column.split(rows) for column in data), strict=True)
