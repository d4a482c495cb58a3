"""The numbers of further measures as tables, for the page alone: the console stays short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rung3.evaluation.report.tables import NONE, Cell, Table, cell

__all__ = ["further"]

MEANS: Mapping[str, tuple[str, str]] = {
    "amplification": (
        "Amplification: what should not have changed",
        "Error of oracles on attributes that were not touched, less their error on the same rows' "
        "real images. Doing nothing scores 0; the truth shows what the oracles alone are to blame "
        "for.",
    ),
    "drift": (
        "Drift: what oracles read of it",
        "How far what an oracle reads has moved, of attributes that should have stayed.",
    ),
    "commutativity": (
        "Commutativity: does the order matter?",
        "Distance of one intervention and then another from the other way round, by the image's "
        "mechanism alone, other parents held. Doing nothing scores 0.",
    ),
    "minimality": (
        "Minimality: counterfactual latent divergence",
        "From 0 to 1, the lower the better, of two shares of real images: those with the new value "
        "that are as near, and those with the old one that are as far. Doing nothing scores 0.30: "
        "read it beside effectiveness.",
    ),
    "calibration": (
        "Uncertainty: do the draws hold the truth?",
        "CRPS, the lower the better, and how often the central intervals of the draws hold the "
        "true value where they are unsure of it.",
    ),
    "stability": (
        "Stability: would it answer the same again?",
        "Distance between answers to two draws of the abducted noise, and between models of other "
        "seeds. Doing nothing never disagrees.",
    ),
}
"""Title and note of measures that are means over rows."""

PLAIN: Mapping[str, tuple[str, str]] = {
    "realism": (
        "Realism: are they distributed as real images?",
        "In the features of the oracles. The factual images are the floor: real against other real "
        "ones, as many. Doing nothing is perfect here.",
    ),
    "distance": (
        "Rung two: distance from the world's interventional distribution",
        "Fresh samples of both, compared jointly; below chance they cannot be told apart.",
    ),
    "recovery": (
        "Recovery: is the abducted noise the true one?",
        "Rank correlation where both have one shape, else squared distance correlation; 1 is "
        "recovered, 0 is unrelated.",
    ),
    "prior": (
        "Abducted noise against its prior",
        "Kolmogorov and Smirnov's distance of the noise of all rows from the prior; beside it what "
        "chance gives.",
    ),
    "cost": (
        "Cost of a counterfactual",
        "Of one batch on the device of the settings.",
    ),
}
"""Title and note of measures of sets, and of the model."""


def further(metrics: Mapping[str, Any]) -> list[Table]:
    """Tables of what a protocol asked for besides, where there are numbers."""
    found = [*_means(metrics), *_plain(metrics)]
    return [table for table in found if table.rows]


def _means(metrics: Mapping[str, Any]) -> Iterator[Table]:
    for name, (title, note) in MEANS.items():
        yield _table(title, note, dict(_leaves(metrics.get(name, {}))))
    similar: dict[tuple[str, ...], Any] = {
        (f"{variable} under {label}", who): part["ssim"]
        for label, by_name in metrics.get("truth", {}).items()
        if "no truth" not in by_name
        for variable, by_who in by_name.items()
        for who, part in by_who.items()
        if "ssim" in part
    }
    title = "Structural similarity to the true counterfactual"
    yield _table(title, "1 is the same image; beside it, that of doing nothing.", similar)


def _leaves(
    nested: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Means by their paths."""
    for key, part in nested.items():
        if isinstance(part, Mapping):
            yield from [((*path, key), part)] if "mean" in part else _leaves(part, (*path, key))


def _table(title: str, note: str, leaves: Mapping[tuple[str, ...], Any]) -> Table:
    """One row for each path but its last name, which is the column."""
    columns = list(dict.fromkeys(path[-1] for path in leaves))
    table = Table(title, note, ["", *columns])
    for start in dict.fromkeys(path[:-1] for path in leaves):
        cells = [cell(leaves.get((*start, column))) for column in columns]
        table.rows.append((", ".join(start), cells))
    return table


def _plain(metrics: Mapping[str, Any]) -> Iterator[Table]:
    for name, (title, note) in PLAIN.items():
        rows = dict(_rows(metrics.get(name, {})))
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        table = Table(title, note, ["", *columns])
        for path, row in rows.items():
            cells = [_value(row[key]) if key in row else NONE for key in columns]
            table.rows.append((", ".join(path), cells))
        yield table


def _rows(
    nested: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Numbers and words by the path of what they are about."""
    own = {key: part for key, part in nested.items() if not isinstance(part, Mapping)}
    if own:
        yield path, own
    for key, part in nested.items():
        if isinstance(part, Mapping):
            yield from _rows(part, (*path, key))


def _value(value: Any) -> Cell:
    if value is None:
        return Cell("undefined")
    return Cell(f"{value:.3g}" if isinstance(value, float) else str(value))
