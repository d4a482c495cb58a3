"""Numbers as text: one precision for values and one for errors, wherever they are shown."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = [
    "ERROR_DIGITS", "VALUE_DIGITS", "alike", "number_hint", "number_text", "numbers_alike",
]  # fmt: skip

VALUE_DIGITS = 4
"""Significant digits of a variable's values: a year has all of its digits."""

ERROR_DIGITS = 3
"""Significant digits of errors, differences and averages."""

SMALLEST = 1e-4
"""Size from which on a number is written without an exponent: below, zeros are hard to count."""

LARGEST = 1e7
"""Size up to which a number is written without an exponent."""

COMMA = re.compile(r"\s*([+-]?\d+),(\d+)\s*")
"""A number with a decimal comma."""

WITH_UNIT = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*(?:[^\W\d_]|%)[^\d+*/()-]*")
"""A number with a unit behind it."""

PLAIN = re.compile(r"[+-]?\d+(\.\d+)?")
"""A number without an exponent."""


def number_text(value: float, digits: int = VALUE_DIGITS, sign: bool = False) -> str:
    """Return a number with so many significant digits, whole ones in full, without final zeros.

    Args:
        value: The number.
        digits: Significant digits, at least.
        sign: Whether positive numbers get a sign too.

    Example:
        >>> number_text(3512.34, 3), number_text(0.51834, 3), number_text(4.0)
        ('3512', '0.518', '4')
        >>> number_text(1.5e9, 3), number_text(2.0, sign=True), number_text(math.nan)
        ('1.5e+09', '+2', 'nan')
    """
    plus = "+" if sign else ""
    size = abs(value)
    if not SMALLEST <= size < LARGEST:
        return f"{value:{plus}.{digits}g}"
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:{plus}.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def numbers_alike(
    values: Sequence[float], digits: int = VALUE_DIGITS, sign: bool = False
) -> list[str]:
    """Return numbers that belong together as text, all to the decimal that the largest needs.

    Args:
        values: The numbers, such as an estimate and the ends of its interval.
        digits: Significant digits of the largest, at least; zeros that all end in are left out.
        sign: Whether positive numbers get a sign too.

    Example:
        >>> numbers_alike([0.68, 0.54192, 0.79238]), numbers_alike([2.0, -0.5, 16.128])
        (['0.6800', '0.5419', '0.7924'], ['2.00', '-0.50', '16.13'])
        >>> numbers_alike([12.0, 11.0, 13.0]), numbers_alike([1.5e9, -2.0])
        (['12', '11', '13'], ['1.5e+09', '-2'])
        >>> numbers_alike([math.nan, -1e-5, -2.1234, math.inf])
        ['nan', '0.000', '-2.123', 'inf']
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if not SMALLEST <= largest < LARGEST:
        return [number_text(value, digits, sign) for value in values]
    places = max(0, digits - 1 - math.floor(math.log10(largest)))
    rounded = [round(value, places) + 0.0 for value in values]  # no minus before zero
    texts = [f"{value:{'+' if sign else ''}.{places}f}" for value in rounded]
    ends = [len(text) - len(text.rstrip("0")) for text in texts if "." in text]
    spare = min(ends, default=0)
    return [text[: len(text) - spare].rstrip(".") if "." in text else text for text in texts]


def number_hint(text: str) -> str:
    """Return how to write a number that is almost one, as the end of an error; else nothing.

    Example:
        >>> number_hint("3,5"), number_hint("3.5 px"), number_hint("about 3")
        ('; write 3.5', '; write 3.5, without the unit', '')
    """
    if match := COMMA.fullmatch(text):
        return f"; write {match[1]}.{match[2]}"
    if match := WITH_UNIT.fullmatch(text):
        return f"; write {match[1]}, without the unit"
    return ""


def alike(texts: Sequence[str]) -> list[str]:
    """Return numbers as text with as many decimals as the one with most; other texts as they are.

    Example:
        >>> alike(["40", "61.25", "no"]), alike(["40", "1.5e+09"])
        (['40.00', '61.25', 'no'], ['40', '1.5e+09'])
    """
    numbers = [text for text in texts if PLAIN.fullmatch(text)]
    places = max((len(text.partition(".")[2]) for text in numbers), default=0)
    return [f"{float(text):.{places}f}" if PLAIN.fullmatch(text) else text for text in texts]
