"""The numbers of a comparison: each score of every model, paired differences, and the best.

With s_i(a) the score of row i under model a, two models differ by

    d(a, b) = 1/n sum_i (s_i(a) - s_i(b)),

and its interval is a bootstrap over the rows' own differences: what makes a row hard for both
cancels. For skill, with e_i the errors and e_i(0) those of doing nothing, rows resampled together,

    skill(a) - skill(b) = sum_i (e_i(b) - e_i(a)) / sum_i e_i(0).

The best is the model with the best mean. A model that cannot be told apart from it, because the
interval of the difference holds 0, is best too.

A single draw, or the mean of few, is farther from the truth the more honestly uncertain a model is.
The skill of the CRPS, `1 - sum_i CRPS_i / sum_i e_i(0)`, is fair to draws of the true posterior and
to any number of them, and so comes first. The mean of K draws is nearer the more there are: scores
that depend on K are not ranked where K differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import FACTUAL, NOTHING
from rung3.evaluation.measures.calibration import CRPS_SKILL
from rung3.evaluation.measures.registry import sections
from rung3.evaluation.report.report import Report
from rung3.evaluation.scores import Path, put

__all__ = ["Compared"]

ROUNDING = 1e-6
"""Share of the greatest mean in the same unit below which a difference is one of rounding."""

Entry = dict[str, Any]
"""A mean with its interval, or all that is known of one score: see `Compared.metrics`."""


class Compared:
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
        particles: Number of draws of the noise of each run, where it differs.
    """

    def __init__(self, reports: Mapping[str, Report]) -> None:
        self.reports = dict(reports)
        self._resamples: dict[int, Bootstrap] = {}
        counts = {
            name: report.metrics["settings"].get("particles") for name, report in reports.items()
        }
        self.particles = counts if len(set(counts.values())) > 1 else {}
        self.metrics: Entry = {}
        self.entries = dict(self._entries())
        for path, entry in self.entries.items():
            put(self.metrics, path, entry)
        self.notes = list(_notes(self.reports))
        if self.particles:
            listed = ", ".join(f"{name} {count}" for name, count in self.particles.items())
            self.notes.insert(
                0,
                f"The number of draws of the noise differs (particles: {listed}): the mean of "
                "draws, their spread and their coverage depend on it, and are not ranked.",
            )

    def _entries(self) -> Iterator[tuple[Path, Entry]]:
        leaves_of = {name: dict(_leaves(report.metrics)) for name, report in self.reports.items()}
        greatest: dict[str, float] = {}
        for leaf in (leaf for leaves in leaves_of.values() for leaf in leaves.values()):
            unit = leaf.get("unit", "")
            greatest[unit] = max(greatest.get(unit, 0.0), abs(leaf["mean"] or 0.0))
        for path in dict.fromkeys(path for leaves in leaves_of.values() for path in leaves):
            if _of_models(path, self.modes):
                by_run = {name: leaves.get(path) for name, leaves in leaves_of.items()}
                yield path, self._entry(path, by_run, greatest)

    @property
    def modes(self) -> list[str]:
        """The ways in which noise of observation was treated, by any of the models."""
        examples = [e for r in self.reports.values() for e in r.examples.queries.values()]
        return list(dict.fromkeys(mode for example in examples for mode in example.answers))

    def difference(self, path: Path, name: str, other: str) -> Entry | None:
        """Return the mean score of one model less that of another, over the same rows.

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
            times = max(setting["resamples"] for setting in settings)
            self._resamples[n] = Bootstrap(n, times, settings[0]["seed"])
        return self._resamples[n]

    def _entry(
        self, path: Path, by_run: Mapping[str, Entry | None], greatest: Mapping[str, float]
    ) -> Entry:
        present = {name: mean for name, mean in by_run.items() if mean is not None}
        unit = next(iter(present.values())).get("unit", "")
        known = {name: mean["mean"] for name, mean in present.items() if mean["mean"] is not None}
        better = None if self.particles and _counts_draws(path) else _better(path, unit)
        reference = _first(known, better)
        differences = {
            name: self.difference(path, name, reference)
            for name in known
            if reference is not None and name != reference
        }
        best: list[str] = []
        if better and reference is not None:
            near = ROUNDING * greatest[unit]
            best = [k for k in known if k == reference or _holds_zero(differences[k], near)]
        return {
            "unit": unit,
            "better": better,
            "runs": {k: mean and _interval(mean) for k, mean in by_run.items()},
            "differences": differences,
            "best": best,
        }


def _leaves(metrics: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Entry]]:
    """Yield every mean with its interval, or plain number, and its path."""
    for name, part in metrics.items():
        if isinstance(part, Mapping):
            if "mean" in part:
                yield (*path, name), dict(part)
            else:
                yield from _leaves(part, (*path, name))
        elif path[:1] and _plain(path[0]) and isinstance(part, int | float):
            yield (*path, name), {"mean": float(part), "low": None, "high": None}


def _plain(name: str) -> bool:
    """Return whether a section holds single numbers."""
    section = sections().get(name)
    return section is not None and section.plain


def _of_models(path: Path, modes: list[str]) -> bool:
    """Return whether it tells of a model (or is a floor), not of a world, a truth or a baseline."""
    section = sections().get(path[0])
    return section is None or section.of_model(path, modes)


def _counts_draws(path: Path) -> bool:
    """Return whether a score depends on how many draws of the noise there are."""
    section = sections().get(path[0])
    return section is not None and section.counts_draws(path)


def _better(path: Path, unit: str) -> str | None:
    section = sections().get(path[0])
    return None if section is None else section.direction(path, unit)


def _first(means: Mapping[str, float], better: str | None) -> str | None:
    """Return the best, or where nothing is better the first."""
    if not means or better is None:
        return next(iter(means), None)
    sign = 1 if better == "higher" else -1
    return max(means, key=lambda name: sign * means[name])


def _holds_zero(difference: Entry | None, near: float) -> bool:
    if difference is None or difference["mean"] is None:
        return False
    if difference["low"] is None:
        return bool(abs(difference["mean"]) <= near)
    return bool(difference["low"] <= near and difference["high"] >= -near)


def _interval(mean: Entry) -> Entry:
    return {name: mean[name] for name in ("mean", "low", "high")}


def _notes(reports: Mapping[str, Report]) -> Iterator[str]:
    """Yield what a reader should know before believing the numbers."""
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
