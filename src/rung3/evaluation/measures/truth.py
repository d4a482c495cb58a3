"""Counterfactuals against the truth, where the world is known.

    error = d(x~, x*),      skill = 1 - mean d(x~, x*) / mean d(x, x*)

with x the factual value, x~ the model's answer and x* the true counterfactual. Skill 1 is
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
    Answers,
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


def errors(model: SCM, imagined: Rows, true: Rows, names: list[str]) -> dict[str, Tensor]:
    """Return the distance of each variable from the truth, in each row, `(n,)`."""
    return {name: distance(model.variables[name], imagined[name], true[name]) for name in names}


def baseline_errors(
    model: SCM, rows: Rows, true: Rows, image: str, baselines: Mapping[str, Baseline]
) -> dict[str, Tensor]:
    """Return the distance of each baseline's image from the truth, `(n,)`, by name."""
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


def _on_answer(exam: Examination, answers: Answers, mode: str) -> None:
    if answers.true is not None:
        _against(exam, answers, mode, answers.by_mode[mode], answers.true)


def _on_answers(exam: Examination, answers: Answers) -> None:
    """Score the mean of draws, which is free of the accidents of one, and the baselines."""
    if answers.true is None:
        return
    if answers.draws is not None:
        for name in exam.images(answers.query):
            mean = answers.draws[name].mean(0)
            error = distance(exam.model.variables[name], mean, answers.true[name])
            exam.add(("truth", answers.query.label, name, AVERAGED, "error"), name, error)
    _against(exam, answers, NOTHING, answers.rows, answers.true)
    for image in exam.images(answers.query):
        by_baseline = baseline_errors(exam.model, answers.rows, answers.true, image, exam.baselines)
        for answerer, error in by_baseline.items():
            exam.add(("truth", answers.query.label, image, answerer, "error"), image, error)


def _against(exam: Examination, answers: Answers, answerer: str, answer: Rows, true: Rows) -> None:
    names = answers.query.affected(exam.model)
    for name, error in errors(exam.model, answer, true, names).items():
        exam.add(("truth", answers.query.label, name, answerer, "error"), name, error)


def _skill(exam: Examination, metrics: dict[str, Any], bootstrap: Bootstrap) -> None:
    scores = exam.scores
    for path in [path for path in scores if path[0] == "truth" and path[-1] == "error"]:
        error, nothing = scores[path], scores[(*path[:3], NOTHING, "error")]
        put(metrics, (*path[:-1], "skill"), bootstrap.of(len(error)).skill(error, nothing))


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    metrics = metrics.get("truth", {})
    known = {label: part for label, part in metrics.items() if "no truth" not in part}
    answerers = dict.fromkeys(
        answerer
        for part in known.values()
        for by_answerer in part.values()
        for answerer in by_answerer
    )
    modes = [answerer for answerer in answerers if answerer in MODES or answerer.startswith(SCALED)]
    others = [answerer for answerer in answerers if answerer not in (*modes, NOTHING)]
    table = Table(
        "Against the true counterfactual",
        "Skill is 1 - error / error of doing nothing: 1 is perfect, 0 is doing nothing.",
        ["", "error", f"error of {NOTHING}", *(f"skill, {MODES.get(k, k)}" for k in modes)],
    )
    baselines = Table(
        "Skill of baselines",
        "They get the true counterfactual parents, and use no model.",
        ["", *others],
    )
    for label, by_name in metrics.items():
        if label not in known:
            empty = [NONE] * (len(table.columns) - 2)
            table.rows.append((label, [Cell("no truth", by_name["no truth"]), *empty]))
            continue
        for name, by_answerer in by_name.items():
            cells = [cell(by_answerer[KEPT]["error"]), cell(by_answerer[NOTHING]["error"])]
            cells += [cell(by_answerer[k]["skill"]) if k in by_answerer else NONE for k in modes]
            table.rows.append((f"{name} under {label}", cells))
            if any(answerer in by_answerer for answerer in others):
                cells = [
                    cell(by_answerer[k]["skill"]) if k in by_answerer else NONE for k in others
                ]
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
            answerer=3,
            line=_line,
            counts_draws=lambda path: AVERAGED in path,
        ),
    ),
    always=True,
    essential=True,
    on_answer=_on_answer,
    on_answers=_on_answers,
    conclude=_skill,
    tables=_tables,
)
