"""`GAN`: an encoder, a generator and a critic of images, `x = G(z, pa) + r`.

    z ~ N(0, I),   abduction: z = E(x, pa),   r = x - G(z, pa)

The critic C is given an image, a code and the parents, and tells observed images with their codes,
(x, E(x, pa)), from generated ones with theirs, (G(z, pa), z). Encoder and generator are trained
until it cannot (Dumoulin et al. 2017, arXiv 1606.00704; with parents: Dash, Balasubramanian and
Sharma 2022, arXiv 2009.08270; a row of the benchmark of Melistas et al. 2024, arXiv 2403.20287).
Then a code follows its prior whatever the parents, and the encoder undoes the generator.

Critic and the others each lower the loss of their side of a comparison by pairs, and gradients of
the critic are kept small, so that training converges (Huang et al. 2024, arXiv 2501.05441):

    critic      E softplus(C(generated) - C(observed)) + penalty / 2 E|grad C|^2
    the others  E softplus(C(observed) - C(generated))

That leaves the encoder inexact, so in the last share of the steps, `tuning`, it is trained alone:

    E|x - G(E(x, pa), pa)| + E|z - E(G(z, pa), pa)|^2.

It is the weakest of the families of images: nothing makes the encoder exact. Its error r is kept as
further noise, so that nothing changes where no parent does; `temperature=0` leaves it out, which is
the published mechanism and does not compose. There is no density. It needs long training: on drawn
digits it had learned nothing after a minute, and its critic diverged at a rate of 3e-3.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from rung3.data.rows import Noise
from rung3.data.variables import Image
from rung3.mechanisms.arguments import check_counts, check_shares, is_number
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.mechanisms.likelihoods.base import clamp, quantised
from rung3.mechanisms.networks.context import Context
from rung3.mechanisms.networks.convolutional import ConvDecoder, ConvEncoder, Pyramid

__all__ = ["GAN"]


class GAN(Mechanism):
    """An adversarially trained encoder and generator of images; noise `z` and `residual`.

    Args:
        latent: Length of the code z.
        width: Channels at half the image's size; twice and four times as many below.
        depth: Residual blocks at each resolution, of all three networks.
        penalty: Weight of the critic's squared gradients.
        tuning: Share of the steps, the last ones, in which the encoder alone is trained.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is not an image.

    Example:
        >>> mechanism = GAN(latent=2, width=4).bind("scan", Image(1, 8, 11), {})
        >>> scan = torch.randint(256, (5, 1, 8, 11)) / 255
        >>> noise = mechanism.abduct(scan, {})
        >>> noise["z"].shape, torch.equal(mechanism.predict(noise, {}), scan)
        (torch.Size([5, 2]), True)
    """

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "a generator whose code an encoder guesses; its errors kept"
    observation_noise: ClassVar[tuple[str, ...]] = ("residual",)
    learning_rate: ClassVar[float] = 5e-4
    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)
    has_density: ClassVar[bool] = False
    differentiates: ClassVar[bool] = True

    variable: Image
    done: Tensor

    def __init__(
        self,
        latent: int = 32,
        width: int = 16,
        depth: int = 1,
        penalty: float = 1.0,
        tuning: float = 0.3,
    ) -> None:
        super().__init__()
        check_counts(1, latent=latent, width=width, depth=depth)
        if not is_number(penalty, least=0):
            raise ValueError(f"penalty={penalty!r} must be at least 0 and finite")
        check_shares(tuning=tuning)
        self.latent = latent
        self.width = width
        self.depth = depth
        self.penalty = penalty
        self.tuning = tuning

    def build(self) -> None:
        image = self.variable
        if not isinstance(image, Image):
            raise ValueError(
                f"{self.name}: GAN models images, and {self.name} is {image}; use Flow for numbers "
                "and GumbelMax or InverseCDF for categories"
            )
        pyramid = Pyramid(image, self.width)
        self.context = Context(self.parents)
        width, depth = self.context.width, self.depth
        self.encoder = ConvEncoder(pyramid, width, self.latent, depth)
        self.generator = ConvDecoder(pyramid, width, self.latent, image.channels, depth)
        self.critic = _Critic(pyramid, Context(self.parents), self.latent, depth)
        self.register_buffer("done", torch.zeros(()))

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take the location and scale of the parents from training data."""
        self.context.calibrate(parents)
        self.critic.context.calibrate(parents)

    # Training ------------------------------------------------------------------------------------

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return what training minimises, `()`; in eval mode, the mean error of reconstruction."""
        if not self.training:
            z = self.encode(value, parents)
            return (value - self.generate(z, parents)).abs().mean()
        # Whole levels would tell which images were observed.
        x = self.variable.dequantised(value)
        z = torch.randn((len(x), self.latent), device=x.device, dtype=x.dtype)
        tuned = bool(self.done > 1 - self.tuning)
        return self.tuning_loss(x, z, parents) if tuned else self.adversarial_loss(x, z, parents)

    def after_step(self, seed: int, done: float) -> str | None:
        """Note how much of the training is done."""
        self.done.fill_(done)
        return None

    def adversarial_loss(self, x: Tensor, z: Tensor, parents: Parents) -> Tensor:
        """Return the critic's loss plus that of the encoder and the generator, `()`.

        Args:
            x: Images in [0, 1], `(n, C, H, W)`.
            z: Codes drawn from their prior, `(n, latent)`.
            parents: The parents' values, `(n, ...)`, in their own units.
        """
        observed = (x, self.encode(x, parents))
        generated = (self.variable.dequantised(self.generate(z, parents)), z)
        scores, steepness = [], x.new_zeros(())
        for pair in (observed, generated):
            image, code = (part.detach().requires_grad_() for part in pair)
            scores.append(self.critic(image, code, parents))
            slopes = torch.autograd.grad(scores[-1].sum(), (image, code), create_graph=True)
            steepness = steepness + sum(slope.square().sum() for slope in slopes) / len(x)
        critic = F.softplus(scores[1] - scores[0]).mean() + self.penalty / 2 * steepness
        # The others see the critic as it is: its own parameters get no gradient from them.
        judged = [_frozen(self.critic, *pair, parents) for pair in (observed, generated)]
        others: Tensor = F.softplus(judged[0] - judged[1]).mean()
        return critic + others

    def tuning_loss(self, x: Tensor, z: Tensor, parents: Parents) -> Tensor:
        """Return the errors of the encoder on observed images and on generated ones, `()`.

        Args:
            x: Images in [0, 1], `(n, C, H, W)`.
            z: Codes drawn from their prior, `(n, latent)`.
            parents: The parents' values, `(n, ...)`, in their own units.
        """
        context = self.context(parents, len(x)).detach()
        decoded = _frozen(self.generator, self.encoder(2 * x - 1, context), context)
        with torch.no_grad():
            image = self.generator(z, context)
        code = self.encoder(2 * image - 1, context)
        error: Tensor = (x - decoded).abs().mean() + (z - code).square().mean()
        return error

    def encode(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the encoder's codes of images `(n, C, H, W)` in [0, 1], `(n, latent)`."""
        code: Tensor = self.encoder(2 * value - 1, self.context(parents, len(value)))
        return code.to(value.dtype)

    def generate(self, code: Tensor, parents: Parents) -> Tensor:
        """Return the generator's images of codes `(n, latent)`, `(n, C, H, W)`, about in [0, 1].

        They are cut at 0 and 1 in answers alone: where most pixels are black, a generator that
        cannot leave the range ends in images that are black, and learns no more.
        """
        image: Tensor = self.generator(code, self.context(parents, len(code)))
        return image.to(code.dtype)

    # Queries -------------------------------------------------------------------------------------

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = self.observed.device
        z = torch.randn((n, self.latent), generator=generator, device=device)
        return {"z": z, "residual": torch.zeros((n, *self.variable.shape), device=device)}

    def noise_prior(self) -> str:
        return "Normal(0.0, 1.0) and what an encoder misses"

    def reverse(self, noise: Tensor) -> Tensor | None:
        return -noise

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Return the encoder's code, and what the generator makes of it misses."""
        z = self.encode(value, parents)
        return repeat_noise({"z": z, "residual": value - self.generate(z, parents)}, particles)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        parts = self._parts(noise)
        pixels = self.generate(parts["z"], parents) + parts["residual"]
        return quantised(pixels, self.variable.levels)

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return what the generator makes of the code, `(n, C, H, W)` in [0, 1]."""
        return clamp(self.generate(self._parts(noise)["z"], parents))

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Refuse: it has no density.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.name}: a GAN has no density; VAE, HVAE and Diffusion have bounds")

    def _parts(self, noise: Noise) -> dict[str, Tensor]:
        if isinstance(noise, Tensor) or noise.keys() != {"z", "residual"}:
            raise ValueError(f"{self.name}: expected noise z and residual, as abduct gives it")
        return dict(noise)


class _Critic(nn.Module):
    """A score of images with their codes and parents, `(n, 1)`; high if they look observed."""

    def __init__(self, pyramid: Pyramid, context: Context, latent: int, depth: int) -> None:
        super().__init__()
        self.context = context
        self.network = ConvEncoder(pyramid, context.width + latent, 1, depth)

    def forward(self, image: Tensor, code: Tensor, parents: Parents) -> Tensor:
        beside = torch.cat([self.context(parents, len(image)), code], dim=1)
        score: Tensor = self.network(2 * image - 1, beside)
        return score.float()


def _frozen(module: nn.Module, *inputs: Any) -> Tensor:
    """Return a module's output, through which its own parameters get no gradient."""
    fixed = {name: parameter.detach() for name, parameter in module.named_parameters()}
    output: Tensor = functional_call(module, fixed, inputs)
    return output
