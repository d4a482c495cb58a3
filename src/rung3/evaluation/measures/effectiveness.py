"""Effectiveness: whether an image shows the values that it was asked for (lecture 1.9).

    e(d(x~), pa~)      the error of an oracle d, or of a measurement, on the answer x~

Read off by oracles, networks that see the image alone, or measured. On real test images the same
error is the floor, which is the oracle's own; that of the untouched image against the values set
is what doing nothing scores. For a parent that should not have changed, the error beyond that of
the same row's real image is amplification
(`rung3.evaluation.measures.amplification`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rung3.data.distances import distance, unit
from rung3.data.rows import Rows
from rung3.data.variables import Discrete, Image
from rung3.evaluation.measures.base import (
    FACTUAL,
    KEPT,
    MODES,
    NOTHING,
    OBSERVED,
    TRUTH,
    Answers,
    Examination,
    Line,
    Measure,
    Readings,
    Section,
    read_images,
)
from rung3.evaluation.measures.table import Cell, Table, cell
from rung3.evaluation.scores import Path

__all__ = ["EFFECTIVENESS"]


def _on_factual(exam: Examination, rows: Rows, at: slice, known: bool, readings: Readings) -> None:
    """Score the floor: errors of oracles, and of measurements where known, on real images."""
    _read(exam, FACTUAL, OBSERVED, rows, readings)
    if known:
        _measure(exam, FACTUAL, OBSERVED, rows)


def _on_answer(exam: Examination, answers: Answers, mode: str) -> None:
    _read(exam, answers.query.label, mode, answers.by_mode[mode], answers.readings[mode])
    if answers.known:
        _measure(exam, answers.query.label, mode, answers.by_mode[mode])


def _on_answers(exam: Examination, answers: Answers) -> None:
    _read(exam, answers.query.label, NOTHING, answers.by_mode[KEPT], answers.readings[FACTUAL])
    if answers.true is not None:
        readings = read_images(exam.oracles, answers.true, exam.model.device, exam.batch_size)
        _read(exam, answers.query.label, TRUTH, answers.true, readings)
        _measure(exam, answers.query.label, TRUTH, answers.true)


def _read(exam: Examination, label: str, mode: str, rows: Rows, readings: Readings) -> None:
    """Score oracles against the values that the image was made for."""
    for (image, name), oracle in exam.oracles.items():
        error = distance(oracle.target, readings[image, name].value, rows[name])
        if isinstance(oracle.target, Discrete):
            score, of = 1 - error, "accuracy"
        else:
            score, of = error, unit(oracle.target)
        exam.scores.add(("effectiveness", image, label, name, mode), score, of)


def _measure(exam: Examination, label: str, mode: str, rows: Rows) -> None:
    """Score measurements against the values that the image was made for."""
    for image in exam.outcomes:
        for name in exam.model.graph.parents(image):
            if name in exam.readers and isinstance(exam.model.variables[image], Image):
                path = ("measured", image, label, name, mode)
                with exam.flagged([path]):
                    measured = exam.readers[name](rows[image]).to(rows[name].device)
                    error = distance(exam.model.variables[name], measured, rows[name])
                    exam.add(path, name, error)


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    learned, measured = metrics.get("effectiveness", {}), metrics.get("measured", {})
    for image in dict.fromkeys([*learned, *measured]):
        kinds = {"oracle": learned.get(image, {}), "measured": measured.get(image, {})}
        columns = [(kind, name) for kind, part in kinds.items() for name in part.get(FACTUAL, {})]
        heads = [f"{name}, {_of(kinds[kind][FACTUAL][name])}, {kind}" for kind, name in columns]
        table = Table(
            f"Effectiveness: does the {image} show the values it was asked for?",
            "Read off by oracles (networks that see the image alone), or measured. The first row "
            "is their error on real test images, the floor of each column; rows of doing nothing "
            "are what the untouched image scores, rows of the truth the true counterfactual.",
            ["", *heads],
        )
        for label in next(iter(part for part in kinds.values() if part)):
            answerers = dict.fromkeys(
                answerer for kind, name in columns for answerer in kinds[kind][label].get(name, {})
            )
            for answerer in answerers:
                cells = [
                    _shaded(kinds[kind][label].get(name, {}), answerer, kinds[kind][FACTUAL][name])
                    for kind, name in columns
                ]
                several = len(answerers.keys() - {TRUTH, NOTHING}) > 1
                table.rows.append((_labelled(label, answerer, several), cells))
        yield table


def _shaded(by_answerer: Mapping[str, Any], answerer: str, floor: Mapping[str, Any]) -> Cell:
    """Return a cell with its place between the floor, 0, and doing nothing, 1."""
    shown = cell(by_answerer.get(answerer), False)
    parts = [floor.get(OBSERVED), by_answerer.get(answerer), by_answerer.get(NOTHING)]
    means = [part["mean"] for part in parts if part and part["mean"] is not None]
    if answerer in (OBSERVED, NOTHING) or len(means) < len(parts):
        return shown
    least, mean, most = means
    far = 0.0 if least == most else (mean - least) / (most - least)
    return shown._replace(far=min(1.0, max(0.0, far)))


def _labelled(label: str, answerer: str, several: bool) -> str:
    if answerer == OBSERVED:
        return "real test images (floor)"
    if answerer in (TRUTH, NOTHING):
        return f"{label}: {'the truth' if answerer == TRUTH else answerer}"
    return f"{label}, {MODES.get(answerer, answerer)}" if several else label


def _of(by_answerer: Mapping[str, Any]) -> str:
    unit = by_answerer[OBSERVED].get("unit", "")
    return str(unit) if unit == "accuracy" else f"MAE {unit}".rstrip()


def _line(path: Path) -> Line:
    _, image, label, name, mode = path
    if label == FACTUAL:
        return Line(f"{name} of real {image}s (floor)")
    return Line(f"{name} under {label}", mode)


EFFECTIVENESS = Measure(
    name="effectiveness",
    about="error of oracles and measurements on the values that the image should show",
    sections=(
        Section(
            "effectiveness",
            heading="Effectiveness, read off by oracles",
            better={"accuracy": "higher", "": "lower"},
            answerer=4,
            line=_line,
        ),
        Section(
            "measured",
            heading="Effectiveness, measured",
            better={"": "lower"},
            answerer=4,
            line=_line,
        ),
    ),
    always=True,
    essential=True,
    on_factual=_on_factual,
    on_answer=_on_answer,
    on_answers=_on_answers,
    tables=_tables,
)
