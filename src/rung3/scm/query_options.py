"""Options of mechanisms that a query may set, such as `steps=4` or `guidance=2.5`.

A mechanism names them in its `query_options`. They are arguments of its own, whose values hold
where a query says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from rung3.data.spelling import suggest
from rung3.mechanisms.base import Mechanism

__all__ = ["as_queried", "check_options"]


def check_options(mechanisms: Mapping[str, Mechanism], options: Mapping[str, Any]) -> None:
    """Refuse options that no mechanism of a model takes, or whose values are out of range.

    Raises:
        ValueError: Naming the first.
    """
    takers = {option: m for m in mechanisms.values() for option in m.query_options}
    for option in options:
        if option not in takers:
            hint = suggest(option, takers, "they take") if takers else "they take none"
            raise ValueError(f"{option}=: no option of this model's mechanisms; {hint}")
    for mechanism in mechanisms.values():
        as_queried(mechanism, options)


def as_queried(
    mechanism: Mechanism, options: Mapping[str, Any], changed: Set[str] = frozenset()
) -> Mechanism:
    """Return a mechanism with those of the options that it takes.

    Args:
        mechanism: The mechanism.
        options: Options of a query.
        changed: Names of variables that were set, or descend from what was set.
    """
    if not options and not changed:
        return mechanism.for_query()
    settings = {name: value for name, value in options.items() if name in mechanism.query_options}
    return mechanism.for_query(changed & mechanism.parents.keys(), **settings)
