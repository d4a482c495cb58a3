"""Displacements that parents cause, in the frame of an atlas: learned by least squares.

What a parent does to tissue is tied to the anatomy, wherever an individual has it: a ventricle
grows about its own middle. So a place y, at which an individual would lie in the atlas if its
parents had no effect, is displaced by sums of cosines that are linear in features f of the parents,

    F_a(y; pa) = sum_k (sum_j M_akj f_j(pa)) prod_b cos(pi k_b t_b),

with t_b from 0 to 1 along each axis b of the atlas, across a slice, too. What F lacks shows twice.
As far as an individual's displacement can make up for it, registration finds it there, and d, what
individuals are displaced by beyond F, depends on f. The rest is left in the image: it differs by
e from the atlas of slopes s laid over it. So M is led, batch by batch, to where neither d nor e
depends on f,

    M <- M + r (D + (C + R)^-1 (E - R M)) Phi^-1,

with D the mean over rows of f times the coefficients of d, E that of f times the sum over pixels of
w s cos e, Phi that of f f', and C that of w s s' cos cos', for which a few pixels are enough. w are
the weights of pixels, R the inverse of the prior variance of M, for as many rows as are remembered,
and r falls from 1 to a constant.

Sources: Ashburner and Friston 1999 (Human Brain Mapping 7:254-266), for least squares of cosines on
what an image differs by; Martens and Grosse 2015 (arXiv 1503.05671), for f and pixels as factors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional as F

__all__ = ["CausedDisplacement"]

COSINES = {2: 16, 3: 9}
"""Cosines along an axis, by the number of axes of the image: more than individuals need, for what
parents cause is the same for all, so more is seen of it. Equations for still more of them would
take longer to solve than images to register."""

ACROSS = 3
"""Cosines across a slice."""

REACH = 0.05
"""Prior standard deviation of the lowest coefficient, in halves of the image's side: what one
deviation of a parent moves. It falls with the square of the frequency."""

BATCHES, ROWS, SHARE = 33, 2000, 0.25
"""How much is remembered, at least: so many batches, as many as have so many rows, and such a share
of all so far: the atlas changes ever less, and effects are to be told from chance ever better."""

START = 10
"""Batches that are only taken note of: before, there are fewer pixels than coefficients."""

RISEN = 100
"""Batches before which parents move nothing across a slice: until an atlas has a height, what lies
higher could stand for one value of a parent, and what lies lower for another."""

ALIKE = 10.0
"""Pixels that err alike: what an atlas misses is as wide as a few of them."""

SEEN = 1500
"""Pixels of a batch from which the cosines' moments are taken."""

ALONE = 1e-4
"""Variance that is added to features, for those that never vary."""


class CausedDisplacement(nn.Module):
    """A smooth displacement of places in an atlas, linear in features of the parents.

    Args:
        sizes: Pixels of the image, by axis.
        features: Number of features.
        across: Half the thickness of the atlas of a slice, in halves of the image's side, if it
            has one.

    Example:
        >>> caused = CausedDisplacement((8, 12), features=1)
        >>> caused.mean[0] = 0.1  # to the right, all alike
        >>> field = caused.field(torch.tensor([[0.0], [2.0]]))
        >>> caused.read(field, torch.zeros(2, 2, 8, 12))[:, :, 4, 6]
        tensor([[0.0000, 0.0000],
                [0.2000, 0.0000]])
    """

    mean: Tensor
    moments: Tensor
    spread: Tensor
    batches: Tensor
    prior: Tensor
    unit: Tensor

    def __init__(self, sizes: Sequence[int], features: int, across: float | None = None) -> None:
        super().__init__()
        self.spatial = len(sizes)
        self.grid = [math.ceil(size / 2) for size in reversed(sizes)]  # x first
        self.waves = [min(COSINES[self.spatial], size) for size in self.grid]
        if across is not None:
            self.grid.append(2 * ACROSS)
            self.waves.append(ACROSS)
        self.axes = len(self.waves)
        frequencies = itertools.product(*(range(count) for count in self.waves))
        squares = torch.tensor([float(sum(k * k for k in wave)) for wave in frequencies])
        self.register_buffer(
            "prior", ((1 + squares) / REACH).square().repeat(self.axes), persistent=False
        )
        unit = torch.ones(self.axes)
        unit[self.spatial :] = across or 1.0
        self.register_buffer("unit", unit, persistent=False)
        count = len(self.prior)
        self.register_buffer("mean", torch.zeros(count, features))
        self.register_buffer("moments", torch.zeros(count, count))
        self.register_buffer("spread", torch.zeros(features, features))
        self.register_buffer("batches", torch.zeros(()))

    def field(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n a *coarse"]:
        """Return the displacements that features cause, on a coarse grid, x first."""
        parts = (features @ self.mean.T).unflatten(1, (self.axes, *self.waves))
        for size, count in zip(self.grid, self.waves, strict=True):
            line = (torch.arange(size, device=parts.device) + 0.5) * (2 / size) - 1
            parts = parts.movedim(2, -1) @ _cosines(line, count).T
        field: Tensor = parts.permute(0, 1, *range(parts.ndim - 1, 1, -1))
        return field

    def read(
        self, field: Float[Tensor, "n a *coarse"], at: Float[Tensor, "n a *sizes"]
    ) -> Float[Tensor, "n a *sizes"]:
        """Return the displacements at places, both in halves of the image's side."""
        unit = self.unit.view(-1, *[1] * (at.ndim - 2))
        places = (at / unit).movedim(1, -1)
        thick = places.ndim - 2 < self.axes
        if thick:
            places = places.unsqueeze(1)
        read = F.grid_sample(field, places, padding_mode="border", align_corners=False)
        return unit * (read.squeeze(2) if thick else read)

    @torch.no_grad()
    def update(
        self,
        features: Float[Tensor, "n f"],
        individuals: Float[Tensor, "n a *waves"],
        at: Float[Tensor, "n a *sizes"],
        slopes: Float[Tensor, "n a c *sizes"],
        error: Float[Tensor, "n c *sizes"],
        weight: Float[Tensor, "n c *sizes"],
        usual: Float[Tensor, " n"],
    ) -> None:
        """Take a batch into the moments, and M a step further.

        Args:
            features: Of the parents.
            individuals: Coefficients of the displacements beyond what parents cause, by axis, x
                first, and by cosines along the axes of the image, x last.
            at: Where pixels lie in the atlas but for what parents cause, in halves of the image's
                side.
            slopes: Of the atlas there, a half of the image's side.
            error: What the images differ by from the atlas.
            weight: How much each pixel counts.
            usual: How much each row counts, from 0 to 1: one fit that went wrong would else move
                all.
        """
        n, unit, counted = len(at), self.unit.view(-1, 1), usual[:, None] * features
        places, slopes = at.flatten(2) / unit, slopes.flatten(3) * unit[..., None]
        weight, error = weight.flatten(2), error.flatten(2)
        lines = [_cosines(places[:, axis], count) for axis, count in enumerate(self.waves)]
        pull = torch.einsum("nacp,ncp->npa", slopes, weight * error)
        first = (pull[..., None] * lines[0][:, :, None]).flatten(2)
        gradient = (first.transpose(1, 2) @ _products(lines[1:])).flatten(1)
        self.batches += 1
        seen = float(self.batches)
        memory = min(seen, max(BATCHES, ROWS / n, SHARE * seen))
        self.spread.lerp_(counted.T @ features / n, 1 / memory)
        self.moments.lerp_(self._seen(lines, slopes, weight), 1 / memory)
        if self.batches > START:
            ridge = (ALIKE * self.prior / (memory * n))[:, None]
            rest = gradient.T @ counted / n - ridge * self.mean
            step = torch.linalg.solve(self.moments + ridge[:, 0].diag(), rest)
            step += self._as_mean(individuals).T @ counted / n
            alone = ALONE * torch.eye(len(self.spread), device=at.device)
            if self.batches <= RISEN:
                step.unflatten(0, (self.axes, -1))[self.spatial :] = 0
            self.mean += step / memory @ torch.linalg.inv(self.spread + alone)

    def _as_mean(self, individuals: Tensor) -> Tensor:
        """Return coefficients of individuals as those of this displacement, `(n, k)`."""
        parts = individuals / self.unit.view(-1, *[1] * (individuals.ndim - 2))
        parts = parts.permute(0, 1, *range(individuals.ndim - 1, 1, -1))
        wider = individuals.new_zeros(len(individuals), self.axes, *self.waves)
        level = wider if wider.ndim == parts.ndim else wider[..., 0]  # the same at all heights
        part = [slice(count) for count in self.waves[: parts.ndim - 2]]
        low = parts[:, :, *part]
        level[:, :, *(slice(count) for count in low.shape[2:])] = low
        return wider.flatten(1)

    def _seen(self, lines: Sequence[Tensor], slopes: Tensor, weight: Tensor) -> Tensor:
        """Return the mean over rows of the sum over pixels of `w s s' cos cos'`."""
        rows, pixels = lines[0].shape[:2]
        generator = Generator().manual_seed(int(self.batches))
        some = torch.randint(rows * pixels, (SEEN,), generator=generator).to(weight.device)
        cosines = _products([line.flatten(0, 1)[some] for line in lines])
        moments = torch.zeros_like(self.moments)
        for channel in range(weight.shape[1]):
            steep = slopes[:, :, channel].transpose(1, 2).flatten(0, 1)[some]
            steep = steep * weight[:, channel].flatten()[some, None].sqrt()
            design = (steep[..., None] * cosines[:, None]).flatten(1)
            moments += design.T @ design
        return moments * (pixels / SEEN)


def _cosines(place: Tensor, count: int) -> Tensor:
    """Return the cosines at places from -1 to 1, `(..., count)`."""
    part = ((place + 1) / 2).clamp(0, 1)
    return (math.pi * part[..., None] * torch.arange(count, device=place.device)).cos()


def _products(lines: Sequence[Tensor]) -> Tensor:
    """Return the products of cosines along several axes, `(..., all)`."""
    product = lines[0]
    for line in lines[1:]:
        product = (product[..., None] * line[..., None, :]).flatten(-2)
    return product
