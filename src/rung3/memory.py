"""What is asked for, against the memory that there is: refused before it is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rung3.variables import Variable

__all__ = ["available", "bounded", "require"]

MAKERS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye,
     torch.arange, torch.linspace, torch.logspace, torch.empty_strided, torch.randint}
)  # fmt: skip
"""Functions of torch that make a tensor from numbers."""

SMALL = 2**28
"""Bytes that are never refused."""

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


def require(
    variables: Mapping[str, Variable], n: int, particles: int | None, device: torch.device
) -> None:
    """Refuse rows that do not fit in memory, with as much noise behind them.

    Args:
        variables: What each row has a value of.
        n: Number of rows.
        particles: Draws of each; `None` for one.
        device: Where they would lie.

    Raises:
        ValueError: With the memory that they take, and what there is.
    """
    numbers = sum(math.prod(variable.shape) for variable in variables.values())
    draws = particles if isinstance(particles, int) else 1
    size = 2 * n * draws * numbers * torch.get_default_dtype().itemsize
    if size > SMALL and size > (free := available(device)):
        told = "" if particles is None else f" with particles={particles:,}"
        raise ValueError(
            f"{n:,} rows{told} would take some {size / 2**30:,.0f} GiB of memory, and "
            f"{free / 2**30:,.0f} are free; ask for fewer at once, such as rows[:1000]"
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
        self.left, self.most, self.why = float(most), most, why

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
    numbers = [float(part) for part in args if isinstance(part, int | float)]
    sizes = next((part for part in args if isinstance(part, tuple | list)), None)
    if func is torch.arange and numbers:
        start, end, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
        return abs(end - start) / abs(step)
    if func in (torch.linspace, torch.logspace):
        return max(numbers, default=0)
    return math.prod(float(size) for size in (numbers if sizes is None else sizes))
