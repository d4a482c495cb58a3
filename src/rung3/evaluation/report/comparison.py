"""Models side by side: the same test rows, interventions and truth, asked of each."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rung3.data.files import write, write_text
from rung3.data.pictures import png
from rung3.evaluation.report import pictures
from rung3.evaluation.report.compared import Compared
from rung3.evaluation.report.comparison_page import pictures_of, render, table
from rung3.evaluation.report.report import Report
from rung3.evaluation.report.tradeoff import panels, tradeoff

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["Comparison", "compare", "named_runs"]

ASKED = ("world", "rows", "rows compared with the truth", "other parents")
"""Settings that must be the same."""


def compare(runs: Iterable[Report | str | Path] | Mapping[str, Report | str | Path]) -> Comparison:
    """Compare what was found of several models on the same test rows.

    Args:
        runs: Two reports or more, or folders that hold one; under names of your own, or else the
            folders'. Of finished runs, `rung3.study.compare_runs` finds more.

    Returns:
        The comparison: `print` it, `save` it, read its `metrics`.

    Raises:
        ValueError: If there are fewer than two, a folder holds no report, or they were not asked
            the same: the difference is named.

    Example:
        >>> from rung3 import SCM, evaluate, worlds
        >>> from rung3.mechanisms import Equation
        >>> world = worlds.lecture()
        >>> rows = world.sample(50, seed=0)
        >>> half = SCM(x1=Equation("u + 1"), x2=Equation("1.5*x1 + u"))
        >>> reports = [evaluate(m, rows, truth=world, progress=False) for m in (world, half)]
        >>> found = compare({"world": reports[0], "half": reports[1]})
        >>> skill = found.metrics["truth"]["do(x1)"]["x2"]["kept"]["skill"]
        >>> skill["best"], round(skill["differences"]["half"]["mean"], 3)
        (['world'], -0.5)
    """
    if isinstance(runs, Report | str | Path):
        runs = [runs]
    named = dict(runs) if isinstance(runs, Mapping) else named_runs(list(runs))
    if len(named) < 2:
        got = ", ".join(named) or "none"
        raise ValueError(f"compare: expected two runs or more, got {got}")
    reports = {k: v if isinstance(v, Report) else Report.load(v) for k, v in named.items()}
    first, *others = reports
    for name in others:
        if reason := _unlike(reports[first], reports[name]):
            raise ValueError(f"{name} cannot be compared with {first}: {reason}")
    return Comparison(reports)


class Comparison(Compared):
    """Several models on the same test rows: `print` it, `save` it, read its `metrics`.

    Args:
        reports: What was found of each, by its name.
    """

    def pictures(self, published: str | None = None) -> dict[str, bytes]:
        """Draw PNG files by name: `tradeoff` if known; `beside-...`, the same rows by model.

        Args:
            published: Whose figures to add to the trade-off, such as `"melistas2024"`.

        Raises:
            ValueError: If there are no such figures, or none of these variables.
        """
        first = next(iter(self.reports.values()))
        drawn = {}
        if panels(self, published=published):
            drawn["tradeoff"] = png(tradeoff(self, published=published))
        for (label, mode), picture in pictures_of(self).items():
            examples = {
                name: report.examples.queries[label] for name, report in self.reports.items()
            }
            beside = pictures.beside(examples, mode, first.graph, first.variables)
            if beside is not None:
                drawn[picture] = beside
        return drawn

    def save(self, folder: str | Path, published: str | None = None) -> Path:
        """Write `comparison.html` (self-contained), `comparison.json`, and the pictures as PNG.

        Args:
            folder: Where to; made if it is not there.
            published: Whose figures to add to the trade-off, such as `"melistas2024"`.

        Returns:
            The path of `comparison.html`.
        """
        place = Path(folder)
        drawn = self.pictures(published)
        for name, picture in drawn.items():
            write(place / f"{name}.png", picture)
        numbers = json.dumps(self.metrics, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(place / "comparison.json", numbers + "\n")
        write_text(place / "comparison.html", render(self, drawn))
        return place / "comparison.html"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from table(self, options.max_width)

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=60 + 30 * len(self.reports), color_system=None).print(self)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def named_runs(runs: list[Report | str | Path]) -> dict[str, Report | str | Path]:
    """Name runs by their folders, with as many of the folders above it as tell all apart."""
    folders = [None if isinstance(run, Report) else Path(run).resolve() for run in runs]
    for folder in folders:
        if folder is not None and folders.count(folder) > 1:
            raise ValueError(f"compare: {folder} is given twice")
    names = [f"report {k}" for k in range(1, len(runs) + 1)]
    for depth in range(1, 1 + max((len(f.parts) for f in folders if f), default=0)):
        for k, folder in enumerate(folders):
            names[k] = "/".join(folder.parts[-depth:]) if folder else names[k]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, runs, strict=True))


def _unlike(one: Report, two: Report) -> str:
    """Return in what two reports were asked differently, or an empty string."""
    a, b = one.metrics["settings"], two.metrics["settings"]
    for key in ASKED:
        if a.get(key) != b.get(key):
            return f"{key}: {b.get(key)!r}, not {a.get(key)!r}"
    if one.variables != two.variables:
        names = [*one.variables, *(name for name in two.variables if name not in one.variables)]
        name = next(n for n in names if one.variables.get(n) != two.variables.get(n))
        given, expected = (r.variables.get(name, "missing") for r in (two, one))
        return f"its variable {name} is {given}, not {expected}"
    if a["digest of the rows"] != b["digest of the rows"]:
        return "its test rows are others; the same data, seed and number of test rows give the same"
    labels, others = (r.metrics["settings"]["digests of the targets"] for r in (one, two))
    if labels.keys() != others.keys():
        given, expected = (", ".join(part) or "nothing" for part in (others, labels))
        return f"it was asked {given}, not {expected}"
    for label, targets in labels.items():
        if targets != others[label] or not _same_values(one, two, label):
            return f"{label} sets other values; the same interventions and seed give the same"
    return ""


def _same_values(one: Report, two: Report, label: str) -> bool:
    """Return whether the shown rows were set to the same values, by whatever function."""
    a, b = one.examples.queries[label], two.examples.queries[label]
    chosen = [name for name, what in a.status.items() if what == "intervened"]
    these, others = (example.answers["kept"] for example in (a, b))
    return chosen == [name for name, what in b.status.items() if what == "intervened"] and all(
        torch.allclose(these[name].double(), others[name].double()) for name in chosen
    )
