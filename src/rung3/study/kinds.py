"""The kinds of variable and mechanism that a study file names, with their fields checked."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from rung3 import mechanisms
from rung3.data import variables
from rung3.mechanisms import Equation, Mechanism
from rung3.study.parser import unknown

__all__ = ["BROKEN", "MECHANISMS", "MechanismFields", "VariableFields", "mechanism_of", "of_kind"]


def _is_mechanism(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, Mechanism)


MECHANISMS: Mapping[str, type[Mechanism]] = {
    name: getattr(mechanisms, name)
    for name in mechanisms.__all__
    if name != "Mechanism" and _is_mechanism(getattr(mechanisms, name))
}
"""The kinds of mechanism that a study may name."""

BROKEN = (TypeError, AttributeError, LookupError, OverflowError, RuntimeError, MemoryError)
"""What a value of the wrong kind or size may end in, where nobody looked for it."""


LABELS = tuple[str | int | float | bool, ...]
"""In a file they may look like numbers; their text is meant."""


def of_kind(kinds: Mapping[str, type[Any]], fields: Mapping[str, Any]) -> Any:
    """Build the object that `{kind: Name, field: value, ...}` describes."""
    fields = dict(fields)
    kind = fields.pop("kind", None)
    if kind is None:
        raise ValueError(f"its kind is missing; one of {', '.join(kinds)}")
    if not isinstance(kind, str) or kind not in kinds:
        raise unknown(("kind",), kinds, "kind", kind)
    today = getattr(kinds[kind], "renamed", {})  # of studies that were run before
    fields = {today.get(key, key): value for key, value in fields.items()}
    parameters = inspect.signature(kinds[kind]).parameters
    known = [key for key, one in parameters.items() if one.kind is not one.VAR_POSITIONAL]
    types = get_type_hints(kinds[kind].__init__)
    for key, value in fields.items():
        if key not in known:
            raise unknown((key,), known, f"field of {kind}")
        _check_type(f"{kind}: {key}", value, LABELS if key == "labels" else types[key])
    try:
        return kinds[kind](**fields)
    except BROKEN as error:
        raise ValueError(f"{kind}: {error}") from None


def _check_type(what: str, value: Any, hint: Any) -> None:
    """Refuse a value that is not of the type that the argument declares."""
    adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    try:  # as JSON, where a list is a tuple
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"]
        if "isinstance" in message:
            message = "Expected text: an object cannot be written in a study"
        raise ValueError(f"{what}: {message[0].lower()}{message[1:]}, got {value!r:.80}") from None


def mechanism_of(description: str | Mapping[str, Any]) -> Mechanism:
    """Build the mechanism that an equation, or a kind and its fields, describes."""
    if isinstance(description, str):
        return Equation(description)
    mechanism: Mechanism = of_kind(MECHANISMS, description)
    return mechanism


def _check_variable(fields: dict[str, Any]) -> dict[str, Any]:
    of_kind(variables.KINDS, fields)
    return fields


def _check_mechanism(description: Any) -> Any:
    if not isinstance(description, (dict, str)):
        raise ValueError(f"expected an equation, or a kind and its fields; got {description!r:.80}")
    mechanism_of(description)
    return description


VariableFields = Annotated[dict[str, Any], AfterValidator(_check_variable)]
MechanismFields = Annotated[dict[str, Any] | str, BeforeValidator(_check_mechanism)]
