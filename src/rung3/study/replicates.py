"""Replicates: runs that differ in the seed of their training alone, and how far they disagree.

Of runs i = 1 ... M whose studies agree but for `training.seed`, each row has

    disagreement(i) = 1/(M - 1) sum_{j != i} d(x~_i, x~_j),

whose mean over i is that of `rung3.evaluation.measures.stability`; the odd one out has the
greatest. All answer the study's own questions about the same rows, with the same seed of abduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung3.data.distances import unit
from rung3.evaluation.assessment import complete
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import KEPT, LATENT
from rung3.evaluation.measures.stability import apart
from rung3.evaluation.plan import planned
from rung3.evaluation.scores import Path, put

if TYPE_CHECKING:
    from rung3.evaluation.report.report import Report
    from rung3.study.folder import RunFolder

__all__ = ["add_disagreement", "replicates"]

ROWS = 200
"""Test rows that are asked, at most."""

MODES = {KEPT: ("other seeds", 1.0), LATENT: ("other seeds, from z alone", 0.0)}
"""What disagreement is called, and the factor on the noise of observation, by mode."""


def replicates(runs: Mapping[str, RunFolder]) -> list[list[str]]:
    """Names of runs that differ in `training.seed`, and in nothing else but their names.

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


def add_disagreement(reports: Mapping[str, Report], runs: Mapping[str, RunFolder]) -> None:
    """Add to the reports of replicates how far each one's answers are from the others'.

    Args:
        reports: Their reports, by name.
        runs: Folders of finished runs, under the same names; others are left out.
    """
    for names in replicates(runs):
        for path, kind, values in _asked([runs[name] for name in names], reports[names[0]]):
            for name, own in zip(names, values, strict=True):
                said = reports[name].metrics["settings"]
                found = Bootstrap(len(own), said["resamples"], said["seed"]).mean(own)
                reports[name].scores.add(path, own, kind)
                put(reports[name].metrics, path, {**found, "unit": kind})


@torch.no_grad()
def _asked(runs: Sequence[RunFolder], report: Report) -> Iterator[tuple[Path, str, Tensor]]:
    """Path, unit and each run's disagreement `(M, n)`, of everything that was asked."""
    study, models = runs[0].study(), [run.model().eval() for run in runs]
    model, options, splits = models[0], study.evaluation, study.splits()
    protocol = replace(options.asking(), interventions=options.asked(model.variables))
    for name in ("train", "test"):
        runs[0].check_rows(name, getattr(splits, name))
    rows, _ = complete(model, splits.test)
    n = report.metrics["settings"]["rows"]
    few = slice(min(ROWS, n))
    for query in planned(model, rows, n, splits.train, protocol, study.seed):
        names, do = query.affected(model), query.at(few, model.device)
        for mode in report.examples.queries[query.label].answers:
            if mode in MODES:
                said, temperature = MODES[mode]
                found = apart(
                    models, rows[few], do, names,
                    hold=query.hold, temperature=temperature, seed=study.seed,
                )  # fmt: skip
                for name, values in found.items():
                    kind = unit(model.variables[name])
                    yield ("stability", query.label, name, said), kind, values
