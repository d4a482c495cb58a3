"""The shapes of individuals: smooth displacements, and gains, whose law is learned.

Along each axis a of the atlas a place p is displaced by a sum of cosines, and the image is
brightened by a factor of the same kind,

    h_a(p) = sum_k c_ak prod_j cos(pi k_j t_j),      log g(p) = sum_k b_k prod_j cos(pi k_j t_j),

with t_j from 0 to 1 along each axis of the image. The coefficients are normal, and their mean is
linear in features f of those parents that light the image,

    (c, b) ~ N(M f(pa), S).

Light causes gains, and no displacement; but shapes that fit images of two lights may differ between
them, by what the atlas does not have right yet. That is estimated, too, and taken off. What parents
do to tissue is no part of the shape: see `rung3.mechanisms.networks.caused`.

M and S are running moments of coefficients that were fitted to the images of training, of which
unusual ones count less, by the weight min(1, r / d^2), with d^2 the squared distance from the mean
by S: a fit that went wrong would widen S, and a wide S lets fits go wrong. To the squares the
variance of each fit is added, as expectation and maximisation have it.

How far a slice lies from the middle of its atlas is only known up to a scale: an atlas that is
stretched across the slice, with displacements as much larger, gives the same images. So across it
displacements have mean 0 and at most a deviation that leaves most of them within the atlas.

Sources: Cootes et al. 1995, *Active shape models* (Computer Vision and Image Understanding
61:38-59), for shapes with a law; Friston et al. 1995, *Spatial registration and normalization of
images* (Human Brain Mapping 3:165-189), for cosines; Maronna 1976 (Annals of Statistics 4:51-67)
for the weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

__all__ = ["Shape"]

REACH = 0.03
"""Standard deviation of the lowest coefficient of a displacement at the start, in halves of the
image's side: one pixel of 64."""

SMOOTH = 1.5
"""Power of the frequency by which standard deviations fall at the start."""

BRIGHT = 0.05
"""Standard deviation of a coefficient of the gain's logarithm at the start."""

MEMORY = 0.99
"""What is left of a batch's weight in the running moments, a batch later."""

TRUST = 20.0
"""Batches that the law of the start counts as."""

USUAL = 1.5
"""Squared distance from the mean, for each coefficient, from which a row counts less."""

WITHIN = 2.5
"""Standard deviations of a displacement across a slice, at most, that lie in its atlas."""


class Shape(nn.Module):
    """Coefficients of displacements and of a gain, with their law.

    Args:
        sizes: Pixels of the image, by axis.
        waves: Cosines along each axis of the image, of a displacement.
        gains: Cosines along each axis of the image, of the gain's logarithm; the constant one is
            left out.
        lights: Number of features that cause gains.
        both: How many of them, the last ones, are of parents that move tissue, too.
        across: Half the thickness of the atlas of a slice, in halves of the image's side; places
            are then displaced across the slice, too.

    Attributes:
        axes: Axes along which places are displaced, x first.
        count: Number of coefficients.

    Example:
        >>> shape = Shape((8, 12), waves=3, gains=1, lights=0)
        >>> coefficients = torch.zeros(5, shape.count)
        >>> shape.displacement(coefficients).shape, shape.gain(coefficients).shape
        (torch.Size([5, 2, 8, 12]), torch.Size([5, 1, 8, 12]))
    """

    mean: Tensor
    covariance: Tensor
    gram: Tensor
    cross: Tensor
    square: Tensor
    weight: Tensor
    regressed: Tensor
    causes: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        waves: int,
        gains: int,
        lights: int,
        across: float | None = None,
        both: int = 0,
    ) -> None:
        super().__init__()
        self.waves, self.gains, self.across = waves, gains, across
        self.spatial = len(sizes)
        self.axes = self.spatial + (across is not None)
        self.moving = self.axes * waves**self.spatial
        self.count = self.moving + gains**self.spatial - 1
        for axis, size in enumerate(sizes):
            line = _cosines(size, max(waves, gains))
            self.register_buffer(f"cosines{axis}", line, persistent=False)
        regressed, causes = self._regressed(lights, both)
        self.register_buffer("regressed", regressed, persistent=False)
        self.register_buffer("causes", causes, persistent=False)
        start, features = torch.diag(self._start().square()), 1 + lights
        self.register_buffer("mean", torch.zeros(self.count, features))
        self.register_buffer("covariance", start)
        self.register_buffer("gram", TRUST * torch.eye(features))
        self.register_buffer("cross", torch.zeros(self.count, features))
        self.register_buffer("square", TRUST * start)
        self.register_buffer("weight", torch.tensor(TRUST))

    def _start(self) -> Tensor:
        """Return the standard deviations of the coefficients at the start, `(count,)`."""
        frequencies = itertools.product(range(self.waves), repeat=self.spatial)
        squares = torch.tensor([float(sum(k * k for k in wave)) for wave in frequencies])
        reach = REACH * (1 + squares) ** (-SMOOTH / 2)
        return torch.cat(
            [reach.repeat(self.axes), torch.full((self.gains**self.spatial - 1,), BRIGHT)]
        )

    def _regressed(self, lights: int, both: int) -> tuple[Tensor, Tensor]:
        """Return on which features coefficients depend, and by which they are caused.

        Both are `(count, 1 + lights)`. What moves tissue is no business of shapes.
        """
        regressed = torch.ones(self.count, 1 + lights, dtype=torch.bool)
        regressed[: self.moving, 1 + lights - both :] = False
        regressed[self._through, 0] = False
        causes = regressed.clone()
        causes[: self.moving, 1:] = False
        return regressed, causes

    @property
    def _through(self) -> slice:
        """The coefficients of displacements across a slice."""
        return slice(self.spatial * self.waves**self.spatial, self.moving)

    @property
    def cosines(self) -> list[Tensor]:
        """The cosines along each axis of the image, `(size, waves or gains)` each."""
        return [getattr(self, f"cosines{axis}") for axis in range(self.spatial)]

    def displacement(self, coefficients: Float[Tensor, "n k"]) -> Float[Tensor, "n a *sizes"]:
        """Return displacements, in halves of the image's side, along x first."""
        return self._summed(self.by_axis(coefficients))

    def by_axis(self, coefficients: Float[Tensor, "n k"]) -> Float[Tensor, "n a *waves"]:
        """Return those of displacements, by axis and by the cosines along each."""
        parts = coefficients[:, : self.moving]
        by_axis: Tensor = parts.unflatten(1, (self.axes, *[self.waves] * self.spatial))
        return by_axis

    def gain(self, coefficients: Float[Tensor, "n k"]) -> Float[Tensor, "n 1 *sizes"]:
        """Return the factors by which the image is brightened."""
        parts = F.pad(coefficients[:, self.moving :], (1, 0))  # a constant gain is the levels'
        return self._summed(parts.unflatten(1, (1, *[self.gains] * self.spatial))).exp()

    def _summed(self, parts: Tensor) -> Tensor:
        for line in self.cosines:  # one axis after another: each leaves from the front
            parts = parts.movedim(2, -1) @ line[:, : parts.shape[2]].T
        return parts

    def expected(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n k"]:
        """Return the coefficients that are expected of these features."""
        return _with_constant(features) @ self.mean.T

    def caused(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n k"]:
        """Return the part of them that the features cause."""
        return _with_constant(features) @ (self.mean * self.causes).T

    @property
    def precision(self) -> Float[Tensor, "k k"]:
        """The inverse of the covariance."""
        inverse: Tensor = torch.linalg.inv(self.covariance)
        return inverse

    def sample(self, n: int, generator: Generator | None = None) -> Float[Tensor, "n k"]:
        """Draw what coefficients differ by from those that are expected."""
        device = self.covariance.device if generator is None else generator.device
        drawn = torch.randn(n, self.count, generator=generator, device=device)
        factor = torch.linalg.cholesky(self.covariance.double()).to(drawn)
        deviation: Tensor = drawn @ factor.T
        return deviation

    @property
    def variance(self) -> Float[Tensor, " a"]:
        """The variance of displacements along each axis, the mean over places."""
        squares = torch.ones((), device=self.covariance.device)
        for line in self.cosines:
            squares = torch.outer(squares.flatten(), line[:, : self.waves].square().mean(0))
        of_wave = self.covariance.diagonal()[: self.moving].view(self.axes, -1)
        variance: Tensor = of_wave @ squares.flatten()
        return variance

    def usual(self, deviation: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
        """Return the weight of each row, from 0 to 1: less than 1 for a fit that went wrong."""
        far = torch.einsum("nk,kl,nl->n", deviation, self.precision, deviation)
        usual: Tensor = (USUAL * self.count / far).clamp_max(1)
        return usual

    @torch.no_grad()
    def update(
        self,
        coefficients: Float[Tensor, "n k"],
        features: Float[Tensor, "n f"],
        precision: Float[Tensor, "n k k"],
    ) -> None:
        """Take a batch into the running moments, and the law from them.

        Args:
            coefficients: Those that fit the images best.
            features: Of their parents.
            precision: How closely each of them is known.
        """
        design = _with_constant(features)
        usual = self.usual(coefficients - self.expected(features))[:, None] / len(design)
        self.gram.mul_(MEMORY).add_(design.T @ (usual * design))
        self.cross.mul_(MEMORY).add_(coefficients.T @ (usual * design))
        self.mean.copy_(torch.linalg.solve(self.gram, self.cross.T).T * self.regressed)
        off = coefficients - self.expected(features)
        spread = torch.linalg.inv(precision).mean(0)
        self.square.mul_(MEMORY).add_(off.T @ (usual * off) + spread)
        self.weight.mul_(MEMORY).add_(1)
        self.covariance.copy_(self.square / self.weight)
        if self.across is not None:
            self._hold(self.across)

    def _hold(self, across: float) -> None:
        """Keep displacements across a slice within its atlas, most of the time."""
        factor = (across / WITHIN / self.variance[-1].sqrt()).clamp_max(1)
        self.covariance[self._through] *= factor
        self.covariance[:, self._through] *= factor


def _cosines(size: int, waves: int) -> Float[Tensor, "s k"]:
    places = (torch.arange(size) + 0.5) / size
    return (math.pi * places[:, None] * torch.arange(waves)).cos()


def _with_constant(features: Tensor) -> Tensor:
    return torch.cat([features.new_ones(len(features), 1), features], 1)
