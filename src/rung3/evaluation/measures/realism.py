"""Realism: whether imagined images, as a set, are distributed as real ones.

Images are seen through the penultimate layers of learned oracles, networks of this very domain: no
network of photographs, which sees little in a digit and is not there offline. In those features,

    KID = MMD^2(real, imagined) with the kernel (x'y / d + 1)^3                (unbiased)
    FID = |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))                            (biased upwards)

KID is the mean over blocks of rows, which are independent: its standard error is that of a mean,
and memory does not grow with n. FID falls as n grows, for one and the same model, by about a
constant over n; so both sets always have the same n, it is stated, and a figure means something
beside the *floor* alone: the same measure of real images against other real images, at that n.

Give real images of other rows than those that the counterfactuals are of, or the sets depend on
each other. Neither measure sees whether an image answers what was asked: doing nothing is perfect.
Numbers compare only where the same oracles looked.

Sources: Heusel et al. 2017 (arXiv 1706.08500); Bińkowski et al. 2018 (arXiv 1801.01401).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rung3.data.rows import Rows
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.base import (
    FACTUAL,
    OBSERVED,
    Answers,
    Examination,
    Measure,
    Readings,
    Section,
    features_of,
    or_why,
)
from rung3.evaluation.scores import Path, put
from rung3.evaluation.two_sample import mmd, polynomial
from rung3.scm.query import Query
from rung3.training.oracles.oracles import Oracle

__all__ = ["REALISM", "FeatureDistances", "features"]

BLOCK = 100
"""Rows of each kind that are compared with one another at a time."""


@torch.no_grad()
def features(oracles: Iterable[Oracle], images: Tensor) -> Tensor:
    """Return the inputs of oracles' last layers, `(n, d)`, for images `(n, C, H, W)`.

    Args:
        oracles: Oracles of one image, in evaluation mode.
        images: The images.

    Raises:
        ValueError: If there are no oracles.

    Example:
        >>> from rung3 import Continuous, Image
        >>> oracle = Oracle(Image(1, 8, 8), Continuous(), width=4).eval()
        >>> features([oracle], torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 64])
    """
    seen: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    for oracle in oracles:
        *_, last = (module for module in oracle.head.modules() if isinstance(module, nn.Linear))
        hook = last.register_forward_pre_hook(keep)
        try:
            oracle(images)
        finally:
            hook.remove()
    if not seen:
        raise ValueError("realism: expected at least one oracle of the image, got none")
    return torch.cat(seen, dim=1)


class FeatureDistances:
    """Features of real and of imagined images, as many of each, and their KID and FID.

    Args:
        block: Rows of each kind in a block, at least 2.

    Raises:
        ValueError: If a block has fewer than two rows.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> realism = FeatureDistances()
        >>> for _ in range(10):
        ...     realism.update(*torch.randn(2, 60, 8, generator=draw))
        >>> found = realism.compute()
        >>> found["n"], abs(found["kid"]) < 3 * found["kid error"]
        (600, True)
    """

    def __init__(self, block: int = BLOCK) -> None:
        if block < 2:
            raise ValueError(f"block: expected at least 2 rows, got {block}")
        self.block = block
        self.n = 0
        self._kids: list[float] = []
        self._waiting: list[Tensor] = []
        self._frechet: Any = None

    def update(self, real: Tensor, imagined: Tensor) -> None:
        """Add the features of some images of each kind, `(n, d)`.

        Raises:
            ValueError: If their shapes differ: both sets have the same size.
        """
        if real.shape != imagined.shape or real.ndim != 2:
            raise ValueError(
                f"realism: expected features (n, d) of as many real as imagined images, got "
                f"{tuple(real.shape)} and {tuple(imagined.shape)}"
            )
        if self._frechet is None:
            self._frechet = _frechet(real.shape[1]).to(real.device)
        self._frechet.update(real.double(), real=True)
        self._frechet.update(imagined.double(), real=False)
        self.n += len(real)
        waiting = torch.cat([*self._waiting, torch.stack([real, imagined])], dim=1)
        while waiting.shape[1] >= self.block:
            x, y = waiting[:, : self.block]
            self._kids.append(mmd(x, y, polynomial))
            waiting = waiting[:, self.block :]
        self._waiting = [waiting]

    def compute(self) -> dict[str, Any]:
        """Return `kid`, its standard error `kid error`, `fid`, and the number `n` of images a kind.

        Rows that fill no block count for FID alone. `kid` is `None` without a full block, its error
        without two.

        Raises:
            ValueError: If there are fewer than two images of each kind.
        """
        if self.n < 2:
            raise ValueError(f"realism: expected at least two images of each kind, got {self.n}")
        kids = torch.tensor(self._kids, dtype=torch.float64)
        error = float(kids.std()) / math.sqrt(len(kids)) if len(kids) > 1 else None
        return {
            "kid": float(kids.mean()) if len(kids) else None,
            "kid error": error,
            "fid": float(self._frechet.compute()),
            "n": self.n,
        }


class _AsTheyAre(nn.Module):
    """Features that are there already."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.num_features = d

    def forward(self, features: Tensor) -> Tensor:
        return features


def _frechet(d: int) -> Any:
    from torchmetrics.image.fid import FrechetInceptionDistance

    return FrechetInceptionDistance(_AsTheyAre(d))


def _on_factual(exam: Examination, rows: Rows, at: slice, known: bool, readings: Readings) -> None:
    """Collect the floor: real images against others, as many."""
    for image in dict.fromkeys(image for image, _ in readings):
        _collect(exam, at, ("realism", image, FACTUAL, OBSERVED), readings)


def _on_answers(exam: Examination, answers: Answers) -> None:
    if exam.first:
        for image in exam.images(answers.query):
            for mode in answers.by_mode:
                path = ("realism", image, answers.query.label, mode)
                _collect(exam, answers.at, path, answers.readings[mode])


def _collect(exam: Examination, at: slice, path: Path, readings: Readings) -> None:
    if exam.reference is None or at.start >= exam.reference[0].n:
        return
    real = features_of(exam.reference[1], path[1])[at]
    imagined = features_of(readings, path[1])[: len(real)]
    exam.collected.setdefault(path, FeatureDistances()).update(real, imagined)


def _compute(
    exam: Examination, rows: Rows, queries: Sequence[Query], known: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for path, distances in exam.collected.items():
        if path[0] == "realism":
            put(numbers, path, or_why(distances.compute))
    return numbers or {"realism": {"undefined": "no training rows, or no oracles, to compare with"}}


REALISM = Measure(
    name="realism",
    about="KID and FID on the features of an oracle",
    sections=(
        Section(
            "realism",
            "Realism: are answers distributed like real images?",
            "In the features of the oracles. The floor compares as many real images with other "
            "real ones. Doing nothing is perfect here.",
            plain=True,
        ),
    ),
    references=None,
    on_factual=_on_factual,
    on_answers=_on_answers,
    compute=_compute,
)
