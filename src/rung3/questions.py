"""Interventions in words: `thickness=4`, `thickness=thickness+2`, `digit=three`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from rung3.expressions import Expression
from rung3.rows import spell_unknown
from rung3.variables import Discrete, Variable

__all__ = ["interventions", "value_of"]


def interventions(texts: Iterable[str], variables: Mapping[str, Variable]) -> dict[str, Any]:
    """What `SCM.do` takes, from texts `name=value` and `name=expression`.

    An expression may name the variable itself, for the value it would have had, and its parents. A
    category may be given by its label.

    Raises:
        ValueError: If a text is not of that form, names an unknown variable, or one twice.

    Example:
        >>> import torch
        >>> from rung3 import Continuous
        >>> do = interventions(["t=t+2", "i=64"], {"t": Continuous(), "i": Continuous()})
        >>> do["t"](t=torch.tensor(1.0)), do["i"]
        (tensor(3.), 64.0)
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise ValueError(f"{text}: expected name=value, such as thickness=4")
        if name not in variables:
            raise ValueError(f"{text}: {spell_unknown([name], variables)}")
        if name in found:
            raise ValueError(f"{text}: {name} is set twice")
        found[name] = value_of(value, variables[name])
    return found


def value_of(text: str, variable: Variable) -> Any:
    """A number, a code, or a function of the names in the text.

    Raises:
        ValueError: If the text is not an arithmetic expression.
    """
    if isinstance(variable, Discrete) and text in variable.labels:
        return variable.labels.index(text)
    expression = Expression(text)
    return _function(expression) if expression.arguments else float(expression())


def _function(expression: Expression) -> Callable[..., Tensor]:
    """The expression as a function whose signature names its arguments."""

    def function(**values: Tensor) -> Tensor:
        return expression(**values)

    keywords = [inspect.Parameter(a, inspect.Parameter.KEYWORD_ONLY) for a in expression.arguments]
    vars(function)["__signature__"] = inspect.Signature(keywords)
    return function
