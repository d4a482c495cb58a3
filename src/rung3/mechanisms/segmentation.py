"""`Segmentation`: a mask that images cause, pixel by pixel.

    mask_p = argmax_k (l_k(images, pa)_p + G_kp),      G_kp ~ Gumbel(0, 1), independent,

with log-probabilities l from a network that keeps space (a U-Net), so the mask has its edges where
the image has them: the segmentation is caused by the image (lecture 1.4.1). Given the mask, the
noise of every pixel has the exact posterior of `GumbelMax`, top-down. Pixels are independent given
the parents.

A mask is a `Mask`, or an `Image` of few levels: `Image(1, H, W, bits=1)` for ground and object.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.variables import Image
from rung3.mechanisms.base import Abduction, Mechanism, Parents, leading, one_tensor
from rung3.mechanisms.discrete import gumbel, gumbel_given
from rung3.mechanisms.networks.context import Context
from rung3.mechanisms.networks.pixelwise import PixelwiseNetwork, images_of_size

__all__ = ["Segmentation"]

MOST_LEVELS = 16
"""Most kinds of pixel: each has a map of its own."""


class Segmentation(Mechanism):
    """A mask of images or volumes of its own size; noise `(n, kinds, ...)`.

    Args:
        width: Channels of the network at full size.

    Raises:
        ValueError: On `build`, if the variable is not an image of one channel and few levels, or no
            parent is an image of its size.

    Example:
        >>> from rung3 import Mask
        >>> scan = Image(1, 8, 8)
        >>> mechanism = Segmentation().bind("mask", Mask(2, 8, 8), {"scan": scan})
        >>> parents = {"scan": torch.randint(256, (2, 1, 8, 8)) / 255}
        >>> mask = (parents["scan"] > 0.5).float()
        >>> torch.equal(mechanism.predict(mechanism.abduct(mask, parents), parents), mask)
        True
    """

    abduction: ClassVar[Abduction] = "posterior"
    assumption: str = (
        "Gumbel-max noise of each pixel (counterfactual stability), not known from data"
    )
    learning_rate: ClassVar[float] = 3e-3

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"width={width!r} must be a whole number of at least 1")
        self.width = width

    def build(self) -> None:
        mask = self.variable
        coarse = isinstance(mask, Image) and mask.levels is not None and mask.levels < MOST_LEVELS
        if not isinstance(mask, Image) or not coarse or mask.channels != 1:
            raise ValueError(
                f"{self.name}: Segmentation models masks, such as Mask(2, H, W), of at most "
                f"{MOST_LEVELS} kinds, and {self.name} is {mask}; use ImageToImage or VAE for "
                "other images and GumbelMax for categories"
            )
        images = images_of_size(self.parents, mask.sizes)
        self.seen = [*images]
        if not self.seen:
            raise ValueError(
                f"{self.name}: expected a parent that is an image of {mask.sizes} pixels, as the "
                f"mask is, got {self.parents}"
            )
        assert mask.levels is not None
        self.kinds = mask.levels + 1
        others = {name: kind for name, kind in self.parents.items() if name not in self.seen}
        self.context = Context(others)
        channels = sum(image.channels for image in images.values())
        self.network = PixelwiseNetwork(
            channels, self.kinds, self.context.width, self.width, len(mask.sizes)
        )

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        self.context.calibrate(self._others(parents))

    def _others(self, parents: Parents) -> dict[str, Tensor]:
        return {name: value for name, value in parents.items() if name not in self.seen}

    def log_probs(self, parents: Parents) -> Tensor:
        """Return log-probabilities of each pixel's kinds, `(n, kinds, ...)`."""
        images = torch.cat([parents[name] for name in self.seen], dim=1)
        context = self.context(self._others(parents), len(images))
        logits: Tensor = self.network(2 * images - 1, context)
        return logits.float().log_softmax(1)

    def _codes(self, value: Tensor) -> Tensor:
        """Return the kind of each pixel, `(n, ...)`."""
        return (value[:, 0] * (self.kinds - 1)).round().long()

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        table = self.log_probs(parents)
        return table.gather(1, self._codes(value).unsqueeze(1)).flatten(1).sum(1)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shape = (n, self.kinds, *self.variable.shape[1:])
        return gumbel(shape, generator, self.observed.device)

    def noise_prior(self) -> str:
        return f"Gumbel(0, 1) of {self.kinds} kinds of each pixel"

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        code = (self.log_probs(parents) + one_tensor(noise, self.name)).argmax(1, keepdim=True)
        return code.to(self.variable.dtype) / (self.kinds - 1)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        logits = self.log_probs(parents).movedim(1, -1)
        lead = (*leading(len(value), particles), *self.variable.shape[1:])
        axis = -len(self.variable.shape)
        return gumbel_given(self._codes(value), logits, lead, generator).movedim(-1, axis)
