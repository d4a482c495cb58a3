"""Counterfactuals against the truth, where the world is known.

    error = d(x~, x*),      skill = 1 - mean d(x~, x*) / mean d(x, x*)

with x the factual value, x~ the model's answer and x* what would really have been. Skill 1 is
perfect, 0 is doing nothing; it is printed beside that of simple baselines, which are handed the
counterfactual parents and never see a mechanism.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import (
    AVERAGED,
    KEPT,
    MODES,
    NOTHING,
    SCALED,
    TRUTH,
    Asked,
    Baseline,
    Examination,
    Line,
    Measure,
    Section,
)
from rung3.evaluation.measures.table import NONE, Cell, Table, cell
from rung3.evaluation.scores import Path, Scores, put

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["AGAINST_TRUTH", "baseline_errors", "errors", "forget"]


def errors(model: SCM, found: Rows, true: Rows, names: list[str]) -> dict[str, Tensor]:
    """Distance of each variable from the truth, in each row, `(n,)`."""
    return {name: distance(model.variables[name], found[name], true[name]) for name in names}


def baseline_errors(
    model: SCM, rows: Rows, true: Rows, image: str, baselines: Mapping[str, Baseline]
) -> dict[str, Tensor]:
    """Distance of each baseline's image from the truth, `(n,)`, by the baseline's name."""
    before = {name: rows[name] for name in model.graph.parents(image)}
    after = {name: true[name] for name in before}
    variable = model.variables[image]
    return {
        name: distance(variable, function(rows[image], before, after), true[image])
        for name, function in baselines.items()
    }


def forget(scores: Scores, label: str) -> None:
    """Forget every score against the truth of an intervention, which a later batch had none for."""
    scores.discard(
        lambda path: path[:2] == ("truth", label) or (label in path and path[-1] == TRUTH)
    )


def _answered(seen: Examination, asked: Asked, mode: str) -> None:
    if asked.true is not None:
        _against(seen, asked, mode, asked.answers[mode], asked.true)


def _asked(seen: Examination, asked: Asked) -> None:
    """Score the mean of draws, which is free of the accidents of one, and the baselines."""
    if asked.true is None:
        return
    if asked.draws is not None:
        for name in seen.images(asked.query):
            mean = asked.draws[name].mean(0)
            error = distance(seen.model.variables[name], mean, asked.true[name])
            seen.add(("truth", asked.query.label, name, AVERAGED, "error"), name, error)
    _against(seen, asked, NOTHING, asked.rows, asked.true)
    for image in seen.images(asked.query):
        by_baseline = baseline_errors(seen.model, asked.rows, asked.true, image, seen.baselines)
        for who, error in by_baseline.items():
            seen.add(("truth", asked.query.label, image, who, "error"), image, error)


def _against(seen: Examination, asked: Asked, who: str, answer: Rows, true: Rows) -> None:
    names = asked.query.affected(seen.model)
    for name, error in errors(seen.model, answer, true, names).items():
        seen.add(("truth", asked.query.label, name, who, "error"), name, error)


def _skill(seen: Examination, metrics: dict[str, Any], bootstrap: Bootstrap) -> None:
    scores = seen.scores
    for path in [path for path in scores if path[0] == "truth" and path[-1] == "error"]:
        error, nothing = scores[path], scores[(*path[:3], NOTHING, "error")]
        put(metrics, (*path[:-1], "skill"), bootstrap.of(len(error)).skill(error, nothing))


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    metrics = metrics.get("truth", {})
    known = {label: part for label, part in metrics.items() if "no truth" not in part}
    whos = dict.fromkeys(
        who for part in known.values() for by_who in part.values() for who in by_who
    )
    modes = [who for who in whos if who in MODES or who.startswith(SCALED)]
    others = [who for who in whos if who not in (*modes, NOTHING)]
    table = Table(
        "Against the true counterfactual",
        "Skill is 1 - error / error of doing nothing: 1 is perfect, 0 is doing nothing.",
        ["", "error", f"error of {NOTHING}", *(f"skill, {MODES.get(k, k)}" for k in modes)],
    )
    baselines = Table(
        "Skill of baselines",
        "They are handed the true counterfactual parents, and no model.",
        ["", *others],
    )
    for label, by_name in metrics.items():
        if label not in known:
            empty = [NONE] * (len(table.columns) - 2)
            table.rows.append((label, [Cell("no truth", by_name["no truth"]), *empty]))
            continue
        for name, by_who in by_name.items():
            cells = [cell(by_who[KEPT]["error"]), cell(by_who[NOTHING]["error"])]
            cells += [cell(by_who[k]["skill"]) if k in by_who else NONE for k in modes]
            table.rows.append((f"{name} under {label}", cells))
            if any(who in by_who for who in others):
                cells = [cell(by_who[k]["skill"]) if k in by_who else NONE for k in others]
                baselines.rows.append((f"{name} under {label}", cells))
    yield table
    yield baselines


def _line(path: Path) -> Line:
    _, label, name, mode, kind = path
    return Line(f"{kind} of {name} under {label}", mode, rank=1 if mode == AVERAGED else 2)


AGAINST_TRUTH = Measure(
    name="truth",
    about="error and skill against the true counterfactual, where the world is known",
    sections=(
        Section(
            "truth",
            heading="Against the true counterfactual",
            better={"skill": "higher", "ssim": "higher", "error": "lower"},
            who=3,
            line=_line,
            counts_draws=lambda path: AVERAGED in path,
        ),
    ),
    always=True,
    essential=True,
    answered=_answered,
    asked=_asked,
    conclude=_skill,
    tables=_tables,
)
