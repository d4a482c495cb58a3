"""Answers of a session as JSON for the page, with pictures as data URIs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from rung3.data.display import spell_draws
from rung3.data.glossary import words
from rung3.data.number_text import ERROR_DIGITS, number_text
from rung3.data.pictures import image_png, planar, uri
from rung3.data.provenance import TRUSTED
from rung3.data.variables import Binary, Categorical, Continuous, Discrete, Image, Variable
from rung3.effects.averages import average_of
from rung3.evaluation.verdict import MARKS
from rung3.explorer.checks import densities, quick_checks, run_checks
from rung3.explorer.effects import mediators, split
from rung3.explorer.examples import examples, settable_causes
from rung3.explorer.explanation import explanation, says
from rung3.explorer.export import command, python
from rung3.explorer.graph_questions import levels
from rung3.explorer.png import SIGNED, SPREAD, signed_png, spread_png
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.explorer.session import Answer, Session
from rung3.explorer.sweep import run_sweep, span
from rung3.explorer.uploads import MAX_BYTES, is_uploadable, readers
from rung3.graph import CausalGraph
from rung3.study.folder import RunFolder

__all__ = [
    "answer", "checks", "code", "effects", "explanation", "schema", "sweep", "trust", "truth",
]  # fmt: skip

Json = dict[str, Any]

BINS = 24
"""Bins of a histogram."""

MAX_DRAWS = 8
"""Draws of an image that the page shows one by one."""


def schema(session: Session) -> Json:
    """Return models, variables and graphs: all that does not change."""
    return {
        "models": [opened.name for opened in session.models],
        "broken": session.broken,
        "rows": session.rows.n,
        "world": session.world is not None,
        "predictor": session.predictor and session.predictor.name,
        "images": session.images,
        "uploads": is_uploadable(session),
        "readable": list(readers(session)),
        "largest": MAX_BYTES,
        "signed": SIGNED,
        "spread": SPREAD,
        "trusted": TRUSTED,
        "graphs": [_graph(opened.model.graph) for opened in session.models],
        "variables": {name: _variable(session, name) for name in session.variables},
        "causes": settable_causes(session),
        "examples": examples(session),
        "verdicts": [_verdict(opened) for opened in session.models],
        "words": words(),
    }


def _verdict(opened: Opened) -> Json | None:
    """Return what the run's report says of a model; nothing without a report."""
    verdict = opened.verdict
    if verdict is None:
        return None
    path = opened.path  # a model of the zoo stays as it is: no run follows from it
    run = None if path is None or RunFolder(path).held else str(path)
    return {
        "headline": verdict.headline,
        "findings": [
            {"mark": finding.mark, "sign": MARKS[finding.mark], "text": finding.text,
             "next": finding.next(run)}
            for finding in verdict.findings
        ],
    }  # fmt: skip


def answer(session: Session, query: PageState) -> Json:
    """Return the answer of each model to a query."""
    answers = session.answer(query)
    return {
        "link": query.link(),
        "inferred": list(session.inferred(query)),
        "missing": session.missing(query) if query.rung == "imagining" else [],
        "models": [_answered(session, query, k, one) for k, one in enumerate(answers)],
    }


def _answered(session: Session, query: PageState, k: int, one: Answer) -> Json:
    """Return one model's answer; by backtracking, with that by intervention beside it."""
    opened, beside = session.models[k], _intervened(session, query, k)
    answered: Json = {
        "name": opened.name,
        "status": _statuses(opened.model.graph, one, query),
        "outside": dict(one.provenance.outside),
        "effective": one.provenance.effective_sample_size,
        "moved": _moves(one),
        "says": says(session, k, one),
        "values": {
            name: _values(session, one, name, query.rung == "doing")
            for name in session.variables
            if name not in session.images
        },
        "images": {name: _panels(one, name, query.slice) for name in session.images},
    }
    if beside is not None:
        for name, value in answered["values"].items():
            value["intervened"] = spell_draws(session.variables[name], beside.draws(name))
        for name, image in answered["images"].items():
            image["intervened"] = uri(image_png(beside.draws(name).mean(0), query.slice))
    return answered


def _intervened(session: Session, query: PageState, k: int) -> Answer | None:
    """Return what a backtracking query would answer by intervention, if it can be told."""
    if query.rung != "backtracking" or not query.do:
        return None
    try:
        return session.answer_of(query.model_copy(update={"rung": "imagining"}), k)
    except ValueError:  # hidden causes may leave it untold
        return None


def _moves(answer: Answer) -> Json | None:
    """Return how far the noise moved, of each variable and in all, by backtracking."""
    moved = answer.provenance.moved
    if not moved:
        return None
    whole = torch.stack([*moved.values()]).square().sum(0).sqrt()
    mean = ", in the mean over draws" if len(whole) > 1 else ""
    return {
        "total": f"{number_text(float(whole.mean()), ERROR_DIGITS)} standard deviations{mean}",
        "notes": {
            name: text.removeprefix("antecedent; ")
            for name, text in answer.provenance.backtracked.items()
        },
    }


def truth(session: Session, query: PageState) -> Json:
    """Return the true counterfactual, where it is known, and each model's error."""
    true = session.truth(query)
    if true is None:
        return {"known": False}
    errors = []
    for one in session.answer(query):
        after = {name: one.draws(name).float().mean(0) for name in session.images}
        errors.append({k: float((after[k] - true[k]).abs().mean() * 255) for k in session.images})
    return {
        "known": True,
        "values": {
            name: spell_draws(variable, true[name][None])
            for name, variable in session.variables.items()
            if name not in session.images
        },
        "images": {name: uri(image_png(true[name], query.slice)) for name in session.images},
        "errors": errors,
    }


def effects(session: Session, query: PageState, outcome: str, through: str | None) -> Json:
    """Return each model's direct, indirect and total effect, and the arrows that carry them."""
    session.check(query)
    session.models[0].model.graph.names([outcome])
    by_model = [mediators(session, query, outcome, k) for k in range(len(session.models))]
    known = list(dict.fromkeys(name for names in by_model for name in names))
    chosen = through if through in known else next(iter(known), None)
    if chosen is None:
        return {"mediators": [], "models": []}
    models = []
    for k, opened in enumerate(session.models):
        if chosen not in by_model[k]:
            models.append({"name": opened.name, "none": f"no path here is through {chosen}"})
            continue
        parts = split(session, query, outcome, chosen, k)
        model: Json = {"name": opened.name}
        for part in ("direct", "indirect", "total"):
            value: Tensor = getattr(parts.effects, part).double()
            value = value if query.draws is None else value.mean(0)
            variable = session.variables[outcome]
            image = isinstance(variable, Image)
            model[part] = {
                "png": uri(signed_png(value, query.slice)) if image else None,
                "text": _moved(value)
                if image
                else f"{number_text(float(value.mean()), sign=True)} {variable.unit}".rstrip(),
                "edges": [list(edge) for edge in getattr(parts, part)],
            }
        models.append(model)
    return {"mediators": known, "through": chosen, "outcome": outcome, "models": models}


def trust(session: Session, query: PageState) -> Json:
    """Return what warns of each model's answer; and how many checks were made without a warning."""
    return {
        "models": [
            {
                "name": opened.name,
                "warnings": [check.text for check in checks if check.good is False],
                "passed": sum(check.good is True for check in checks),
            }
            for k, opened in enumerate(session.models)
            for checks in [quick_checks(session, query, k)]
        ]
    }


def checks(session: Session, query: PageState) -> Json:
    """Return the checks of each model's answer."""
    return {
        "models": [
            {
                "name": opened.name,
                "checks": [asdict(check) for check in run_checks(session, query, k)],
                "densities": [asdict(density) for density in densities(session, query, k)],
            }
            for k, opened in enumerate(session.models)
        ]
    }


def sweep(session: Session, query: PageState, name: str) -> Json:
    """Return a sweep of each model: frames, or the values that follow."""
    models = []
    for k, opened in enumerate(session.models):
        strip = run_sweep(session, query, name, k)
        models.append(
            {
                "name": opened.name,
                "values": strip.values,
                "labels": strip.labels,
                "images": {
                    key: [uri(image_png(frame, query.slice)) for frame in frames]
                    for key, frames in strip.images.items()
                },
                "texts": {
                    key: [spell_draws(session.variables[key], draws) for draws in values]
                    for key, values in strip.numbers.items()
                },
                "numbers": {
                    key: [float(draws.double().mean()) for draws in values]
                    for key, values in strip.numbers.items()
                    if not isinstance(session.variables[key], Categorical)
                },
            }
        )
    return {"name": name, "models": models}


def code(session: Session, query: PageState) -> Json:
    """Return code that computes what the page shows, model by model."""
    models = range(len(session.models))
    return {
        "python": "\n".join(python(session, query, k) for k in models),
        "command": "\n".join(command(session, query, k) for k in models),
    }


def _variable(session: Session, name: str) -> Json:
    variable = session.variables[name]
    schema: Json = {"kind": variable.kind, "unit": variable.unit, "settable": not variable.shape}
    if isinstance(variable, Image):
        _, height, width = planar(torch.empty(variable.shape, device="meta")).shape
        schema |= {"height": height, "width": width, "channels": variable.channels}
        schema |= {"volume": variable.depth is not None, "sizes": variable.sizes}
    elif not variable.shape:
        low, high = span(session, name)
        schema |= {"low": low, "high": high}
        if isinstance(variable, Discrete):
            schema["labels"] = [variable.label(code) for code in range(variable.classes)]
    return schema


def _graph(graph: CausalGraph) -> Json:
    """Return arrows, and levels of nodes."""
    return {
        "edges": [list(edge) for edge in graph.edges],
        "bidirected": [list(edge) for edge in graph.bidirected],
        "levels": levels(graph),
        "text": graph.to_text(),
    }


def _statuses(graph: CausalGraph, answer: Answer, query: PageState) -> dict[str, str]:
    """Return statuses; in a population, descendants of a set variable are propagated too.

    By backtracking, what is arrived at is the antecedent, and what leads to it has moved.
    """
    status: dict[str, str] = dict(answer.provenance.status)
    if query.rung == "backtracking" and query.do:
        moved = dict.fromkeys(answer.provenance.moved, "moved")
        return status | moved | dict.fromkeys(query.do, "antecedent")
    if query.rung == "doing":
        below = graph.do(*query.do).descendants(list(query.do)) - set(query.do)
        status |= dict.fromkeys(below, "propagated")
    return status


def _values(session: Session, answer: Answer, name: str, doing: bool) -> Json:
    """Return old and new values as text and, of scalars, as numbers with rows to compare."""
    variable, old, new = session.variables[name], answer.old(name), answer.draws(name)
    values: Json = {"old": spell_draws(variable, old), "new": spell_draws(variable, new)}
    if variable.shape:
        return values
    values |= {"was": _mean(old), "is": _mean(new)}
    if doing:
        values["difference"] = _difference(variable, old, new)
    if not answer.imagined:
        values["populations"] = _populations(variable, old, new)
    elif not session.images:
        edges, shares = _histogram(variable, [session.rows[name]])
        values["among"] = {"edges": edges, "counts": shares[0]}
    return values


def _difference(variable: Variable, old: Tensor, new: Tensor) -> str | None:
    """Return the mean difference of the two populations with its interval; of categories, a share.

    Both populations have the same noise, so that rows can be subtracted.
    """
    present = ~(variable.is_missing(old) | variable.is_missing(new))
    if int(present.sum()) < 2:
        return None
    old, new = old[present], new[present]
    if isinstance(variable, Categorical):
        share = average_of(old != new)
        ends = (f"{float(part):.0%}" for part in (share.effect, share.low, share.high))
        return "{} change ({} to {})".format(*ends)
    number = isinstance(variable, Continuous)
    mean = average_of(variable.difference(new.double(), old.double()), numbers=number)
    effect, low, high = (float(part) for part in (mean.effect, mean.low, mean.high))
    if isinstance(variable, Binary):
        return f"{variable.label(1)} {effect:+.1%} ({low:.1%} to {high:.1%})"
    interval = " to ".join(number_text(end, ERROR_DIGITS) for end in (low, high))
    return f"{number_text(effect, ERROR_DIGITS, sign=True)} ({interval}) {variable.unit}".rstrip()


def _mean(value: Tensor) -> float | None:
    mean = float(value.double().nanmean())
    return mean if math.isfinite(mean) else None


def _populations(variable: Variable, old: Tensor, new: Tensor) -> Json:
    """Return two histograms over the same bins, as shares."""
    edges, shares = _histogram(variable, [old, new])
    return {"edges": edges, "before": shares[0], "after": shares[1]}


def _histogram(variable: Variable, parts: list[Tensor]) -> tuple[list[float], list[list[float]]]:
    both = torch.cat(parts).double()
    both = both[~both.isnan()]
    if isinstance(variable, Discrete):
        edges = [code - 0.5 for code in range(variable.classes + 1)]
    else:
        low, high = float(both.quantile(0.002)), float(both.quantile(0.998))
        edges = torch.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    ends = torch.tensor(edges, dtype=torch.float64)
    return edges, [
        (torch.histogram(part.double().cpu(), ends)[0] / len(part)).tolist() for part in parts
    ]


def _panels(answer: Answer, name: str, at: float) -> Json:
    old, new = answer.old(name), answer.draws(name)
    before, after = old.mean(0), new.mean(0)
    return {
        "before": uri(image_png(before, at)),
        "after": uri(image_png(after, at)),
        "change": uri(signed_png(after - before, at)),
        "moved": _moved(after - before),
        "spread": uri(spread_png(new.std(0), at)) if len(new) > 1 else None,
        "draws": [uri(image_png(one, at)) for one in new[:MAX_DRAWS]] if len(new) > 1 else [],
    }


def _moved(difference: Tensor) -> str:
    levels = float(difference.abs().mean()) * 255
    return f"{number_text(levels, ERROR_DIGITS)} grey levels on average"
