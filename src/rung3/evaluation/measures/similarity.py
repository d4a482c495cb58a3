"""Structural similarity: whether an image has the same local means, contrasts and patterns.

Around every pixel, under a Gaussian window of deviation 1.5 pixels, with images in [0, 1],

    SSIM(x, y) = (2 mu_x mu_y + c_1)(2 sigma_xy + c_2)
                 / ((mu_x^2 + mu_y^2 + c_1)(sigma_x^2 + sigma_y^2 + c_2)),     c = (0.01^2, 0.03^2),

averaged over pixels and channels. 1 is the same image; a shift of all grey levels costs little, a
stroke that is blurred or moved costs much: the other way round than the mean absolute error.

Source: Wang, Bovik, Sheikh and Simoncelli 2004 (IEEE Transactions on Image Processing 13:4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from rung3.evaluation.measures.base import NOTHING, Answers, Examination, Measure
from rung3.evaluation.measures.table import Table, table_of_means
from rung3.evaluation.scores import Path

__all__ = ["SIMILARITY", "ssim"]

PADDING = 5
"""Pixels by which the window reaches beyond an image, which is mirrored there."""


def ssim(x: Float[Tensor, "n c *size"], y: Float[Tensor, "n c *size"]) -> Float[Tensor, " n"]:
    """Return the structural similarity of each pair of images, at most 1; the higher the better.

    Args:
        x: Images `(n, C, H, W)` or volumes `(n, C, D, H, W)`, cut to [0, 1].
        y: The others, of the same shape.

    Raises:
        ValueError: If the images have 5 pixels a side or less: the window needs more.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> ssim(x, x), bool((ssim(x, 1 - x) < 0).all())
        (tensor([1., 1.]), True)
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(x.shape[2:]) <= PADDING:
        raise ValueError(
            f"SSIM: its window needs images of more than {PADDING} pixels a side, "
            f"got {tuple(x.shape[2:])}"
        )
    similarity = structural_similarity_index_measure(x, y, reduction="none", data_range=(0.0, 1.0))
    assert isinstance(similarity, Tensor)
    return similarity


def _on_answers(exam: Examination, answers: Answers) -> None:
    if answers.true is None:
        return
    for image in exam.images(answers.query):
        shown = {mode: rows[image] for mode, rows in answers.by_mode.items()}
        for answerer, imagined in (shown | {NOTHING: answers.rows[image]}).items():
            path = ("truth", answers.query.label, image, answerer, "ssim")
            with exam.flagged([path]):
                exam.scores.add(path, ssim(imagined.clamp(0, 1), answers.true[image]), "")


def _tables(metrics: Mapping[str, Any]) -> Iterator[Table]:
    means: dict[Path, Any] = {
        (f"{variable} under {label}", answerer): part["ssim"]
        for label, by_name in metrics.get("truth", {}).items()
        if "no truth" not in by_name
        for variable, by_answerer in by_name.items()
        for answerer, part in by_answerer.items()
        if "ssim" in part
    }
    yield table_of_means(
        "Structural similarity to the true counterfactual",
        "1 is the same image; beside it, that of doing nothing.",
        means,
    )


SIMILARITY = Measure(
    name="similarity",
    about="structural similarity to the true counterfactual",
    on_answers=_on_answers,
    tables=_tables,
)
