"""Answers as numbers: a few rows before and after, and how far variables change on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rung3.data.number_text import number_text
from rung3.data.variables import Discrete, Variable
from rung3.evaluation.examples import Example
from rung3.evaluation.measures.table import Cell, Table, cell

__all__ = ["effects_table", "values_table"]


def values_table(example: Example, variables: Mapping[str, Variable]) -> Table:
    """Return the rows that are shown, before and after: one a column's line, set and changed alone.

    Args:
        example: The rows under one intervention.
        variables: The variables.
    """
    names = [
        name
        for name, status in example.status.items()
        if status != "observed" and not variables[name].shape
    ]
    table = Table("", "", ["row", *(_headed(name, variables[name]) for name in names)])
    for k in range(example.factual.n):
        cells = [
            Cell(
                f"{_spell(variables[name], example.factual[name][k])} \N{RIGHTWARDS ARROW} "
                f"{_spell(variables[name], example.answers['kept'][name][k])}"
            )
            for name in names
        ]
        table.rows.append((str(k), cells))
    return table


def effects_table(metrics: Mapping[str, Any]) -> Table:
    """Return the mean change of each variable under each intervention, with its interval."""
    table = Table(
        "Effects: how far do they change on average?",
        "Mean difference of the counterfactual and the factual value, with the share that changes "
        "for categories.",
        ["", "change"],
    )
    for label, by_name in metrics.get("change", {}).items():
        for name, mean in by_name.items():
            table.rows.append((f"{name} under {label}", [cell(mean)]))
    return table


def _headed(name: str, variable: Variable) -> str:
    return f"{name}, {variable.unit}" if variable.unit else name


def _spell(variable: Variable, value: Tensor) -> str:
    if isinstance(variable, Discrete):
        return variable.label(int(value))
    return number_text(float(value))
