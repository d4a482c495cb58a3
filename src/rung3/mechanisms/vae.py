"""`VAE`: an image as a decoder's mean and what is left over, `x = mu(z, pa) + sigma(z, pa) eps`.

The posterior of z is amortised, `q(z | x, pa) = N(m(x, pa), s(x, pa)^2)`; see
`rung3.mechanisms.autoencoder` for the bound, the loss, and how abduction and prediction follow.

The weight `beta_t` of its divergence falls from 100 beta to beta in the first `cooling` steps, by
equal factors, or in a share of the training. So the decoder learns from the parents first, and z
does not store what they explain: stored there, it would work against an intervention. A training
that goes on from fitted weights keeps the weight that was reached.

With a pose, z and the parents make a drawing in a frame of its own, and further latents move it
into the image, by an affine map that is the same for all (`rung3.mechanisms.networks.pose`). Else
nothing tells the decoder that a place, a size or a slant is the same thing in a 3 and in a 7.

With an adversary, z is trained to tell nothing about discrete parents
(`rung3.mechanisms.networks.adversary`), so that the decoder hears of them from the parents alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.variables import Image
from rung3.mechanisms.arguments import check_counts, check_weights, is_number
from rung3.mechanisms.autoencoder import (
    Autoencoder,
    Inference,
    gaussian_kl,
    widened,
)
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.adversary import Adversary
from rung3.mechanisms.networks.convolutional import ConvDecoder, ConvEncoder, Pyramid
from rung3.mechanisms.networks.pose import Pose

__all__ = ["VAE"]

INITIAL_BETA_FACTOR = 100.0
"""Factor on beta at the first step: so high that z tells nothing of the image yet."""

MIN_LOG_SCALE = -7.0
"""Least log-scale of the posterior of z: a finer one would tell nothing more."""

MAX_LOG_SCALE = 3.0
"""Greatest log-scale of the posterior of z: a wild network must not overflow."""

POSE_LOG_SCALE = -2.0
"""Log-scale of the posterior of a pose at the start: poses as wide as their prior would blur all
that the decoder learns from."""


class VAE(Autoencoder):
    """A convolutional variational autoencoder of images and volumes; noise `z` and `eps`.

    Args:
        latent: Length of z.
        likelihood: `"logistic"`, `"discretised"` or `"mixture"` for pixels stored as whole levels,
            `"gaussian"` for real ones; see `rung3.mechanisms.likelihoods.registry`.
        width: Channels at half the image's size; twice and four times as many below.
        depth: Residual blocks of the decoder at each resolution; the encoder has half as many.
        beta: Weight of the KL divergence in the loss, after cooling.
        cooling: Steps of training in which that weight falls from 100 beta to beta; or, between 0
            and 1, the share of the training.
        gamma: Exponent of the weights in the loss: 0 for the likelihood itself, 1 for a mean as in
            least squares; a mixture has no scale, and weights of one.
        min_log_scale: Lower bound of log sigma, with pixels from 0 to 1.
        checkpointing: Compute activations again in the backward pass: less memory, more time.
        widening: Factor on the posterior's deviations where several draws are asked for: see
            `rung3.evaluation.widen`.
        guidance: Weight of the discrete parents that changed in a counterfactual, or of both
            groups, `{"changed": 1.5, "rest": 1}`; a query may have others, `guidance=`.
        pose: Whether latents of their own, `pose`, say where things are in the image, how large,
            how slanted and how turned: for images of one thing in various places. Noise `pose` has
            6 numbers for images and 12 for volumes.
        adversary: Weight of a network that guesses the discrete parents from z in training, and
            that z is to mislead; 0 for none. 30 is a good weight for digits.

    Raises:
        ValueError: If `pose` is not True or False, or a weight below 0 or infinite; on `build`, if
            the variable is not an image, its pixels are real-valued and the likelihood is for whole
            levels, or no parent is discrete and there is an adversary.

    Example:
        >>> from rung3 import Image
        >>> mechanism = VAE(latent=2, width=4).bind("scan", Image(1, 8, 11), {})
        >>> scan = torch.randint(256, (5, 1, 8, 11)) / 255
        >>> noise = mechanism.abduct(scan, {})
        >>> noise["z"].shape, torch.equal(mechanism.predict(noise, {}), scan)
        (torch.Size([5, 2]), True)
    """

    learning_rate: ClassVar[float] = 4e-3
    done: Tensor
    assumption: str = "a decoder with Gaussian latents and pixel noise; latents by an encoder"

    def __init__(
        self,
        latent: int = 32,
        likelihood: str = "logistic",
        width: int = 16,
        depth: int = 3,
        beta: float = 1.0,
        cooling: int | float = 300,
        gamma: float = 0.25,
        min_log_scale: float = -7.5,
        checkpointing: bool = False,
        widening: float = 1.0,
        guidance: float | Mapping[str, float] = 1.0,
        pose: bool = False,
        adversary: float = 0.0,
    ) -> None:
        super().__init__(likelihood, beta, gamma, min_log_scale, widening, guidance)
        check_counts(1, latent=latent, width=width, depth=depth)
        check_weights(adversary=adversary)
        if not is_number(cooling, least=0) or (cooling > 1 and cooling % 1):
            raise ValueError(
                f"cooling={cooling!r} must be a whole number of steps, at least 0, or a share of "
                "the training, below 1"
            )
        if not isinstance(pose, bool):
            raise ValueError(f"pose={pose!r} must be True or False")
        self.latent = latent
        self.width = width
        self.depth = depth
        self.cooling = cooling
        self.checkpointing = checkpointing
        self.pose = pose
        self.adversary = adversary

    def build(self) -> None:
        super().build()
        self.register_buffer("done", torch.zeros(()))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Weights that were saved before cooling could be a share.
        state.setdefault(f"{prefix}done", torch.ones(()))
        super()._load_from_state_dict(state, prefix, *rest)

    @property
    def _by_share(self) -> bool:
        return 0 < self.cooling < 1

    @property
    def scheduled(self) -> int:
        if not self._by_share:
            return int(self.cooling)
        return round(int(self.steps) * self.cooling / max(float(self.done), self.cooling))

    def after_step(self, seed: int, done: float) -> str | None:
        """Note how much of the training is done, and look for latents that have collapsed."""
        self.done.clamp_min_(done)
        return super().after_step(seed, done)

    def _networks(self, image: Image, outputs: int) -> None:
        pyramid = Pyramid(image, self.width)
        context, checkpointing = self.context.width, self.checkpointing
        self.posed = Pose(pyramid.axes, outputs) if self.pose else None
        self.encoder = ConvEncoder(
            pyramid,
            context,
            2 * sum(self._sizes()),
            (self.depth + 1) // 2,
            checkpointing=checkpointing,
        )
        planes = outputs if self.posed is None else self.posed.planes
        self.decoder = ConvDecoder(pyramid, context, self.latent, planes, self.depth, checkpointing)
        if self.posed is not None:
            head: Any = self.encoder.head[-1]
            head.bias.data.chunk(2)[1][self.latent :] = POSE_LOG_SCALE
        self.guesser = (
            Adversary(self.latent, self.parents, self.adversary) if self.adversary else None
        )

    def _sizes(self) -> list[int]:
        """Return the lengths of z and, if there is one, of the pose."""
        return [self.latent] if self.posed is None else [self.latent, self.posed.size]

    def _latent_shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(zip(("z", "pose"), ((size,) for size in self._sizes()), strict=False))

    def _named(self, latents: Tensor) -> dict[str, Tensor]:
        """Return latents `(n, all)` by name, each `(n, its length)`."""
        return dict(zip(("z", "pose"), latents.split(self._sizes(), dim=1), strict=False))

    def _prior(self, n: int, context: Tensor, generator: Generator | None) -> dict[str, Tensor]:
        shape = n, sum(self._sizes())
        return self._named(torch.randn(shape, generator=generator, device=context.device))

    def _encode(self, value: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Return mean and log-scale of `q(z | x, pa)`, each `(n, latent)`, a pose included."""
        mean, log_scale = self.encoder(value, context).chunk(2, dim=1)
        return mean, log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)

    def infer(self, value: Tensor, parents: Parents) -> Inference:
        """Draw once from the posterior; in training, an adversary guesses parents from the draw."""
        inference = super().infer(value, parents)
        if self.guesser is None or not self.training:
            return inference
        return inference._replace(guessed=self.guesser(inference.noise["z"], parents))

    def _infer(
        self,
        features: tuple[Tensor, ...],
        context: Tensor,
        generator: Generator | None,
        widening: float = 1.0,
    ) -> Inference:
        mean, log_scale = features
        u = torch.randn(mean.shape, generator=generator, device=mean.device)
        noise = self._named(mean + widened(log_scale, widening) * u)
        means, log_scales = self._named(mean), self._named(log_scale)
        kl = {name: gaussian_kl(means[name], log_scales[name]) for name in noise}
        return Inference(noise, self._decode(noise, context), kl)

    def _decode(self, noise: dict[str, Tensor], context: Tensor) -> Tensor:
        raw: Tensor = self.decoder(noise["z"], context)
        return raw if self.posed is None else self.posed(raw, noise["pose"])

    def _penalty(self, kl: dict[str, Tensor]) -> Tensor:
        """Return `beta_t` times the divergences, averaged over rows."""
        if self._by_share:
            left: Any = (1 - self.done / self.cooling).clamp_min(0)
        else:
            left = (self.cooling - self.steps).clamp_min(0) / max(self.cooling, 1)
        total = torch.stack(list(kl.values())).sum(0).mean()
        weighted: Tensor = self.beta * INITIAL_BETA_FACTOR**left * total
        return weighted

    def reverse(self, noise: Tensor) -> Tensor | None:
        return -noise
