"""Interventions in words: `thickness=4`, `thickness=thickness+2`, `digit=three`.

Where a variable has labels, a text that is one is that label; a number is the label that reads so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rung3.data.expressions import Expression
from rung3.data.rows import spell_unknown
from rung3.data.variables import Discrete, Variable

__all__ = ["interventions", "value_of"]


def interventions(texts: Iterable[str], variables: Mapping[str, Variable]) -> dict[str, Any]:
    """What `SCM.do` takes, from texts `name=value` and `name=expression`.

    An expression may name the variable itself, for the value it would have had, and its parents;
    names that are no words go in quotes. A category is given by its label, if it has one.

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
        found[name] = value_of(value, name, variables)
    return found


def value_of(text: str, name: str, variables: Mapping[str, Variable]) -> Any:
    """What a variable is set to: a number, a label, or a function of the variables in the text.

    Raises:
        ValueError: If the text is no label of a variable that has labels, and no arithmetic
            expression of variables either.
    """
    variable = variables[name]
    labels = variable.labels if isinstance(variable, Discrete) else ()
    if text in labels:
        return text
    if labels and text in ("True", "False"):  # what YAML makes of true and false
        return text == "True"
    try:
        expression = Expression(text)
    except ValueError:
        if labels:
            variable.validate(name, text)  # refuses, and says the labels
        raise
    if labels and not set(expression.arguments) <= {"u", *variables}:
        variable.validate(name, text)
    return expression if expression.arguments else float(expression())
