"""Rung one in a report: log-densities of the test rows, and what latents hold of the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rung3.data.rows import Rows
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import MODEL, Examination, Line, Measure, Section
from rung3.evaluation.measures.collapse import divergences
from rung3.evaluation.measures.log_prob import densities
from rung3.evaluation.measures.path_noise import mean_squares
from rung3.evaluation.measures.table import NONE, Cell, Table, cell
from rung3.evaluation.scores import Path
from rung3.mechanisms.autoencoder import UNUSED
from rung3.scm.query import Query

__all__ = ["DENSITY"]


def _compute(
    exam: Examination, rows: Rows, queries: Sequence[Query], known: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Give log-densities and divergences of all test rows, asked or not."""
    of_all, size, seed = bootstrap.of(rows.n), exam.batch_size, exam.seed
    return {
        "log_prob": densities(exam.model, exam.truth, rows, size, of_all, seed, exam.scores),
        "divergence": divergences(exam.model, rows, size, of_all, seed),
        "path_noise": mean_squares(exam.model, rows, size, of_all, seed),
    }


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    yield _seeing(metrics.get("log_prob", {}))
    yield _latents(metrics.get("divergence", {}))
    yield _paths(metrics.get("path_noise", {}))


def _seeing(metrics: Mapping[str, Any]) -> Table:
    known = any("world" in by_answerer for by_answerer in metrics.values())
    table = Table(
        "Seeing: the log-density of the test rows",
        "Averaged over all test rows, in nats, in the variable's own unit; a VAE's is a lower "
        "bound. It ranks fits, not counterfactuals."
        + (" No model is expected to exceed the world." if known else ""),
        ["", "model", *(["world"] if known else [])],
    )
    for name, by_answerer in metrics.items():
        if MODEL in by_answerer:
            cells = [_density(by_answerer.get(answerer)) for answerer in (MODEL, "world")]
            table.rows.append((name, cells if known else cells[:1]))
    return table


def _density(density: Mapping[str, Any] | None) -> Cell:
    if density is None:
        return NONE
    if density["impossible"]:
        return Cell("-inf nats", f"{density['impossible']} rows have density zero")
    known = cell(density)
    return known._replace(value=f"at least {known.value}") if density["bound"] else known


def _latents(metrics: Mapping[str, Any]) -> Table:
    table = Table(
        "Latents: what they hold of the image",
        "Divergence of each layer's posterior from its prior, in nats a row: at least what the "
        f"layer tells about the image. Below {UNUSED} nats it is unused (posterior collapse). From "
        "the first layer that is decoded to the last.",
        ["", "divergence", "dimensions", ""],
    )
    for name, by_layer in metrics.items():
        for layer, divergence in by_layer.items():
            use = Cell("unused") if divergence["unused"] else NONE
            cells = [cell(divergence), Cell(str(divergence["dimensions"])), use]
            table.rows.append((f"{name}: {layer}", cells))
    return table


def _paths(metrics: Mapping[str, Any]) -> Table:
    table = Table(
        "Instead of latents: the noise of a path",
        "A path has no latents: its noise has the value's shape, and leaves nothing out. Mean "
        "square of the abducted noise, per number; 1 under the prior. If it is far from 1, the "
        "path meets noise unlike that of its training.",
        ["", "mean square", "dimensions"],
    )
    for name, square in metrics.items():
        table.rows.append((f"{name}: u", [cell(square), Cell(str(square["dimensions"]))]))
    return table


def _line(path: Path) -> Line:
    return Line(path[1])


DENSITY = Measure(
    name="density",
    about="log-density of the test rows, and what latents or a path's noise hold",
    sections=(
        Section(
            "log_prob",
            heading="Log-density of the test rows",
            better={"": "higher"},
            answerer=2,
            line=_line,
        ),
        Section("divergence", heading="Divergence of the latents from their prior"),
        Section("path_noise", heading="Mean square of a path's noise"),
    ),
    standard=True,
    essential=True,
    rung=1,
    compute=_compute,
    tables=_tables,
)
