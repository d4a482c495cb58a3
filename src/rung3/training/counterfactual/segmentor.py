"""`Segmentor`: a predictor that measures a region, and so cannot be pleased by anything else.

A segmentation network is trained on masks of the image, pixel by pixel. The share of the image that
it takes for the region, and the variable's value as a line of it,

    s(x) = mean_p sum_{k in region} q(k_p | x),      v ~ N(a s(x) + b, r^2),

have gradients that reach the image: they say which pixels must become the region for its volume to
be what was asked for. The line is fitted by least squares to the training rows, and r is what is
left on rows held out.

Source: the idea is that of Xia et al. 2025, *Segmentor-Guided Counterfactual Fine-Tuning* (arXiv
2509.24913), who take segmentors that were trained elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.progress import tracked
from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.data.stored import pick
from rung3.data.variables import Discrete, Image, Mask, Variable
from rung3.mechanisms.networks.pixelwise import PixelwiseNetwork
from rung3.scm.scm import SCM
from rung3.training.oracles.predictor import AT_ONCE, Predictor

__all__ = ["Segmentor", "check_region", "fit_segmentor"]

WIDTH = 8
"""Channels of the network at full size: half of those of `Segmentation`, which may judge it."""

LEARNING_RATE = 3e-3
BATCH = 32
"""Images a step."""

STEPS = 400
"""Steps of training."""

EPOCHS = 30
"""Passes over the rows, at most: where there are few."""


class Segmentor(Predictor):
    """Reads a number off an image by the size of a region.

    Args:
        image: The image it sees.
        target: The variable that it reads, a number.
        mask: The variable of the masks.
        region: Labels or codes of the kinds that make up the region.

    Example:
        >>> from rung3 import Continuous
        >>> mask = Mask(2, 8, 8, labels=("ground", "ventricle"))
        >>> segmentor = Segmentor(Image(1, 8, 8), Continuous(), mask, ["ventricle"])
        >>> segmentor.share(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5])
    """

    line: Tensor
    kinds: Tensor
    none: Tensor

    def __init__(
        self, image: Image, target: Variable, mask: Mask, region: Sequence[str | int]
    ) -> None:
        super().__init__(image, target)
        axes = len(image.sizes)
        self.network = PixelwiseNetwork(image.channels, mask.classes, 1, WIDTH, axes)
        kinds = torch.tensor([mask.code(kind) for kind in region])
        self.register_buffer("kinds", kinds, persistent=False)
        self.register_buffer("none", torch.zeros(1, 1), persistent=False)
        self.register_buffer("line", torch.zeros(2))

    def logits(self, images: Tensor) -> Tensor:
        """Return logits of each pixel's kinds, `(n, kinds, ...)`."""
        maps: Tensor = self.network(2 * images - 1, self.none.expand(len(images), 1))
        return maps.float()

    def share(self, images: Tensor) -> Tensor:
        """Return the share of each image that the region takes, `(n,)`."""
        return self.logits(images).softmax(1)[:, self.kinds].sum(1).flatten(1).mean(1)

    def forward(self, images: Tensor) -> Tensor:
        slope, level = self.line
        reading: Tensor = slope * self.share(images) + level
        return reading

    @torch.no_grad()
    def fit_line(self, images: Tensor, values: Tensor) -> None:
        """Fit the line from shares to standardised values `(n,)`."""
        share = torch.cat([self.share(part) for part in images.split(AT_ONCE)]).double()
        design = torch.stack([share, torch.ones_like(share)], dim=1)
        standard = self.standardise(values).double()
        self.line.copy_(torch.linalg.pinv(design) @ standard)


def check_region(model: SCM, image: str, parent: str, given: Sequence[str]) -> None:
    """Refuse a region that is none: `given` is the name of a mask and labels of its kinds.

    Raises:
        ValueError: If the parent is not a number that causes the image, the mask is not a `Mask` of
            the image's size that the image causes, or has no such kinds.
    """
    mask, *region = given
    parents = list(model.graph.parents(image))
    if parent not in parents:
        raise ValueError(f"segment: {parent} is not a parent of {image}, which has {parents}")
    target = model.variables[parent]
    if isinstance(target, Image | Discrete) or target.shape:
        raise ValueError(
            f"segment: {parent} is {target}; expected a number, such as a region's volume"
        )
    masks = [
        name
        for name in model.graph.children(image)
        if isinstance(kind := model.variables[name], Mask)
        and kind.sizes == model.variables[image].sizes  # type: ignore[attr-defined]
    ]
    if mask not in masks:
        raise ValueError(
            f"segment: {parent}: {mask} is not a mask that {image} causes; expected one of "
            f"{masks}, a Mask of its size"
        )
    for label in region:
        model.variables[mask].code(label)  # type: ignore[attr-defined]


def fit_segmentor(
    model: SCM,
    image: str,
    parent: str,
    given: Sequence[str],
    rows: Rows,
    held: Rows,
    seed: int,
    progress: bool = True,
) -> Segmentor:
    """Train a segmentor on rows that have image, mask and value, and measure it on others.

    Args:
        model: Whose variables are meant.
        image: Name of the image.
        parent: Name of the variable that it reads.
        given: Name of the mask, then labels of the kinds that make up the region.
        rows: Training rows.
        held: Rows to measure it on.
        seed: Of the weights and the order of rows.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If fewer than two rows have all three, in either.
    """
    mask, *region = given
    names = (image, mask, parent)
    seen, kinds = model.variables[image], model.variables[mask]
    assert isinstance(seen, Image)
    assert isinstance(kinds, Mask)
    generator = stream(seed, f"segmentor/{parent}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(generator.initial_seed())
        segmentor = Segmentor(seen, model.variables[parent], kinds, region).to(model.device)
        images, masks, values = _complete(model, rows, names)
        segmentor.standardise.calibrate(values)
        _train(segmentor, images, kinds.codes(masks), generator, f"segmentor of {parent}", progress)
    segmentor.eval().requires_grad_(False)
    segmentor.fit_line(images, values)
    images, _, values = _complete(model, held, names)
    segmentor.measure(images, values)
    return segmentor


def _complete(model: SCM, rows: Rows, names: Sequence[str]) -> list[Tensor]:
    """Return the columns of the rows that have all of them."""
    there = torch.ones(rows.n, dtype=torch.bool)
    for name in names:
        there &= ~model.variables[name].is_missing(rows[name])
    if int(there.sum()) < 2:
        raise ValueError(
            f"segment: needs rows with a value of {', '.join(names)}, and there are "
            f"{int(there.sum())}"
        )
    return [pick(rows[name], there)[:].to(model.device) for name in names]


def _train(
    segmentor: Segmentor,
    images: Tensor,
    codes: Tensor,
    generator: torch.Generator,
    text: str,
    progress: bool,
) -> None:
    batch = min(BATCH, len(images))
    steps = min(STEPS, EPOCHS * (len(images) // batch))
    optimizer = torch.optim.AdamW(segmentor.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in tracked(range(steps), text, progress):
        at = torch.randint(len(images), (batch,), generator=generator).to(images.device)
        optimizer.zero_grad()
        F.cross_entropy(segmentor.logits(images[at]), codes[at]).backward()
        optimizer.step()
        schedule.step()
