"""A model answers in its own floating type, whatever torch's default is.

A query makes numbers in many places: it reads values, draws noise, makes constants. All follow
torch's default type, so the default is the model's type while it is asked. The default belongs to
the process: do not ask models of different types from two threads at once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import torch

__all__ = ["in_own_precision", "own_precision"]

F = TypeVar("F", bound=Callable[..., Any])


class Typed(Protocol):
    """An object with a floating type, such as a model."""

    @property
    def dtype(self) -> torch.dtype:
        """That type."""


@contextmanager
def own_precision(model: Typed) -> Iterator[None]:
    """Set torch's default floating type to the model's.

    Raises:
        ValueError: If it is of half precision, for which torch lacks what queries need.

    Example:
        >>> from rung3 import worlds
        >>> with own_precision(worlds.lecture().double()):
        ...     torch.zeros(1).dtype
        torch.float64
    """
    wanted, before = model.dtype, torch.get_default_dtype()
    if wanted not in (torch.float32, torch.float64):
        raise ValueError(
            f"the model's parameters are {wanted}; queries need float32 or float64: call "
            "model.float(), or model.double()"
        )
    if wanted == before:
        yield
        return
    torch.set_default_dtype(wanted)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_own_precision(function: F) -> F:
    """Run a function of a model, its first argument, in the model's floating type."""
    first = next(iter(inspect.signature(function).parameters))

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        model = arguments[0] if arguments else named.get(first)
        if model is None:
            return function(*arguments, **named)  # it says what it lacks
        with own_precision(model):
            return function(*arguments, **named)

    return cast(F, run)
