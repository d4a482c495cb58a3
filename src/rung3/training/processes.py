"""Several processes that train as one would: their number, sums over them, and their noise."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["DrawnAsOne", "is_first", "is_lost", "meet", "summed"]

RANKS = ("RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")
"""Variables by which torchrun, Slurm and Lightning tell a process its number, on one of them."""

LOST = re.compile(r"connection (closed|reset|was|refused)|broken pipe|timed? ?out", re.IGNORECASE)
"""What gloo says where another process has gone; NCCL has errors of a class of their own."""

SIZED = frozenset({torch.randn, torch.rand})
"""Functions that draw a tensor of a given size."""

LIKE = frozenset({torch.randn_like, torch.rand_like})
"""Functions that draw a tensor of the size of another."""

IN_PLACE = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.exponential_, Tensor.bernoulli_})
"""Functions that fill a tensor with draws."""


def is_first() -> bool:
    """Return whether this is the process that claims, evaluates and writes: the first of all.

    Example:
        >>> is_first()
        True
    """
    return all(int(os.environ.get(name) or 0) == 0 for name in RANKS)


def is_lost(error: RuntimeError) -> bool:
    """Return whether an error says that another process cannot be reached.

    Example:
        >>> is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
        True
    """
    return isinstance(error, torch.distributed.DistError) or bool(LOST.search(str(error)))


def summed(value: Tensor) -> Tensor:
    """Return the sum of a value over all processes that train together."""
    if not _together():
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total


def meet() -> None:
    """Wait until all processes that train together have come here."""
    if _together():
        torch.distributed.barrier()


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class DrawnAsOne(TorchFunctionMode):
    """Give a process's rows the noise that they would have if one process had them all.

    Every process draws for all rows, from the same stream, and takes the noise of its own.

    Args:
        n: Number of rows of this process.
        total: Number of all rows.
        places: Which of them are this process's, `(n,)`.
    """

    def __init__(self, n: int, total: int, places: Tensor) -> None:
        super().__init__()
        self.n = n
        self.total = total
        self.places = places

    def __torch_function__(
        self,
        function: Callable[..., Any],
        kinds: Iterable[type],
        args: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(named or {})
        if function in SIZED:
            size = tuple(args) if args and isinstance(args[0], int) else tuple(args[0])
            if size[:1] == (self.n,):
                return self._take(function((self.total, *size[1:]), **named))
        elif (function in LIKE or function in IN_PLACE) and args[0].shape[:1] == (self.n,):
            whole = args[0].new_empty((self.total, *args[0].shape[1:]))
            drawn = self._take(function(whole, *args[1:], **named))
            return args[0].copy_(drawn) if function in IN_PLACE else drawn
        return function(*args, **named)

    def _take(self, whole: Tensor) -> Tensor:
        return whole[self.places.to(whole.device)]
