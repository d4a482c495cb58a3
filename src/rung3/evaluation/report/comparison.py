"""Models side by side: the same test rows, interventions and truth, asked of each.

With s_i(a) the score of row i under model a, two models differ by

    d(a, b) = 1/n sum_i (s_i(a) - s_i(b)),

and its interval is a bootstrap over the rows' own differences: what makes a row hard for both
cancels. For skill, with e_i the errors and e_i(0) those of doing nothing, rows resampled together,

    skill(a) - skill(b) = sum_i (e_i(b) - e_i(a)) / sum_i e_i(0).

The best is the one with the best mean; who cannot be told apart from it, because the interval of
the difference holds 0, is best too.

A single draw, or the mean of few, is farther from the truth the more honestly uncertain a model is.
The skill of the CRPS, `1 - sum_i CRPS_i / sum_i e_i(0)`, is fair to draws of the true posterior and
to any number of them, and so comes first. The mean of K draws is nearer the more there are: scores
that depend on K are not ranked where K differs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rung3.data.files import write, write_text
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures import SECTIONS
from rung3.evaluation.measures.base import FACTUAL, NOTHING
from rung3.evaluation.measures.calibration import CRPS_SKILL
from rung3.evaluation.report import pictures
from rung3.evaluation.report.comparison_page import pictures_of, render, table
from rung3.evaluation.report.report import Report
from rung3.evaluation.scores import Path as Key
from rung3.evaluation.scores import put

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["Comparison", "compare", "named_runs"]

ASKED = ("world", "rows", "rows compared with the truth", "other parents")
"""Settings that must be the same."""

ROUNDING = 1e-6
"""Of the greatest mean in the same unit: a difference below that is the arithmetic's."""

Found = dict[str, Any]


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
        if said := _unlike(reports[first], reports[name]):
            raise ValueError(f"{name} cannot be compared with {first}: {said}")
    return Comparison(reports)


class Comparison:
    """Several models on the same test rows.

    Args:
        reports: What was found of each, by its name.

    Attributes:
        reports: The same.
        metrics: All numbers: nested dicts along the reports' own paths. Each is a dict of `unit`,
            `better` (`higher`, `lower` or `None`), `runs` (by name `mean`, `low`, `high`, or `None`
            where a run lacks it), `differences` (the same, paired, from the first of the best, or
            where nothing is better from the first) and `best` (names).
        entries: The same numbers by path, not nested.
        notes: What a reader should know before believing the numbers.
        particles: Draws of the noise of each run, if they are not equally many.
    """

    def __init__(self, reports: Mapping[str, Report]) -> None:
        self.reports = dict(reports)
        self._resamples: dict[int, Bootstrap] = {}
        counts = {
            name: report.metrics["settings"].get("particles") for name, report in reports.items()
        }
        self.particles = counts if len(set(counts.values())) > 1 else {}
        self.metrics: Found = {}
        self.entries = dict(self._entries())
        for path, entry in self.entries.items():
            put(self.metrics, path, entry)
        self.notes = list(_notes(self.reports))
        if self.particles:
            said = ", ".join(f"{name} {count}" for name, count in self.particles.items())
            self.notes.insert(
                0,
                f"Draws of the noise are not equally many (particles: {said}): the mean of draws, "
                "their spread and their coverage depend on that, and are not ranked.",
            )

    def _entries(self) -> Iterator[tuple[Key, Found]]:
        found = {name: dict(_leaves(report.metrics)) for name, report in self.reports.items()}
        most: dict[str, float] = {}
        for leaf in (leaf for leaves in found.values() for leaf in leaves.values()):
            unit = leaf.get("unit", "")
            most[unit] = max(most.get(unit, 0.0), abs(leaf["mean"] or 0.0))
        for path in dict.fromkeys(path for leaves in found.values() for path in leaves):
            if _of_models(path, self.modes):
                by_run = {name: leaves.get(path) for name, leaves in found.items()}
                yield path, self._entry(path, by_run, most)

    @property
    def modes(self) -> list[str]:
        """The ways in which noise of observation was treated, by any of the models."""
        examples = [e for r in self.reports.values() for e in r.examples.queries.values()]
        return list(dict.fromkeys(mode for example in examples for mode in example.answers))

    def difference(self, path: Key, name: str, other: str) -> Found | None:
        """Mean score of one model less that of another, over the same rows.

        Args:
            path: Of the score, such as `("composition", "image", "kept", "1")`.
            name: The one.
            other: The other.

        Returns:
            `mean`, `low`, `high`; `None` if rows' own scores are not known.
        """
        one, two = self.reports[name].scores, self.reports[other].scores
        skill = path[-1] in ("skill", CRPS_SKILL)
        error = (*path[:-1], "crps" if path[-1] == CRPS_SKILL else "error") if skill else path
        if error not in one or error not in two or len(one[error]) != len(two[error]):
            return None
        change, base = one[error] - two[error], torch.ones(())
        if skill:
            nothing = ("truth", *path[1:3], NOTHING, "error")
            if nothing not in one:
                return None
            base = one[nothing]
        valid = (change + base).isfinite()
        if not valid.any():
            return None
        resampled = self._bootstrap(int(valid.sum()))
        if not skill:
            return resampled.mean(change[valid])
        return resampled.skill((change + base)[valid], base[valid])

    def _bootstrap(self, n: int) -> Bootstrap:
        if n not in self._resamples:
            settings = [report.metrics["settings"] for report in self.reports.values()]
            times = max(said["resamples"] for said in settings)
            self._resamples[n] = Bootstrap(n, times, settings[0]["seed"])
        return self._resamples[n]

    def _entry(
        self, path: Key, by_run: Mapping[str, Found | None], most: Mapping[str, float]
    ) -> Found:
        there = {name: found for name, found in by_run.items() if found is not None}
        unit = next(iter(there.values())).get("unit", "")
        known = {name: found["mean"] for name, found in there.items() if found["mean"] is not None}
        better = None if self.particles and _counts_draws(path) else _better(path, unit)
        reference = _first(known, better)
        differences = {
            name: self.difference(path, name, reference)
            for name in known
            if reference is not None and name != reference
        }
        best: list[str] = []
        if better and reference is not None:
            near = ROUNDING * most[unit]
            best = [k for k in known if k == reference or _holds_zero(differences[k], near)]
        return {
            "unit": unit,
            "better": better,
            "runs": {k: found and _interval(found) for k, found in by_run.items()},
            "differences": differences,
            "best": best,
        }

    def pictures(self) -> dict[str, bytes]:
        """PNG files by name: `tradeoff` if known; `beside-...`, the same rows under each model."""
        from rung3.evaluation.report.tradeoff import panels, tradeoff

        first = next(iter(self.reports.values()))
        drawn = {}
        if panels(self):
            drawn["tradeoff"] = pictures.png(tradeoff(self))
        for (label, mode), picture in pictures_of(self).items():
            examples = {
                name: report.examples.queries[label] for name, report in self.reports.items()
            }
            found = pictures.beside(examples, mode, first.graph, first.variables)
            if found is not None:
                drawn[picture] = found
        return drawn

    def save(self, folder: str | Path) -> Path:
        """Write `comparison.html` (self-contained), `comparison.json`, and the pictures as PNG.

        Args:
            folder: Where to; made if it is not there.

        Returns:
            The path of `comparison.html`.
        """
        place = Path(folder)
        drawn = self.pictures()
        for name, png in drawn.items():
            write(place / f"{name}.png", png)
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
    """Name runs by their folder, with as many of the folders above it as tell them apart."""
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
    """In what two reports were asked differently, or nothing."""
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
        asked, expected = (", ".join(part) or "nothing" for part in (others, labels))
        return f"it was asked {asked}, not {expected}"
    for label, targets in labels.items():
        if targets != others[label] or not _same_values(one, two, label):
            return f"{label} sets other values; the same interventions and seed give the same"
    return ""


def _same_values(one: Report, two: Report, label: str) -> bool:
    """Whether the shown rows were set to the same values, by whatever function."""
    a, b = one.examples.queries[label], two.examples.queries[label]
    chosen = [name for name, what in a.status.items() if what == "intervened"]
    mine, others = (example.answers["kept"] for example in (a, b))
    return chosen == [name for name, what in b.status.items() if what == "intervened"] and all(
        torch.allclose(mine[name].double(), others[name].double()) for name in chosen
    )


def _leaves(metrics: Mapping[str, Any], path: Key = ()) -> Iterator[tuple[Key, Found]]:
    """Every mean with its interval, or plain number, and its path."""
    for name, part in metrics.items():
        if isinstance(part, Mapping):
            if "mean" in part:
                yield (*path, name), dict(part)
            else:
                yield from _leaves(part, (*path, name))
        elif path[:1] and _plain(path[0]) and isinstance(part, int | float):
            yield (*path, name), {"mean": float(part), "low": None, "high": None}


def _plain(name: str) -> bool:
    """Whether a section holds single numbers."""
    section = SECTIONS.get(name)
    return section is not None and section.plain


def _of_models(path: Key, modes: list[str]) -> bool:
    """Whether it tells of a model (or is a floor), and not of a world, a truth or a baseline."""
    section = SECTIONS.get(path[0])
    return section is None or section.of_model(path, modes)


def _counts_draws(path: Key) -> bool:
    """Whether a score depends on how many draws of the noise there are."""
    section = SECTIONS.get(path[0])
    return section is not None and section.counts_draws(path)


def _better(path: Key, unit: str) -> str | None:
    section = SECTIONS.get(path[0])
    return None if section is None else section.direction(path, unit)


def _first(means: Mapping[str, float], better: str | None) -> str | None:
    """The best, or where nothing is better the first."""
    if not means or better is None:
        return next(iter(means), None)
    sign = 1 if better == "higher" else -1
    return max(means, key=lambda name: sign * means[name])


def _holds_zero(difference: Found | None, near: float) -> bool:
    if difference is None or difference["mean"] is None:
        return False
    if difference["low"] is None:
        return bool(abs(difference["mean"]) <= near)
    return bool(difference["low"] <= near and difference["high"] >= -near)


def _interval(found: Found) -> Found:
    return {name: found[name] for name in ("mean", "low", "high")}


def _notes(reports: Mapping[str, Report]) -> Iterator[str]:
    """What stands between the numbers and a conclusion."""
    first, *others = reports.values()
    for path in first.scores:
        if path[0] == "effectiveness" and path[2] == FACTUAL:
            same = [
                path in r.scores and torch.equal(r.scores[path], first.scores[path]) for r in others
            ]
            if not all(same):
                yield (
                    f"{path[3]} is read off the {path[1]} by oracles that are not the same in all "
                    "runs: a difference in effectiveness may be theirs. See their floors."
                )
