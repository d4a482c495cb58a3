"""The numbers as tables: the essential ones for the console, and all of them for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rung3.evaluation.measures.collapse import UNUSED
from rung3.evaluation.measures.truth import NOTHING
from rung3.evaluation.runner import AVERAGED, FACTUAL, KEPT, LATENT, OBSERVED, SCALED, TRUTH

__all__ = ["NONE", "Cell", "Table", "cell", "tables"]

MODES = {KEPT: "noise kept", LATENT: "from z alone", AVERAGED: "mean of draws"}


class Cell(NamedTuple):
    """A number, and its interval or a remark."""

    value: str
    note: str = ""


NONE = Cell("")


@dataclass
class Table:
    """A table of numbers.

    Attributes:
        title: What it asks.
        note: How to read it.
        columns: Heads of its columns; the first holds the rows' names.
        rows: Each a name, and a cell for every other column.
    """

    title: str
    note: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)


def tables(metrics: Mapping[str, Any]) -> list[Table]:
    """All tables for which there are numbers."""
    return [table for table in _all(metrics) if table.rows]


def _all(metrics: Mapping[str, Any]) -> Iterator[Table]:
    yield _seeing(metrics.get("log_prob", {}))
    yield _latents(metrics.get("divergence", {}))
    yield from _truth(metrics.get("truth", {}))
    yield from _effectiveness(metrics)
    yield _composition(metrics)
    yield _spread(metrics.get("spread", {}))


def _seeing(metrics: Mapping[str, Any]) -> Table:
    known = any("world" in by_who for by_who in metrics.values())
    table = Table(
        "Seeing: the log-density of the test rows",
        "Averaged over all test rows, in nats, in the variable's own unit; a VAE's is a lower "
        "bound. It ranks fits, not counterfactuals."
        + (" No model is expected to exceed the world." if known else ""),
        ["", "model", *(["world"] if known else [])],
    )
    for name, by_who in metrics.items():
        if "model" in by_who:
            cells = [_density(by_who.get(who)) for who in ("model", "world")]
            table.rows.append((name, cells if known else cells[:1]))
    return table


def _density(found: Mapping[str, Any] | None) -> Cell:
    if found is None:
        return NONE
    if found["impossible"]:
        return Cell("-inf nats", f"{found['impossible']} rows have density zero")
    known = cell(found)
    return known._replace(value=f"at least {known.value}") if found["bound"] else known


def _latents(metrics: Mapping[str, Any]) -> Table:
    table = Table(
        "Latents: what they hold of the image",
        "Divergence of each layer's posterior from its prior, in nats a row: at least what the "
        f"layer tells about the image. Below {UNUSED} nats it is unused (posterior collapse). From "
        "the first layer that is decoded to the last.",
        ["", "divergence", "dimensions", ""],
    )
    for name, by_layer in metrics.items():
        for layer, found in by_layer.items():
            use = Cell("unused") if found["unused"] else NONE
            cells = [cell(found), Cell(str(found["dimensions"])), use]
            table.rows.append((f"{name}: {layer}", cells))
    return table


def _composition(metrics: Mapping[str, Any]) -> Table:
    composed, reversed_ = metrics.get("composition", {}), metrics.get("reversibility", {})
    every = [
        *composed.values(),
        *(part for by_name in reversed_.values() for part in by_name.values()),
    ]
    modes = list(dict.fromkeys(mode for by_mode in every for mode in by_mode))
    table = Table(
        "Composition and reversibility",
        "How far a value drifts when nothing is changed, or is changed and changed back. Doing "
        "nothing at all scores 0 here: read it beside the other tables.",
        ["", *(MODES.get(mode, mode) for mode in modes)],
    )
    for name, by_mode in composed.items():
        for m in by_mode[KEPT]:
            cells = [cell(by_mode[mode][m]) for mode in modes]
            table.rows.append((f"{name}: nothing changed, {_times(m)}", cells))
    for label, by_name in reversed_.items():
        for name, by_mode in by_name.items():
            for m in by_mode[KEPT]:
                cells = [cell(by_mode[mode][m]) for mode in modes]
                table.rows.append((f"{name}: {label} and back, {_times(m)}", cells))
    return table


def _effectiveness(metrics: Mapping[str, Any]) -> Iterator[Table]:
    learned, measured = metrics.get("effectiveness", {}), metrics.get("measured", {})
    for image in dict.fromkeys([*learned, *measured]):
        kinds = {"oracle": learned.get(image, {}), "measured": measured.get(image, {})}
        columns = [(kind, name) for kind, part in kinds.items() for name in part.get(FACTUAL, {})]
        heads = [f"{name}, {_of(kinds[kind][FACTUAL][name])}, {kind}" for kind, name in columns]
        table = Table(
            f"Effectiveness: does the {image} show what it was told to?",
            "Read off by oracles (networks that see the image alone), or measured. The first row "
            "is their error on real test images, the floor of each column; rows of the truth are "
            "their error on true counterfactuals.",
            ["", *heads],
        )
        for label in next(iter(part for part in kinds.values() if part)):
            whos = dict.fromkeys(
                who for kind, name in columns for who in kinds[kind][label].get(name, {})
            )
            for who in whos:
                cells = [
                    cell(kinds[kind][label].get(name, {}).get(who), False) for kind, name in columns
                ]
                table.rows.append((_who(label, who, len(whos.keys() - {TRUTH}) > 1), cells))
        yield table


def _who(label: str, who: str, several: bool) -> str:
    if who == OBSERVED:
        return "real test images (floor)"
    if who == TRUTH:
        return f"{label}: the truth"
    return f"{label}, {MODES.get(who, who)}" if several else label


def _truth(metrics: Mapping[str, Any]) -> Iterator[Table]:
    known = {label: part for label, part in metrics.items() if "no truth" not in part}
    answers = dict.fromkeys(
        who for part in known.values() for by_who in part.values() for who in by_who
    )
    own = [who for who in answers if who in MODES or who.startswith(SCALED)]
    others = [who for who in answers if who not in (*own, NOTHING)]
    table = Table(
        "Against the true counterfactual",
        "Skill is 1 - error / error of doing nothing: 1 is perfect, 0 is doing nothing.",
        ["", "error", f"error of {NOTHING}", *(f"skill, {MODES.get(k, k)}" for k in own)],
    )
    baselines = Table(
        "Skill of baselines",
        "They are handed the true counterfactual parents, and no model.",
        ["", *others],
    )
    for label, by_name in metrics.items():
        if label not in known:
            empty = [NONE] * (len(table.columns) - 2)
            table.rows.append((label, [Cell("no truth", by_name["no truth"]), *empty]))
            continue
        for name, by_who in by_name.items():
            cells = [cell(by_who[KEPT]["error"]), cell(by_who[NOTHING]["error"])]
            cells += [cell(by_who[k]["skill"]) if k in by_who else NONE for k in own]
            table.rows.append((f"{name} under {label}", cells))
            if any(who in by_who for who in others):
                cells = [cell(by_who[k]["skill"]) if k in by_who else NONE for k in others]
                baselines.rows.append((f"{name} under {label}", cells))
    yield table
    yield baselines


def _spread(metrics: Mapping[str, Any]) -> Table:
    table = Table(
        "Spread",
        "Standard deviation over draws of the abducted noise, averaged over pixels.",
        ["", "spread"],
    )
    for label, by_name in metrics.items():
        for name, found in by_name.items():
            table.rows.append((f"{name} under {label}", [cell(found)]))
    return table


def cell(found: Mapping[str, Any] | None, with_unit: bool = True) -> Cell:
    """A mean with its interval, or why there is none."""
    if found is None:
        return NONE
    if found["mean"] is None:
        return Cell("undefined", found["undefined"])
    unit = f" {found['unit']}" if with_unit and found.get("unit") else ""
    digits = ".3g" if unit and unit != " nats" else ".3f"
    if 0 < abs(found["mean"]) < 5e-4:
        return Cell(f"< 0.001{unit}")
    value = f"{found['mean']:{digits}}{unit}"
    if found["low"] is None or found["low"] == found["high"]:
        return Cell(value)
    return Cell(value, f"{found['low']:{digits}} to {found['high']:{digits}}")


def _of(by_who: Mapping[str, Any]) -> str:
    unit = by_who[OBSERVED].get("unit", "")
    return str(unit) if unit == "accuracy" else f"MAE {unit}".rstrip()


def _times(m: str) -> str:
    return "once" if m == "1" else f"{m} times"
