"""`DeformedAtlas`: images as maps of a few kinds of tissue, deformed by their parents.

    k_p ~ pi(p + d(p, pa)),      x_p = g_p(pa') m_k(pa") + s_k(pa") e_p

with pi an atlas (at each place, how probable every kind is), d the displacement of a smooth
deformation, g a smooth shading, and m and s the level and the noise of each kind. Each parent acts
on those that it is named for: of a scan the sequence or the site sets levels. It is unified
segmentation, with causes. A binary parent may also make a lesion, a kind of its own that covers
the share c_p of a pixel, wherever the parents move its tissue,

    k_p = lesion  with probability c_p  if there is one, else as above.

The individual's own anatomy is read off its image: a smooth deformation h that lays the atlas, as
the parents deform it, over the image; the posterior probabilities r of the kinds, given the atlas
there; and the detail t = D(x) / g - sum_k m_k r_k of the image without its noise. A counterfactual
deforms and renders both, from where they are seen, and what is left stays where it is. With d the
map p -> p + d(p, pa),

    G(r, t, pa) = g(pa') (sum_k m_k(pa") r_k + t) o h^-1 o d(pa_0)^-1 o d(pa) o h,
    x~ = G(r, t, pa~) + (x - G(r, t, pa)),      pa_0 the parents under which x was seen.

So tissue moves, where the individual has it, and turns its contrast; the scanner's noise does not,
and a null intervention changes nothing. Under a lesion the anatomy is that of the atlas, because it
is not seen. How far a lesion would reach that is not there is not seen either: it covers the places
where c_p exceeds one uniform number for the whole image, one half unless it is drawn. From where it
was or would be it moves with the tissue, as far as a counterfactual moves that. The atlas is an
average over individuals, so densities and samples are those without h; and pixels drawn from it are
independent, so samples are coarse: it is a mechanism for counterfactuals.

Source: Ashburner and Friston 2005, *Unified segmentation* (NeuroImage 26:839-851), for the model of
an image given an atlas; the log-Euclidean deformations are those of
`rung3.mechanisms.networks.deformation`, D is that of `rung3.mechanisms.networks.denoising`, and h
that of `rung3.mechanisms.networks.registration`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise
from rung3.data.variables import Binary, Image, Mask, Variable
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.mechanisms.likelihoods.base import LocationScale, Normal
from rung3.mechanisms.likelihoods.registry import check_likelihood, likelihood_of
from rung3.mechanisms.networks.deformation import (
    Deformation,
    composed,
    enlarged,
    flow,
    moved,
    resampled,
)
from rung3.mechanisms.networks.denoising import denoised
from rung3.mechanisms.networks.encoding import ParentEncoder
from rung3.mechanisms.networks.registration import registered
from rung3.mechanisms.networks.smooth_field import Affine, SmoothField
from rung3.mechanisms.networks.spatial import spread
from rung3.mechanisms.networks.tissues import Mixture, lesion_of, mixed

__all__ = ["DeformedAtlas"]

GAIN = 10.0
"""Log-odds of the atlas per unit of its parameters: as these, they are learned fast enough."""

CALIBRATION_ROWS = 300
"""Rows from which the atlas starts, at most: a step of its fit takes all of them at once."""

CALIBRATION_PIXELS = 2_500_000
"""Pixels or voxels of these rows, at most, which bounds the memory of that step: of each kind it
holds a number for each of them."""

RARE = 1e-3
"""Least share of a kind at a place that the atlas starts with."""

MIDDLE = 0.5
"""The uniform number that says how far an unseen lesion would reach: its median."""


class DeformedAtlas(Mechanism):
    """Images or volumes of tissue that parents deform; noise `anatomy`, `detail`, `residual` ...

    Args:
        appearance: Names of the parents that set the level of each kind of tissue.
        kinds: Kinds of tissue, the ground and mixtures of tissues in a pixel included.
        spacing: Pixels between the points at which deformation and shading are free.
        likelihood: `"logistic"` or `"discretised"` for pixels stored as whole levels, `"gaussian"`
            for real ones.
        moving: Names of the parents that deform; if not given, all that are named nowhere else.
        shading: Names of the parents that brighten or darken by a smooth factor, whatever is there.
        lesion: Name of the binary parent that is 1 where there is a lesion, if one is.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is no image, or a
            name is not that of a parent of its kind.

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
    assumption: str = "tissue that its parents deform, show otherwise, or cover, and do not make"

    pixels: LocationScale
    variable: Image

    def __init__(
        self,
        appearance: Iterable[str] = (),
        kinds: int = 8,
        spacing: int = 4,
        likelihood: str = "logistic",
        moving: Iterable[str] | None = None,
        shading: Iterable[str] = (),
        lesion: str | None = None,
    ) -> None:
        super().__init__()
        for name, count, least in (("kinds", kinds, 2), ("spacing", spacing, 1)):
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(f"{name}={count!r} must be a whole number of at least {least}")
        check_likelihood(likelihood)
        if likelihood == "mixture":
            raise ValueError("likelihood='mixture': each kind has one level; use 'logistic'")
        self.appearance = _names(appearance)
        self.kinds = kinds
        self.spacing = spacing
        self.likelihood = likelihood
        self.moving = None if moving is None else _names(moving)
        self.shading = _names(shading)
        self.lesion = lesion

    def build(self) -> None:
        image = self.variable
        self._check_names()
        pixels = likelihood_of(self.name, image, self.likelihood)
        assert isinstance(pixels, LocationScale)
        self.pixels = pixels
        self.look = ParentEncoder({name: self.parents[name] for name in self.appearance})
        levels = (self.kinds + (self.lesion is not None)) * image.channels
        self.level = Affine(self.look.width, levels)
        self.log_scale = Affine(self.look.width, levels)
        self.atlas = nn.Parameter(torch.zeros(self.kinds, *image.sizes))
        if self.lesion is not None:
            self.cover = nn.Parameter(torch.zeros(1, *image.sizes))
        self.grid = [math.ceil(size / self.spacing) for size in image.sizes]
        self.velocity = SmoothField(self._of(self.movers), len(self.grid), self.grid)
        self.shade = SmoothField(self._of(self.shading), image.channels, self.grid)

    @property
    def movers(self) -> list[str]:
        """Names of the parents that deform."""
        if self.moving is not None:
            return self.moving
        named = {*self.appearance, *self.shading, self.lesion}
        return [name for name in self.parents if name not in named]

    def _of(self, names: list[str]) -> dict[str, Variable]:
        return {name: self.parents[name] for name in names}

    def _check_names(self) -> None:
        if not isinstance(self.variable, Image) or isinstance(self.variable, Mask):
            raise ValueError(
                f"{self.name}: DeformedAtlas models images, and {self.name} is {self.variable}; "
                "use Segmentation for masks, Flow for numbers and GumbelMax for categories"
            )
        scalars = [k for k, v in self.parents.items() if not isinstance(v, Image)]
        given = {"appearance": self.appearance, "shading": self.shading, "moving": self.moving}
        for argument, names in given.items():
            if not set(names or ()) <= {*scalars, *(self.parents if argument == "moving" else ())}:
                raise ValueError(
                    f"{self.name}: {argument}={names}: expected scalar parents of {self.name}, "
                    f"which are {scalars}"
                )
        binary = [k for k in scalars if isinstance(self.parents[k], Binary)]
        if self.lesion is not None and self.lesion not in binary:
            raise ValueError(
                f"{self.name}: lesion={self.lesion!r}: expected a binary parent of {self.name}, "
                f"which are {binary}"
            )
        if idle := set(self.parents) - {*self.movers, *self.appearance, *self.shading, self.lesion}:
            raise ValueError(
                f"{self.name}: its parents {sorted(idle)} would do nothing: name them in "
                "appearance, moving, shading or lesion, or leave out their arrows"
            )

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Let atlas, levels and noise start from those of images that are not deformed yet."""
        for encoder in (self.look, self.velocity, self.shade):
            encoder.calibrate(parents)
        rows = self._first(parents, value)
        some, causes = value[rows].float(), {name: parent[rows] for name, parent in parents.items()}
        ill = self._ill(causes, len(some))
        well = ill.logical_not() if not ill.all() else ill
        mixture = mixed(some[well].flatten(2), self.look(causes, len(some))[well], self.kinds)
        with torch.no_grad():
            if self.lesion is not None:
                mixture = self._with_lesion(mixture, some[well], some[ill])
            self.atlas.copy_((mixture.share.clamp_min(RARE).log() / GAIN).view_as(self.atlas))
            self.level.bias.copy_(mixture.level[..., 0].flatten())
            self.level.weight.copy_(mixture.level[..., 1:].flatten(0, 1))
            self.log_scale.bias.copy_(self.pixels.unbounded(mixture.deviation.log()).flatten())

    def _first(self, parents: Parents, value: Tensor) -> Tensor:
        """Return the first rows, and one without and one with a lesion, if there are any."""
        n = min(CALIBRATION_ROWS, 1 + CALIBRATION_PIXELS // value[0].numel())
        ill = self._ill(parents, len(value))
        rows = [torch.arange(min(n, len(value)), device=value.device)]
        rows += [kind.nonzero()[:1, 0] for kind in (~ill, ill) if not kind[:n].any()]
        return torch.cat(rows)

    def _with_lesion(self, mixture: Mixture, well: Tensor, ill: Tensor) -> Mixture:
        """Return the mixture with the lesion's level and noise, and set what it covers."""
        lesion = lesion_of(well, ill)
        share = lesion.share.clamp(RARE, 1 - RARE)
        self.cover.copy_((share.logit() / GAIN).view_as(self.cover))
        level = torch.zeros_like(mixture.level[:1])  # it looks the same whatever the looks are
        level[..., 0] = lesion.level
        deviation = mixture.deviation.median(0, keepdim=True).values
        return Mixture(
            mixture.share,
            torch.cat([mixture.level, level]),
            torch.cat([mixture.deviation, deviation]),
        )

    def _ill(self, parents: Parents, n: int) -> Tensor:
        """Return which rows have a lesion, `(n,)`."""
        if self.lesion is None:
            return torch.zeros(n, dtype=torch.bool, device=self.observed.device)
        return parents[self.lesion] == 1

    def _normal(self, parents: Parents, n: int) -> Normal:
        """Return level and log-scale of every kind, `(n, kinds, C, 1, ...)`."""
        looks = self.look(parents, n)
        shape = (n, -1, self.variable.channels, *[1] * len(self.variable.sizes))
        mean, log_scale = self.level(looks).clamp(0, 1), self.pixels.bounded(self.log_scale(looks))
        return Normal(mean.view(shape), log_scale.view(shape))

    def _gain(self, parents: Parents, n: int) -> Tensor:
        """Return the shading's factor, `(n, C, ...)`."""
        return enlarged(self.shade(parents, n), self.variable.sizes).exp()

    def deformation(self, parents: Parents, n: int) -> Deformation:
        """Return the deformation that the parents cause."""
        return Deformation.of(self.velocity(parents, n))

    def _individual(self, shape: Tensor, parents: Parents) -> Deformation:
        """Return the whole deformation of individuals, whose shapes are flows of velocities."""
        caused = self.deformation(parents, len(shape))
        return Deformation(composed(caused.there, flow(shape)), composed(flow(-shape), caused.back))

    def _shape(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the velocity that lays the atlas, as the parents show it, over each image."""
        n = len(value)
        prior = self._prior(parents, self.deformation(parents, n))
        shares = prior[:, : self.kinds].softmax(1)
        normal = self._normal(parents, n)
        template = self._gain(parents, n) * _mixed(shares, normal.mean[:, : self.kinds])
        lesion = self._joint(value, parents, prior).softmax(1)[:, self.kinds :]
        near = _widened(lesion.sum(1, keepdim=True), self.spacing - 1)
        return registered(value.float(), template, 1 - near, self.grid)

    def _prior(self, parents: Parents, deformation: Deformation) -> Tensor:
        """Return the log-probability of each kind in every pixel, the lesion last."""
        n = len(deformation.there)
        odds = moved((GAIN * self.atlas).expand(n, *self.atlas.shape), deformation.there)
        shares = odds.log_softmax(1)
        if self.lesion is None:
            return shares
        cover = (GAIN * self.cover).expand(n, *self.cover.shape)
        ill = spread(self._ill(parents, n)[:, None], cover)
        covered = torch.where(ill, nn.functional.logsigmoid(cover), -torch.inf)
        return torch.cat(
            [shares + torch.where(ill, nn.functional.logsigmoid(-cover), 0.0), covered], 1
        )

    def _joint(self, value: Tensor, parents: Parents, prior: Tensor) -> Tensor:
        """Return `log pi_k + log p(x | k)` of every pixel, `(n, kinds, ...)`."""
        n = len(value)
        normal = self._normal(parents, n)
        mean = (self._gain(parents, n)[:, None] * normal.mean).clamp(0, 1)
        of_kind = Normal(mean, normal.log_scale.expand(mean.shape))
        levels = self.pixels.log_prob(value[:, None].expand(mean.shape), of_kind).sum(2)
        return prior + levels

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        prior = self._prior(parents, self.deformation(parents, len(value)))
        return self._joint(value, parents, prior).logsumexp(1).flatten(1).sum(1)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the negative log-probability of a number of the image, `()`, in nats."""
        return -self.log_prob(value, parents).mean() / value[0].numel()

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = self.observed.device
        odds = (GAIN * self.atlas).detach().softmax(0).flatten(1).T
        kind = torch.multinomial(odds, n, replacement=True, generator=generator).T
        anatomy = nn.functional.one_hot(kind, self.kinds).movedim(-1, 1).float()
        shape = (n, *self.variable.shape)
        noise = {
            "anatomy": anatomy.view(n, *self.atlas.shape).to(device),
            "detail": torch.zeros(shape, device=device),
            "place": torch.zeros(n, len(self.grid), *self.grid, device=device),
            "shape": torch.zeros(n, len(self.grid), *self.grid, device=device),
            "residual": self.pixels.sample_noise(shape, generator, device),
        }
        if self.lesion is not None:
            noise["extent"] = self._extent(torch.rand(n, generator=generator, device=device))
        shares, _ = self._seen(noise, parents)
        noise["residual"] *= _mixed(shares, self._normal(parents, n).log_scale.exp()).detach()
        return noise

    def noise_prior(self) -> str:
        lesion = "" if self.lesion is None else ", how far a lesion reaches"
        return (
            f"kinds of the {self.kinds} of an atlas at each place{lesion}, an own shape and "
            f"displacements every {self.spacing} pixels, and what they do not explain"
        )

    def _extent(self, reach: Tensor) -> Tensor:
        """Return what lesions cover that reach so far, `(..., 1, *sizes)`, of numbers `(...)`."""
        cover = (GAIN * self.cover).detach().sigmoid()
        return (cover > reach[(..., *[None] * cover.ndim)]).to(cover.dtype)

    def _seen(self, noise: Mapping[str, Tensor], parents: Parents) -> tuple[Tensor, Tensor]:
        """Return the shares of the kinds `(n, kinds, ...)` and the detail, where they are seen."""
        at = composed(noise["place"], self._individual(noise["shape"], parents).there)
        parts = [noise[name] for name in ("anatomy", "detail", "extent") if name in noise]
        there = resampled(torch.cat(parts, 1), at)
        shares, detail, extent = there.tensor_split(
            (self.kinds, self.kinds + self.variable.channels), 1
        )
        return self._covered(shares, extent, parents), detail

    def _covered(self, shares: Tensor, extent: Tensor, parents: Parents) -> Tensor:
        """Return the shares of the kinds with the lesion, if there may be one, as the last."""
        if self.lesion is None:
            return shares
        extent = extent * spread(self._ill(parents, len(shares))[:, None], extent)
        return torch.cat([(1 - extent) * shares, extent], 1)

    def _drawn(self, noise: Mapping[str, Tensor], parents: Parents) -> Tensor:
        shares, detail = self._seen(noise, parents)
        n = len(shares)
        return self._gain(parents, n) * (_mixed(shares, self._normal(parents, n).mean) + detail)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        parts = self._parts(noise)
        value = (self._drawn(parts, parents) + parts["residual"]).clamp(0, 1)
        return self.variable.nearest(value).to(self.variable.dtype)

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return what the anatomy explains, `G(r, t, pa)`, `(n, C, ...)`."""
        return self._drawn(self._parts(noise), parents).clamp(0, 1)

    def _parts(self, noise: Noise) -> Mapping[str, Tensor]:
        names = {"anatomy", "detail", "place", "residual", "shape"}
        if self.lesion is not None:
            names.add("extent")
        if isinstance(noise, Tensor) or noise.keys() != names:
            raise ValueError(
                f"{self.name}: expected noise as a dict of {', '.join(sorted(names))}, as abduct "
                "gives it"
            )
        return noise

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Read the anatomy off the image, and keep what it does not explain.

        How far a lesion would reach that is not there is drawn for each particle.
        """
        n = len(value)
        shape = self._shape(value, parents)
        deformation = self._individual(shape, parents)
        prior = self._prior(parents, deformation)
        shares = self._joint(value, parents, prior).softmax(1)
        seen = _mixed(shares, self._normal(parents, n).mean)
        detail = denoised(value.float()) / self._gain(parents, n) - seen
        anatomy, extent = shares.tensor_split((self.kinds,), 1)
        if self.lesion is not None:
            anatomy = anatomy + extent * prior[:, : self.kinds].softmax(1)
        noise = {"anatomy": anatomy, "detail": detail, "place": deformation.back, "shape": shape}
        noise |= self._reached(extent, parents, value.new_tensor(MIDDLE))
        noise["residual"] = value - self._drawn(noise, parents)
        if particles is None:
            return noise
        reach = torch.rand(particles, n, generator=generator, device=value.device)
        repeated = {name: part.expand(particles, *part.shape) for name, part in noise.items()}
        return repeated | self._reached(extent, parents, reach)

    def _reached(self, seen: Tensor, parents: Parents, reach: Tensor) -> dict[str, Tensor]:
        """Return the lesion's extent: as seen, or where there is none, what it would cover."""
        if self.lesion is None:
            return {}
        ill = spread(self._ill(parents, len(seen))[:, None], seen)
        return {"extent": torch.where(ill, seen, self._extent(reach))}


def _names(names: Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _widened(shares: Tensor, reach: int) -> Tensor:
    """Return the greatest share that lies within so many pixels along each axis."""
    pool = nn.functional.max_pool2d if shares.ndim == 4 else nn.functional.max_pool3d
    return pool(shares, 2 * reach + 1, stride=1, padding=reach)


def _mixed(shares: Tensor, of_kind: Tensor) -> Tensor:
    """Return the mean of numbers `(n, kinds, C, 1, ...)` of kinds, by their shares."""
    return torch.einsum("nk...,nkc->nc...", shares, of_kind.flatten(2))
