"""Continuous ranked probability score: how near a cloud of counterfactuals is to the truth.

Of draws x_k, k = 1 ... K, and the truth x*, in each number,

    CRPS = 1/K sum_k d(x_k, x*) - 1/(2 K (K - 1)) sum_kl d(x_k, x_l),      d(x, y) = |x - y|.

The spread of the draws is subtracted, so that hedging pays as much as the uncertainty is real: the
expected score is lowest for draws from the true posterior, and for no others (it is *proper*). The
K (K - 1) makes it *fair*: unbiased for the score of infinitely many draws, and hence at times below
zero for one number. For a single certain answer it would be the mean absolute error.

Sorted, x_(1) <= ... <= x_(K), the second sum is `2 sum_k (2k - K - 1) x_(k)`. For categories
`d(x, y)` is 1 where they differ, and the score half of Brier's.

On a circle d is the shorter arc, and the second sum is taken over pairs.

Sources: Gneiting and Raftery 2007 (JASA 102:477), section 5; Ferro 2014 (QJRMS 140:683), fair;
Grimit et al. 2006 (QJRMS 132:2925), on a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.distances import scale
from rung3.data.ranks import covered, ranks
from rung3.data.rows import Rows
from rung3.data.variables import Categorical, Continuous, Discrete, Variable
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import (
    NOTHING,
    Answers,
    Examination,
    Line,
    Measure,
    Section,
    or_why,
)
from rung3.evaluation.measures.prior import PRIOR, prior_distances
from rung3.evaluation.measures.recovery import MAX_ROWS
from rung3.evaluation.scores import Path, put
from rung3.scm.query import Query

__all__ = ["CALIBRATION", "CRPS_SKILL", "DRAWS", "LEVELS", "crps"]

CRPS_SKILL = "crps skill"
"""Skill of draws of the noise beside doing nothing, `1 - CRPS / error`."""

LEVELS = (0.5, 0.9)
"""Nominal levels of the intervals whose coverage is counted: 90 % takes 19 draws, 50 % takes 3."""


def crps(variable: Variable, draws: Tensor, true: Tensor) -> Tensor:
    """Return the fair score of each row, in the variable's unit (grey levels for images), `(n,)`.

    Args:
        variable: The variable.
        draws: Counterfactuals `(K, n, *shape)`, K at least 2.
        true: The true counterfactual, `(n, *shape)`.

    Returns:
        The score, averaged over the pixels or numbers of a row; the lower the better.

    Raises:
        ValueError: If there are fewer than two draws, or shapes do not agree.

    Example:
        >>> from rung3 import Continuous
        >>> draws = torch.tensor([[0.0], [2.0]])
        >>> crps(Continuous(), draws, torch.tensor([1.0])), crps(
        ...     Continuous(), draws, torch.tensor([5.0])
        ... )
        (tensor([0.]), tensor([3.]))
    """
    if draws.shape[1:] != true.shape or len(draws) < 2:
        raise ValueError(
            f"CRPS: expected at least 2 draws of shape {tuple(true.shape)} each, "
            f"got {tuple(draws.shape)}"
        )
    K, kind = len(draws), torch.get_default_dtype()
    if isinstance(variable, Discrete):
        # A pair of draws agrees n_c (n_c - 1) times in class c, of K (K - 1).
        n = F.one_hot(draws.long(), variable.classes).sum(0)
        agree = (n * (n - 1)).sum(-1).to(kind) / (K * (K - 1))
        return (draws != true).to(kind).mean(0) - (1 - agree) / 2
    draws, true = draws.to(kind), true.to(kind)
    error = variable.difference(draws, true).abs().mean(0)
    if isinstance(variable, Continuous) and variable.circular:
        apart = variable.difference(draws[:, None], draws[None]).abs().sum((0, 1))
        return (error - apart / (2 * K * (K - 1))).reshape(len(true), -1).mean(1)
    rank = torch.arange(1, K + 1, device=draws.device, dtype=kind).view(-1, *[1] * true.ndim)
    spread = ((2 * rank - K - 1) * draws.sort(dim=0).values).sum(0) / (K * (K - 1))
    return scale(variable) * (error - spread).reshape(len(true), -1).mean(1)


def _score(exam: Examination, answers: Answers) -> None:
    """Score draws against the truth, fair to an honest spread, and count what they hold."""
    if answers.true is None or answers.draws is None:
        return
    for name in answers.query.affected(exam.model):
        draws, true = answers.draws[name], answers.true[name]
        path = ("calibration", answers.query.label, name)
        exam.add((*path, "crps"), name, crps(exam.model.variables[name], draws, true))
        _cover(exam, path, draws, true)


def _cover(exam: Examination, path: Path, draws: Tensor, true: Tensor) -> None:
    """Count how often central intervals of a variable's draws hold the truth."""
    variable = exam.model.variables[path[-1]]
    if isinstance(variable, Categorical) or bool((draws == draws[:1]).all()):
        return  # no order, or nothing is uncertain
    v, unsure = ranks(variable, [draws], true, exam.ties)
    for level in LEVELS:
        if (1 - level) / 2 * (len(draws) + 1) < 1:
            continue  # beyond so few draws no one can tell what lies in a tail that is thinner
        share = covered(v, unsure, level)
        exam.scores.add((*path, f"coverage {level:.0%}"), share, "", partial=True)


def _skill(exam: Examination, metrics: dict[str, Any], bootstrap: Bootstrap) -> None:
    scores = exam.scores
    for path in [path for path in scores if path[0] == "calibration" and path[-1] == "crps"]:
        base = ("truth", *path[1:3], NOTHING, "error")
        if base in scores and len(scores[base]) == len(score := scores[path]):
            skill = bootstrap.of(len(score)).skill(score, scores[base])
            put(metrics, (*path[:-1], CRPS_SKILL), skill)


def _line(path: Path) -> Line:
    _, label, name, kind = path
    if kind in ("crps", CRPS_SKILL):
        return Line(f"{kind.replace('crps', 'CRPS')} of {name} under {label}", None, "truth", 0)
    return Line(", ".join(path[1:]))


DRAWS = Measure(
    name="draws",
    about="CRPS of draws of the noise, and their coverage, where the truth is known",
    sections=(
        Section(
            "calibration",
            "Uncertainty: do the draws contain the truth?",
            "CRPS (lower is better), and how often the draws' central intervals contain the true "
            "value, where the draws differ.",
            better={"crps": "lower", CRPS_SKILL: "higher"},
            line=_line,
            counts_draws=lambda path: "coverage" in path[-1],
        ),
    ),
    always=True,
    on_answers=_score,
    conclude=_skill,
)


def _compute(
    exam: Examination, rows: Rows, queries: Sequence[Query], known: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    some = rows[: min(known, MAX_ROWS)].to(exam.model.device)
    return {"prior": or_why(lambda: prior_distances(exam.model, some, exam.seed))}


CALIBRATION = Measure(
    name="calibration",
    about="whether noise follows its prior",
    sections=(PRIOR,),
    draws="with truth",
    compute=_compute,
)
