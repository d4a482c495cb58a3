"""Dataclasses of options whose fields are checked against their types, which say what they allow.

A type such as `Count` holds the bounds and the words for them, so that the same field means the
same, and is refused in the same words, in a call, a signature and a study file.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, create_model
from pydantic_core import PydanticCustomError

from rung3.data.spelling import did_you_mean

__all__ = ["Count", "NonNegative", "Positive", "Share", "Validated", "expected", "takes", "types"]

F = TypeVar("F", bound=Callable[..., Any])


def expected(text: str) -> WrapValidator:
    """Say of every value that a type refuses what it must be, in these words."""

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise PydanticCustomError("expected", "must be {text}", {"text": text}) from None

    return WrapValidator(check)


Count = Annotated[int, Field(ge=1, lt=2**62), expected("a whole number of at least 1")]
WholeNumber = Annotated[int, Field(ge=0, lt=2**62), expected("a whole number of at least 0")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), expected("greater than 0")]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), expected("at least 0")]
Share = Annotated[float, Field(ge=0, le=1), expected("a share between 0 and 1")]


class Validated:
    """Base of frozen dataclasses that check their fields when they are made.

    Raises:
        ValueError: Naming the field, what was given and what it must be.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Steps(Validated):
        ...     n: Count = 1
        >>> Steps(0)
        Traceback (most recent call last):
        ValueError: n=0 must be a whole number of at least 1
    """

    def __post_init__(self) -> None:
        given = {name: _plain(value) for name, value in vars(self).items()}
        try:
            options: Any = type(self)
            checked = _schema(options).model_validate(given)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = fault["loc"][0]
            raise ValueError(f"{name}={given[str(name)]!r} {fault['msg']}") from None
        for name in given:
            object.__setattr__(self, name, getattr(checked, name))


def types(options: type) -> dict[str, tuple[Any, Any]]:
    """Return the type, with its bounds, and the default of each field of a dataclass."""
    hints = get_type_hints(options, include_extras=True)
    return {field.name: (hints[field.name], field.default) for field in fields(options)}


def takes(options: type) -> Callable[[F], F]:
    """Let a function that ends in `**options` take the fields of a dataclass, and say so.

    `inspect.signature` then shows each of them, with its type and default.
    """
    hints = get_type_hints(options)
    defaults = {field.name: field.default for field in fields(options)}
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name]
        )
        for name, default in defaults.items()
    ]

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        explicit = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        shown = signature.replace(parameters=[*explicit, *added])

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            for name in named:
                if name not in shown.parameters:
                    hint = did_you_mean(name, shown.parameters)
                    text = f"{function.__name__}() has no argument {name!r}"
                    raise TypeError(f"{text}; {hint}" if hint else text)
            return function(*arguments, **named)

        call.__signature__ = shown  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate


@functools.cache
def _schema(options: Any) -> type[BaseModel]:
    config = ConfigDict(strict=True, arbitrary_types_allowed=True)
    named: dict[str, Any] = types(options)
    return create_model(options.__name__, __config__=config, **named)


def _plain(value: Any) -> Any:
    """Return a number of NumPy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value
