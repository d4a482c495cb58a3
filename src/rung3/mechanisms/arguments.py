"""Checks of mechanisms' arguments, which may come from a study file as anything."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TypeGuard

__all__ = ["check_counts", "check_shares", "check_weights", "is_number", "is_whole"]


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number; `True` and `False` are not.

    Example:
        >>> is_whole(3), is_whole(3.0), is_whole(True)
        (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object, least: float = -math.inf) -> TypeGuard[float]:
    """Tell whether a value is a finite number, of at least so much; `True` and `False` are not.

    Example:
        >>> is_number(0.5), is_number("0.5"), is_number(math.nan), is_number(-1, least=0)
        (True, False, False, False)
    """
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and value >= least  # type: ignore[arg-type, operator]


def check_counts(least: int, **counts: object) -> None:
    """Refuse counts that are no whole numbers, or below the least.

    Raises:
        ValueError: Naming the count and what it was.
    """
    for name, count in counts.items():
        if not is_whole(count):
            raise ValueError(f"{name}={count!r} must be a whole number of at least {least}")
        if count < least:
            raise ValueError(f"{name}={count} must be at least {least}")


def check_shares(**shares: object) -> None:
    """Refuse shares that are no numbers of at least 0 and less than 1.

    Raises:
        ValueError: Naming the share and what it was.
    """
    for name, share in shares.items():
        if not is_number(share, least=0) or share >= 1:
            raise ValueError(f"{name}={share!r} must be at least 0 and less than 1")


def check_weights(**weights: object) -> None:
    """Refuse weights below 0, infinite ones and what is no number.

    Raises:
        ValueError: Naming the weight and what it was.
    """
    for name, weight in weights.items():
        if not is_number(weight, least=0):
            raise ValueError(f"{name}={weight!r} must be at least 0 and finite")
