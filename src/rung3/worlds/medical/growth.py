"""Ventricles that grow and shrink: one family of deformations, and the volumes that it gives.

With D the signed distance to the atlas's lateral ventricles (smoothed, in mm) and n its gradient,

    w(x) = (1 - D(x)^2 / B^2)_+^2 n(x),      g_t = exp(t w),

so g_t moves the wall of the ventricles outward (inward for t < 0), tissue ever less the farther it
lies, and nothing beyond B. Every g_t is invertible. The volumes of the ventricles and of the tissue
(grey and white),

    V(t) = integral of ventricles(g_t^-1(x)) dx,      T(t) = integral of tissue(g_t^-1(x)) dx,

are tabulated. A head is scaled by s besides, so that a ventricle volume v and a brain volume b are
met together, and exactly, by

    V(t) / T(t) = v / b,      s = (b / T(t))^(1/3),

as long as everything else that deforms the head keeps volume (`rung3.worlds.medical.waves`).

The band around the ventricles is the idea of SimBA (Wilms et al. 2023, arXiv 2311.01292).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from rung3.worlds.medical.atlas import LOW, Atlas, Source, atlas, sharp

__all__ = ["Growth", "growth", "sample"]

BAND_MM = 44.0
"""Distance B from the ventricles up to which tissue gives way: narrower, it would be crushed."""

GRID_MM = 4.0
"""Spacing of the tabulated displacements: they are smooth on a scale of `SMOOTH_MM`."""

VOLUME_MM = 3.0
"""Spacing of the points at which volumes are summed."""

SMOOTH_MM = 12.0
"""Scale on which the distance is smoothed: with less, the Jacobian of the largest ventricles is no
longer positive where walls face each other."""

LEVELS = tuple(range(-30, 64, 2))
"""Tabulated times t, in mm that a point of full speed moves."""

FINER = 2
"""Volumes are tabulated at so many times between one level and the next, the first included: they
change by 10 % at most, so that interpolation is right to a thousandth."""

COARSE = 2
"""Spacing in mm of the voxels on which the distance to the ventricles is computed."""

STEP_MM = 1.0
"""Greatest step of the Runge-Kutta method, in the same unit."""


@dataclass(frozen=True)
class Growth:
    """The family g_t on an atlas.

    Attributes:
        table: Displacements `g_t^-1(x) - x` in mm, the levels one after another along z,
            `(3, levels * Z, Y, X)`.
        low: Position of the table's first point along x, y, z, in mm.
        ventricles: V in ml, at `FINER` times a level.
        tissue: T in ml, at the same times.
    """

    table: Float[Tensor, "3 lz y x"]
    low: tuple[float, float, float]
    ventricles: Float[Tensor, " times"]
    tissue: Float[Tensor, " times"]

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest ratio of ventricles to tissue that can be met."""
        ratio = self.ventricles / self.tissue
        return float(ratio[0]), float(ratio[-1])

    def solve(
        self, ventricles: Float[Tensor, " n"], brain: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Find the level, counted from 0 with fractions, and the scale s that meet two volumes.

        Args:
            ventricles: Volumes of the ventricles, in ml.
            brain: Volumes of grey and white matter, in ml.
        """
        ratios = (self.ventricles / self.tissue).log()
        wanted = (ventricles / brain).log().to(ratios)
        before = (torch.searchsorted(ratios, wanted) - 1).clamp(0, len(ratios) - 2)
        share = (wanted - ratios[before]) / (ratios[before + 1] - ratios[before])
        tissue = torch.lerp(self.tissue[before], self.tissue[before + 1], share)
        return (before + share) / FINER, (brain / tissue) ** (1 / 3)

    def displacement(
        self, points: Float[Tensor, "3 n p"], level: Float[Tensor, " n"]
    ) -> Float[Tensor, "3 n p"]:
        """Return `g_t^-1(x) - x` in mm at points x of n heads, each at a level of its own."""
        depth = self.table.shape[1] // len(LEVELS)
        before = level.floor().clamp(0, len(LEVELS) - 2)
        share = (level - before)[:, None]
        x, y, z = ((p - low) / GRID_MM for p, low in zip(points, self.low, strict=True))
        inside = (z > 0) & (z < depth - 1)
        z = z.clamp(0, depth - 1)
        lower = sample(self.table, torch.stack([x, y, z + (before * depth)[:, None]]))
        upper = sample(self.table, torch.stack([x, y, z + ((before + 1) * depth)[:, None]]))
        moved: Tensor = torch.lerp(lower, upper, share) * inside
        return moved


def sample(
    maps: Float[Tensor, "c z y x"], points: Float[Tensor, "3 n p"]
) -> Float[Tensor, "c n p"]:
    """Interpolate maps linearly at points, counted in voxels from the first; 0 outside."""
    size = torch.tensor(maps.shape[:0:-1], dtype=points.dtype, device=points.device)
    unit = (2 / (size - 1))[:, None, None] * points - 1
    grid = unit.movedim(0, -1)[None, :, :, None]
    read: Tensor = F.grid_sample(maps[None], grid, padding_mode="zeros", align_corners=True)
    return read[0, ..., 0]


@lru_cache(maxsize=8)
def growth(source: Source, spacing: float) -> Growth:
    """Tabulate the family on an atlas for images of a resolution.

    Args:
        source: `"template"` or `"phantom"`.
        spacing: Size of the image's pixels, in mm.
    """
    low, displaced = _flow(source)
    maps = atlas(source, spacing)
    table = displaced.transpose(0, 1).flatten(1, 2).contiguous()
    times = torch.arange(FINER * (len(LEVELS) - 1) + 1) / FINER
    family = Growth(table, low, times, times)
    both = torch.stack([maps.maps[0], maps.maps[1] + maps.maps[2]])
    extent = [int(GRID_MM * (size - 1) / VOLUME_MM) for size in displaced.shape[2:]]
    points = _grid(extent) * VOLUME_MM + torch.tensor(low)[:, None, None, None]
    points = points.reshape(3, 1, -1)
    # Nothing moves outside the box of these points: what lies there is counted once.
    rest = both.sum((1, 2, 3)) * maps.spacing**3 - _volumes(both, maps, points)
    volumes = [
        rest + _volumes(both, maps, points + family.displacement(points, level[None]))
        for level in times
    ]
    ventricles, tissue = torch.stack(volumes, 1) / 1000
    return replace(family, ventricles=ventricles, tissue=tissue)


def _volumes(
    values: Float[Tensor, "c z y x"], grid: Atlas, points: Float[Tensor, "3 1 p"]
) -> Float[Tensor, " c"]:
    """Integrate maps at points that stand for `VOLUME_MM`^3 each, in mm^3."""
    at = (points - torch.tensor(grid.low)[:, None, None]) / grid.spacing
    return sample(values, at)[:, 0].double().sum(1).float() * VOLUME_MM**3


@lru_cache(maxsize=2)
def _flow(source: Source) -> tuple[tuple[float, float, float], Tensor]:
    """Integrate the family on a grid.

    Returns:
        The grid's first point along x, y, z, and `g_t^-1(x) - x` as `(levels, 3, Z, Y, X)`, in mm.
    """
    wall = sharp(source)[0, ::COARSE, ::COARSE, ::COARSE] > 0.5
    ends = np.argwhere(wall)
    margin, step = int(BAND_MM / COARSE), round(GRID_MM / COARSE)
    first = np.maximum(ends.min(0) - margin, 0)
    box = tuple(slice(a, b + margin) for a, b in zip(first, ends.max(0), strict=True))
    distance = _signed_distance(wall[box]) * COARSE
    distance = ndimage.gaussian_filter(distance, SMOOTH_MM / COARSE)
    normal = np.stack(np.gradient(distance, COARSE))[::-1]  # along x, y, z
    speed = np.clip(1 - (distance / BAND_MM) ** 2, 0, None) ** 2
    field = (normal * speed)[:, ::step, ::step, ::step].astype(np.float32) / GRID_MM
    displaced = _integrate(torch.from_numpy(field)) * GRID_MM
    x, y, z = (float(o + COARSE * a) for o, a in zip(LOW, first[::-1], strict=True))
    return (x, y, z), displaced


def _signed_distance(inside: Any) -> Any:
    """Return the distance to a set's edge in voxels, negative inside."""
    outer, inner = (ndimage.distance_transform_edt(side) for side in (~inside, inside))
    return outer - inner


def _grid(shape: Iterable[int]) -> Float[Tensor, "3 z y x"]:
    """Return the positions of a grid's points along x, y and z, in voxels."""
    axes = [torch.arange(float(size)) for size in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flip(0)


def _integrate(velocity: Float[Tensor, "3 z y x"]) -> Float[Tensor, "levels 3 z y x"]:
    """Return `g_t^-1(x) - x` at each level by the midpoint rule, in voxels."""
    grid = _grid(velocity.shape[1:])
    start = grid.reshape(3, 1, -1)
    at = {0.0: start}
    for side in (-1.0, 1.0):
        here, now = start, 0.0
        for level in sorted((t for t in LEVELS if t * side > 0), key=abs):
            count = math.ceil(abs(level - now) / STEP_MM)
            step = (now - level) / count
            for _ in range(count):
                middle = here + step / 2 * sample(velocity, here)
                here = here + step * sample(velocity, middle)
            at[level], now = here, level
    return torch.stack([(at[t] - start).view(grid.shape) for t in LEVELS])
