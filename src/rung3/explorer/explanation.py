"""What the predictor says of an answer, and what its output on the row is due to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.number_text import VALUE_DIGITS, number_text
from rung3.data.variables import Discrete
from rung3.effects import Explanation
from rung3.effects import explain as explained
from rung3.effects.attribution.explanation import CauseEffect
from rung3.effects.predictors.predictor import Predictor
from rung3.explorer.query import PageState
from rung3.explorer.session import Answer, Session

__all__ = ["command", "explain", "explanation", "says"]

PARTICLES = 16
"""Draws of the row's noise in an explanation, if the page asks for one alone."""

Json = dict[str, Any]


def says(session: Session, k: int, answer: Answer) -> str | None:
    """Say in one sentence what the predictor says before and after; `None` without a predictor."""
    if session.predictor is None:
        return None
    names = session.predictor.of(session.models[k].model).inputs
    before, after = ({n: draws(n) for n in names} for draws in (answer.old, answer.draws))
    try:
        with session.lock, torch.no_grad():
            predictor = session.predictor.of(session.models[k].model)
            predictor = predictor.about(before) if answer.imagined else predictor
            numbers = [_mean(predictor.score(values)) for values in (before, after)]
            decided = None if predictor.numbers else _decided(predictor, before, after)
    except ValueError as error:
        return f"{session.predictor.name} gives no answer: {error}"
    arrow = " \N{RIGHTWARDS ARROW} ".join(dict.fromkeys(numbers))
    where = "" if answer.imagined else ", in the mean"
    turn = f"; {decided}" if decided and answer.imagined else ""
    return f"{session.predictor.name} says {arrow}{where}{turn}"


def explain(session: Session, query: PageState, k: int = 0) -> Explanation:
    """Explain what the predictor says of the row, by model k, once for each row.

    Raises:
        ValueError: If no predictor was given, the query is about no row, or a value is missing.
    """
    session.check(query)
    predictor = session.predictor
    if predictor is None:
        raise ValueError("no predictor was given: start with rung3 explore RUN --predictor m:f")
    if not query.about_row:
        raise ValueError("an explanation needs one row: choose 'imagine'")
    return session.cached(
        ("explained", k, query.upload, query.row, query.draws, query.seed),
        lambda: explained(
            session.models[k].model,
            predictor.function,
            session.factual(query),
            inputs=predictor.inputs,
            outcome=predictor.outcome,
            typical=session.complete,
            particles=query.draws or PARTICLES,
            seed=query.seed,
        ),
    )


def explanation(session: Session, query: PageState) -> Json:
    """Return each model's explanation of what the predictor says of the row."""
    return {
        "models": [
            {
                "name": opened.name,
                "effects": [_effect(session, effect) for effect in why.effects],
                "causes": [
                    [name, str(cause.necessity), str(cause.sufficiency)]
                    for name, cause in why.causes.items()
                ],
                "decides": why.decisions is not None,
                "flip": why.flip and {"text": str(why.flip), "do": _codes(session, why.flip.do)},
                "command": command(session, query, k),
            }
            for k, opened in enumerate(session.models)
            for why in [explain(session, query, k)]
        ]
    }


def command(session: Session, query: PageState, k: int = 0) -> str:
    """Return the command that gives model k's explanation; empty where there is none."""
    opened, predictor = session.models[k], session.predictor
    if predictor is None or opened.path is None or query.upload is not None:
        return ""
    parts = ["rung3", "explain", str(opened.path), "--predictor", predictor.name]
    inputs = predictor.inputs
    for name in [inputs] if isinstance(inputs, str) else inputs or ():
        parts += ["--inputs", name]
    if predictor.outcome is not None:
        parts += ["--outcome", predictor.outcome]
    parts += ["--row", str(query.row), "--particles", str(query.draws or PARTICLES)]
    return shlex.join([*parts, "--seed", str(query.seed)])


def _effect(session: Session, effect: CauseEffect) -> Json:
    parts = effect.parts if len(effect.parts) > 1 else {}
    return {
        "label": effect.label,
        "do": _codes(session, effect.do),
        "total": float(effect.total.effect),
        "ends": [float(effect.total.low), float(effect.total.high)],
        "parts": [[name, float(part.effect)] for name, part in parts.items()],
    }


def _codes(session: Session, do: Mapping[str, Any]) -> dict[str, float]:
    """Return values that are set as the page's query holds them."""
    return {name: float(session.variables[name].validate(name, v)) for name, v in do.items()}


def _mean(score: Tensor) -> str:
    return number_text(float(score.mean()), VALUE_DIGITS)


def _decided(
    predictor: Predictor, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> str:
    """Say what is decided of one row, and of the draws after."""
    decided, decided_after = predictor.decisions(before), predictor.decisions(after)
    changed = float((decided_after != decided[:1]).double().mean())
    one = _label(predictor, int(decided[0]))
    if changed == 0:
        return f"decides for {one}"
    if len(decided_after) == 1:
        return f"decides for {one} \N{RIGHTWARDS ARROW} {_label(predictor, int(decided_after[0]))}"
    return f"decides for {one}, and otherwise in {changed:.0%} of the draws"


def _label(predictor: Predictor, code: int) -> str:
    outcome = predictor.outcome
    return outcome.label(code) if isinstance(outcome, Discrete) else str(code)
