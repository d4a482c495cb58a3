"""Spread: how far answers to several draws of the abducted noise are apart.

The standard deviation over draws of every pixel, or number, averaged over the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rung3.data.distances import scale
from rung3.data.variables import Discrete
from rung3.evaluation.measures.base import Answers, Examination, Measure, Section
from rung3.evaluation.measures.table import Table, cell

__all__ = ["SPREAD"]


def _on_answers(exam: Examination, answers: Answers) -> None:
    if answers.draws is None:
        return
    for name in answers.query.affected(exam.model):
        variable = exam.model.variables[name]
        if name in exam.outcomes and not isinstance(variable, Discrete):
            deviation = answers.draws[name].std(0).reshape(answers.rows.n, -1).mean(1)
            exam.add(("spread", answers.query.label, name), name, scale(variable) * deviation)


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    table = Table(
        "Spread",
        "Standard deviation over draws of the abducted noise, averaged over pixels.",
        ["", "spread"],
    )
    for label, by_name in metrics.get("spread", {}).items():
        for name, mean in by_name.items():
            table.rows.append((f"{name} under {label}", [cell(mean)]))
    yield table


SPREAD = Measure(
    name="spread",
    about="standard deviation over draws of the noise",
    sections=(
        Section(
            "spread",
            heading="Spread over draws of the noise",
            counts_draws=lambda path: True,
        ),
    ),
    standard=True,
    essential=True,
    draws="always",
    on_answers=_on_answers,
    tables=_tables,
)
