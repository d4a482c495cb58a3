"""`ImageToImage`: an image that other images of its size cause, pixel by pixel.

    x_p = mu_p(images, pa) + sigma_p(images, pa) eps_p,

with mu and sigma from a network that keeps space (a U-Net), so that an edge of the cause is an edge
of the child: a scan of another sequence, a map that is computed from a scan, a coarser copy. What a
pixel has beyond that is its own noise, whose posterior given the pixel is exact, and pixels are
independent given the parents. Masks have `rung3.mechanisms.segmentation`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.variables import Image, Mask
from rung3.mechanisms.base import Abduction, Mechanism, Parents, one_tensor
from rung3.mechanisms.likelihoods.base import Likelihood
from rung3.mechanisms.likelihoods.registry import check_likelihood, likelihood_of
from rung3.mechanisms.networks.context import Context
from rung3.mechanisms.networks.pixelwise import PixelwiseNetwork, images_of_size

__all__ = ["ImageToImage"]


class ImageToImage(Mechanism):
    """An image or volume caused by others of its own size; noise `(n, C, ...)`.

    Args:
        width: Channels of the network at full size.
        likelihood: `"logistic"` or `"discretised"` for pixels stored as whole levels,
            `"gaussian"` for real ones; see `rung3.mechanisms.likelihoods.registry`.
        gamma: Exponent of the weights of pixels in the loss, as of the autoencoders.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is not an image, or
            is a mask, or no parent is an image of its size.

    Example:
        >>> scan = Image(1, 8, 8)
        >>> mechanism = ImageToImage().bind("inverse", Image(1, 8, 8), {"scan": scan})
        >>> parents = {"scan": torch.randint(256, (2, 1, 8, 8)) / 255}
        >>> image = 1 - parents["scan"]
        >>> noise = mechanism.abduct(image, parents)
        >>> torch.allclose(mechanism.predict(noise, parents), image)
        True
    """

    abduction: ClassVar[Abduction] = "posterior"
    assumption: str = "location and scale of each pixel given the images; independent pixel noise"
    learning_rate: ClassVar[float] = 3e-3

    pixels: Likelihood[Any]

    def __init__(self, width: int = 16, likelihood: str = "logistic", gamma: float = 0.25) -> None:
        super().__init__()
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"width={width!r} must be a whole number of at least 1")
        check_likelihood(likelihood)
        self.width = width
        self.likelihood = likelihood
        self.gamma = gamma

    def build(self) -> None:
        image = self.variable
        if not isinstance(image, Image) or isinstance(image, Mask):
            raise ValueError(
                f"{self.name}: ImageToImage models images, and {self.name} is {image}; use "
                "Segmentation for masks, Flow for numbers and GumbelMax for categories"
            )
        images = images_of_size(self.parents, image.sizes)
        if not images:
            raise ValueError(
                f"{self.name}: expected a parent that is an image of {image.sizes} pixels, as "
                f"{self.name} is, got {self.parents}; use VAE or HVAE without one"
            )
        self.seen = [*images]
        self.pixels = likelihood_of(self.name, image, self.likelihood)
        self.context = Context({k: v for k, v in self.parents.items() if k not in images})
        self.network = PixelwiseNetwork(
            sum(parent.channels for parent in images.values()),
            self.pixels.outputs(image.channels),
            self.context.width,
            self.width,
            len(image.sizes),
        )

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        self.context.calibrate(self._others(parents))

    def _others(self, parents: Parents) -> dict[str, Tensor]:
        return {name: value for name, value in parents.items() if name not in self.seen}

    def params(self, parents: Parents) -> Any:
        """Return the parameters of each pixel's likelihood."""
        images = torch.cat([parents[name] for name in self.seen], dim=1)
        context = self.context(self._others(parents), len(images))
        return self.pixels.params(self.network(2 * images - 1, context).float())

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return the expected pixels given the parents, `(n, C, ...)`; the noise plays no part."""
        return self.pixels.mean(self.params(parents))

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return self.pixels.log_prob(value, self.params(parents)).flatten(1).sum(1)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the negative log-probability of a pixel, weighted in training, `()`, in nats."""
        params = self.params(parents)
        gamma = self.gamma if self.training else 0.0
        weights = self.pixels.weights(params, gamma)
        return -(weights * self.pixels.log_prob(value, params)).mean()

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shape = (n, *self.variable.shape)
        return self.pixels.sample_noise(shape, generator, self.observed.device)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        return self.pixels.predict(one_tensor(noise, self.name), self.params(parents))

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        params = self.params(parents)
        if particles is None:
            return self.pixels.abduct(value, params, generator)
        draws = [self.pixels.abduct(value, params, generator) for _ in range(particles)]
        return torch.stack(draws)
