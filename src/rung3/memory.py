"""What is asked for, against the memory that there is: refused before it is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["available", "bounded", "require"]

MAKERS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye,
     torch.arange, torch.linspace, torch.logspace, torch.empty_strided, torch.randint}
)  # fmt: skip
"""Functions of torch that make a tensor from numbers."""

MODULE = 4096
"""Bytes that are taken around a tensor, at least."""


def available(device: torch.device | None = None) -> float:
    """Bytes that may still be allocated on a device; infinite where nobody tells.

    Example:
        >>> available() > 0
        True
    """
    if device is not None and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    found = [math.inf]
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024 * float(lines["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):  # "max" is no number
        group = Path("/sys/fs/cgroup")
        most = float((group / "memory.max").read_text())
        found.append(most - float((group / "memory.current").read_text()))
    if len(found) == 1:
        with suppress(ValueError, OSError, AttributeError):
            found.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    return min(found)


def require(values: int, what: str, cure: str, device: torch.device | None = None) -> None:
    """Refuse an answer that does not fit in memory.

    Args:
        values: How many numbers it holds; with the noise behind them twice as many.
        what: What is asked, for the message.
        cure: What to ask instead.
        device: Where it would lie.

    Raises:
        ValueError: With the memory that it takes, and what there is.
    """
    size = 2 * values * torch.get_default_dtype().itemsize
    if size > 1 << 28 and size > (free := available(device)):
        raise ValueError(
            f"{what} would take some {size / 2**30:,.0f} GiB of memory, and {free / 2**30:,.0f} "
            f"are free; {cure}"
        )


@contextmanager
def bounded(most: int, why: str) -> Iterator[None]:
    """Refuse, before it is allocated, what takes tensors made in the block beyond so many bytes.

    Raises:
        ValueError: If a function of torch is asked for more.
    """
    with _Bounded(most, why):
        yield


class _Bounded(TorchFunctionMode):
    def __init__(self, most: int, why: str) -> None:
        super().__init__()
        self.left, self.most, self.why = most, most, why

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in MAKERS:
            self.left -= 8 * _count(func, args) + MODULE
            if self.left < 0:
                raise ValueError(
                    f"it asks for more than {self.most / 2**20:,.0f} MiB, and {self.why}"
                )
        return func(*args, **(kwargs or {}))


def _count(func: Callable[..., Any], args: tuple[Any, ...]) -> float:
    """Numbers of a tensor that would be made, at least."""
    if func is torch.arange and args:
        start, end = (0, args[0]) if len(args) == 1 else args[:2]
        return abs(float(end) - float(start)) / abs(float(args[2]) if len(args) > 2 else 1)
    if func in (torch.linspace, torch.logspace):
        return float(args[2]) if len(args) > 2 else 0
    if func is torch.randint:
        sizes = [part for part in args if isinstance(part, tuple | list)]
        return math.prod(map(int, sizes[0])) if sizes else 0
    sizes = args[0] if args and isinstance(args[0], tuple | list) else args
    if func is torch.full:
        sizes = args[0] if args else ()
    return math.prod(int(n) for n in sizes if isinstance(n, int))
