"""Means over a batch that several processes share, for losses that are not a plain mean over rows.

A loss that weighs rows by a mean over all of them, or bounds such a mean, would be another one in
each process. Where processes train together, training says here how such a mean is taken over all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

__all__ = ["batch_mean", "shared_means"]


def _alone(mean: Tensor) -> Tensor:
    return mean


_OVER_ALL: ContextVar[Callable[[Tensor], Tensor]] = ContextVar("over_all", default=_alone)


def batch_mean(values: Tensor) -> Tensor:
    """Return the mean of values `(n, ...)` over the batch, `()`, without gradient.

    Example:
        >>> import torch
        >>> with shared_means(lambda mean: mean / 2):
        ...     batch_mean(torch.tensor([1.0, 3.0]))
        tensor(1.)
    """
    return _OVER_ALL.get()(values.detach().mean())


@contextmanager
def shared_means(over_all: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Take means in the block over all processes.

    Args:
        over_all: Gives the mean over all rows, of that over this process's.
    """
    token = _OVER_ALL.set(over_all)
    try:
        yield
    finally:
        _OVER_ALL.reset(token)
