"""The numbers of an examination: means with intervals, and what follows from two scores of a row.

    skill              1 - mean d(x~, x*) / mean d(x, x*)
    amplification      mean e(d(x~), pa) - e(d(x), pa),    pa a parent that should not have changed

with e the error of the oracle d. Amplification is the error of effectiveness less the same oracle's
on the same row's real image: what the counterfactual added, below zero where it made the image more
typical. Doing nothing has none. Rows are resampled together in both.

Source: Xia et al. 2024 (arXiv 2403.09422), amplification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.truth import NOTHING
from rung3.evaluation.runner import FACTUAL, OBSERVED, Examination
from rung3.evaluation.scores import Path, Scores, put

__all__ = ["summarise"]


def summarise(
    examinations: Sequence[Examination], bootstrap: Bootstrap
) -> tuple[dict[str, Any], Scores]:
    """All numbers of rows, and every row's scores, averaged over the seeds.

    Args:
        examinations: Of the same rows, one a seed.
        bootstrap: For the intervals.

    Returns:
        Nested dicts: along each path `mean`, `low`, `high`, `unit`, and with several seeds their
        means as `by seed`; where there is no mean, `undefined` says why. And the scores.
    """
    first, *others = examinations
    scores, by_seed = first.scores.averaged([other.scores for other in others])
    metrics = scores.summary(bootstrap)
    for path in [path for path in scores if path[0] == "truth" and path[-1] == "error"]:
        error, nothing = scores[path], scores[(*path[:3], NOTHING, "error")]
        put(metrics, (*path[:-1], "skill"), bootstrap.of(len(error)).skill(error, nothing))
    for path in [path for path in scores if path[0] == "calibration" and path[-1] == "crps"]:
        base = ("truth", *path[1:3], NOTHING, "error")
        if base in scores and len(scores[base]) == len(score := scores[path]):
            found = bootstrap.of(len(score)).skill(score, scores[base])
            put(metrics, (*path[:-1], "crps skill"), found)
    for path, change in _amplified(scores, first):
        found = bootstrap.of(len(change)).mean(change)
        put(metrics, ("amplification", *path[1:]), {**found, "unit": scores.unit(path)})
    for path, means in by_seed.items() if others else ():
        put(metrics, (*path, "by seed"), means)
    for label, reason in first.refused.items():
        put(metrics, ("truth", label), {"no truth": reason})
    metrics["provenance"] = first.notes
    timed = first.seconds[1:] or first.seconds
    rows, seconds = (sum(part) for part in zip(*timed, strict=True)) if timed else (0, 0.0)
    metrics["speed"] = {"per second": rows / seconds if seconds else None}
    return metrics, scores


def _amplified(scores: Scores, seen: Examination) -> Iterator[tuple[Path, Tensor]]:
    """Paths of effectiveness of what should not have changed, and its change from the factual."""
    for path in list(scores):
        if path[0] == "effectiveness" and path[3] in seen.untouched.get(path[2], ()):
            kind, image, _, name, _ = path
            found, floor = scores[path], scores[kind, image, FACTUAL, name, OBSERVED]
            change = found - floor[: len(found)]
            yield path, -change if scores.unit(path) == "accuracy" else change
