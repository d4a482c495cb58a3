"""`VAE`: an image as a decoder's mean and what is left over, `x = mu(z, pa) + sigma(z, pa) eps`.

The noise is `u = (z, eps)`, all of it standard normal (lecture 1.8.2). The posterior of z is
amortised, `q(z | x, pa) = N(m(x, pa), s(x, pa)^2)`, and given z that of eps is exact (see
`rung3.mechanisms.likelihoods`). Abduction draws z, then eps; prediction decodes the same two under
the new parents. The log-probability is bounded from below by

    log p(x | pa) >= E_q[log p(x | z, pa)] - KL(q(z | x, pa) || N(0, I)).

Training minimises, per dimension, `sum_i w_i (-log p(x_i | z, pa)) + beta_t KL`: the negative bound
if w and beta_t were one. Both changes are there for the counterfactual, which a higher bound does
not make better.

- `w_i ~ sigma_i^(2 gamma)`, of mean one and held fixed. Under the bound itself a pixel that is
  predicted badly gets a large sigma, and then hardly counts: means are learned slowly (Seitzer et
  al. 2022, arXiv 2203.09168).
- `beta_t` falls from 100 beta to beta in the first `cooling` steps, by equal factors. At first the
  decoder can use the parents alone; what they explain need not be stored in z afterwards, where it
  would work against an intervention.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from rung3.mechanisms.base import Abduction, Mechanism, Parents, leading
from rung3.mechanisms.convolutional import ConvDecoder, ConvEncoder, Pyramid
from rung3.mechanisms.encoding import MLP, ParentEncoder
from rung3.mechanisms.likelihoods import DiscretisedGaussian, Gaussian, Likelihood, Normal
from rung3.rows import Noise
from rung3.variables import Image

__all__ = ["VAE"]

CONTEXT = 64
"""Width of the encoded parents."""

HOT = 100.0
"""Factor on beta at the first step."""


class VAE(Mechanism):
    """A convolutional variational autoencoder, for images of any size; noise `z` and `eps`.

    Args:
        latent: Length of z.
        likelihood: `"discretised"` for pixels stored as whole levels, `"gaussian"` for real ones.
        width: Channels at half the image's size; twice and four times as many below.
        depth: Residual blocks of the decoder at each resolution; the encoder has half as many.
        beta: Weight of the KL divergence in the loss, after cooling.
        cooling: Steps of training in which that weight falls from 100 beta to beta.
        gamma: Exponent of the weights in the loss: 0 for the likelihood itself, 1 for a mean as
            least squares would have it.
        min_log_scale: Lower bound of log sigma, with pixels from 0 to 1.

    Raises:
        ValueError: On `build`, if the variable is not an image, or its pixels are real-valued and
            the likelihood is discretised.

    Example:
        >>> from rung3 import Image
        >>> mechanism = VAE(latent=2, width=4).bind("scan", Image(1, 8, 11), {})
        >>> scan = torch.randint(256, (5, 1, 8, 11)) / 255
        >>> noise = mechanism.abduct(scan, {})
        >>> noise["z"].shape, torch.equal(mechanism.predict(noise, {}), scan)
        (torch.Size([5, 2]), True)
    """

    steps: Tensor

    abduction: ClassVar[Abduction] = "approximate"
    learning_rate: ClassVar[float] = 4e-3
    observation_noise: ClassVar[tuple[str, ...]] = ("eps",)
    assumption: str = "a decoder with Gaussian latents and pixel noise; latents by an encoder"

    def __init__(
        self,
        latent: int = 32,
        likelihood: Literal["discretised", "gaussian"] = "discretised",
        width: int = 16,
        depth: int = 3,
        beta: float = 1.0,
        cooling: int = 1000,
        gamma: float = 0.5,
        min_log_scale: float = -6.0,
    ) -> None:
        super().__init__()
        if likelihood not in ("discretised", "gaussian"):
            raise ValueError(f"likelihood={likelihood!r} must be 'discretised' or 'gaussian'")
        counts = {"latent": latent, "width": width, "depth": depth, "cooling": cooling}
        for name, count in counts.items():
            if count < (least := 0 if name == "cooling" else 1):
                raise ValueError(f"{name}={count} must be at least {least}")
        self.latent = latent
        self.likelihood = likelihood
        self.width = width
        self.depth = depth
        self.beta = beta
        self.cooling = cooling
        self.gamma = gamma
        self.min_log_scale = min_log_scale

    def build(self) -> None:
        if not isinstance(self.variable, Image):
            raise ValueError(
                f"{self.name}: VAE models images, and {self.name} is {self.variable}; "
                "use Flow for numbers and GumbelMax or InverseCDF for categories"
            )
        self.pixels = self._pixels(self.variable)
        pyramid = Pyramid(self.variable, self.width)
        self.parents_encoder = ParentEncoder(self.parents)
        self.context = nn.Sequential(MLP(self.parents_encoder.width, CONTEXT), nn.SiLU())
        self.encoder = ConvEncoder(pyramid, CONTEXT, 2 * self.latent, (self.depth + 1) // 2)
        channels = 2 * self.variable.channels
        self.decoder = ConvDecoder(pyramid, CONTEXT, self.latent, channels, self.depth)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def _pixels(self, variable: Image) -> Likelihood:
        if self.likelihood == "gaussian":
            return Gaussian(self.min_log_scale)
        if variable.bits is None:
            raise ValueError(
                f"{self.name}: its pixels are real-valued (bits=None), and the likelihood is "
                "discretised; use VAE(likelihood='gaussian'), or say how many bits they have"
            )
        return DiscretisedGaussian(variable.bits, self.min_log_scale)

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take the location and scale of the parents from training data."""
        self.parents_encoder.calibrate(parents)

    def encode(self, value: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of `q(z | x, pa)`, each `(n, latent)`."""
        mean, log_scale = self.encoder(value, context).chunk(2, dim=1)
        return mean, log_scale.clamp(-7, 3)

    def decode(self, z: Tensor, parents: Parents) -> Normal:
        """Mean and log-scale of the pixels given z and the parents, each `(n, C, H, W)`."""
        return self._decode(z, self._context(parents, len(z)))

    def _context(self, parents: Parents, n: int) -> Tensor:
        context: Tensor = self.context(self.parents_encoder(parents, n))
        return context

    def _decode(self, z: Tensor, context: Tensor) -> Normal:
        mean, log_scale = self.decoder(z, context).chunk(2, dim=1)
        return self.pixels.params(mean, log_scale - 2)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shapes = {"z": (n, self.latent), "eps": (n, *self.variable.shape)}
        device = self.observed.device
        return {k: torch.randn(s, generator=generator, device=device) for k, s in shapes.items()}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        z, eps = self._parts(noise)
        return self.pixels.predict(eps, self.decode(z, parents))

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """The decoder's mean `mu(z, pa)`, shape `(n, C, H, W)`: not rounded to levels."""
        return self.decode(self._parts(noise)[0], parents).mean

    def _parts(self, noise: Noise) -> tuple[Tensor, Tensor]:
        if isinstance(noise, Tensor) or not {"z", "eps"} <= noise.keys():
            raise ValueError(f"{self.name}: expected noise as a dict of z and eps")
        return noise["z"], noise["eps"]

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Draw z from the amortised posterior, then eps from its exact one given z."""
        n, lead = len(value), leading(len(value), particles)
        context = self._context(parents, n)
        mean, log_scale = self.encode(value, context)
        noise = torch.randn((*lead, self.latent), generator=generator, device=value.device)
        z = mean + log_scale.exp() * noise
        # One particle at a time: K decodings, one encoding, and no more memory than for one.
        worlds = [self._decode(one, context) for one in z.reshape(-1, n, self.latent)]
        eps = torch.stack([self.pixels.abduct(value, world, generator) for world in worlds])
        return {"z": z, "eps": eps.reshape(*lead, *value.shape[1:])}

    def _terms(self, value: Tensor, parents: Parents) -> tuple[Tensor, Tensor, Tensor]:
        """One draw of `log p(x_i | z, pa)` and `log sigma_i`, `(n, C, H, W)`; the KL, `(n,)`."""
        context = self._context(parents, len(value))
        mean, log_scale = self.encode(value, context)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        params = self._decode(z, context)
        kl = 0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale
        return self.pixels.log_prob(value, params), params.log_scale, kl.sum(1)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """A lower bound of `log p(x | pa)`, estimated with one draw of z, shape `(n,)`, in nats."""
        log_prob, _, kl = self._terms(value, parents)
        return log_prob.flatten(1).sum(1) - kl

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """The objective above, averaged over rows; in evaluation mode, the plain negative bound."""
        size = value[0].numel()
        if not self.training:
            return -self.log_prob(value, parents).mean() / size
        log_prob, log_scale, kl = self._terms(value, parents)
        weight = (2 * self.gamma * log_scale.detach()).exp()
        pixels = -(weight / weight.mean() * log_prob).mean()
        return pixels + self._next_beta() * kl.mean() / size

    def _next_beta(self) -> Tensor:
        """`beta_t`, one step further with every call."""
        left = (self.cooling - self.steps).clamp_min(0) / max(self.cooling, 1)
        self.steps += 1
        beta: Tensor = self.beta * HOT**left
        return beta
