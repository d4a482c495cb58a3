"""`HVAE`: an image through a hierarchy of latents, from coarse to fine.

    z_i = m_i(z_>i [, pa]) + s_i(z_>i [, pa]) u_i,     x = mu(z, pa) + sigma(z, pa) eps,

with all u_i and eps standard normal. With the *exogenous* prior the parents are kept out of the
chain, and z_i is taken to be u_i itself: the latents are part of the noise (lecture, Figure 26),
but for their mean given discrete parents (`rung3.mechanisms.autoencoder`).
With the *conditional* prior the parents enter the chain: then the latents are endogenous, a
mediator between the parents and the image, and only the u_i are noise (lecture, Figures 27 to 29).

In both cases the posterior is one of the noise, `q(u_i | u_>i, x, pa) = N(a_i, b_i^2)`, and its
divergence from the prior is that of `q(z_i | ...)` from `p(z_i | ...)`, since the map between u_i
and z_i is affine. Abduction draws the u_i from coarse to fine, and the counterfactual mediator runs
the same chain on them under the new parents: it is the identity when the parents are the same.

De Sousa Ribeiro et al. 2023 (arXiv 2306.15764) instead mix what the image and what the new parents
say: with `m_q, s_q` of the posterior of z_i and `m_p, s_p` of its prior under the new parents,

    z~_i = alpha m_q + (1 - alpha) m_p + (alpha^2 s_q^2 + (1 - alpha)^2 s_p^2)^(1/2) u'_i,

with `u'_i = (z_i - m_q) / s_q`. That is `mediator="mixture"`: unless alpha is 1, a null
intervention changes the image. It concerns counterfactuals alone; samples are the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.shared_batch import batch_mean
from rung3.data.variables import Image
from rung3.mechanisms.arguments import check_counts, check_weights
from rung3.mechanisms.autoencoder import Autoencoder, Inference, gaussian_kl, widened
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.deformation import Deformation, moved
from rung3.mechanisms.networks.hierarchy import BottomUp, Latent, Source, TopDown
from rung3.mechanisms.networks.spatial import conv
from rung3.mechanisms.networks.stages import Grid, Stage, preset

__all__ = ["HVAE"]

Prior = Literal["exogenous", "conditional"]
Mediator = Literal["chain", "mixture"]


class HVAE(Autoencoder):
    """A hierarchical autoencoder of images and volumes of any size; noise `u1`, `u2`, ..., `eps`.

    Args:
        prior: `"exogenous"` (latents are noise) or `"conditional"` (a mediator, caused by the
            parents).
        stages: The resolutions, from fine to coarse, as `Stage`s or mappings of their fields; a
            preset for the image's size if not given.
        likelihood: `"logistic"`, `"discretised"` or `"mixture"` for pixels stored as whole levels,
            `"gaussian"` for real ones; see `rung3.mechanisms.likelihoods.registry`.
        beta: Weight of the KL divergences in the loss, after warm-up.
        warmup: Steps of training in which that weight rises from 0.
        free_nats: Nats of each layer's divergence that cost nothing (free bits, arXiv 1606.04934).
        gamma: Exponent of the weights of pixels in the loss, see `rung3.mechanisms.autoencoder`.
        mediator: With the conditional prior, how the counterfactual latents come about: by the
            `"chain"`, or by the published `"mixture"`.
        alpha: Share of the posterior in that mixture, from 0 to 1.
        min_log_scale: Lower bound of a pixel's log-scale, with pixels from 0 to 1.
        checkpointing: Compute activations again in the backward pass: less memory, more time.
        widening: Factor on the posterior's deviations where several draws are asked for: see
            `rung3.evaluation.widen`.
        guidance: Weight of the discrete parents that changed in a counterfactual, or of both
            groups, `{"changed": 1.5, "rest": 1}`; a query may have others, `guidance=`.
        moving: Resolution of a stage, below the first, whose state deforms what the finer stages
            add (see `rung3.mechanisms.networks.deformation`): so detail moves with what it is part
            of when a parent does. Give the first stage latents then. `None` for no deformation.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is not an image,
            `moving` is the resolution of no such stage, the stages cannot reach its size, its
            pixels are real-valued and the likelihood is for whole levels, or the prior is
            conditional and there are no parents.

    Example:
        >>> from rung3 import Image
        >>> stages = [Stage(8, 4, latents=2), Stage(4, 8, latents=2)]
        >>> mechanism = HVAE(stages=stages).bind("scan", Image(1, 16, 20), {})
        >>> scan = torch.randint(256, (5, 1, 16, 20)) / 255
        >>> noise = mechanism.abduct(scan, {})
        >>> {name: tuple(part.shape) for name, part in noise.items()}
        {'u1': (5, 2, 4, 5), 'u2': (5, 2, 8, 10), 'eps': (5, 1, 16, 20)}
        >>> torch.equal(mechanism.predict(noise, {}), scan)
        True
    """

    learning_rate: ClassVar[float] = 2e-3
    assumption: str = "a decoder with hierarchical Gaussian latents and pixel noise; an encoder"

    renamed: ClassVar[Mapping[str, str]] = {"free": "free_nats"}

    def __init__(
        self,
        prior: Prior = "exogenous",
        stages: Iterable[Stage | Mapping[str, int]] | None = None,
        likelihood: str = "logistic",
        beta: float = 1.0,
        warmup: int = 0,
        free_nats: float = 8.0,
        gamma: float = 0.25,
        mediator: Mediator = "chain",
        alpha: float = 0.5,
        min_log_scale: float = -7.5,
        checkpointing: bool = False,
        widening: float = 1.0,
        guidance: float | Mapping[str, float] = 1.0,
        moving: int | None = None,
    ) -> None:
        super().__init__(likelihood, beta, gamma, min_log_scale, widening, guidance)
        _check_choice("prior", prior, ("exogenous", "conditional"))
        _check_choice("mediator", mediator, ("chain", "mixture"))
        if mediator == "mixture" and prior != "conditional":
            raise ValueError(
                "mediator='mixture' needs latents that parents cause: prior='conditional'"
            )
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} must lie between 0 and 1")
        check_counts(0, warmup=warmup)
        check_weights(free_nats=free_nats)
        self.prior = prior
        self.has_latent_mediator = prior == "conditional"
        self.stages = None if stages is None else tuple(_stage(stage) for stage in stages)
        if self.stages == ():
            raise ValueError(
                "stages: expected at least one Stage, such as Stage(16, 32, latents=8)"
            )
        self.warmup = warmup
        self.free_nats = free_nats
        self.mediator = mediator
        self.alpha = alpha
        self.checkpointing = checkpointing
        self.moving = moving

    @property
    def scheduled(self) -> int:
        return self.warmup

    def _networks(self, image: Image, outputs: int) -> None:
        if self.has_latent_mediator and not self.parents:
            raise ValueError(
                f"{self.name}: a conditional prior needs parents, and {self.name} has none in the "
                "graph; use prior='exogenous'"
            )
        stages = preset(image) if self.stages is None else self.stages
        if not any(stage.latents for stage in stages):
            raise ValueError(f"{self.name}: no stage has latents, such as Stage(16, 32, latents=8)")
        grid = Grid(self.name, image, stages)
        context, checkpointing = self.context.width, self.checkpointing
        moving = self._moving(stages)
        self.encoder = BottomUp(grid, stages, image.channels, context, checkpointing)
        if moving is not None:
            squares = image.channels * grid.square**grid.axes
            self.reread = conv(grid.axes, squares, stages[0].width, 3, padding=1)
        self.decoder = TopDown(
            grid, stages, outputs, context, self.has_latent_mediator, checkpointing, moving
        )

    def _moving(self, stages: Sequence[Stage]) -> int | None:
        """Return the index of the stage that moves the finer ones."""
        if self.moving is None:
            return None
        coarser = [stage.resolution for stage in stages[1:] if stage.resolution > 1]
        if self.moving not in coarser:
            raise ValueError(
                f"{self.name}: moving={self.moving}: expected the resolution of a stage below the "
                f"first, one of {coarser}"
            )
        return 1 + coarser.index(self.moving)

    def _latent_shapes(self) -> dict[str, tuple[int, ...]]:
        return {latent.name: self.decoder.shape(latent) for latent in self.decoder.latents}

    def _moved(
        self, noise: dict[str, Tensor], parents: Parents, n: int, sign: int
    ) -> dict[str, Tensor]:
        if self.mediator == "mixture":  # it is published for latents as they are
            return noise
        return super()._moved(noise, parents, n, sign)

    def _prior(self, n: int, context: Tensor, generator: Generator | None) -> dict[str, Tensor]:
        noise = {
            latent.name: torch.randn(
                (n, *self.decoder.shape(latent)), generator=generator, device=context.device
            )
            for latent in self.decoder.latents
        }
        if self.mediator == "mixture":
            # So wide that, mixed with the prior under the same parents, it is that prior.
            width = (2 / max(self.alpha, 1e-6) - 1) ** 0.5

            def source(latent: Latent, h: Tensor) -> Tensor:
                m, s = latent.prior(h)
                u = noise[latent.name]
                noise.update(Mixed(u, m, width * s).named(latent))
                return m + s * u

            self.decoder(context, source)
        return noise

    def _encode(self, value: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        features: tuple[Tensor, ...] = self.encoder(value, context)
        return features if self.moving is None else (*features, value)

    def _infer(
        self,
        features: tuple[Tensor, ...],
        context: Tensor,
        generator: Generator | None,
        widening: float = 1.0,
    ) -> Inference:
        noise: dict[str, Tensor] = {}
        kl: dict[str, Tensor] = {}
        seen = [*features]

        def settle(deformation: Deformation) -> None:
            # What is finer lies in a frame of its own, and so must what its latents are read off.
            finer = slice(self.decoder.moving)
            seen[finer] = [moved(part, deformation.back) for part in seen[finer]]
            image = moved(seen[-1], deformation.back)
            seen[0] = seen[0] + self.reread(self.decoder.grid.enter(image))

        def source(latent: Latent, h: Tensor) -> Tensor:
            mean, log_scale = latent.posterior(h, seen[latent.index])
            kl[latent.name] = gaussian_kl(mean, log_scale)
            e = torch.randn(mean.shape, generator=generator, device=mean.device)
            scale = widened(log_scale, widening)
            u = mean + scale * e
            if self.mediator == "chain":
                noise[latent.name] = u
            else:
                m, s = latent.prior(h)
                noise.update(Mixed(e, m + s * mean, s * scale).named(latent))
            return latent.place(h, u)

        raw = self.decoder(context, source, settle)
        return Inference(noise, raw, kl)

    def _z(self, noise: dict[str, Tensor]) -> Source:
        """Return the source of the latents that noise gives, layer after layer."""

        def source(latent: Latent, h: Tensor) -> Tensor:
            if self.mediator == "chain":
                return latent.place(h, noise[latent.name])
            a, (m_p, s_p) = self.alpha, latent.prior(h)
            u, m_q, s_q = Mixed.of(latent, noise)
            deviation = (a**2 * s_q**2 + (1 - a) ** 2 * s_p**2).sqrt()
            return a * m_q + (1 - a) * m_p + deviation * u

        return source

    def _decode(self, noise: dict[str, Tensor], context: Tensor) -> Tensor:
        raw: Tensor = self.decoder(context, self._z(noise))
        return raw

    def latents(self, noise: Noise, parents: Parents) -> dict[str, Tensor]:
        """Return the latents `z1`, `z2`, ... that noise gives under these parents, `(n, ...)` each.

        Raises:
            ValueError: If the prior is exogenous: the latents are noise, and mediate nothing.
        """
        if not self.has_latent_mediator:
            return super().latents(noise, parents)
        parts, eps = self._parts(noise)
        latents, z_of = {}, self._z(self._moved(parts, parents, len(eps), 1))

        def source(latent: Latent, h: Tensor) -> Tensor:
            latents[latent.mediator] = z = z_of(latent, h)
            return z

        self.decoder(self._context(parents, len(eps)), source)
        return latents

    def outcome(self, latents: Mapping[str, Tensor], parents: Parents) -> Tensor:
        """Return the expected pixels `g(pa, z)` under latents and parents, `(n, C, H, W)`.

        With noise of observation `eps` among the latents, the pixels under this noise.

        Raises:
            ValueError: If the prior is exogenous.
        """
        if not self.has_latent_mediator:
            return super().outcome(latents, parents)
        n = len(next(iter(latents.values())))
        raw = self.decoder(self._context(parents, n), lambda latent, _: latents[latent.mediator])
        params = self.pixels.params(raw)
        eps = latents.get("eps")
        return self.pixels.mean(params) if eps is None else self.pixels.predict(eps, params)

    def _penalty(self, kl: dict[str, Tensor]) -> Tensor:
        """Return `beta_t sum_i max(KL_i, free_nats)`, each divergence averaged over rows."""
        share = ((self.steps + 1) / max(self.warmup, 1)).clamp_max(1.0)
        costs = [
            torch.where(batch_mean(part) >= self.free_nats, part.mean(), self.free_nats)
            for part in kl.values()
        ]
        total = torch.stack(costs).sum()
        weighted: Tensor = self.beta * share * total
        return weighted

    def reverse(self, noise: Tensor) -> Tensor | None:
        return -noise if self.mediator == "chain" else None

    def config(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults, stages as mappings."""
        config = super().config()
        if self.stages is not None:
            config["stages"] = [_fields(stage) for stage in self.stages]
        return config


class Mixed(NamedTuple):
    """One layer's noise under `mediator="mixture"`, each `(n, channels, ...)`.

    Attributes:
        u: The noise u' that is common to the factual and the counterfactual latents.
        mean: Mean `m_q` of the posterior of the latents.
        scale: Scale `s_q` of that posterior.
    """

    u: Tensor
    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, latent: Latent, noise: Mapping[str, Tensor]) -> Self:
        """Read one layer's part of the mechanism's noise."""
        return cls(*(noise[name] for name in cls.names(latent)))

    @staticmethod
    def names(latent: Latent) -> tuple[str, str, str]:
        """Return what the parts are called in the mechanism's noise."""
        return latent.name, f"{latent.name} mean", f"{latent.name} scale"

    def named(self, latent: Latent) -> dict[str, Tensor]:
        """Return the parts as the mechanism's noise holds them."""
        return dict(zip(self.names(latent), self, strict=True))


def _fields(stage: Stage) -> dict[str, int]:
    """Return the fields that differ from their defaults."""
    values = {field: getattr(stage, field.name) for field in fields(stage)}
    return {field.name: value for field, value in values.items() if value != field.default}


def _stage(stage: Stage | Mapping[str, int]) -> Stage:
    """Read a stage from the mapping of its fields that a study or a saved model holds."""
    if isinstance(stage, Stage):
        return stage
    known = [field.name for field in fields(Stage)]
    if not isinstance(stage, Mapping) or not {"resolution", "width"} <= stage.keys() <= {*known}:
        raise ValueError(
            f"stages: expected a Stage or a mapping of its {', '.join(known)} (the first two are "
            f"needed), got {stage!r}"
        )
    return Stage(**stage)


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}={value!r} must be {' or '.join(map(repr, known))}")
