"""Regions of the image: whether volumes are right, and whether the rest is left alone.

Where the world measures a cause on images, such as the volume of a region, m(x), and knows the
truth x*,

    volume error      |m(x~) - m(x*)| / m(x*)

on target, if the intervention changes that cause, and off target, if it does not. And with R the
pixels that truly change (by more than `CHANGED` in a neighbourhood of `REACH` pixels),

    outside           mean |x~ - x| over the pixels that are not in R,

beside that of the null intervention on the same pixels, which is what a model changes for nothing.

Source: SimBA (Wilms et al. 2023, arXiv 2311.01292) for the volume error of regions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.distances import scale
from rung3.data.variables import Continuous, Image
from rung3.evaluation.measures.amplification import unchanged
from rung3.evaluation.measures.base import (
    NOTHING,
    Answers,
    Examination,
    Measure,
    Reader,
    Section,
)

__all__ = ["REGIONS", "may_change", "volume_error"]

CHANGED = 4 / 255
"""Change of a pixel from which on it counts as changed: above what rounding does."""

REACH = 2
"""Pixels around a changed one that may change, too."""

NULL = "null intervention"
"""Stands for a mode, where the change is that of an intervention which sets nothing new."""


def volume_error(reader: Reader, imagined: Tensor, true: Tensor) -> Tensor:
    """Return the relative error of what is measured, `(n,)`; NaN where the truth shows nothing.

    Args:
        reader: Measures a positive number on images.
        imagined: Images `(n, C, ...)`.
        true: What they should be.
    """
    expected = reader(true)
    return ((reader(imagined) - expected).abs() / expected).where(expected > 0, torch.nan)


def may_change(factual: Tensor, true: Tensor) -> Tensor:
    """Mask the pixels that truly change, and those around them, `(n, 1, ...)`.

    Example:
        >>> x = torch.zeros(1, 1, 7, 7)
        >>> true = x.clone()
        >>> true[..., 3, 3] = 1.0
        >>> int(may_change(x, true).sum())
        25
    """
    changed = ((true - factual).abs().amax(1, keepdim=True) > CHANGED).float()
    pool = F.max_pool3d if changed.ndim == 5 else F.max_pool2d
    return pool(changed, 2 * REACH + 1, 1, REACH) > 0


def _on_answers(exam: Examination, answers: Answers) -> None:
    if answers.true is None:
        return
    for image in exam.images(answers.query):
        _volumes(exam, answers, image)
        _outside(exam, answers, image)


def _volumes(exam: Examination, answers: Answers, image: str) -> None:
    """Score the measured volumes, of what changes and of what does not."""
    assert answers.true is not None
    still = unchanged(exam.model, image, answers.query.do)
    for name, reader in _readers(exam, image).items():
        target = "off target" if name in still else "on target"
        shown = {mode: rows[image].clamp(0, 1) for mode, rows in answers.by_mode.items()}
        for who, imagined in (shown | {NOTHING: answers.rows[image]}).items():
            path = ("regions", answers.query.label, name, who, target)
            with exam.flagged([path]):
                error = volume_error(reader, imagined, answers.true[image])
                seen = ~error.isnan()
                if seen.any():
                    exam.scores.add(path, 100 * error[seen], "%")


def _readers(exam: Examination, image: str) -> Mapping[str, Reader]:
    """Return the measurements of the image's causes that are positive numbers."""
    kinds = {name: exam.model.variables[name] for name in exam.model.graph.parents(image)}
    return {
        name: exam.readers[name]
        for name, kind in kinds.items()
        if name in exam.readers and isinstance(kind, Continuous) and kind.lower >= 0
    }


def _outside(exam: Examination, answers: Answers, image: str) -> None:
    """Score the change of pixels that should not change."""
    assert answers.true is not None
    variable = exam.model.variables[image]
    assert isinstance(variable, Image)
    factual = answers.rows[image]
    outside = ~may_change(factual, answers.true[image]).expand_as(factual)
    count = outside.flatten(1).sum(1)
    seen = count > 0
    if not seen.any():
        return
    (first, *_) = exam.model.graph.parents(image)
    null = exam.model.counterfactual(
        answers.rows, {first: answers.rows[first]}, seed=exam.generator
    )
    shown = {mode: rows[image] for mode, rows in answers.by_mode.items()}
    for who, imagined in (shown | {NULL: null[image]}).items():
        change = ((imagined.clamp(0, 1) - factual).abs() * outside).flatten(1).sum(1) / count
        path = ("outside", answers.query.label, image, who)
        exam.add(path, image, scale(variable) * change[seen])


REGIONS = Measure(
    name="regions",
    about="error of measured volumes on and off target, and change where nothing should change",
    sections=(
        Section(
            "regions",
            "Regions: are measured volumes right?",
            "Error of what is measured on the answer, relative to the same measurement on the true "
            "counterfactual; off target are causes that the intervention leaves alone.",
            better={"": "lower"},
            who=3,
        ),
        Section(
            "outside",
            "Outside the region that may change",
            "Mean change of the pixels that truly stay, two pixels away from any that change; "
            "beside it the change under a null intervention on the same pixels.",
            better={"": "lower"},
            who=3,
        ),
    ),
    on_answers=_on_answers,
)
