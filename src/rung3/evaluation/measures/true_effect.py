"""How much of the true change of an image a model makes, and how much that is not of it.

With the true change `d = x* - x` of a row and the model's `d~ = x~ - x`,

    effectiveness    <d, d~> / |d|^2                                        (1 is ideal)
    amplification    (|d~|^2 - (<d, d~> / |d|)^2)^(1/2) / n^(1/2)           (0 is ideal)

with n pixels, so that amplification is a mean change of a pixel in grey levels: the length of what
is orthogonal to the truth. Doing nothing scores 0 in both. Rows that truly do not change are left
out.

With the truth at hand they need no oracle, unlike `rung3.evaluation.measures.amplification`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from rung3.data.distances import scale
from rung3.evaluation.measures.base import NOTHING, Answers, Examination, Measure, Section

__all__ = ["TRUE_EFFECT", "true_effect"]


def true_effect(
    factual: Float[Tensor, "n ..."],
    imagined: Float[Tensor, "n ..."],
    true: Float[Tensor, "n ..."],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return effectiveness, and amplification in the images' own unit, of each row.

    Example:
        >>> import torch
        >>> x, true = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
        >>> true_effect(x, torch.tensor([[0.5, 1.0]]), true)
        (tensor([0.5000]), tensor([0.7071]))
    """
    change, answer = ((end - factual).flatten(1).double() for end in (true, imagined))
    along = (change * answer).sum(1) / change.norm(dim=1)
    across = (answer.square().sum(1) - along.square()).clamp_min(0) / change.shape[1]
    return (along / change.norm(dim=1)).to(factual), across.sqrt().to(factual)


def _on_answers(exam: Examination, answers: Answers) -> None:
    if answers.true is None:
        return
    for image in exam.images(answers.query):
        factual, true = answers.rows[image], answers.true[image]
        moved = (true - factual).flatten(1).abs().amax(1) > 0
        if not moved.any():
            continue
        shown = {mode: rows[image] for mode, rows in answers.by_mode.items()}
        for answerer, imagined in (shown | {NOTHING: factual}).items():
            share, rest = true_effect(factual[moved], imagined[moved].clamp(0, 1), true[moved])
            path = ("true effect", answers.query.label, image, answerer)
            exam.scores.add((*path, "effectiveness"), share, "")
            grey = scale(exam.model.variables[image])
            exam.add((*path, "amplification"), image, grey * rest)


TRUE_EFFECT = Measure(
    name="true effect",
    about="share of the true change that is made, and change that is not of it",
    sections=(
        Section(
            "true effect",
            "The true effect: how much of it, and what else?",
            "Effectiveness is the share of the true change that the answer makes: 1 is ideal. "
            "Amplification is the change orthogonal to the true one, per pixel: 0 is ideal.",
            better={"amplification": "lower"},
            answerer=3,
        ),
    ),
    on_answers=_on_answers,
)
