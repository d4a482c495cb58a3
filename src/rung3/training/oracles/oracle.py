"""A pseudo-oracle: a small network that reads a parent's value off the image, and sees no more.

Effectiveness asks whether an image that was told to be something is it (lecture 1.9.2). A
convolutional network answers, `d(x) ~ pa`, trained on real training images, then frozen. It is no
better than its error on real test images, which is therefore reported beside every score.

Measured on rows that it was not trained on, an oracle has a density. The counterfactual objective
trains against such a density, never against the oracles that judge it.

Source: Monteiro et al. 2023 (arXiv 2303.01274), section 4.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.variables import Discrete, Image, Variable
from rung3.mechanisms.networks.encoding import MLP
from rung3.mechanisms.networks.spatial import FORMATS, channels_last, conv
from rung3.training.oracles.predictor import Predictor

__all__ = ["Oracle"]

SHAPES = 48
"""Numbers that an oracle sees of an image's shapes."""

LEVELS = 16
"""Numbers that it sees of the levels of its pixels."""

RANKS = 128
"""Order statistics of the pixels, at most."""


class Oracle(Predictor):
    """A network that reads one variable off an image.

    A convolutional network sees its shapes, and another the levels of its pixels in order, wherever
    they are: a convolution finds it hard to tell the median of the bright ones.

    Args:
        image: The image it sees.
        target: The variable that it reads.
        width: Channels of its second layer; the deepest have twice as many.
    """

    ranks: Tensor

    def __init__(self, image: Image, target: Variable, width: int = 32) -> None:
        super().__init__(image, target)
        self.width = width
        outputs = target.classes if isinstance(target, Discrete) else math.prod(self.shape)
        self.near, self.far, self.shapes = _layers(image, width)
        self.register_buffer("ranks", _ranks(math.prod(image.sizes)), persistent=False)
        inputs = image.channels * len(self.ranks)
        self.levels = MLP(inputs, LEVELS, (128, 128))
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(SHAPES + LEVELS, outputs))
        # As the images: on a CPU that takes a fifth less time.
        self.to(memory_format=FORMATS[len(image.shape) + 1])  # type: ignore[call-overload]

    def embed(self, images: Tensor) -> Tensor:
        """Return what it sees in images `(n, C, H, W)`: the inputs of its last layer, `(n, 64)`."""
        x = channels_last(2 * images - 1)
        near = self.near(x)
        pool = F.adaptive_max_pool2d if x.ndim == 4 else F.adaptive_max_pool3d
        greatest = pool(near, 1).flatten(1)  # amax, whose gradient is slow
        shapes = self.shapes(torch.cat([self.far(near), greatest], dim=1))
        ordered = x.flatten(2).sort(dim=2, descending=True).values[:, :, self.ranks]
        return torch.cat([shapes, self.levels(ordered.flatten(1))], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(n, classes)`, or the standardised value `(n, *shape)`."""
        return self.judge(self.embed(images))

    def judge(self, embedding: Tensor) -> Tensor:
        """Return logits, or the standardised value, of what it sees."""
        reading: Tensor = self.head(embedding)
        if isinstance(self.target, Discrete):
            return reading
        return reading.reshape(len(embedding), *self.shape)

    def loss(self, images: Tensor, values: Tensor) -> Tensor:
        """Return cross-entropy for categories; Huber's loss of standardised values for numbers."""
        reading = self(images)
        if isinstance(self.target, Discrete):
            return F.cross_entropy(reading, values.long())
        return F.smooth_l1_loss(reading, self.standardise(values), beta=0.1)

    def config(self) -> dict[str, Any]:
        """Return what `Oracles.save` stores beside the weights."""
        return {
            "image": self.image.config(),
            "target": self.target.config(),
            "width": self.width,
        }


def _layers(image: Image, width: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Build layers at half size, halvings until the shorter side is at most 4, and their sum.

    The last also sees the greatest value of each channel of the first layers, wherever it is.
    """
    axes = len(image.sizes)

    def layer(inputs: int, outputs: int, stride: int, size: int = 3) -> list[nn.Module]:
        return [
            conv(axes, inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs) if axes == 2 else nn.BatchNorm3d(outputs),
            nn.SiLU(),
        ]

    near = layer(image.channels, width // 2, 2, 5) + layer(width // 2, width, 1)
    far: list[nn.Module] = []
    sizes, channels = [math.ceil(size / 2) for size in image.sizes], width
    while min(sizes) > 4:
        far += layer(channels, 2 * width, 2)
        channels = 2 * width
        sizes = [math.ceil(size / 2) for size in sizes]
    shapes = nn.Linear(channels * math.prod(sizes) + width, SHAPES)
    return nn.Sequential(*near), nn.Sequential(*far, nn.Flatten()), shapes


def _ranks(pixels: int) -> Tensor:
    """Return places in the order of the pixels, from brightest to median, ever farther apart."""
    half = math.log2(max(pixels / 2, 1))
    places: Tensor = torch.logspace(0, half, RANKS, base=2).round().long().unique()
    return places - 1
