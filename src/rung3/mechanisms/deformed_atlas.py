"""`DeformedAtlas`: images as maps of a few kinds of tissue, deformed by their parents.

    k_p ~ pi(p + d(p, pa)),      x_p = m_k(pa') + s_k(pa') e_p

with pi an atlas (at each place, how probable every kind is), d the displacement of a smooth
deformation that the parents pa cause, and m and s the level and the noise of each kind, which other
parents pa' cause: of a scan, the sequence or the site. It is unified segmentation, with causes.

The individual's own anatomy is read off its image: the posterior probabilities r of the kinds,
brought into the frame of the atlas. A counterfactual deforms and renders them, and what they do
not explain stays where it is:

    A = r o d(pa)^-1,      G(A, pa) = sum_k m_k(pa') (A_k o d(pa)),
    x~ = G(A, pa~) + (x - G(A, pa)).

So tissue moves and turns its contrast, the scanner's noise does not, and a null intervention
changes nothing. What the parents change beside the deformation of what is there (a lesion that
appears) is beyond it: use `HVAE` for that. Pixels drawn from the atlas are independent, so samples
are coarse; it is a mechanism for counterfactuals.

Source: Ashburner and Friston 2005, *Unified segmentation* (NeuroImage 26:839-851), for the model of
an image given an atlas; the log-Euclidean deformations are those of
`rung3.mechanisms.networks.deformation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise
from rung3.data.variables import Image, Mask
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.mechanisms.likelihoods.base import LocationScale, Normal
from rung3.mechanisms.likelihoods.registry import check_likelihood, likelihood_of
from rung3.mechanisms.networks.context import Context
from rung3.mechanisms.networks.convolutional import zero
from rung3.mechanisms.networks.deformation import Deformation, moved
from rung3.mechanisms.networks.encoding import ParentEncoder
from rung3.mechanisms.networks.tissues import mixed

__all__ = ["DeformedAtlas"]

GAIN = 10.0
"""Log-odds of the atlas per unit of its parameters: as these, they are learned fast enough."""

STEP = 0.1
"""Displacement per unit of the network's output, as a share of half the image's side."""

HIDDEN = 64
"""Width of the hidden layer from the parents to the deformation."""

CALIBRATION_ROWS = 300
"""Rows from which the atlas starts, at most: a step of its fit takes all of them at once."""

CALIBRATION_PIXELS = 2_500_000
"""Pixels or voxels of these rows, at most, which bounds the memory of that step: of each kind it
holds a number for each of them."""

RARE = 1e-3
"""Least share of a kind at a place that the atlas starts with."""


class Affine(nn.Module):
    """An affine function of features, 0 at the start; of none, a learned constant."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(features, self.weight, self.bias)


class DeformedAtlas(Mechanism):
    """Images or volumes of tissue that parents deform; noise `anatomy` and `residual`.

    Args:
        appearance: Names of the parents that set how tissue looks; all others move it.
        kinds: Kinds of tissue, the ground and mixtures of tissues in a pixel included.
        spacing: Pixels between the points at which the deformation is free.
        likelihood: `"logistic"` or `"discretised"` for pixels stored as whole levels, `"gaussian"`
            for real ones.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is no image, or
            `appearance` names what is no parent, or an image.

    Example:
        >>> from rung3 import Binary, Continuous
        >>> parents = {"volume": Continuous(), "sequence": Binary()}
        >>> atlas = DeformedAtlas(appearance=["sequence"], kinds=3)
        >>> atlas = atlas.bind("x", Image(1, 8, 8), parents)
        >>> x = torch.randint(256, (2, 1, 8, 8)) / 255
        >>> values = {"volume": torch.randn(2), "sequence": torch.tensor([0, 1])}
        >>> torch.equal(atlas.predict(atlas.abduct(x, values), values), x)
        True
    """

    abduction: ClassVar[Abduction] = "approximate"
    observation_noise: ClassVar[tuple[str, ...]] = ("residual",)
    learning_rate: ClassVar[float] = 3e-3
    assumption: str = "tissue that its parents deform or show otherwise, and do not make"

    pixels: LocationScale
    variable: Image

    def __init__(
        self,
        appearance: Iterable[str] = (),
        kinds: int = 8,
        spacing: int = 4,
        likelihood: str = "logistic",
    ) -> None:
        super().__init__()
        for name, count, least in (("kinds", kinds, 2), ("spacing", spacing, 1)):
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(f"{name}={count!r} must be a whole number of at least {least}")
        check_likelihood(likelihood)
        if likelihood == "mixture":
            raise ValueError("likelihood='mixture': each kind has one level; use 'logistic'")
        self.appearance = [appearance] if isinstance(appearance, str) else list(appearance)
        self.kinds = kinds
        self.spacing = spacing
        self.likelihood = likelihood

    def build(self) -> None:
        image = self.variable
        if not isinstance(image, Image) or isinstance(image, Mask):
            raise ValueError(
                f"{self.name}: DeformedAtlas models images, and {self.name} is {image}; use "
                "Segmentation for masks, Flow for numbers and GumbelMax for categories"
            )
        unknown = [k for k in self.appearance if isinstance(self.parents.get(k), Image | None)]
        if unknown:
            raise ValueError(
                f"{self.name}: appearance={unknown}: expected scalar parents of {self.name}, which "
                f"are {[k for k, v in self.parents.items() if not isinstance(v, Image)]}"
            )
        pixels = likelihood_of(self.name, image, self.likelihood)
        assert isinstance(pixels, LocationScale)
        self.pixels = pixels
        self.look = ParentEncoder({name: self.parents[name] for name in self.appearance})
        self.level = Affine(self.look.width, self.kinds * image.channels)
        self.log_scale = Affine(self.look.width, self.kinds * image.channels)
        self.atlas = nn.Parameter(torch.zeros(self.kinds, *image.sizes))
        self.context = Context({k: v for k, v in self.parents.items() if k not in self.appearance})
        self.grid = [math.ceil(size / self.spacing) for size in image.sizes]
        self.velocity = nn.Sequential(
            nn.Linear(self.context.width, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, len(self.grid) * math.prod(self.grid)),
        )
        zero(self.velocity[-1])

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Let atlas, levels and noise start from those of images that are not deformed yet."""
        self.look.calibrate(parents)
        self.context.calibrate({k: v for k, v in parents.items() if k not in self.appearance})
        n = min(CALIBRATION_ROWS, 1 + CALIBRATION_PIXELS // value[0].numel())
        some = value[:n].float()
        looks = self._looks({k: v[:n] for k, v in parents.items()}, len(some))
        mixture = mixed(some.flatten(2), looks, self.kinds)
        with torch.no_grad():
            self.atlas.copy_((mixture.share.clamp_min(RARE).log() / GAIN).view_as(self.atlas))
            self.level.bias.copy_(mixture.level[..., 0].flatten())
            self.level.weight.copy_(mixture.level[..., 1:].flatten(0, 1))
            self.log_scale.bias.copy_(self.pixels.unbounded(mixture.deviation.log()).flatten())

    def _looks(self, parents: Parents, n: int) -> Tensor:
        seen = {name: parents[name] for name in self.appearance}
        features: Tensor = self.look(seen, n)
        return features

    def _normal(self, parents: Parents, n: int) -> Normal:
        """Return level and log-scale of every kind, `(n, kinds, C, 1, ...)`."""
        looks = self._looks(parents, n)
        shape = (n, self.kinds, self.variable.channels, *[1] * len(self.variable.sizes))
        mean, log_scale = self.level(looks).clamp(0, 1), self.pixels.bounded(self.log_scale(looks))
        return Normal(mean.view(shape), log_scale.view(shape))

    def deformation(self, parents: Parents, n: int) -> Deformation:
        """Return the deformation that the parents cause."""
        causes = {k: v for k, v in parents.items() if k not in self.appearance}
        velocity = STEP * self.velocity(self.context(causes, n)).float()
        return Deformation.of(velocity.view(n, len(self.grid), *self.grid))

    def _joint(self, value: Tensor, parents: Parents, deformation: Deformation) -> Tensor:
        """Return `log pi_k + log p(x | k)` of every pixel, `(n, kinds, ...)`."""
        n = len(value)
        odds = moved((GAIN * self.atlas).expand(n, *self.atlas.shape), deformation.there)
        shape = (n, self.kinds, *self.variable.shape)
        of_kind = Normal(*(part.expand(shape) for part in self._normal(parents, n)))
        levels = self.pixels.log_prob(value[:, None].expand(shape), of_kind).sum(2)
        return odds.log_softmax(1) + levels

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        deformation = self.deformation(parents, len(value))
        return self._joint(value, parents, deformation).logsumexp(1).flatten(1).sum(1)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the negative log-probability of a number of the image, `()`, in nats."""
        return -self.log_prob(value, parents).mean() / value[0].numel()

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = self.observed.device
        odds = (GAIN * self.atlas).detach().softmax(0).flatten(1).T
        kind = torch.multinomial(odds, n, replacement=True, generator=generator).T
        anatomy = nn.functional.one_hot(kind, self.kinds).movedim(-1, 1).float()
        anatomy = anatomy.view(n, *self.atlas.shape).to(device)
        shape = (n, *self.variable.shape)
        eps = self.pixels.sample_noise(shape, generator, device)
        scale = self._shown(anatomy, self._normal(parents, n).log_scale.exp(), parents)
        return {"anatomy": anatomy, "residual": scale.detach() * eps}

    def noise_prior(self) -> str:
        return f"kinds of the {self.kinds} of an atlas at each place, and what they do not explain"

    def _shown(self, anatomy: Tensor, of_kind: Tensor, parents: Parents) -> Tensor:
        """Return the anatomy, deformed, with a number `(n, kinds, C, 1, ...)` for each kind."""
        there = moved(anatomy, self.deformation(parents, len(anatomy)).there)
        return torch.einsum("nk...,nkc->nc...", there, of_kind.flatten(2))

    def _drawn(self, anatomy: Tensor, parents: Parents) -> Tensor:
        return self._shown(anatomy, self._normal(parents, len(anatomy)).mean, parents)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        anatomy, residual = self._parts(noise)
        value = (self._drawn(anatomy, parents) + residual).clamp(0, 1)
        return self.variable.nearest(value).to(self.variable.dtype)

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return what the anatomy explains, `G(A, pa)`, `(n, C, ...)`."""
        return self._drawn(self._parts(noise)[0], parents).clamp(0, 1)

    def _parts(self, noise: Noise) -> tuple[Tensor, Tensor]:
        if isinstance(noise, Tensor) or noise.keys() != {"anatomy", "residual"}:
            raise ValueError(
                f"{self.name}: expected noise as a dict of anatomy and residual, as abduct gives it"
            )
        return noise["anatomy"], noise["residual"]

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Read the anatomy off the image, and keep what it does not explain."""
        deformation = self.deformation(parents, len(value))
        kinds = self._joint(value, parents, deformation).softmax(1)
        anatomy = moved(kinds, deformation.back)
        residual = value - self._drawn(anatomy, parents)
        return repeat_noise({"anatomy": anatomy, "residual": residual}, particles)
