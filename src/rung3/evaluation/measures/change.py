"""Change: how far an intervention moves the variables below it, on average over the rows.

    mean (x~ - x)  and  mean |x~ - x|  of numbers and levels,     share of x~ != x  of categories

The first is the average total effect of that intervention on these rows: near 0 where rows are set
to each other's values, up and down. The second says how far single rows move. Neither is better
high or low.
"""

from __future__ import annotations

import torch

from rung3.data.variables import Binary, Categorical, Discrete, Image
from rung3.evaluation.measures.base import KEPT, Answers, Examination, Line, Measure, Section
from rung3.evaluation.scores import Path

__all__ = ["CHANGE"]


def _on_answers(exam: Examination, answers: Answers) -> None:
    for name in answers.query.affected(exam.model):
        variable = exam.model.variables[name]
        if isinstance(variable, Image) or variable.shape:
            continue
        before, after = answers.rows[name], answers.by_mode[KEPT][name]
        kind = torch.get_default_dtype()
        if isinstance(variable, Categorical):
            change, unit = (after != before).to(kind), "share that changes"
        else:
            change = variable.difference(after.to(kind), before.to(kind))
            unit = "levels" if isinstance(variable, Discrete) else variable.unit
            unit = f"in the share of {variable.label(1)}" if isinstance(variable, Binary) else unit
            size = "share that changes" if isinstance(variable, Binary) else unit
            exam.scores.add(("size of change", answers.query.label, name), change.abs(), size)
        exam.scores.add(("change", answers.query.label, name), change, unit)


def _line(path: Path) -> Line:
    _, label, name = path
    return Line(f"{name} under {label}")


CHANGE = Measure(
    name="change",
    about="how far an intervention moves the variables below it, on average",
    sections=(
        Section("change", heading="Mean change", line=_line),
        Section("size of change", heading="Mean size of change", line=_line),
    ),
    always=True,
    on_answers=_on_answers,
    tables=lambda metrics: (),  # stands among the pictures of the report
)
