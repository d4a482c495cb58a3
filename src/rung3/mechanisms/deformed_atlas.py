"""`DeformedAtlas`: images as maps of a few kinds of tissue, deformed by their parents.

    x_p = g_p(pa') b_p (sum_k r_kp m_k(pa") + c_p f(pa")) + s_k(pa") e_p,      r_p ~ (pi(q_p), v),

with pi an atlas (at each place, the expected share of every kind), g a smooth shading, m and s the
level and the noise of each kind, and c a tint: what the features f of parents add to the level of
each place of the atlas, whatever its kinds are. A share r varies about the atlas as if it were a
Dirichlet's: its covariance is v (diag(pi) - pi pi'). The atlas is read at

    q_p = y_p + F(y_p; pa),      y_p = p + h_p,

with h and b the displacements and the gain of the individual, of a law that is learned
(`rung3.mechanisms.networks.shape`), and F the displacement that the parents cause, wherever an
individual has what they move (`rung3.mechanisms.networks.caused`). Each parent acts on what it is
named for: of a scan the sequence or the site sets levels. It is unified segmentation, with causes.
A binary parent may also make a lesion, a kind of its own that covers the share l_p of a pixel,

    k_p = lesion  with probability l_p  if there is one, else tissue, as above.

The atlas of a slice may have a thickness: then h leads across the slice, too, and slices at
different heights in different heads show together what lies beside each of them.

The individual's own anatomy is read off its image: the shape h, b that lays the atlas over it
(`rung3.mechanisms.networks.registration`), and what the image then shows of each kind beyond the
atlas, the expectation t of r - pi given x. A counterfactual keeps what the individual's shape
differs from the one that is expected of its parents, and reads the atlas where the parents now
place it; t moves with the tissue that has it, and what is left stays where it is:

    G(h, t, pa) = g(pa') b (sum_k m_k(pa") (pi(q) + t o q_0^-1 o q) + c(q) f(pa")),
    x~ = G(h, t, pa~) + (x - G(h, t, pa)),      q_0 the places under the parents x was seen with.

So tissue moves, where the individual has it, and turns its contrast; the scanner's noise does not,
and a null intervention changes nothing. How far a lesion would reach that is not there is not seen:
it covers the places where l_p exceeds one uniform number for the whole image, one half unless it is
drawn. From where it was or would be it moves with the tissue, as far as a counterfactual moves
that. Densities are Laplace's approximation about the shape that fits an image.

Sources: Ashburner and Friston 2005, *Unified segmentation* (NeuroImage 26:839-851), for the model
of an image given an atlas; Blaiotta et al. 2018, *Generative diffeomorphic modelling of large MRI
data sets* (NeuroImage 166:117-134), for atlases learned with the deformations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise
from rung3.data.variables import Binary, Image, Mask, Variable
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise
from rung3.mechanisms.likelihoods.base import LocationScale, Normal
from rung3.mechanisms.likelihoods.registry import check_likelihood, likelihood_of
from rung3.mechanisms.networks.atlas import Atlas
from rung3.mechanisms.networks.caused import CausedDisplacement
from rung3.mechanisms.networks.deformation import enlarged, places, read, resampled
from rung3.mechanisms.networks.encoding import ParentEncoder
from rung3.mechanisms.networks.noise_level import noise_level
from rung3.mechanisms.networks.registration import Laid, Registered, registered
from rung3.mechanisms.networks.scores import Scores
from rung3.mechanisms.networks.shape import Shape
from rung3.mechanisms.networks.smooth_field import Affine, SmoothField
from rung3.mechanisms.networks.spatial import spread
from rung3.mechanisms.networks.tissues import LEAST_DEVIATION, Mixture, lesion_of, mixed

__all__ = ["DeformedAtlas"]

GAIN = 10.0
"""Log-odds of what a lesion covers, and of how much shares vary, per unit of their parameters."""

ROUNDS = 6
"""Steps of registration in training, where the next epoch goes on from a better atlas."""

LAST_ROUNDS = 16
"""Steps of registration of an image that is asked about."""

INVERSIONS = 5
"""Steps by which the place is sought where tissue was seen: each leaves little of the error."""

SHADED = 0.2
"""Standard deviation of the prior of the logarithm of a shading."""

TINT = 0.1
"""Level per unit of a tint's parameters: small, so that each is the mean of many images."""

CALIBRATION_ROWS = 300
"""Rows from which the atlas starts, at most: a step of its fit takes all of them at once."""

CALIBRATION_PIXELS = 2_500_000
"""Pixels or voxels of these rows, at most, which bounds the memory of that step: of each kind it
holds a number for each of them."""

LOOSE = 2.0
"""How many times the images' noise that of the start is: while little is in its place, atlas and
shapes are to follow what is seen at large, and not its detail."""

ALIKE = 16.0
"""Log-odds that a lesion all around a pixel adds to there being one: a pixel that is as bright as a
lesion, or as dark as tissue, by chance or by its detail, is told by its neighbours."""

SWEEPS = 10
"""Rounds in which neighbours tell each other of a lesion: as many pixels as news of it goes."""

RARE = 1e-3
"""Least share of a kind at a place that the atlas starts with."""

MIDDLE = 0.5
"""The uniform number that says how far an unseen lesion would reach: its median."""


class Drawing(NamedTuple):
    """An atlas in the shape of individuals.

    Attributes:
        at: Where each pixel lies in the atlas, `(n, axes, *sizes)`.
        shares: The expected share of each kind there, `(n, kinds, *sizes)`.
        tint: What is added to the level there, `(n, C, *sizes)`.
        gain: How much brighter it is shown, `(n, C, *sizes)`.
    """

    at: Tensor
    shares: Tensor
    tint: Tensor
    gain: Tensor


class DeformedAtlas(Mechanism):
    """Images or volumes of tissue that parents deform; noise `shape`, `place`, `anatomy` ...

    Args:
        appearance: Names of the parents that set the level of each kind of tissue.
        kinds: Kinds of tissue, the ground and mixtures of tissues in a pixel included.
        spacing: Pixels between the points at which a shading is free.
        likelihood: `"logistic"` or `"discretised"` for pixels stored as whole levels, `"gaussian"`
            for real ones.
        moving: Names of the parents that deform; if not given, all that are named nowhere else.
        shading: Names of the parents that brighten or darken by a smooth factor, whatever is there.
        lesion: Name of the binary parent that is 1 where there is a lesion, if one is.
        waves: Cosines along each axis that an individual's displacements are sums of.
        gains: The same of the logarithm of an individual's gain, the constant left out: 1 for
            none, 3 for the field of a coil.
        planes: Planes of the atlas, as far apart as its points; more than 1 for slices of something
            thick.
        fineness: Points of the atlas for each pixel, along each axis.
        tinting: Names of the parents that add to the level of each place of the atlas, in
            proportion to their features: what `appearance` cannot say by kinds.

    Raises:
        ValueError: If an argument is out of range; on `build`, if the variable is no image, or a
            name is not that of a parent of its kind, or volumes are given planes.

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
    averaged: ClassVar[bool] = False
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
        waves: int = 5,
        gains: int = 1,
        planes: int = 1,
        fineness: int = 1,
        tinting: Iterable[str] = (),
    ) -> None:
        super().__init__()
        least = {"kinds": (kinds, 2), "spacing": (spacing, 1), "waves": (waves, 1)}
        least |= {"gains": (gains, 1), "planes": (planes, 1), "fineness": (fineness, 1)}
        for name, (count, lowest) in least.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < lowest:
                raise ValueError(f"{name}={count!r} must be a whole number of at least {lowest}")
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
        self.waves = waves
        self.gains = gains
        self.planes = planes
        self.fineness = fineness
        self.tinting = _names(tinting)

    def build(self) -> None:
        image = self.variable
        self._check_names()
        pixels = likelihood_of(self.name, image, self.likelihood)
        assert isinstance(pixels, LocationScale)
        self.pixels = pixels
        self.look = ParentEncoder({name: self.parents[name] for name in self.appearance})
        self.tone = ParentEncoder(self._of(self.tinting))
        self.cause = Scores(self._of(self.movers))
        # A lesion hides what shapes are fitted to: what that changes is no effect of age.
        lights = [name for name in self.parents if name in {*self._lit, self.lesion}]
        both = [name for name in lights if name in self.movers]
        alone = [name for name in lights if name not in both]
        self.light = ParentEncoder(self._of([*alone, *both]))
        levels = (self.kinds + (self.lesion is not None)) * image.channels
        self.level = Affine(self.look.width, levels)
        self.log_scale = Affine(self.look.width, levels)
        self.atlas = Atlas(self.kinds, image.sizes, self.planes, self.fineness)
        tones = self.tone.width * image.channels
        self.tint = nn.Parameter(torch.zeros(tones, *self.atlas.odds.shape[1:]))
        self.variety = nn.Parameter(torch.zeros(()))
        if self.lesion is not None:
            self.cover = nn.Parameter(torch.zeros(1, *image.sizes))
        grid = [math.ceil(size / self.spacing) for size in image.sizes]
        self.shape = Shape(
            image.sizes,
            waves=self.waves,
            gains=self.gains,
            lights=self.light.width,
            both=ParentEncoder(self._of(both)).width,
            across=self.atlas.across,
        )
        self.caused = CausedDisplacement(image.sizes, self.cause.width, self.atlas.across)
        self.shade = SmoothField(self._of(self.shading), image.channels, grid)

    @property
    def movers(self) -> list[str]:
        """Names of the parents that deform."""
        if self.moving is not None:
            return self.moving
        named = {*self._lit, self.lesion}
        return [name for name in self.parents if name not in named]

    @property
    def _lit(self) -> set[str]:
        """Names of the parents that change how bright something is."""
        return {*self.appearance, *self.shading, *self.tinting}

    def _of(self, names: list[str]) -> dict[str, Variable]:
        return {name: self.parents[name] for name in names}

    def _check_names(self) -> None:
        if not isinstance(self.variable, Image) or isinstance(self.variable, Mask):
            raise ValueError(
                f"{self.name}: DeformedAtlas models images, and {self.name} is {self.variable}; "
                "use Segmentation for masks, Flow for numbers and GumbelMax for categories"
            )
        if self.planes > 1 and len(self.variable.sizes) == 3:
            raise ValueError(
                f"{self.name}: planes={self.planes} is the thickness of a slice's atlas, and "
                f"{self.name} is a volume, whose atlas has planes of its own; leave it out"
            )
        scalars = [k for k, v in self.parents.items() if not isinstance(v, Image)]
        given = {"appearance": self.appearance, "shading": self.shading, "moving": self.moving}
        given |= {"tinting": self.tinting}
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
        if idle := set(self.parents) - {*self.movers, *self._lit, self.lesion}:
            raise ValueError(
                f"{self.name}: its parents {sorted(idle)} would do nothing: name them in "
                "appearance, moving, shading, tinting or lesion, or leave out their arrows"
            )

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Let atlas, levels and noise start from those of images that are not deformed yet."""
        for encoder in (self.look, self.tone, self.cause, self.light, self.shade):
            encoder.calibrate(parents)
        rows = self._first(parents, value)
        some, causes = value[rows].float(), {name: parent[rows] for name, parent in parents.items()}
        ill = self._ill(causes, len(some))
        well = ill.logical_not() if not ill.all() else ill
        mixture = mixed(some[well].flatten(2), self.look(causes, len(some))[well], self.kinds)
        with torch.no_grad():
            if self.lesion is not None:
                mixture = self._with_lesion(mixture, some[well], some[ill])
            shares = mixture.share.clamp_min(RARE).unflatten(1, self.variable.sizes)
            self.atlas.start(shares)
            self.level.bias.copy_(mixture.level[..., 0].flatten())
            self.level.weight.copy_(mixture.level[..., 1:].flatten(0, 1))
            noise = noise_level(some).mean(0).clamp_min(LEAST_DEVIATION)
            noise = LOOSE * noise / self._spread**0.5
            self.log_scale.bias.copy_(self.pixels.unbounded(noise.log()).repeat(len(mixture.level)))

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

    def _shading(self, parents: Parents, n: int) -> Tensor:
        """Return the shading's factor, `(n, C, ...)`."""
        return enlarged(self.shade(parents, n), self.variable.sizes).exp()

    def _lights(self, parents: Parents, n: int) -> Tensor:
        """Return the features that the law of shapes depends on, `(n, f)`."""
        features: Tensor = self.light(parents, n)
        return features.float()

    def _caused(self, parents: Parents, n: int) -> Tensor:
        """Return the displacements that parents cause, on a coarse grid, `(n, axes, ...)`."""
        return self.caused.field(self.cause(parents, n))

    def _before(self, displacement: Tensor) -> Tensor:
        """Return where each pixel would lie in the atlas if parents caused nothing, x first."""
        spatial = len(self.variable.sizes)
        grid = places(self.variable.sizes, displacement).movedim(-1, 0)
        return torch.cat([displacement[:, :spatial] + grid, displacement[:, spatial:]], 1)

    def _places(self, caused: Tensor, displacement: Tensor) -> Tensor:
        """Return where each pixel lies in the atlas, `(n, axes, *sizes)`, x first."""
        before = self._before(displacement)
        return before + self.caused.read(caused, before)

    def _views(self, parents: Parents, n: int) -> list[tuple[Tensor, Tensor]]:
        """Return the rows of each look, and level, variance and slopes of the atlas in it."""
        normal, shares, tones = self._normal(parents, n), self.atlas.shares(), self.tone(parents, n)
        looks = torch.cat([self.look(parents, n), tones], 1)
        looks = nn.functional.pad(looks, (0, 1))  # of no parents, one look
        _, which = torch.unique(looks, dim=0, return_inverse=True)
        views = []
        for look in range(int(which.max()) + 1):
            rows = (which == look).nonzero()[:, 0]
            of_look = Normal(*(part[rows[:1]] for part in normal))
            level, variance = (part[0] for part in self._pixels(shares[None], of_look))
            level = level + self._toned(TINT * self.tint[None], tones[rows[:1]])[0]
            slopes = self.atlas.slopes(level, self.shape.axes).flatten(0, 1)
            views.append((rows, torch.cat([level, variance, slopes])))
        return views

    @torch.no_grad()
    def _fitted(self, value: Tensor, parents: Parents, rounds: int) -> Registered:
        """Return the shape that fits each image best."""
        n, image = len(value), value.float()
        shading, caused = self._shading(parents, n)[:, None], self._caused(parents, n)
        views = self._views(parents, n)
        order = torch.cat([rows for rows, _ in views]).argsort()

        def laid(displacement: Tensor) -> Laid:
            at = self._places(caused, displacement)
            seen = torch.cat([self.atlas.read(maps, at[rows]) for rows, maps in views])[order]
            parts = seen.unflatten(1, (-1, image.shape[1])).tensor_split((1, 2), 1)
            level, variance, slopes = parts
            return Laid(
                level=(shading * level)[:, 0],
                slopes=shading * slopes,
                variance=(shading.square() * variance)[:, 0],
            )

        expected = self.shape.expected(self._lights(parents, n))
        weight = self._unstruck(image, parents, expected)
        return registered(image, weight, laid, self.shape, expected, rounds)

    def _unstruck(self, image: Tensor, parents: Parents, coefficients: Tensor) -> Tensor:
        """Return 0 near a lesion, 1 where there is none, `(n, 1, ...)`."""
        if self.lesion is None:
            return torch.ones_like(image[:, :1])
        drawing = self._drawing(coefficients, parents)
        return 1 - _widened(self._struck(image, parents, drawing), self.spacing - 1)

    def _struck(self, value: Tensor, parents: Parents, drawing: Drawing) -> Tensor:
        """Return how probable a lesion is in each pixel, `(n, 0 or 1, ...)`.

        Neighbours are alike: a mean field of Ising's model, as in Van Leemput et al. 1999,
        *Automated model-based tissue classification* (IEEE Transactions on Medical Imaging 18).
        """
        joint = self._joint(value, parents, drawing)
        if self.lesion is None:
            return joint[:, 1:]
        odds = joint[:, 1:] - joint[:, :1]
        share = odds.sigmoid()
        for _ in range(SWEEPS):
            share = (odds + ALIKE * (2 * _mean_near(share) - 1)).sigmoid()
        return share

    def _individual(self, deviation: Tensor, parents: Parents) -> Drawing:
        """Return the atlas in the shape of individuals that deviate so from what is expected."""
        caused = self.shape.caused(self._lights(parents, len(deviation)))
        return self._drawing(deviation + caused, parents)

    def _drawing(self, coefficients: Tensor, parents: Parents) -> Drawing:
        n = len(coefficients)
        displacement = self.shape.displacement(coefficients)
        at = self._places(self._caused(parents, n), displacement)
        maps = self.atlas.read(torch.cat([self.atlas.shares(), TINT * self.tint]), at)
        shares, tint = maps.tensor_split((self.kinds,), 1)
        gain = self._shading(parents, n) * self.shape.gain(coefficients)
        return Drawing(at, shares, self._toned(tint, self.tone(parents, n)), gain)

    def _toned(self, tint: Tensor, tones: Tensor) -> Tensor:
        """Return what tints `(n, w C, ...)` of features `(n, w)` add to levels, `(n, C, ...)`."""
        of_feature = tint.unflatten(1, (tones.shape[1], self.variable.channels))
        return torch.einsum("nwc...,nw->nc...", of_feature, tones)

    @property
    def _variety(self) -> Tensor:
        """How much shares vary: 0 not at all, 1 as if each pixel were of one kind."""
        return (GAIN * self.variety).sigmoid()

    def _pixels(self, shares: Tensor, normal: Normal) -> tuple[Tensor, Tensor]:
        """Return mean and variance of pixels, `(n, C, ...)`, of tissue with these shares."""
        mean = normal.mean[:, : self.kinds]
        level = _mixed(shares, mean)
        ambiguous = (_mixed(shares, mean.square()) - level.square()).clamp_min(0)
        return level, self._noise(shares, normal) + self._variety * ambiguous

    def _noise(self, shares: Tensor, normal: Normal) -> Tensor:
        """Return the variance of the noise, `(n, C, ...)`, of tissue with these shares."""
        scale = normal.log_scale[:, : self.kinds].exp()
        return self._spread * _mixed(shares, scale.square())

    @property
    def _spread(self) -> float:
        """The variance of noise of scale 1."""
        return math.pi**2 / 3 if self.likelihood == "logistic" else 1.0

    def _joint(self, value: Tensor, parents: Parents, drawing: Drawing) -> Tensor:
        """Return log-probabilities of pixels, with tissue and with a lesion, `(n, 1 or 2, ...)`."""
        n, gain = len(value), drawing.gain
        normal = self._normal(parents, n)
        level, variance = self._pixels(drawing.shares, normal)
        scale = gain.log() + 0.5 * (variance / self._spread).log()
        seen = Normal((gain * (level + drawing.tint)).clamp(0, 1), scale)
        tissue = self.pixels.log_prob(value, seen).sum(1, keepdim=True)
        if self.lesion is None:
            return tissue
        of_lesion = Normal(
            (gain * normal.mean[:, self.kinds]).clamp(0, 1),
            normal.log_scale[:, self.kinds].expand(value.shape),
        )
        struck = self.pixels.log_prob(value, of_lesion).sum(1, keepdim=True)
        cover = (GAIN * self.cover).expand(n, *self.cover.shape)
        ill = spread(self._ill(parents, n)[:, None], cover)
        none = torch.where(ill, nn.functional.logsigmoid(-cover), 0.0)
        covered = torch.where(ill, nn.functional.logsigmoid(cover), -torch.inf)
        return torch.cat([none + tissue, covered + struck], 1)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Return Laplace's approximation of the log-probability, `(n,)`, in nats."""
        fit = self._fitted(value, parents, LAST_ROUNDS)
        pixels = self._of_pixels(value, parents, fit.deviation)
        prior = self.shape.precision
        before, after = (torch.linalg.slogdet(part).logabsdet for part in (prior, fit.precision))
        unlikely: Tensor = (fit.deviation @ prior * fit.deviation).sum(1)
        laplace: Tensor = pixels + 0.5 * (before - after - unlikely)
        return laplace

    def _of_pixels(self, value: Tensor, parents: Parents, deviation: Tensor) -> Tensor:
        """Return the log-probability of the pixels of individuals of this shape, `(n,)`."""
        joint = self._joint(value, parents, self._individual(deviation, parents))
        return joint.logsumexp(1).flatten(1).sum(1)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the negative log-probability of a number of the image, given its shape, `()`."""
        fit = self._fitted(value, parents, ROUNDS)
        n = len(value)
        if self.training:
            self._learn(parents, fit)
        loss = self._drift(parents, n) - self._of_pixels(value, parents, fit.deviation)
        return loss.mean() / value[0].numel()

    @torch.no_grad()
    def _learn(self, parents: Parents, fit: Registered) -> None:
        """Take a batch into the law of shapes, and into what parents cause."""
        n, seen, usual = len(fit.deviation), fit.seen, self.shape.usual(fit.deviation)
        self.shape.update(fit.coefficients, self._lights(parents, n), fit.precision)
        self.caused.update(
            self.cause(parents, n),
            individuals=self.shape.by_axis(fit.deviation),
            at=self._before(self.shape.displacement(fit.coefficients)),
            slopes=seen.slopes,
            error=seen.error,
            weight=seen.weight,
            usual=usual,
        )

    def _drift(self, parents: Parents, n: int) -> Tensor:
        """Return the negative log-prior of shadings, `(n,)`: without, gains would undo them."""
        unlikely: Tensor = (self.shade(parents, n) / SHADED).flatten(1).square().sum(1)
        return 0.5 * unlikely

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = self.observed.device
        deviation = self.shape.sample(n, generator).to(device)
        drawing = self._individual(deviation, parents)
        shares = drawing.shares.detach()
        of_pixel = shares.flatten(2).transpose(1, 2).flatten(0, 1)
        kind = torch.multinomial(of_pixel, 1, generator=generator).view(n, *self.variable.sizes)
        one = nn.functional.one_hot(kind, self.kinds).movedim(-1, 1)
        scale = (self._noise(shares, self._normal(parents, n)) / self._spread).sqrt()
        shape = (n, *self.variable.shape)
        noise = {
            "anatomy": self._variety.sqrt().detach() * (one - shares),
            "place": drawing.at.detach(),
            "residual": self.pixels.sample_noise(shape, generator, device) * scale.detach(),
            "shape": deviation,
        }
        if self.lesion is not None:
            noise["extent"] = self._extent(torch.rand(n, generator=generator, device=device))
        return noise

    def noise_prior(self) -> str:
        lesion = "" if self.lesion is None else ", how far a lesion reaches"
        return (
            f"{self.shape.count} normal numbers for the shape and the gain, how the shares of the "
            f"{self.kinds} kinds vary in each pixel{lesion}, and what they do not explain"
        )

    def _extent(self, reach: Tensor) -> Tensor:
        """Return what lesions cover that reach so far, `(..., 1, *sizes)`, of numbers `(...)`."""
        cover = (GAIN * self.cover).detach().sigmoid()
        return (cover > reach[(..., *[None] * cover.ndim)]).to(cover.dtype)

    def _drawn(self, drawing: Drawing, noise: Mapping[str, Tensor], parents: Parents) -> Tensor:
        """Return what individuals look like with the anatomy of the noise, `(n, C, ...)`."""
        n = len(drawing.at)
        normal = self._normal(parents, n)
        parts = [noise[name] for name in ("anatomy", "extent") if name in noise]
        there = resampled(torch.cat(parts, 1), self._back(noise["place"], drawing.at))
        anatomy, extent = there.tensor_split((self.kinds,), 1)
        level = _mixed(drawing.shares + anatomy, normal.mean[:, : self.kinds]) + drawing.tint
        if self.lesion is not None:
            ill = spread(self._ill(parents, n)[:, None], extent)
            extent = extent.clamp(0, 1) * ill
            level = torch.lerp(level, normal.mean[:, self.kinds].expand_as(level), extent)
        return drawing.gain * level

    def _back(self, place: Tensor, at: Tensor) -> Tensor:
        """Return by how much what is at these places in the atlas was elsewhere in the image."""
        spatial = len(self.variable.sizes)
        grid = places(self.variable.sizes, at).movedim(-1, 0)
        back = torch.zeros_like(at[:, :spatial])
        for _ in range(INVERSIONS):
            there = read(place[:, :spatial], (grid + back).movedim(1, -1))
            back = back + at[:, :spatial] - there
        return back

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        parts = self._parts(noise)
        drawn = self._drawn(self._individual(parts["shape"], parents), parts, parents)
        value = (drawn + parts["residual"]).clamp(0, 1)
        return self.variable.nearest(value).to(self.variable.dtype)

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return what the anatomy explains, `G(h, t, pa)`, `(n, C, ...)`."""
        parts = self._parts(noise)
        return self._drawn(self._individual(parts["shape"], parents), parts, parents).clamp(0, 1)

    def _parts(self, noise: Noise) -> Mapping[str, Tensor]:
        names = {"anatomy", "place", "residual", "shape"}
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
        """Read shape and anatomy off the image, and keep what they do not explain.

        How far a lesion would reach that is not there is drawn for each particle.
        """
        n = len(value)
        fit = self._fitted(value, parents, LAST_ROUNDS)
        drawing = self._individual(fit.deviation, parents)
        extent = self._struck(value, parents, drawing)
        anatomy = self._beyond(value, drawing, self._normal(parents, n))
        if self.lesion is not None:
            anatomy = (1 - extent) * anatomy
        noise = {"anatomy": anatomy, "place": drawing.at, "shape": fit.deviation}
        noise |= self._reached(extent, parents, value.new_tensor(MIDDLE))
        noise["residual"] = value - self._drawn(drawing, noise, parents)
        if particles is None or self.lesion is None:
            return repeat_noise(noise, particles)
        reach = torch.rand(particles, n, generator=generator, device=value.device)
        repeated = {name: part.expand(particles, *part.shape) for name, part in noise.items()}
        return repeated | self._reached(extent, parents, reach)

    def _beyond(self, value: Tensor, drawing: Drawing, normal: Normal) -> Tensor:
        """Return what pixels show of each kind beyond the atlas: `E[r - pi | x]`, as if normal."""
        shares, gain = drawing.shares, drawing.gain
        mean = normal.mean[:, : self.kinds].flatten(2)
        level = _mixed(shares, mean)
        off = mean.view(*mean.shape, *[1] * (shares.ndim - 2)) - level[:, None]
        shown = self._variety * gain[:, None] * shares[:, :, None] * off
        within = torch.einsum("nkc...,nkd...->n...cd", shown, gain[:, None] * off)
        noise = gain.square() * self._noise(shares, normal)
        within = within + torch.diag_embed(noise.movedim(1, -1))
        error = value - gain * (level + drawing.tint)
        error = torch.linalg.solve(within, error.movedim(1, -1))
        return torch.einsum("nkc...,n...c->nk...", shown, error)

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


def _mean_near(shares: Tensor) -> Tensor:
    """Return the mean of the pixels next to each, itself included."""
    pool = nn.functional.avg_pool2d if shares.ndim == 4 else nn.functional.avg_pool3d
    return pool(shares, 3, stride=1, padding=1, count_include_pad=False)


def _mixed(shares: Tensor, of_kind: Tensor) -> Tensor:
    """Return the mean of numbers `(n, kinds, C, ...)` of kinds, by their shares."""
    return torch.einsum("nk...,nkc->nc...", shares, of_kind.flatten(2))
