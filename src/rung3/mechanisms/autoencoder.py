"""What variational image mechanisms share: `x = h(eps; g(z, pa))`, noise `u = (latents, eps)`.

The latents' noise is standard normal (lecture 1.8.2) and has an amortised posterior `q`; given the
latents, the posterior of eps is exact (see `rung3.mechanisms.likelihoods.base`). Abduction draws
the latents from q, and eps given what they decode to; prediction decodes the same noise under the
new parents. The log-probability is bounded from below by

    log p(x | pa) >= E_q[log p(x | z, pa)] - sum_i KL_i,

with a term for each layer of latents. Training minimises, per dimension,

    sum_j w_j (-log p(x_j | z, pa)) + sum_i beta_i KL_i,

which is the negative bound if all weights are one. The weights serve the counterfactual, which a
higher bound does not make better: `w_j ~ sigma_j^(2 gamma)`, of mean one and without gradient.
Under the bound itself a pixel that is predicted badly gets a large sigma, and then hardly counts,
so that means are learned slowly (Seitzer et al. 2022, arXiv 2203.09168). The beta_i are the
family's own, with a schedule in the first steps.

Training may settle where the latents tell nothing about the image and the decoder ignores them
(*posterior collapse*). From there it seldom returns by itself, since using them costs before it
pays. So the divergences of a batch are looked at a few times soon after the schedule. If all layers
together hold less than `COLLAPSED` nats, the networks start over, now with a weight of the
divergences that rises from 0 (Bowman et al. 2016, arXiv 1511.06349), and `rung3.training.restarts`
adds the epochs that were lost. Whether latents come into use is a matter of the first weights, so
that is done up to `DRAWS` times: latents that stay unused then have nothing to tell.

Noise is independent of the parents, and what is inferred of the latents has another mean for each
class of a discrete parent. So these means m(pa) are part of the mechanism, and noise is what is
left (`rung3.mechanisms.networks.parent_mean`): the prior of the latents is `N(m(pa), 1)`. In
training their divergence is from `N(0, 1)`, which keeps the classes together.

The decoder may follow a discrete parent too little all the same. With guidance, shares of the
context count more (`rung3.mechanisms.networks.context`): no other training is needed. Shares of
numbers are left alone: farther from their mean they would be those of a value that was not asked
for.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Set
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.seeding import seeded
from rung3.data.shared_batch import batch_mean
from rung3.data.variables import Image
from rung3.mechanisms.arguments import check_weights
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.mechanisms.guidance import Guidance
from rung3.mechanisms.likelihoods.base import Likelihood
from rung3.mechanisms.likelihoods.registry import check_likelihood, likelihood_of
from rung3.mechanisms.networks.context import Context
from rung3.mechanisms.networks.parent_mean import ParentMean

__all__ = [
    "UNUSED", "Autoencoder", "Inference", "LatentMediator", "gaussian_kl", "widened",
]  # fmt: skip

CHUNK_ROWS = 256
"""Rows that are decoded together when particles are drawn: it bounds the memory."""

UNUSED = 0.1
"""Nats a row below which latents are called unused: a seventh of a bit about the image.

It is of a layer, not of a dimension: a layer of a thousand dimensions that holds one bit is used.
"""

COLLAPSED = 2.0
"""Nats a row below which all latents together have collapsed: they tell seven images apart, or
fewer."""

GRACE = 150
"""Steps after the schedule in which latents may come into use by themselves."""

LOOK = 50
"""Steps between two looks at the divergences."""

LOOKING = 200
"""Steps from the first look to the last: networks that are trained longer are never discarded."""

REVIVAL = 300
"""Steps after a collapse in which the weight of the divergences rises from 0: by then the decoder
has learned what the latents are good for."""

DRAWS = 3
"""Times that networks start over: where every other draw of weights uses its latents, all of four
fail in one training of sixteen."""

NO_MEDIATOR = "its mechanism has no latent mediator; use HVAE(prior='conditional')"


class LatentMediator(Protocol):
    """The additions to the contract of mechanisms whose parents cause latents, which cause x."""

    def latents(self, noise: Noise, parents: Parents) -> dict[str, Tensor]:
        """Return the latents z that this noise gives under these parents, each `(n, ...)`."""

    def outcome(self, latents: Mapping[str, Tensor], parents: Parents) -> Tensor:
        """Return `g(pa, z)` under latents and parents, `(n, *shape)`; without eps, the mean."""


class Inference(NamedTuple):
    """One draw from the posterior: the latents' noise, the decoder's output, and the divergence.

    Attributes:
        noise: Noise of the latents, by name, `(n, ...)`.
        raw: The decoder's output under the same parents, `(n, outputs, H, W)`.
        kl: Divergence of the posterior from the prior, by layer, `(n,)` in nats.
        guessed: In training against an adversary, the log-loss of its guesses, `(n,)` in nats.
    """

    noise: dict[str, Tensor]
    raw: Tensor
    kl: dict[str, Tensor]
    guessed: Tensor | None = None


class Autoencoder(Mechanism):
    """A variational autoencoder of images, of any depth; a subclass gives encoder and decoder.

    Sources: Kingma and Welling 2014 (arXiv 1312.6114); Pawlowski, Castro and Glocker 2020 (arXiv
    2006.06485).

    Args:
        likelihood: Name of the pixels' likelihood, in `rung3.mechanisms.likelihoods.registry`.
        beta: Weight of the KL divergence in the loss.
        gamma: Exponent of the weights of pixels in the loss.
        min_log_scale: Lower bound of a pixel's log-scale, with pixels from 0 to 1.
        widening: Factor on the posterior's deviations where several draws are asked for.
        guidance: Weight of the discrete parents that changed in a counterfactual, or of both
            groups, `{"changed": 1.5, "rest": 1}`, see `rung3.mechanisms.guidance`; a query may
            have others, `guidance=`.

    Raises:
        ValueError: If there is no such likelihood, the factor is below 1, or a weight below 0 or
            infinite.

    Attributes:
        pixels: The likelihood of the pixels.
        centre: The mean of the latents given the discrete parents.
        steps: Training steps taken, for schedules.
        revived: The step at which latents had last collapsed and were revived; 0 if they never did.
        revivals: How often that was.
        held: Nats that all latents held in the last batch of training.
    """

    abduction: ClassVar[Abduction] = "approximate"
    observation_noise: ClassVar[tuple[str, ...]] = ("eps",)
    query_options: ClassVar[tuple[str, ...]] = ("guidance",)

    changed: frozenset[str] = frozenset()
    pixels: Likelihood[Any]
    steps: Tensor
    revived: Tensor
    revivals: Tensor

    def __init__(
        self,
        likelihood: str,
        beta: float,
        gamma: float,
        min_log_scale: float,
        widening: float = 1.0,
        guidance: float | Mapping[str, float] = 1.0,
    ) -> None:
        super().__init__()
        check_likelihood(likelihood)
        check_weights(beta=beta, gamma=gamma)
        if not 1 <= widening < math.inf:
            raise ValueError(f"widening={widening} must be a number of at least 1")
        self.likelihood = likelihood
        self.beta = beta
        self.gamma = gamma
        self.min_log_scale = min_log_scale
        self.widening = widening
        Guidance.of(guidance)  # it refuses what is no weight
        self.guidance = guidance
        self.held = torch.tensor(torch.inf)

    def build(self) -> None:
        if not isinstance(self.variable, Image):
            raise ValueError(
                f"{self.name}: {type(self).__name__} models images, and {self.name} is "
                f"{self.variable}; use Flow for numbers and GumbelMax or InverseCDF for categories"
            )
        image = self.variable
        self.pixels = likelihood_of(self.name, image, self.likelihood, self.min_log_scale)
        self.context = Context(self.parents)
        self._networks(image, self.pixels.outputs(image.channels))
        self.centre = ParentMean(self.parents, self._latent_shapes())
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("revived", torch.zeros((), dtype=torch.long))
        self.register_buffer("revivals", torch.zeros((), dtype=torch.long))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Weights that were saved before latents could be revived, or had a mean given the parents.
        since = {name: getattr(self, name) for name in ("revived", "revivals")}
        since |= {f"centre.{name}": part for name, part in self.centre.named_buffers()}
        for name, part in since.items():
            state.setdefault(f"{prefix}{name}", torch.zeros_like(part))
        super()._load_from_state_dict(state, prefix, *rest)

    @property
    def scheduled(self) -> int:
        """Steps after which the weights of the divergences are what they will be."""
        return 0

    @abstractmethod
    def _networks(self, image: Image, outputs: int) -> None:
        """Make the networks for an image whose decoder puts out so many channels."""

    @abstractmethod
    def _latent_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a row's latents, by name."""

    @abstractmethod
    def _prior(self, n: int, context: Tensor, generator: Generator | None) -> dict[str, Tensor]:
        """Draw the latents' noise from its prior, by name, `(n, ...)`."""

    @abstractmethod
    def _encode(self, value: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """Return what the posterior needs to know of the images; each `(n, ...)`."""

    @abstractmethod
    def _infer(
        self,
        features: tuple[Tensor, ...],
        context: Tensor,
        generator: Generator | None,
        widening: float = 1.0,
    ) -> Inference:
        """Draw once from the posterior, given those features, its deviations that much wider."""

    @abstractmethod
    def _decode(self, noise: dict[str, Tensor], context: Tensor) -> Tensor:
        """Return the decoder's output for the latents' noise, `(n, outputs, H, W)`."""

    @abstractmethod
    def _penalty(self, kl: dict[str, Tensor]) -> Tensor:
        """Return what the divergences cost at this step of training, in nats a row."""

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take the location and scale of the parents from training data."""
        self.context.calibrate(parents)

    @property
    def is_guided(self) -> bool:
        return not Guidance.of(self.guidance).plain

    def for_query(self, changed: Set[str] = frozenset(), **options: Any) -> Self:
        """Return this mechanism with other guidance, its parameters shared.

        Args:
            changed: Names of the parents that changed.
            options: `guidance`, if the query has any.

        Raises:
            ValueError: If a weight is negative or infinite.
        """
        view = copy.copy(self)
        view.guidance = options.get("guidance", self.guidance)
        view.changed = frozenset(changed)
        view.assumption = Guidance.of(view.guidance).beside(self.assumption)
        return view

    def _context(self, parents: Parents, n: int) -> Tensor:
        context: Tensor = self.context(parents, n)
        return context

    def _guided_context(self, parents: Parents, n: int) -> Tensor:
        """Return the context of a prediction: parents weigh as guidance says."""
        guidance = Guidance.of(self.guidance)
        weights = {
            name: guidance.changed if name in self.changed else guidance.rest
            for name in self.parents
        }
        context: Tensor = self.context(parents, n, weights)
        return context

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        noise = self._prior(n, self._context(parents, n), generator)
        shape = (n, *self.variable.shape)
        eps = self.pixels.sample_noise(shape, generator, self.observed.device)
        return {**noise, "eps": eps}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        latents, eps = self._parts(noise)
        return self.pixels.predict(eps, self._params(latents, parents))

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return the decoder's mean, the expected pixels given z and parents, `(n, C, H, W)`."""
        return self.pixels.mean(self._params(self._parts(noise)[0], parents))

    def _params(self, latents: dict[str, Tensor], parents: Parents) -> Any:
        n = len(next(iter(latents.values())))
        latents = self._moved(latents, parents, n, 1)
        return self.pixels.params(self._decode(latents, self._guided_context(parents, n)))

    def _moved(
        self, noise: dict[str, Tensor], parents: Parents, n: int, sign: int
    ) -> dict[str, Tensor]:
        """Return latents of n rows given their noise (sign 1), or noise given latents (-1)."""
        centre = self.centre(parents, n)
        return {k: v + sign * centre[k] if k in centre else v for k, v in noise.items()}

    def _parts(self, noise: Noise) -> tuple[dict[str, Tensor], Tensor]:
        if isinstance(noise, Tensor) or "eps" not in noise or len(noise) < 2:
            raise ValueError(
                f"{self.name}: expected noise as a dict of latents and eps, as abduct gives it"
            )
        return {name: part for name, part in noise.items() if name != "eps"}, noise["eps"]

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Draw the latents from the amortised posterior, then eps from its exact one given them.

        The images are encoded once, and the pass that draws the latents also decodes them. Several
        draws are `widening` times as far from the posterior's mean as its own: the posterior alone
        knows nothing of the decoder's errors.
        """
        n, total = len(value), particles or 1
        widening = 1.0 if particles is None else self.widening
        context = self._context(parents, n)
        features = self._encode(value, context)
        draws: list[dict[str, Tensor]] = []
        left = total
        while left:
            copies = min(left, max(1, CHUNK_ROWS // max(n, 1)))
            tiled = tuple(part.repeat(copies, *[1] * (part.ndim - 1)) for part in features)
            inference = self._infer(tiled, context.repeat(copies, 1), generator, widening)
            images = value.repeat(copies, *[1] * (value.ndim - 1))
            eps = self.pixels.abduct(images, self.pixels.params(inference.raw), generator)
            draws.append({**inference.noise, "eps": eps})
            left -= copies
        drawn = {name: torch.cat([draw[name] for draw in draws]) for name in draws[0]}
        if particles is not None:
            drawn = {name: part.reshape(total, n, *part.shape[1:]) for name, part in drawn.items()}
        return self._moved(drawn, parents, n, -1)

    def infer(self, value: Tensor, parents: Parents) -> Inference:
        """Draw once from the posterior of the latents, with torch's own random numbers.

        Args:
            value: Images in [0, 1], `(n, C, H, W)`.
            parents: Their parents' values, `(n, ...)`, in their own units.

        Returns:
            The latents' noise, what it decodes to, and by layer, in the order in which they are
            decoded, how far the posterior lies from the prior, `(n,)` in nats.
        """
        context = self._context(parents, len(value))
        inference = self._infer(self._encode(value, context), context, None)
        noise = self._moved(inference.noise, parents, len(value), -1)
        if self.training:
            self.centre.add(inference.noise, parents)
            return inference._replace(noise=noise)
        kl = {k: v + self._nearer(inference.noise, noise, k) for k, v in inference.kl.items()}
        return inference._replace(noise=noise, kl=kl)

    def _nearer(self, latents: dict[str, Tensor], noise: dict[str, Tensor], name: str) -> Tensor:
        """Return `log N(z; 0, 1) - log N(z; m, 1)` of drawn latents, `(n,)` in nats."""
        return (noise[name].square() - latents[name].square()).flatten(1).sum(1) / 2

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Estimate a lower bound of `log p(x | pa)` with one draw, `(n,)`, in nats.

        It is a log-probability of levels where the likelihood is for whole levels, and otherwise a
        log-density over [0, 1].
        """
        inference = self.infer(value, parents)
        log_prob = self.pixels.log_prob(value, self.pixels.params(inference.raw)).flatten(1).sum(1)
        return log_prob - torch.stack(list(inference.kl.values())).sum(0)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the objective of training, a mean over rows; in eval mode, the negative bound."""
        size = value[0].numel()
        if not self.training:
            return -self.log_prob(value, parents).mean() / size
        return self.objective(value, self.infer(value, parents))

    def objective(self, value: Tensor, inference: Inference) -> Tensor:
        """Return the objective of training for one draw from the posterior; counts a step.

        Args:
            value: Images in [0, 1], `(n, C, H, W)`.
            inference: The result of `infer` for them.

        Returns:
            The objective in nats per dimension, averaged over rows, `()`.
        """
        params = self.pixels.params(inference.raw)
        log_prob = self.pixels.log_prob(value, params)
        pixels = -(self.pixels.weights(params, self.gamma) * log_prob).mean()
        penalty = self._risen() * self._penalty(inference.kl)
        if inference.guessed is not None:
            penalty = penalty + inference.guessed.mean()
        self.steps += 1
        self.held = batch_mean(torch.stack(list(inference.kl.values())).sum(0))
        return pixels + penalty / value[0].numel()

    def _risen(self) -> Tensor:
        """Return the share of its weight that the divergence has after a revival; else 1."""
        share = ((self.steps - self.revived) / REVIVAL).clamp_max(1)
        return torch.where(self.revived > 0, share, 1.0)

    def after_step(self, seed: int, done: float) -> str | None:
        """Renew the latents' mean; start over, a few times at most, if they have collapsed."""
        self.centre.renew()
        steps, revived = int(self.steps), int(self.revived)
        since = steps - (revived + REVIVAL if revived else self.scheduled) - GRACE
        due = 0 <= since <= LOOKING and since % LOOK == 0
        if not due or self.revivals >= DRAWS or self.held >= COLLAPSED:
            return None
        with seeded(seed, f"{self.name}/begin anew/{steps}"):
            fresh = type(self)(**self.config()).bind(self.name, self.variable, self.parents)
        for parameter, drawn in zip(self.parameters(), fresh.parameters(), strict=True):
            parameter.data.copy_(drawn)
        self.revived.copy_(self.steps)
        self.revivals += 1
        count = f" ({int(self.revivals)} of at most {DRAWS} times)" if revived else ""
        return (
            f"its latents held {float(self.held):.1f} nats a row after {steps:,} steps; its "
            f"networks started over{count}, with a weight of the divergence that rises from 0"
        )

    def latents(self, noise: Noise, parents: Parents) -> dict[str, Tensor]:
        """Refuse: without a conditional prior, latents mediate nothing.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.name}: {NO_MEDIATOR}")

    def outcome(self, latents: Mapping[str, Tensor], parents: Parents) -> Tensor:
        """Refuse: without a conditional prior, latents mediate nothing.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{self.name}: {NO_MEDIATOR}")


def widened(log_scale: Tensor, widening: float) -> Tensor:
    """Return deviations that much wider, but no wider than the prior's, 1, or than they were.

    Example:
        >>> widened(torch.tensor([0.1, 0.5, 2.0]).log(), 4.0)
        tensor([0.4000, 1.0000, 2.0000])
    """
    scale = log_scale.exp()
    return scale if widening == 1 else torch.maximum(scale, (widening * scale).clamp_max(1))


def gaussian_kl(mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return `KL(N(mean, scale^2) || N(0, 1))`, summed over all but the first axis, `(n,)`, nats.

    Example:
        >>> gaussian_kl(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.zeros(2, 2))
        tensor([1., 0.])
    """
    kl = 0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale
    return kl.flatten(1).sum(1)
