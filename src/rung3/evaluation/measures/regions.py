"""Regions of the image: whether volumes are right, and whether the rest is left alone.

Where the world measures a cause on images, such as the volume of a region, m(x), and knows the
truth x*,

    volume error      |m(x~) - m(x*)| / m(x*)

on target, if the intervention changes that cause, and off target, if it does not. And outside the
pixels that may change, the mean change of those that truly stay, as a number and as a map: see
`rung3.evaluation.outside`.

Source: SimBA (Wilms et al. 2023, arXiv 2311.01292) for the volume error of regions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

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
from rung3.evaluation.outside import NULL, OutsideMaps, may_change

__all__ = ["REGIONS", "volume_error"]


def volume_error(reader: Reader, imagined: Tensor, true: Tensor) -> Tensor:
    """Return the relative error of what is measured, `(n,)`; NaN where the truth shows nothing.

    Args:
        reader: Measures a positive number on images.
        imagined: Images `(n, C, ...)`.
        true: What they should be.
    """
    expected = reader(true)
    return ((reader(imagined) - expected).abs() / expected).where(expected > 0, torch.nan)


def _on_answers(exam: Examination, answers: Answers) -> None:
    if answers.true is None:
        return
    for image in exam.images(answers.query):
        _volumes(exam, answers, image)
        _outside(exam, answers, image)


def _volumes(exam: Examination, answers: Answers, image: str) -> None:
    """Score the measured volumes, of what changes and of what does not."""
    assert answers.true is not None
    unaffected = unchanged(exam.model, image, answers.query.do)
    for name, reader in _readers(exam, image).items():
        target = "off target" if name in unaffected else "on target"
        shown = {mode: rows[image].clamp(0, 1) for mode, rows in answers.by_mode.items()}
        for answerer, imagined in (shown | {NOTHING: answers.rows[image]}).items():
            path = ("regions", answers.query.label, name, answerer, target)
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
    stays = ~may_change(factual, answers.true[image])
    outside = stays.expand_as(factual)
    count = outside.flatten(1).sum(1)
    seen = count > 0
    if not seen.any():
        return
    (first, *_) = exam.model.graph.parents(image)
    null = exam.model.counterfactual(
        answers.rows, {first: answers.rows[first]}, seed=exam.generator
    )
    shown = {mode: rows[image] for mode, rows in answers.by_mode.items()}
    shown |= {NULL: null[image]}
    changes = {
        answerer: (imagined.clamp(0, 1) - factual).abs() for answerer, imagined in shown.items()
    }
    for answerer, change in changes.items():
        mean = (change * outside).flatten(1).sum(1) / count
        path = ("outside", answers.query.label, image, answerer)
        exam.add(path, image, scale(variable) * mean[seen])
    maps = exam.outside.setdefault((answers.query.label, image), OutsideMaps())
    maps.add(stays, changes)


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
            answerer=3,
        ),
        Section(
            "outside",
            "Outside the region that may change",
            "Mean change of pixels that should stay, at least two pixels from any that change; "
            "beside it the change under a null intervention on the same pixels.",
            better={"": "lower"},
            answerer=3,
        ),
    ),
    on_answers=_on_answers,
)
