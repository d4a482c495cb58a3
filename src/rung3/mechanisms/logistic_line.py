"""A logistic regression on more rows than memory holds: Newton steps, one pass over them each.

Of log-probabilities l = log softmax(W z) of K categories, with z the features and a one, the loss
of n rows, `-sum_i l_{x_i}(z_i)`, has with p = exp(l)

    slope = sum z (p - e_x)',        curvature = sum (diag(p) - p p') (x) z z'.

The start is the optimum of a sample, from which two passes suffice. The curvature is singular (one
number added to all l changes nothing, and its blocks of a category sum to zero), so the least step
is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

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

Take = Callable[[Tensor, Tensor], None]
"""Takes features and codes of some rows."""


def fit_line(network: nn.Module, sample: Columns) -> Iterator[Take]:
    """Fit a linear network to all rows, and freeze it: it is the optimum, which steps would leave.

    Args:
        network: From features to the categories' log-probabilities, up to a constant.
        sample: Features and codes of a sample.

    Yields:
        Of each pass over all rows, what takes features and codes of some.
    """
    parts = list(network.parameters())  # weight and bias; of no features, a constant alone
    bias = parts[-1].double()
    line = _Line(torch.cat([*(part.double() for part in parts[:-1]), bias[:, None]], 1))
    for take in line.passes():
        take(*sample)
    yield from line.passes()
    weights = [line.weights[:, :-1], line.weights[:, -1]][-len(parts) :]
    for part, value in zip(parts, weights, strict=True):
        part.copy_(value)
        part.requires_grad_(False)


class _Line:
    """Weights `(classes, width + 1)`, and what Newton's method knows of them."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def passes(self) -> Iterator[Take]:
        """Take Newton steps, a pass each; a step that overshoots is halved."""
        step, lowest = torch.zeros_like(self.weights), torch.inf
        for _ in range(MOST_STEPS):
            here = _Expansion(self.weights + step)
            yield here.take
            if here.value > lowest:
                step = step / 2
                continue
            self.weights, lowest = here.weights, here.value
            change = -here.newton()
            step = change.reshape(step.shape)
            if -float(change @ here.slope.flatten()) / here.n / 2 < LEAST_GAIN:
                break
        self.weights = self.weights + step


class _Expansion:
    """The loss near some weights: number of rows, value, slope, curvature."""

    def __init__(self, weights: Tensor) -> None:
        classes, width = weights.shape
        self.weights, self.n, self.value = weights, 0, 0.0
        self.slope = torch.zeros_like(weights)
        self.curvature = weights.new_zeros(classes, classes, width, width)

    def take(self, features: Tensor, codes: Tensor) -> None:
        """Add rows."""
        z = F.pad(features.T.double(), (0, 0, 0, 1), value=1.0)  # a feature a line: in one piece
        labels = torch.arange(len(self.weights), device=codes.device)
        one_hot = (codes == labels[:, None]).double()
        log_p = (self.weights @ z).log_softmax(0)
        p = log_p.exp()
        self.n += len(codes)
        self.value -= float((log_p * one_hot).sum())
        self.slope += (p - one_hot) @ z.T
        for k, other in itertools.combinations(range(len(self.weights)), 2):
            block = (z * (p[k] * p[other])) @ z.T
            self.curvature[[k, other], [k, other]] += block
            self.curvature[[k, other], [other, k]] -= block

    def newton(self) -> Tensor:
        """Return the least step up the slope, `(classes * (width + 1),)`."""
        size = self.weights.numel()
        curvature = self.curvature.transpose(1, 2).reshape(size, size) / self.n
        ridge = RIDGE * torch.eye(size, dtype=curvature.dtype, device=curvature.device)
        up: Tensor = torch.linalg.pinv(curvature + ridge, hermitian=True) @ self.slope.flatten()
        return up / self.n
