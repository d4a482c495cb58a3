"""What a verdict needs beside the measures: how training went, how far rows differ, the support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.distances import distance, unit
from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.data.stored import rows_at_once
from rung3.data.variables import Continuous, Image
from rung3.evaluation.positivity import Positivity, positivity
from rung3.scm.query import outcomes
from rung3.training.relearning import is_solved

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["between_rows", "supports", "trainings"]


def trainings(model: SCM, history: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, by mechanism that was trained, its kind, whether it is solved, its steps and losses.

    Args:
        model: The fitted model.
        history: Losses by name, as `History.curves` gives them; a model that was trained twice has
            those of both trainings.
    """
    records = {}
    for name, record in model.fitted.items():
        if "epochs" not in record or name not in model.variables:
            continue
        curves = history.get(name, {})
        curves = curves if isinstance(curves, Mapping) else {"training": list(curves)}
        losses = curves.get("validation") or curves.get("training") or []
        if record.get("patience") is not None:  # the weights are those of the best epoch so far
            losses = list(accumulate(losses, min))
        epochs = max(record["epochs"], len(losses))
        size = min(record["batch_size"], record["rows"])
        records[name] = {
            "kind": type(model.mechanisms[name]).__name__,
            "image": isinstance(model.variables[name], Image),
            "solved": is_solved(model.mechanisms[name]),
            "epochs": epochs,
            "steps": epochs * (record["rows"] // max(1, size)),
            "losses": [float(loss) for loss in losses if isinstance(loss, int | float)],
        }
        if "revived_at_step" in record:
            records[name]["revived"] = record["revived_at_step"]
    return records


def between_rows(model: SCM, rows: Rows, seed: int) -> dict[str, dict[str, Any]]:
    """Return, by outcome, the mean distance of a row from another one, taken at random."""
    order = torch.randperm(rows.n, generator=stream(seed, "other rows"))
    values = {}
    for name in outcomes(model):
        variable = model.variables[name]
        value = rows[name]
        size = rows_at_once(value)
        pairs = zip(order.split(size), torch.arange(rows.n).split(size), strict=True)
        apart = torch.cat([distance(variable, value[at], value[other]) for other, at in pairs])
        image = isinstance(variable, Image)
        values[name] = {"apart": float(apart.mean()), "unit": unit(variable), "image": image}
    return values


def supports(
    model: SCM,
    train: Rows,
    rows: Rows,
    targets: Mapping[str, Mapping[str, Sequence[Tensor]]],
) -> dict[str, list[dict[str, Any]]]:
    """Return, by intervention, how its targets lie in the training data.

    Args:
        model: The model.
        train: The training rows.
        rows: The rows that were asked, `(n, ...)`.
        targets: By intervention and variable, what it was set to, batch by batch.
    """
    supported: dict[str, list[dict[str, Any]]] = {}
    for label, parts in targets.items():
        values = {name: torch.cat(list(part)) for name, part in parts.items()}
        queried = Rows({**dict(rows), **values})
        supported[label] = [
            _as_numbers(place, model, train)
            for name, value in values.items()
            for place in positivity(model, train, queried, name, value)
        ]
    return supported


def _as_numbers(place: Positivity, model: SCM, train: Rows) -> dict[str, Any]:
    variable, value = model.variables[place.variable], train[place.variable]
    number = isinstance(variable, Continuous) and not variable.shape
    return {
        "variable": place.variable,
        "outcome": place.outcome,
        "seen": place.seen,
        "median": float(value[~variable.is_missing(value)].median()) if number else None,
        "outside": place.outside,
        "far": place.far,
    }
