"""The card of a run's model: what it is, what it learned from, how good, what it is not for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rung3.evaluation.report.report import Report
from rung3.evaluation.report.tables import tables
from rung3.evaluation.verdict import MARKS
from rung3.scm.scm import SCM
from rung3.study.study import Study

__all__ = ["CARD", "model_card"]

CARD = "card.md"
"""Name of the card in a run's folder."""


def model_card(study: Study, model: SCM, report: Report) -> str:
    """Return the card as Markdown.

    Args:
        study: The study that was run.
        model: Its fitted model.
        report: What was found of it.
    """
    lines = [
        f"# {study.name}",
        "",
        f"A structural causal model, fitted by rung3: `{study.graph}`.",
        "",
        *_verdict(report),
        "",
        *_variables(model),
        "",
        "## Training",
        "",
        *_training(study, model, report),
        "",
        "## Figures",
        "",
        *_figures(report),
        "## What it is not for",
        "",
        "The graph is an assumption of whoever drew it, and a counterfactual rests on the form of "
        "the mechanisms, which data cannot check. Answers outside the ranges above are "
        "extrapolations. Nothing here says how the model does on data of another origin.",
    ]
    return "\n".join(lines) + "\n"


def _verdict(report: Report) -> Iterator[str]:
    yield f"**{report.verdict.headline.capitalize()}.**"
    yield ""
    for finding in report.verdict.findings:
        yield f"- {MARKS[finding.mark]} {finding.text}"


def _variables(model: SCM) -> Iterator[str]:
    yield "| variable | what it is | mechanism | parameters |"
    yield "|---|---|---|---|"
    for name, variable in model.variables.items():
        mechanism = model.mechanisms[name]
        count = sum(parameter.numel() for parameter in mechanism.parameters())
        yield f"| {name} | {variable} | {mechanism.describe()} | {count:,} |"


def _training(study: Study, model: SCM, report: Report) -> Iterator[str]:
    kind: Any = study.data
    yield f"Data: `{kind.kind}`, seed {study.seed}."
    yield ""
    run = report.metrics.get("run", {})
    for reason, count in run.get("rows left out", {}).items():
        yield f"- {count} row{'s' * (count > 1)} of the data left out: {reason}"
    for name, count in run.get("training rows with a gap", {}).items():
        yield f"- {count} training row{'s' * (count > 1)} without {name}, of use to the others"
    for name, record in model.fitted.items():
        if "epochs" in record:
            yield (
                f"- {name}: {record['rows']:,} rows, {record['epochs']} epochs, finished "
                f"{record['when']}"
            )


def _figures(report: Report) -> Iterator[str]:
    settings = report.metrics["settings"]
    yield f"On {settings['rows']} test rows that the model did not see; oracles and seeds as in"
    yield "`metrics.json`."
    yield ""
    for table in tables(report.metrics):
        yield f"### {table.title}"
        yield ""
        yield "| " + " | ".join(table.columns) + " |"
        yield "|---" * len(table.columns) + "|"
        for name, cells in table.rows:
            values = [f"{c.value} ({c.note})" if c.note else c.value for c in cells]
            yield "| " + " | ".join([name, *values]) + " |"
        yield ""
