"""What a loss takes of a whole batch that several processes share: means, and draws by place.

A loss that weighs rows by a mean over all of them, or bounds such a mean, would be another one in
each process; and so would one that spreads draws evenly over the rows. Where processes train
together, training says here how such a mean is taken over all, and which places a process has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["batch_mean", "even_draws", "over_all", "shared_means", "shared_places"]


def _alone(mean: Tensor) -> Tensor:
    return mean


_OVER_ALL: ContextVar[Callable[[Tensor], Tensor]] = ContextVar("over_all", default=_alone)

_PLACES: ContextVar[tuple[int, Tensor] | None] = ContextVar("places", default=None)


def batch_mean(values: Tensor) -> Tensor:
    """Return the mean of values `(n, ...)` over the batch, `()`, without gradient.

    Example:
        >>> with shared_means(lambda mean: mean / 2):
        ...     batch_mean(torch.tensor([1.0, 3.0]))
        tensor(1.)
    """
    return over_all(values.detach().mean())


def over_all(mean: Tensor) -> Tensor:
    """Return the mean over all rows, given that over this process's, both of any shape.

    Example:
        >>> over_all(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    return _OVER_ALL.get()(mean)


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


def even_draws(n: int, device: torch.device) -> Tensor:
    """Draw numbers in [0, 1), `(n,)`: evenly spread over the batch, in random order.

    Example:
        >>> (5 * even_draws(5, torch.device("cpu"))).long().sort().values
        tensor([0, 1, 2, 3, 4])
    """
    total, places = _PLACES.get() or (n, torch.arange(n))
    t = (torch.rand((), device=device) + torch.arange(total, device=device) / total) % 1
    return t[torch.randperm(total, device=device)][places.to(device)]


@contextmanager
def shared_places(total: int, places: Tensor) -> Iterator[None]:
    """Say in the block which rows of the whole batch are this process's.

    Args:
        total: Number of all rows.
        places: Numbers of this process's rows among them, `(n,)`.
    """
    token = _PLACES.set((total, places))
    try:
        yield
    finally:
        _PLACES.reset(token)
