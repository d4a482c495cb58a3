"""Checks the shapes written in rung3's signatures, while the tests run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype on the shapes (`Float[Tensor, "n c h w"]`) alone.

    mypy sees to the other annotations, and a wrong input must reach the error that rung3 itself
    raises. jaxtyping passes a function made for the check, never the one that is called.
    """
    hints = function.__annotations__
    function.__annotations__ = {k: hint for k, hint in hints.items() if "jaxtyping." in repr(hint)}
    return beartype(function) if function.__annotations__ else function
