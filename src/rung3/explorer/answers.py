"""What the page is told: answers as plain JSON, pictures as addresses that hold them."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from rung3.data.pictures import uri
from rung3.data.provenance import TRUSTED
from rung3.data.variables import Categorical, Continuous, Discrete, Image, Variable
from rung3.explorer import effects as maps
from rung3.explorer import sweep
from rung3.explorer.checks import believe, densities
from rung3.explorer.export import command, python
from rung3.explorer.png import SIGNED, SPREAD, image_png, signed_png, spread_png
from rung3.explorer.query import PageState
from rung3.explorer.session import Answer, Session
from rung3.explorer.uploads import LARGEST, readers
from rung3.graph import CausalGraph
from rung3.mechanisms.networks.encoding import centre

__all__ = ["answer", "belief", "effects", "film", "schema", "taken", "truth"]

Json = dict[str, Any]

BINS = 24


def schema(session: Session) -> Json:
    """Models, variables and graphs: what does not change."""
    return {
        "models": [opened.name for opened in session.models],
        "broken": session.broken,
        "rows": session.rows.n,
        "world": session.world is not None,
        "images": session.images,
        "own": len(session.images) == 1,
        "readable": list(readers(session)),
        "largest": LARGEST,
        "signed": SIGNED,
        "spread": SPREAD,
        "trusted": TRUSTED,
        "graphs": [_graph(opened.model.graph) for opened in session.models],
        "variables": {name: _variable(session, name) for name in session.variables},
    }


def answer(session: Session, query: PageState) -> Json:
    """The answer of each model to a query."""
    answers = session.answer(query)
    return {
        "link": query.link(),
        "inferred": list(session.inferred(query)),
        "lacking": session.lacking(query) if query.rung == "imagining" else [],
        "models": [
            {
                "name": opened.name,
                "status": _statuses(opened.model.graph, one, query),
                "outside": dict(one.provenance.outside),
                "effective": one.provenance.effective_sample_size,
                "values": {
                    name: _values(session, one, name)
                    for name in session.variables
                    if name not in session.images
                },
                "images": {name: _panels(one, name) for name in session.images},
            }
            for opened, one in zip(session.models, answers, strict=True)
        ],
    }


def truth(session: Session, query: PageState) -> Json:
    """The true counterfactual, where it is known; and of each model how far it is from it."""
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
            name: _spell(variable, true[name][None])
            for name, variable in session.variables.items()
            if name not in session.images
        },
        "images": {name: uri(image_png(true[name])) for name in session.images},
        "errors": errors,
    }


def effects(session: Session, query: PageState, outcome: str, through: str | None) -> Json:
    """Direct, indirect and total effect of each model, and the arrows that they come along."""
    session.check(query)
    session.models[0].model.graph.names([outcome])
    each = [maps.mediators(session, query, outcome, k) for k in range(len(session.models))]
    known = list(dict.fromkeys(name for names in each for name in names))
    chosen = through if through in known else next(iter(known), None)
    if chosen is None:
        return {"mediators": [], "models": []}
    found = []
    for k, opened in enumerate(session.models):
        if chosen not in each[k]:
            found.append({"name": opened.name, "lacks": f"no path here is through {chosen}"})
            continue
        split = maps.split(session, query, outcome, chosen, k)
        parts: Json = {"name": opened.name}
        for part in ("direct", "indirect", "total"):
            value: Tensor = getattr(split.effects, part).double()
            value = value if query.draws is None else value.mean(0)
            variable = session.variables[outcome]
            image = isinstance(variable, Image)
            parts[part] = {
                "png": uri(signed_png(value)) if image else None,
                "said": f"{float(value.abs().mean()) * 255:.3g} grey levels on average"
                if image
                else f"{float(value.mean()):+.4g} {variable.unit}".rstrip(),
                "edges": [list(edge) for edge in getattr(split, part)],
            }
        found.append(parts)
    return {"mediators": known, "through": chosen, "outcome": outcome, "models": found}


def belief(session: Session, query: PageState) -> Json:
    """What can be checked of each model's answer."""
    return {
        "models": [
            {
                "name": opened.name,
                "checks": [asdict(check) for check in believe(session, query, k)],
                "densities": [asdict(density) for density in densities(session, query, k)],
            }
            for k, opened in enumerate(session.models)
        ]
    }


def film(session: Session, query: PageState, name: str) -> Json:
    """A sweep of each model: frames, or the values that follow."""
    found = []
    for k, opened in enumerate(session.models):
        strip = sweep.sweep(session, query, name, k)
        found.append(
            {
                "name": opened.name,
                "values": strip.values,
                "labels": strip.labels,
                "images": {
                    key: [uri(image_png(frame)) for frame in frames]
                    for key, frames in strip.images.items()
                },
                "words": {
                    key: [_spell(session.variables[key], draws) for draws in each]
                    for key, each in strip.numbers.items()
                },
                "numbers": {
                    key: [float(draws.double().mean()) for draws in each]
                    for key, each in strip.numbers.items()
                    if not isinstance(session.variables[key], Categorical)
                },
            }
        )
    return {"of": name, "models": found}


def taken(session: Session, query: PageState) -> Json:
    """Code that gives what the page shows, model by model."""
    each = range(len(session.models))
    return {
        "python": "\n".join(python(session, query, k) for k in each),
        "command": "\n".join(command(session, query, k) for k in each),
    }


def _variable(session: Session, name: str) -> Json:
    variable = session.variables[name]
    found: Json = {"kind": variable.kind, "unit": variable.unit, "settable": not variable.shape}
    if isinstance(variable, Image):
        found |= {"height": variable.height, "width": variable.width}
        found |= {"channels": variable.channels}
    elif not variable.shape:
        low, high = sweep.span(session, name)
        found |= {"low": low, "high": high}
        if isinstance(variable, Discrete):
            found["labels"] = [variable.label(code) for code in range(variable.classes)]
    return found


def _graph(graph: CausalGraph) -> Json:
    """Arrows, and rows of the drawing, causes above: each just above its nearest effect."""
    depth: dict[str, int] = {}
    for name in graph.order:
        depth[name] = 1 + max((depth[parent] for parent in graph.parents(name)), default=-1)
    for name in reversed(graph.order):
        if below := [depth[child] for child in graph.children(name)]:
            depth[name] = max(depth[name], min(below) - 1)
    return {
        "edges": [list(edge) for edge in graph.edges],
        "bidirected": [list(edge) for edge in graph.bidirected],
        "levels": depth,
    }


def _statuses(graph: CausalGraph, answer: Answer, query: PageState) -> dict[str, str]:
    """Of every variable; in a population, what descends from a set one is propagated too."""
    status: dict[str, str] = dict(answer.provenance.status)
    if query.rung == "doing":
        below = graph.do(*query.do).descendants(list(query.do)) - set(query.do)
        status |= dict.fromkeys(below, "propagated")
    return status


def _values(session: Session, answer: Answer, name: str) -> Json:
    """Old and new in words; as numbers where they are ones; and populations to see them among."""
    variable, old, new = session.variables[name], answer.old(name), answer.draws(name)
    found: Json = {"old": _spell(variable, old), "new": _spell(variable, new)}
    if variable.shape:
        return found
    found |= {"was": _mean(old), "is": _mean(new)}
    if not answer.imagined:
        found["populations"] = _populations(variable, old, new)
    elif not session.images:
        edges, shares = _histogram(variable, [session.rows[name]])
        found["among"] = {"edges": edges, "counts": shares[0]}
    return found


def _mean(value: Tensor) -> float | None:
    mean = float(value.double().nanmean())
    return mean if math.isfinite(mean) else None


def _populations(variable: Variable, old: Tensor, new: Tensor) -> Json:
    """Two histograms over the same bins, as shares."""
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


def _panels(answer: Answer, name: str) -> Json:
    old, new = answer.old(name), answer.draws(name)
    before, after = old.mean(0), new.mean(0)
    found: Json = {
        "before": uri(image_png(before)),
        "after": uri(image_png(after)),
        "change": uri(signed_png(after - before)),
        "moved": f"{float((after - before).abs().mean()) * 255:.3g} grey levels on average",
        "spread": uri(spread_png(new.std(0))) if len(new) > 1 else None,
        "draws": [uri(image_png(one)) for one in new[:8]] if len(new) > 1 else [],
    }
    return found


def _spell(variable: Variable, value: Tensor) -> str:
    """A value, or the mean and deviation of several, with its unit."""
    if bool(variable.is_missing(value).all()):
        return "missing"
    if isinstance(variable, Discrete):
        codes, counts = value.long().unique(return_counts=True)
        most = int(counts.argmax())
        label = variable.label(int(codes[most]))
        share = float(counts[most] / counts.sum())
        return label if share == 1 else f"{label} ({share:.0%})"
    if variable.shape:
        return ", ".join(f"{v:.3g}" for v in value.double().mean(0).flatten()[:6].tolist())
    if isinstance(variable, Continuous) and variable.circular:
        return f"{float(centre(variable, value.double())):.3g} {variable.unit}".rstrip()
    value = value.double()
    spread = float(value.std()) if len(value) > 1 else 0.0
    more = f" ± {spread:.2g}" if spread > 0 else ""
    return f"{float(value.nanmean()):.4g}{more} {variable.unit}".rstrip()
