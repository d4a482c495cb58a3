"""Values as text: one spelling for tables, pages, reports and CSV files.

A category is spelt by its label, a number with four significant digits and its unit, and several
draws by their centre and spread:

    centre = mean of the draws; on a circle, that of their arrows; the mode of categories
    spread = root of the mean squared difference of draw and centre; the mode's share of categories
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rung3.data.number_text import VALUE_DIGITS, number_text
from rung3.data.variables import Continuous, Discrete, Image, Variable

__all__ = ["centre", "headed", "spell", "spell_draws", "spread"]

SPREAD_DIGITS = 2
"""Significant digits of a spread, which is itself uncertain."""

FULL_DIGITS = 7
"""Significant digits of a number that is to be computed with: those of single precision."""

MAX_NUMBERS = 6
"""Numbers of a vector that are written out."""

MISSING = "missing"
"""Text of a value that is missing in all draws."""


def centre(variable: Variable, value: Tensor) -> Tensor:
    """Return the mean of `(n, *shape)` values over rows; on a circle, that of their arrows.

    Example:
        >>> centre(Continuous(lower=0, upper=24, circular=True), torch.tensor([22.0, 1.0, 1.0]))
        tensor(0.0241)
    """
    if not (isinstance(variable, Continuous) and variable.circular):
        return value.mean(0)
    rate = 2 * math.pi / (variable.upper - variable.lower)
    angle = rate * (value - variable.lower)
    mean = torch.atan2(angle.sin().mean(0), angle.cos().mean(0))
    return variable.wrap(variable.lower + mean / rate)


def spread(variable: Variable, value: Tensor) -> Tensor:
    """Return the standard deviation of `(n, *shape)` numbers over rows; on a circle, of its arcs.

    Example:
        >>> hour = Continuous(lower=0, upper=24, circular=True)
        >>> round(float(spread(hour, torch.tensor([23.0, 1.0]))), 4)
        1.0
    """
    deviation = variable.difference(value, centre(variable, value)).square().mean(0).sqrt()
    return torch.where(value.amax(0) == value.amin(0), 0.0, deviation)  # a mean is rounded


def spell(variable: Variable, value: Any, full: bool = False) -> str:
    """Return a value, or the centre of several draws, as text without its unit.

    Args:
        variable: The variable; a category is spelt by its label.
        value: A value `(*shape)` or draws `(n, *shape)`; missing ones are left out.
        full: Whether it is for a CSV file: numbers with all digits of single precision, vectors
            with all their numbers, and nothing where a value is missing.

    Example:
        >>> spell(Continuous(unit="px"), 2.34567), spell(Continuous(unit="px"), 2.34567, full=True)
        ('2.346', '2.34567')
    """
    draws = _present(variable, value)
    if not len(draws):
        return "" if full else MISSING
    if isinstance(variable, Image):
        return f"{'x'.join(map(str, variable.shape))} image"
    if isinstance(variable, Discrete):
        return variable.label(int(draws.mode().values))
    numbers = centre(variable, draws.double()).flatten().tolist()
    shown = numbers if full else numbers[:MAX_NUMBERS]
    texts = [number_text(number, FULL_DIGITS if full else VALUE_DIGITS) for number in shown]
    return ", ".join([*texts, *(["\N{HORIZONTAL ELLIPSIS}"] if len(shown) < len(numbers) else [])])


def spell_draws(variable: Variable, value: Any) -> str:
    """Return a value, or the centre and spread of several draws, as text with its unit.

    Args:
        variable: The variable.
        value: A value `(*shape)` or draws `(n, *shape)`; missing ones are left out.

    Example:
        >>> spell_draws(Continuous(unit="px"), [2.0, 4.0]), spell_draws(Continuous(unit="px"), 2.0)
        ('3 ± 1 px', '2 px')
    """
    draws, text = _present(variable, value), spell(variable, value)
    if not len(draws) or isinstance(variable, Image):
        return text
    if isinstance(variable, Discrete):
        share = float((draws == draws.mode().values).double().mean())
        return text if share == 1 else f"{text} in {share:.0%} of draws"
    deviation = 0.0 if variable.shape else float(spread(variable, draws.double()))
    text += f" ± {deviation:.{SPREAD_DIGITS}g}" if deviation else ""
    return f"{text} {variable.unit}".rstrip()


def headed(name: str, variable: Variable) -> str:
    """Return the head of a column of values: the variable's name, and its unit if it has one."""
    return f"{name}, {variable.unit}" if variable.unit else name


def _present(variable: Variable, value: Any) -> Tensor:
    """Return the draws `(n, *shape)` that are not missing."""
    draws = torch.as_tensor(value).reshape(-1, *variable.shape)
    return draws[~variable.is_missing(draws)]
