"""A logistic regression on more rows than memory holds: Newton steps, one pass over them each.

Of log-probabilities l = log softmax(W z) of K categories, with z the features and a one, the loss
of n rows, `-sum_i l_{x_i}(z_i)`, has with p = exp(l)

    slope = sum z (p - e_x)',        curvature = sum (diag(p) - p p') (x) z z'.

The start is the optimum of a sample, from which two passes suffice. The curvature is singular (one
number added to all l changes nothing), so the least step is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["fit_line"]

LEAST_GAIN = 1e-10
"""Expected gain of a step, in nats a row, below which the steps end."""

MOST_STEPS = 30
"""Newton steps, at most: from the optimum of a sample two suffice."""

RIDGE = 1e-9
"""Rows that are added to each curvature: categories that features tell apart stay finite."""

Columns = tuple[Tensor, Tensor]
"""Features `(n, width)`, and codes `(n,)`."""


@torch.no_grad()
def fit_line(network: nn.Module, batches: Callable[[], Iterable[Columns]], sample: Columns) -> None:
    """Fit a linear network to all rows, and freeze it: it is the optimum, which steps would leave.

    Args:
        network: From features to the categories' log-probabilities, up to a constant.
        batches: Reads the features and codes of all rows, once for each call.
        sample: Those of a sample.
    """
    parts = list(network.parameters())  # weight and bias; of no features, a constant alone
    bias = parts[-1].double()
    weights = torch.cat([*(part.double() for part in parts[:-1]), bias[:, None]], 1)
    weights = _newton(weights, lambda: [sample])
    weights = _newton(weights, batches)
    for part, value in zip(parts, [weights[:, :-1], weights[:, -1]][-len(parts) :], strict=True):
        part.copy_(value)
        part.requires_grad_(False)


def _newton(weights: Tensor, batches: Callable[[], Iterable[Columns]]) -> Tensor:
    """Take Newton steps from weights `(classes, width + 1)`; a step that overshoots is halved."""
    step, lowest = torch.zeros_like(weights), torch.inf
    for _ in range(MOST_STEPS):
        n, value, slope, curvature = _expand(weights + step, batches())
        if value > lowest:
            step = step / 2
            continue
        weights, lowest = weights + step, value
        ridge = RIDGE * torch.eye(len(curvature), dtype=curvature.dtype)
        change = torch.linalg.pinv(curvature / n + ridge, hermitian=True) @ (slope.flatten() / n)
        step = -change.reshape(weights.shape)
        if float(change @ slope.flatten()) / n / 2 < LEAST_GAIN:
            break
    return weights + step


def _expand(weights: Tensor, batches: Iterable[Columns]) -> tuple[int, float, Tensor, Tensor]:
    """Return the number of rows, the loss, its slope and its curvature."""
    classes, width = weights.shape
    n, value = 0, 0.0
    slope = torch.zeros_like(weights)
    curvature = weights.new_zeros(classes, width, classes, width)
    for features, codes in batches:
        z = F.pad(features.double(), (0, 1), value=1.0)
        log_p = (z @ weights.T).log_softmax(1)
        p = log_p.exp()
        n += len(z)
        value -= float(log_p.gather(1, codes[:, None]).sum())
        slope += (p - F.one_hot(codes, classes)).T @ z
        for k in range(classes):
            curvature[k, :, k] += (z * p[:, k : k + 1]).T @ z
            for other in range(classes):
                curvature[k, :, other] -= (z * (p[:, k] * p[:, other])[:, None]).T @ z
    return n, value, slope, curvature.reshape(classes * width, classes * width)
