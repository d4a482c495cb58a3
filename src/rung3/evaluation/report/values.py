"""Answers as numbers: a few rows before and after, and how far variables change on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rung3.data.display import headed, spell
from rung3.data.number_text import alike
from rung3.data.variables import Variable
from rung3.evaluation.examples import Example
from rung3.evaluation.measures.table import Cell, Table, cell

__all__ = ["changes", "effects_table", "values_table"]


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
    table = Table("", "", ["example", *(headed(name, variables[name]) for name in names)])
    columns = [changes(example, name, variables[name]) for name in names]
    for k in range(example.factual.n):
        table.rows.append((str(k + 1), [Cell(column[k]) for column in columns]))
    return table


def changes(example: Example, name: str, variable: Variable) -> list[str]:
    """Return a variable before and after in each row, numbers with as many decimals in all."""
    values = [*example.factual[name], *example.answers["kept"][name]]
    texts = alike([spell(variable, value) for value in values])
    n = example.factual.n
    pairs = zip(texts[:n], texts[n:], strict=True)
    return [f"{before} \N{RIGHTWARDS ARROW} {after}" for before, after in pairs]


def effects_table(metrics: Mapping[str, Any]) -> Table:
    """Return how far each variable changes under each intervention, with intervals."""
    sizes = metrics.get("size of change", {})  # not in reports of older versions
    table = Table(
        "Effects: how far do they change on average?",
        "Mean difference of the counterfactual and the factual value, where ups and downs cancel"
        f"{', and mean size of that difference' if sizes else ''}; for categories, the share that "
        "changes.",
        ["", "mean change", *(["mean size"] if sizes else [])],
    )
    for label, by_name in metrics.get("change", {}).items():
        for name, mean in by_name.items():
            more = [cell(sizes.get(label, {}).get(name))] if sizes else []
            table.rows.append((f"{name} under {label}", [cell(mean), *more]))
    return table
