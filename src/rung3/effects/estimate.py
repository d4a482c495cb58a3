"""An estimate with its interval: the form in which effects, shares, slopes and bounds are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor

from rung3.data.columns import say_gaps
from rung3.data.number_text import ERROR_DIGITS, VALUE_DIGITS, numbers_alike
from rung3.data.printed import Printed

__all__ = ["AVERAGE", "BOUNDS", "PROPORTION", "SLOPE", "Estimate", "Form", "say_learned"]

Number = TypeVar("Number", float, Tensor)


@dataclass(frozen=True)
class Form:
    """How an estimate is printed: value and interval with one precision.

    Attributes:
        text: What is printed, with `{value}`, `{low}`, `{high}` and `{n}` in their places.
        digits: Significant digits of the largest number; `None` for three decimals.
        sign: Whether positive numbers get a sign too.
    """

    text: str
    digits: int | None = None
    sign: bool = False

    def spell(self, numbers: Mapping[str, float], n: int) -> str:
        """Return the numbers, by their names in the text, and the rows as text."""
        values = list(numbers.values())
        if self.digits is None:
            texts = [f"{round(value, 3) + 0.0:.3f}" for value in values]  # no minus before zero
        else:
            texts = numbers_alike(values, self.digits, self.sign)
        return self.text.format(n=n, **dict(zip(numbers, texts, strict=True)))


PROPORTION = Form("{value} [{low}, {high}]")
"""How a probability, a share of rows or a mean of a table is printed."""

AVERAGE = Form("{value} [{low}, {high}]", digits=VALUE_DIGITS)
"""How an average of any unit and size is printed."""

SLOPE = Form("{value} [{low}, {high}] (n = {n})", digits=ERROR_DIGITS, sign=True)
"""How a slope is printed, of which the sign matters."""

BOUNDS = Form("[{low}, {high}]")
"""How bounds are printed, between which no value is preferred."""

IDENTIFIED = Form("{low}")
"""How bounds are printed that leave one value."""

TOLERANCE = 1e-6
"""Distance of two probabilities that counts as none: about the precision of the linear programs."""


@dataclass(frozen=True)
class Estimate(Printed, Generic[Number]):
    """A number and the interval that it lies in; or, of bounds, the interval alone.

    Attributes:
        value: The estimate; `None` of bounds, which prefer no value in the interval.
        low: Lower end of the interval, of the value's shape.
        high: Upper end.
        n: Number of rows behind it; 0 where the rows are counted elsewhere.
        level: Nominal coverage of the interval; bounds hold always.
        gaps: How many rows were left out, for a gap in a column that is used.
        learned: Whether it is of a model that was fitted, whose own error is not counted.
        refits: Number of fits to resampled rows, by which the interval holds the learning; 0 if it
            does not, or nothing was learned.
        over: What the interval is over: `"rows"`, or of a single row the `"noise"` it leaves open.
        form: How it is printed.

    Example:
        >>> print(Estimate(0.5, 0.4, 0.6), Estimate(None, 0.4, 0.6, form=BOUNDS))
        0.500 [0.400, 0.600] [0.400, 0.600]
    """

    value: Number | None
    low: Number
    high: Number
    n: int = 0
    level: float = 0.95
    gaps: int = 0
    learned: bool = False
    refits: int = 0
    over: str = field(default="rows", repr=False)
    form: Form = field(default=PROPORTION, repr=False, compare=False)

    @property
    def effect(self) -> Number:
        """The value, where it is an effect."""
        assert self.value is not None
        return self.value

    @property
    def slope(self) -> Number:
        """The value, where it is a slope: in units of the outcome a unit of the cause."""
        return self.effect

    @property
    def identified(self) -> bool:
        """Whether the interval holds one value only, to within 1e-6."""
        return bool((self.high - self.low) < TOLERANCE)

    def __contains__(self, value: float) -> bool:
        slack = TOLERANCE if self.value is None else 0.0  # effects may be in any unit
        return bool(self.low - slack <= value) and bool(value <= self.high + slack)

    def __str__(self) -> str:
        if isinstance(self.value, Tensor) and self.value.ndim:
            return f"average effect of shape {tuple(self.value.shape)} over {self.n} rows"
        form = IDENTIFIED if self.value is None and self.identified else self.form
        ends = {"low": float(self.low), "high": float(self.high)}
        numbers = ends if self.value is None else {"value": float(self.value), **ends}
        return (
            form.spell(numbers, self.n)
            + say_gaps(self.gaps)
            + say_learned(self.learned, self.refits, self.over)
        )


def say_learned(learned: bool, refits: int = 0, over: str = "rows") -> str:
    """Return what is added to an interval of a fitted model: whether it holds the learning.

    Example:
        >>> say_learned(False, 30)
        ' (of rows and learning: 30 refits)'
    """
    if refits:
        return f" (of {over} and learning: {refits} refits)"
    return f" (of the {over} alone, not of learning the model)" if learned else ""
