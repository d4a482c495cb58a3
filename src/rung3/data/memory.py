"""Memory: how much is available, and the refusal of what cannot fit, before it is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rung3.data.variables import Variable

__all__ = ["Bounded", "available", "require", "require_rows", "row_bytes"]

SIZED = frozenset(
    [
        "empty", "zeros", "ones", "full", "rand", "randn", "randint", "randperm", "eye", "arange",
        "linspace", "logspace", "new_empty", "new_zeros", "new_ones", "new_full", "empty_strided",
    ]
)  # fmt: skip
"""Functions of torch that make a tensor from numbers."""

ALWAYS_ALLOWED = 2**28
"""Bytes that are never refused: 256 MiB."""

TENSOR_OVERHEAD = 4096
"""Bytes that a tensor takes beside its numbers, at least."""

MAX_TENSORS = 20_000
"""Tensors of a model: about ten a layer, and each takes time to make."""


def available(device: torch.device | None = None) -> float:
    """Return the bytes that may still be allocated on a device; infinite if unknown.

    Example:
        >>> available() > 0
        True
    """
    if device is not None and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    limits = [math.inf]
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(1024 * float(lines["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):  # of a container; "max" is not a number
        group = Path("/sys/fs/cgroup")
        most = float((group / "memory.max").read_text())
        limits.append(most - float((group / "memory.current").read_text()))
    if len(limits) == 1:
        with suppress(ValueError, OSError, AttributeError):
            limits.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    return min(limits)


def require(what: str, needed: float, cure: str) -> None:
    """Refuse what takes more than there is.

    Raises:
        ValueError: With what it is, what it takes, what there is, and the cure.
    """
    if needed > ALWAYS_ALLOWED and needed > (free := available()):
        raise ValueError(
            f"{what} would take {_spell(needed)} of memory, and {_spell(free)} are free; {cure}"
        )


def require_rows(
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
    draws = particles if isinstance(particles, int) else 1
    size = 2 * n * draws * row_bytes(variables)
    if size > ALWAYS_ALLOWED and size > (free := available(device)):
        remark = "" if particles is None else f" with particles={particles:,}"
        raise ValueError(
            f"{n:,} rows{remark} would take some {size / 2**30:,.0f} GiB of memory, and "
            f"{free / 2**30:,.0f} are free; ask for fewer at once, such as rows[:1000]"
        )


def row_bytes(variables: Mapping[str, Variable]) -> int:
    """Return the bytes that a row takes.

    Example:
        >>> from rung3 import Continuous, Image
        >>> row_bytes({"x": Continuous(), "scan": Image(1, 10, 10)})
        404
    """
    return sum(v.dtype.itemsize * math.prod(v.shape) for v in variables.values())


class Bounded(TorchFunctionMode):
    """Refuse to make tensors, in the block, that together take more than there is.

    Args:
        what: What is made, for the message.
        cure: What to do about it; or, with `most`, why that is the most.
        copies: How often all of it will be held.
        most: Bytes that may be taken; what is free, if not given.

    Raises:
        ValueError: Before the tensor is made that is too much.
    """

    def __init__(self, what: str, cure: str, copies: int = 1, most: float | None = None) -> None:
        super().__init__()
        self.what, self.cure, self.copies, self.most = what, cure, copies, most
        self.needed = 0.0
        self.tensors = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Add up the tensor that is about to be made."""
        if func.__name__ in SIZED:
            given = args if "size" not in (kwargs or {}) else (kwargs["size"],)
            self._add(4 * _count(func.__name__, given) + TENSOR_OVERHEAD)
        return func(*args, **(kwargs or {}))

    def _add(self, size: float) -> None:
        self.needed += self.copies * size
        self.tensors += 1
        if self.most is None:
            require(self.what, self.needed, self.cure)
        elif self.needed > self.most:
            raise ValueError(f"it asks for more than {self.most / 2**20:,.0f} MiB, and {self.cure}")
        if self.tensors > MAX_TENSORS:
            raise ValueError(
                f"{self.what} would have more than {MAX_TENSORS:,} tensors; {self.cure}"
            )


def _count(name: str, args: Any) -> float:
    """Count the numbers of the tensor that a function makes of these arguments, at least."""
    numbers: list[float] = []
    for part in args:
        if isinstance(part, tuple | list):  # a shape; the others count along each axis, or fill it
            return math.prod(part, start=1.0)
        if isinstance(part, int | float):
            numbers.append(float(part))
    if name == "arange" and numbers:
        start, end, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
        return abs(end - start) / abs(step)
    return max(numbers, default=0) if name in ("linspace", "logspace") else math.prod(numbers)


def _spell(number: float) -> str:
    return f"{number / 2**30:,.1f} GiB"
