"""The average head that every brain of the world is a deformation of: what tissue is where.

An atlas is four maps of volume fractions (ventricles, grey matter, white matter, other fluid) on a
grid in millimetres, x to the right, y to the front and z up. There are two of them:

- the template, MNI152 (nonlinear, 2009a) with its maps of grey and white matter, which the package
  nilearn carries (`pip install 'rung3[medical]'`). Fluid is the rest of the head. The lateral
  ventricles are the two largest bodies of fluid that lie deep and off the midline;
- the phantom, ellipsoids with a folded cortex, which needs no other package.

Source: Fonov et al. 2011, *Unbiased average age-appropriate atlases for pediatric studies*
(NeuroImage 54:313-327); nilearn's copy of it is used under its BSD licence, and never copied here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

__all__ = ["CENTRE", "LOW", "TISSUES", "Atlas", "Source", "atlas", "has_template", "sharp"]

Source = Literal["template", "phantom"]

Array = np.ndarray[Any, Any]

TISSUES = ("ventricles", "grey", "white", "fluid")
"""Names of the maps, in their order."""

CENTRE = (0.0, -18.0, 18.0)
"""The middle of the head, in mm of the template: a point between the lateral ventricles."""

LOW = (-98.0, -134.0, -72.0)
"""The template's first voxel, in mm."""

SHAPE = (189, 233, 197)
"""The template's size along z, y and x, in mm."""

DEEP_MM = 25.0
"""Distance from the surface of the head at which fluid is that of ventricles, not of sulci."""

MOSTLY_FLUID = 0.6
"""Share of fluid in a voxel at which bodies of fluid part from each other."""

OFF_MIDLINE_MM = 5.0
"""Distance of a lateral ventricle's middle from the midline, at least: it tells the two from the
third ventricle and the cisterns."""

RADIUS_MM = 69.0
"""Distance from the middle of the phantom to its side: the length that levels are relative to."""

RIM_STEPS = 4
"""How far the partly filled voxels reach that surround a ventricle, in steps of 1 mm."""


@dataclass(frozen=True)
class Atlas:
    """Maps of tissue on a regular grid.

    Attributes:
        maps: Volume fractions in [0, 1], `(4, Z, Y, X)`, in the order of `TISSUES`.
        low: Position of the first voxel along x, y and z, in mm.
        spacing: Distance of neighbouring voxels, in mm.
    """

    maps: Float[Tensor, "4 z y x"]
    low: tuple[float, float, float]
    spacing: float


def has_template() -> bool:
    """Tell whether the packages that carry and read the template are installed."""
    return find_spec("nilearn") is not None and find_spec("nibabel") is not None


@lru_cache(maxsize=4)
def atlas(source: Source, spacing: float) -> Atlas:
    """Build an atlas for images of a resolution.

    Args:
        source: `"template"` or `"phantom"`.
        spacing: Size of the image's pixels in mm: finer detail is smoothed away.

    Raises:
        ValueError: If the template is asked for, and not installed.

    Example:
        >>> maps = atlas("phantom", 6.0).maps
        >>> maps.shape[0], bool((maps.sum(0) < 1.001).all())
        (4, True)
    """
    step = max(1.0, spacing / 2)
    maps = torch.from_numpy(sharp(source))
    for axis in (1, 2, 3):
        blur = _blur(maps.shape[axis], step, spacing / 2)
        maps = torch.tensordot(maps, blur, dims=([axis], [1])).movedim(-1, axis)
    return Atlas(maps.contiguous(), LOW, step)


def sharp(source: Source) -> Array:
    """Return an atlas's maps at 1 mm, `(4, Z, Y, X)`, from the voxel at `LOW` on.

    Raises:
        ValueError: If the template is asked for, and not installed.
    """
    return _template() if source == "template" else _phantom()


def _blur(size: int, step: float, width: float) -> Float[Tensor, "out in"]:
    """Return Gaussian weights of points 1 mm apart, for points `step` mm apart."""
    distance = torch.arange(0, size - 1 + 1e-6, step)[:, None] - torch.arange(float(size))
    weights = torch.exp(-(distance**2) / (2 * width**2))
    return weights / weights.sum(1, keepdim=True)


@lru_cache(maxsize=1)
def _template() -> Array:
    """Read the template's maps at 1 mm, `(4, Z, Y, X)`."""
    if not has_template():
        raise ValueError(
            "template: needs nilearn, which carries it, and nibabel, which reads it: "
            "pip install 'rung3[medical]'; template=False draws the phantom"
        )
    import nibabel

    folder = Path(find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"  # type: ignore[union-attr,index]

    def read(kind: str) -> Array:
        file = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        values = nibabel.load(file).get_fdata(dtype=np.float32).T  # type: ignore[attr-defined]
        return np.asarray(values / values.max())

    head, grey, white = read("t1") > 0, read("gm"), read("wm")
    head = ndimage.binary_fill_holes(head)
    total = np.maximum(1.0, grey + white)
    grey, white = grey / total, white / total
    fluid = head * (1 - grey - white)
    ventricles = fluid * _lateral_ventricles(head, fluid)
    return np.stack([ventricles, grey, white, fluid - ventricles]).astype(np.float32)


def _lateral_ventricles(head: Array, fluid: Array) -> Array:
    """Return which voxels belong to the lateral ventricles, their rim included."""
    depth = 2 * ndimage.distance_transform_edt(head[::2, ::2, ::2])  # coarse, as it may be
    depth = depth.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(map(slice, head.shape))]
    labels, count = ndimage.label((fluid > MOSTLY_FLUID) & (depth > DEEP_MM))
    numbers = range(1, count + 1)
    sizes = ndimage.sum_labels(labels > 0, labels, numbers)
    middles = np.array(ndimage.center_of_mass(labels > 0, labels, numbers))[:, 2] + LOW[0]
    sizes[np.abs(middles) < OFF_MIDLINE_MM] = 0
    core = np.isin(labels, 1 + np.argsort(-sizes)[:2])
    rim: Array = ndimage.binary_dilation(core, iterations=RIM_STEPS)
    return rim


@lru_cache(maxsize=1)
def _phantom() -> Array:
    """Draw the phantom's maps at 1 mm, `(4, Z, Y, X)`."""
    z, y, x = np.meshgrid(
        *(
            np.arange(size, dtype=np.float32) + low
            for size, low in zip(SHAPE, LOW[::-1], strict=True)
        ),
        indexing="ij",
        sparse=True,
    )
    side, front, up = np.abs(x), y + 18, z - 5
    radius = np.sqrt((x / 69) ** 2 + (front / 87) ** 2 + (up / 68) ** 2)
    sulci = _sulci(
        side / 69 / radius.clip(1e-3), front / 87 / radius.clip(1e-3), up / 68 / radius.clip(1e-3)
    )
    head = _below(radius - 1.0, RADIUS_MM)
    surface = 0.975 - 0.20 * np.exp(-((sulci / 0.10) ** 2))
    brain = _below(radius - surface, RADIUS_MM)
    brain = brain * (1 - _below(side / RADIUS_MM - 0.022, RADIUS_MM) * (radius > 0.62))  # the falx
    white = brain * _below(radius - 0.905 + 0.21 * np.exp(-((sulci / 0.30) ** 2)), RADIUS_MM)
    white = white * _below(0.075 - side / RADIUS_MM - 2.0 * (radius < 0.60), RADIUS_MM)
    for nucleus in (
        _ellipsoid(side - 12 - (front - 14) / 8, front - 20, up - 10, 6, 15, 10),
        _ellipsoid(side - 26, front - 12, up - 2, 7, 20, 12),
        _ellipsoid(side - 10, front + 4, up - 4, 8, 14, 9),
    ):
        white = white * (1 - 0.85 * nucleus)
    ventricles = _horns(side, front, up)
    white, grey = white * (1 - ventricles), (brain - white) * (1 - ventricles)
    fluid = np.clip(head - white - grey - ventricles, 0, 1)
    return np.stack(np.broadcast_arrays(ventricles, grey, white, fluid)).astype(np.float32)


def _sulci(right: Array, front: Array, up: Array) -> Array:
    """Return how far a direction lies from the nearest sulcus: zero on wandering lines."""
    first = np.sin(7.5 * front + 2.2 * np.sin(3 * up + 2 * right) + 1.6 * np.sin(5 * right - up))
    second = np.sin(6.5 * up + 3.5 * right + 2.0 * np.sin(4 * front - 2 * up))
    nearest: Array = np.minimum(np.abs(first), np.abs(second) + 0.25 * np.abs(first))
    return nearest


def _horns(side: Array, front: Array, up: Array) -> Array:
    """Draw the lateral ventricles: arches from the frontal horn to the atrium, on both sides."""
    along = (front + 2) / 37  # -1 at the back, 1 in front
    middle = 8 + 3.5 * np.clip(along, 0, None) ** 2 + 19 * np.clip(-along, 0, None) ** 1.6
    height = 17 - 9 * along**2
    half = 5.4 * np.sqrt(np.clip(1 - along**4, 0, None)) * (1 + 0.25 * np.clip(-along, 0, None))
    off = np.sqrt((side - middle) ** 2 + ((up - height) / 1.35) ** 2)
    return np.clip(0.5 + (half - off) / 2, 0, 1) * (half > 0)


def _below(level: Array, scale: float) -> Array:
    """Return 1 where a level is below zero and 0 above, across an edge 2 mm wide."""
    share: Array = np.clip(0.5 - level * scale / 2, 0, 1)
    return share


def _ellipsoid(x: Array, y: Array, z: Array, a: float, b: float, c: float) -> Array:
    return _below(np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2) - 1, min(a, b, c))
