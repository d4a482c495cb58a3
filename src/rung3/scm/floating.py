"""A model answers in the floating type that it has, whatever torch's default is.

Numbers come into being all over a query: values are read, noise is drawn, constants are made. All
follow torch's default type, so that while a model is asked this is the model's own. It is the
process's: threads that ask models of different types at once should not.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["in_own_precision", "own_precision"]

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def own_precision(model: SCM) -> Iterator[None]:
    """Let torch's default floating type be the model's.

    Raises:
        ValueError: If it is of half precision, for which torch lacks what queries need.

    Example:
        >>> from rung3 import worlds
        >>> with own_precision(worlds.lecture().double()):
        ...     torch.zeros(1).dtype
        torch.float64
    """
    own, before = model.dtype, torch.get_default_dtype()
    if own not in (torch.float32, torch.float64):
        raise ValueError(
            f"the model's parameters are {own}; queries need float32 or float64: call "
            "model.float(), or model.double()"
        )
    if own == before:
        yield
        return
    torch.set_default_dtype(own)
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
            return function(*arguments, **named)  # which says that it lacks it
        with own_precision(model):
            return function(*arguments, **named)

    return cast(F, run)
