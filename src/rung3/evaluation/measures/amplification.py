"""What should not have changed: amplification, and drift.

An intervention leaves the non-descendants of what was set as they were; on images only an oracle
d can tell. With x the factual image, x~ the counterfactual, and a parent that should have kept its
value `pa`,

    amplification   e(d(x~), pa) - e(d(x), pa)
    drift           e(d(x~), d(x))                 with e the distance of the variable's kind.

Amplification is the error of effectiveness less the same oracle's error on the same row's real
image: what the counterfactual added, below zero where it made the image more typical. Drift needs
no label. Doing nothing has neither. The oracle's own mistakes cancel in both only where it makes
them alike on real and on imagined images.

Source: Xia, Roschewitz, De Sousa Ribeiro, Jones and Glocker 2024 (arXiv 2403.09422).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import (
    FACTUAL,
    OBSERVED,
    Answers,
    Examination,
    Measure,
    Section,
)
from rung3.evaluation.scores import put
from rung3.training.oracles.oracles import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rung3.scm.scm import SCM

__all__ = ["AMPLIFICATION", "DRIFT", "amplification", "drift", "moved", "score_drift", "unchanged"]


def unchanged(model: SCM, image: str, do: Iterable[str]) -> list[str]:
    """Return the image's parents that an intervention leaves as they were.

    Example:
        >>> from rung3 import SCM
        >>> model = SCM("a -> b; {a b c} -> x")
        >>> unchanged(model, "x", ["a"]), unchanged(model, "x", ["b"])
        (['c'], ['a', 'c'])
    """
    untouched = _untouched(model, do)
    return [name for name in model.graph.parents(image) if name in untouched]


def amplification(oracle: Oracle, before: Tensor, after: Tensor, values: Tensor) -> Tensor:
    """Return the oracle's error on counterfactuals less its error on their factuals, `(n,)`.

    Args:
        oracle: Reads a parent that should not have changed.
        before: Factual images `(n, C, H, W)`.
        after: Counterfactual images `(n, C, H, W)`.
        values: The parent's values `(n, *shape)`.

    Returns:
        In the variable's unit; for categories 1 (now wrong), 0 (as before) or -1 (now right).
    """
    return oracle.error(after, values) - oracle.error(before, values)


def drift(oracle: Oracle, before: Tensor, after: Tensor) -> Tensor:
    """Return how far what the oracle reads has moved, `(n,)`, in the variable's unit.

    Args:
        oracle: Reads a parent that should not have changed.
        before: Factual images `(n, C, H, W)`.
        after: Counterfactual images `(n, C, H, W)`.
    """
    return oracle.error(after, oracle.read(before))


def moved(model: SCM, do: Iterable[str], before: Rows, after: Rows) -> dict[str, Tensor]:
    """Return how far each non-descendant's value has moved, `(n,)`; exactly zero in a sound model.

    Args:
        model: Whose graph and variables are meant.
        do: Names of what was set.
        before: Factual rows.
        after: Counterfactual rows.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> rows = world.sample(2, seed=0)
        >>> moved(world, ["x2"], rows, world.counterfactual(rows, {"x2": 0.0}))
        {'x1': tensor([0., 0.])}
    """
    return {
        name: distance(model.variables[name], after[name], before[name])
        for name in _untouched(model, do)
    }


def _untouched(model: SCM, do: Iterable[str]) -> list[str]:
    """Return what is neither set nor a descendant of what is, in causal order."""
    names = list(do)
    touched = {*names, *model.graph.descendants(names)}
    return [name for name in model.graph.order if name not in touched]


def _amplified(exam: Examination, metrics: dict[str, Any], bootstrap: Bootstrap) -> None:
    """Take each oracle's error on the factual off its error on the answer, row by row."""
    scores = exam.scores
    for path in list(scores):
        if path[0] == "effectiveness" and path[3] in exam.untouched.get(path[2], ()):
            kind, image, _, name, _ = path
            errors, floor = scores[path], scores[kind, image, FACTUAL, name, OBSERVED]
            change = errors - floor[: len(errors)]
            change = -change if scores.unit(path) == "accuracy" else change
            mean = bootstrap.of(len(change)).mean(change)
            put(metrics, ("amplification", *path[1:]), {**mean, "unit": scores.unit(path)})


def score_drift(exam: Examination, answers: Answers) -> None:
    """Score how far what oracles read of unchanged attributes has moved."""
    untouched = exam.untouched[answers.query.label]
    images = set(exam.images(answers.query))
    for mode in answers.by_mode:
        for (image, name), now in answers.readings[mode].items():
            if image in images and name in untouched:
                before = answers.readings[FACTUAL][image, name].value
                shift = distance(exam.model.variables[name], now.value, before)
                exam.add(("drift", image, answers.query.label, name, mode), name, shift)


AMPLIFICATION = Measure(
    name="amplification",
    about="error that an answer adds to what should not have changed",
    sections=(
        Section(
            "amplification",
            "Amplification: what should not have changed",
            "Error of oracles on attributes that were not touched, less their error on the same "
            "rows' real images. Doing nothing scores 0; the line of the truth shows the error "
            "of the oracles alone.",
            better={"": "lower"},
            answerer=4,
        ),
    ),
    always=True,
    conclude=_amplified,
)

DRIFT = Section(
    "drift",
    "Drift: oracles' readings of what should have stayed",
    "How far the oracles' readings moved, for attributes that should have stayed.",
    better={"": "lower"},
    answerer=4,
)
