"""Runs side by side, and how far replicates disagree, which differ in `training.seed` alone.

Of runs i = 1 ... M whose studies agree but for `training.seed`, each row has

    disagreement(i) = 1/(M - 1) sum_{j != i} d(x~_i, x~_j),

whose mean over i is that of `rung3.evaluation.measures.stability`; the odd one out has the
greatest. All answer the study's own questions about the same rows, with the same seed of abduction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rung3.data.distances import unit
from rung3.evaluation.assessment import complete
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import KEPT, LATENT
from rung3.evaluation.measures.stability import apart
from rung3.evaluation.plan import planned
from rung3.evaluation.report.comparison import Comparison, compare, named_runs
from rung3.evaluation.report.report import Report
from rung3.evaluation.scores import Path as Key
from rung3.evaluation.scores import put
from rung3.study.folder import RunFolder

__all__ = ["add_disagreement", "compare_runs", "replicates", "settings_apart"]

ROWS = 200
"""Test rows that are asked, at most."""

MODES = {KEPT: ("other seeds", 1.0), LATENT: ("other seeds, from z alone", 0.0)}
"""What disagreement is called, and the factor on the noise of observation, by mode."""


def compare_runs(runs: Iterable[str | Path] | Mapping[str, str | Path]) -> Comparison:
    """Compare finished runs on the same test rows.

    Replicates are asked again, for how far their answers are apart; the rest is read from the
    reports, as `rung3.evaluation.compare` does.

    Args:
        runs: Folders of two runs or more, by names of your own, or else under the folders' names.

    Raises:
        ValueError: If there are fewer than two, a folder holds no report, or they were not asked
            the same: the difference is named.
    """
    runs = [runs] if isinstance(runs, str | Path) else runs
    named = dict(runs) if isinstance(runs, Mapping) else named_runs(list(runs))
    folders = {name: Path(str(folder)) for name, folder in named.items()}
    reports = {name: Report.load(folder) for name, folder in folders.items()}
    comparison = compare(reports)  # refuses runs that were not asked the same
    places = {name: RunFolder(folder) for name, folder in folders.items()}
    fitted = {name: place for name, place in places.items() if place.fitted}
    if add_disagreement(reports, fitted):
        comparison = compare(reports)
    comparison.notes.extend(settings_apart(places))
    return comparison


def settings_apart(runs: Mapping[str, RunFolder]) -> list[str]:
    """Return a line for each key in which the studies of runs differ, but for their names.

    Args:
        runs: Folders of runs, by name; those of which no study can be read are left out.
    """
    settings: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        with suppress(ValueError):
            values = run.study().model_dump(mode="json", exclude_unset=True)
            settings[name] = dict(_flat({key: v for key, v in values.items() if key != "name"}))
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    lines = []
    for key in keys:
        given = {name: values.get(key, "as by default") for name, values in settings.items()}
        if len({str(value) for value in given.values()}) > 1:
            listed = ", ".join(f"{name} {value}" for name, value in given.items())
            lines.append(f"The studies differ in {key}: {listed}.")
    return lines


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by their keys, joined by points."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def replicates(runs: Mapping[str, RunFolder]) -> list[list[str]]:
    """Return the names of runs that differ in `training.seed`, and in nothing else but names.

    Args:
        runs: Folders of finished runs, by name.

    Returns:
        Groups of two or more.
    """
    groups: dict[str, list[str]] = {}
    for name, run in runs.items():
        study = run.study()
        training = study.training.model_copy(update={"seed": None})
        alike = study.model_copy(update={"name": "", "training": training})
        groups.setdefault(alike.model_dump_json(), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def add_disagreement(reports: Mapping[str, Report], runs: Mapping[str, RunFolder]) -> bool:
    """Add to the reports of replicates how far each one's answers are from the others'.

    Args:
        reports: Their reports, by name.
        runs: Folders of finished runs, under the same names; others are left out.

    Returns:
        Whether there were any.
    """
    groups = replicates(runs)
    for names in groups:
        for path, unit_name, scores in _disagreement([runs[k] for k in names], reports[names[0]]):
            for name, values in zip(names, scores, strict=True):
                settings = reports[name].metrics["settings"]
                bootstrap = Bootstrap(len(values), settings["resamples"], settings["seed"])
                reports[name].scores.add(path, values, unit_name)
                put(reports[name].metrics, path, {**bootstrap.mean(values), "unit": unit_name})
    return bool(groups)


@torch.no_grad()
def _disagreement(runs: Sequence[RunFolder], report: Report) -> Iterator[tuple[Key, str, Tensor]]:
    """Yield path, unit and each run's disagreement `(M, n)`, of everything that was asked."""
    study, models = runs[0].study(), [run.model().eval() for run in runs]
    model, splits = models[0], study.splits()
    protocol = study.evaluation.protocol_of(model.variables)
    for name in ("train", "test"):
        runs[0].check_rows(name, getattr(splits, name))
    rows, _ = complete(model, splits.test)
    n = report.metrics["settings"]["rows"]
    some = slice(min(ROWS, n))
    for query in planned(model, rows, n, splits.train, protocol, study.seed):
        names, do = query.affected(model), query.at(some, model.device)
        for mode in report.examples.queries[query.label].answers:
            if mode in MODES:
                label, temperature = MODES[mode]
                distances = apart(
                    models, rows[some], do, names,
                    hold=query.hold, temperature=temperature, seed=study.seed,
                )  # fmt: skip
                for name, values in distances.items():
                    unit_name = unit(model.variables[name])
                    yield ("stability", query.label, name, label), unit_name, values
