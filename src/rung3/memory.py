"""Memory: what there is, and the refusal of what cannot fit, before it is asked for."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from torch.overrides import TorchFunctionMode

from rung3.variables import Variable

__all__ = ["Bounded", "available", "require", "row_bytes"]

SIZED = frozenset(
    [
        "empty",
        "zeros",
        "ones",
        "full",
        "rand",
        "randn",
        "randint",
        "randperm",
        "arange",
        "linspace",
        "new_empty",
        "new_zeros",
        "new_ones",
        "new_full",
        "empty_strided",
    ]
)
"""Operators whose first list of whole numbers, or numbers, is the size of what they make."""


MOST = 20_000
"""Tensors of a model: it has some ten a layer, and each takes its time to make."""


@cache
def available() -> int:
    """Bytes of memory that a process may have: the machine's, or less where that is limited."""
    found = [2**62]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [limit] if limit != resource.RLIM_INFINITY else []
    with contextlib.suppress(ValueError, OSError):  # a container's; "max" is no number
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found)


def require(what: str, needed: float, cure: str) -> None:
    """Refuse what takes more than there is.

    Raises:
        ValueError: With what it is, what it takes, what there is, and the cure.
    """
    there = available()
    if needed > there:
        raise ValueError(
            f"{what} would take {_spell(needed)} of memory, and there are {_spell(there)}; {cure}"
        )


def row_bytes(variables: Mapping[str, Variable]) -> int:
    """Bytes that a row takes.

    Example:
        >>> from rung3 import Continuous, Image
        >>> row_bytes({"x": Continuous(), "scan": Image(1, 10, 10)})
        404
    """
    return sum(v.dtype.itemsize * math.prod(v.shape) for v in variables.values())


class Bounded(TorchFunctionMode):
    """Refuses to make tensors, in the block, that together take more than there is.

    Args:
        what: What is made, for the message.
        copies: How often all of it will be held.
        cure: What to do about it.

    Raises:
        ValueError: Before the tensor is made that is too much.
    """

    def __init__(self, what: str, copies: int, cure: str) -> None:
        super().__init__()
        self.what, self.copies, self.cure = what, copies, cure
        self.needed = self.made = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Add up what is about to be made."""
        if func.__name__ in SIZED:
            given = args if "size" not in (kwargs or {}) else (kwargs["size"],)
            self.needed += 4 * self.copies * _numel(given)
            self.made += 1
            require(self.what, self.needed, self.cure)
            if self.made > MOST:
                raise ValueError(f"{self.what} would have more than {MOST:,} tensors; {self.cure}")
        return func(*args, **(kwargs or {}))


def _numel(args: Any) -> int:
    for given in args:
        if isinstance(given, (list, tuple)):
            return math.prod(map(int, given))
    return math.prod(given for given in args if isinstance(given, int))


def _spell(number: float) -> str:
    return f"{number / 2**30:,.1f} GiB"
