"""Questions to begin with: real changes of test rows, one for each cause."""

from __future__ import annotations

from typing import Any

from rung3.data.display import spell_draws
from rung3.data.variables import Discrete
from rung3.explorer.query import PageState
from rung3.explorer.session import Session
from rung3.explorer.sweep import span
from rung3.scm.query import causes

__all__ = ["examples", "settable_causes"]

MOST = 6
"""Examples, at most: they stand on one line."""

SHARE = 0.8
"""How far a number is moved from one end of its range to the other."""


def settable_causes(session: Session) -> list[str]:
    """Return the causes of the outcomes that the page can set: those of a single number."""
    model = session.models[0].model
    return [name for name in causes(model) if not session.variables[name].shape]


def examples(session: Session) -> list[dict[str, Any]]:
    """Return questions, each of another row and cause: a `title`, and the `query` of the page."""
    questions = []
    for at, name in enumerate(settable_causes(session)[:MOST]):
        row = _row(session, name, at)
        if row is None:
            continue
        value = _other(session, name, float(session.rows[name][row]))
        text = spell_draws(session.variables[name], value)
        title = f"row {row}: {name} \N{RIGHTWARDS ARROW} {text}"
        query = PageState(row=row, do={name: value})
        questions.append({"title": title, "query": query.model_dump(exclude_defaults=True)})
    return questions


def _row(session: Session, name: str, at: int) -> int | None:
    """Return a row that has a value, of which no other example has the place."""
    present = ~session.variables[name].is_missing(session.rows[name])
    places = present.nonzero()[:, 0]
    return int(places[at % len(places)]) if len(places) else None


def _other(session: Session, name: str, value: float) -> float:
    """Return another category, or a number towards the farther end of its range."""
    variable = session.variables[name]
    if isinstance(variable, Discrete):
        step = max(1, variable.classes // 2)
        return float((int(value) + step) % variable.classes)
    low, high = span(session, name)
    far = high if value < (low + high) / 2 else low
    return float(f"{value + SHARE * (far - value):.3g}")
