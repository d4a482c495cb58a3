"""Thickness and intensity of strokes: measure them, and set them.

An image is enlarged s times (cubic, then Gaussian) and binarised at half range into a stroke `B`.
With `S` its medial axis and `D` the distance to the background,

    thickness   t(x) = 2/s mean_{p in S} D(p)                                  in pixels
    intensity   i(x) = median {x_p : x_p at or above half range}               in grey levels

Setting them, to a thickness `t` and an intensity `i`:

    x <- reduce(B dilated by K_r  if t >= t(x)  else  B eroded by K_r)
    x <- min(x i / i(x), 255),                                      r = floor(s |t - t(x)| / 2)

`K_r` is a disk of radius `r`. The published code draws it enlarged, reduces it with a blur, and
then counts every pixel that the blur has reached, so its `K_r` is a rounded square that holds the
disk; that `K_r` is the one used here. Grey levels are cut to eight bits after each step, as there.

A blank image has thickness 0 and intensity 0, and stays blank.

Sources: Castro et al. 2019, *Morpho-MNIST* (JMLR 20), section 2; Pawlowski et al. 2020
(arXiv 2006.06485), appendix A.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["measure_intensity", "measure_thickness", "set_intensity", "set_thickness"]

Array = np.ndarray[Any, Any]

SCALE = 16
"""Enlargement at which thickness is set."""

MEASURE_SCALE = 4
"""Enlargement at which thickness is measured, unless asked otherwise."""

GROUP_IMAGES = 4
"""Images worked on at a time at `SCALE`: as many as a processor's cache can hold."""

BAND_ROWS = 64
"""Rows that are blurred at a time: so few that most of the banded matrix is left out."""

ROUNDING = 1e-4
"""Added before cutting to eight bits, so that a sum of weights just below one is white."""


MAX_KNOWN = 200_000
"""Thicknesses that are remembered, at most: some tens of MB."""


def measure_thickness(images: Tensor, *, scale: int = MEASURE_SCALE) -> Tensor:
    """Measure the mean thickness of the strokes, `t(x)`.

    Args:
        images: Strokes on black, `(n, 1, H, W)`, in [0, 1].
        scale: Enlargement s: 4 to measure, 16 as in `set_thickness`.

    Returns:
        Thickness in pixels, `(n,)`; 0 for a blank image.

    Raises:
        ValueError: If the images are not `(n, 1, H, W)` or not in [0, 1].

    Example:
        >>> bar = torch.zeros(1, 1, 28, 28)
        >>> bar[..., 4:24, 12:16] = 1.0
        >>> measure_thickness(bar).item()  # less than 4 because of its corners
        3.85...
    """
    levels = _to_levels(images)
    thicknesses = [
        _thickness(stroke_masks(levels[k], scale), scale) for k in _groups(len(levels), scale)
    ]
    return torch.from_numpy(np.concatenate([np.zeros(0), *thicknesses])).to(images)


def measure_intensity(images: Tensor) -> Tensor:
    """Measure the grey level of the strokes, `i(x)`.

    Args:
        images: Strokes on black, `(n, 1, H, W)`, in [0, 1].

    Returns:
        Intensity in grey levels from 0 to 255, `(n,)`.

    Raises:
        ValueError: If the images are not `(n, 1, H, W)` or not in [0, 1].

    Example:
        >>> bar = torch.zeros(1, 1, 28, 28)
        >>> bar[..., 4:24, 12:16] = 0.4
        >>> measure_intensity(bar)
        tensor([102.])
    """
    return torch.from_numpy(_intensity(_to_levels(images))).to(images)


def set_thickness(images: Tensor, thickness: Tensor | float) -> Tensor:
    """Dilate or erode the strokes to a thickness; they come out white.

    Args:
        images: Strokes on black, `(n, 1, H, W)`, in [0, 1].
        thickness: Target in pixels, `(n,)` or one number, not negative.

    Returns:
        White strokes, `(n, 1, H, W)`, multiples of 1/255. A stroke that erodes away leaves a blank.

    Raises:
        ValueError: If an argument has another shape or range.

    Example:
        >>> bar = torch.zeros(1, 1, 28, 28)
        >>> bar[..., 4:24, 12:16] = 1.0
        >>> measure_thickness(set_thickness(bar, torch.tensor([6.0]))).item()
        5.65...
    """
    levels = _to_levels(images)
    target = _check_targets("thickness", thickness, len(images))
    drawn = [_morph(levels[k], target[k]) for k in _groups(len(levels), SCALE)]
    return _to_images(np.concatenate([levels[:0], *drawn]), images)


def set_intensity(images: Tensor, intensity: Tensor | float) -> Tensor:
    """Multiply the images so that the strokes have a grey level.

    Args:
        images: Strokes on black, `(n, 1, H, W)`, in [0, 1].
        intensity: Target in grey levels, `(n,)` or one number, not negative.

    Returns:
        Images `(n, 1, H, W)`, multiples of 1/255, white where they saturate.

    Raises:
        ValueError: If an argument has another shape or range.

    Example:
        >>> bar = torch.zeros(1, 1, 28, 28)
        >>> bar[..., 4:24, 12:16] = 1.0
        >>> measure_intensity(set_intensity(bar, torch.tensor([100.0])))
        tensor([100.])
    """
    target = _check_targets("intensity", intensity, len(images))
    levels = _to_levels(images)
    now = _intensity(levels)
    factor = np.divide(target, now, out=np.zeros_like(now), where=now > 0)
    scaled = levels * factor[:, None, None]
    return _to_images(np.floor(np.clip(scaled + ROUNDING, 0, 255)), images)


def _groups(n: int, scale: int) -> list[slice]:
    """Split images into groups to work on at a time: the larger, the less they are enlarged."""
    size = max(1, GROUP_IMAGES * SCALE**2 // scale**2)
    return [slice(k, k + size) for k in range(0, n, size)]


def _morph(levels: Array, target: Array) -> Array:
    """Set the thickness of grey levels, `(n, H, W)`."""
    strokes = stroke_masks(levels, SCALE)
    delta = target - _known_thickness(levels, strokes)
    for stroke, change in zip(strokes, delta.tolist(), strict=True):
        radius = int(SCALE * abs(change) / 2)
        stroke[:] = dilated(stroke, radius) if change >= 0 else ~dilated(~stroke, radius)
    rows, columns = _reduction(strokes.shape[1]), _reduction(strokes.shape[2])
    reduced = (rows @ torch.from_numpy(strokes).double() @ columns.T).clamp(0, 1)
    drawn: Array = (255 * reduced + ROUNDING).floor().numpy()
    return drawn


def _known_thickness(levels: Array, strokes: Array) -> Array:
    """Measure thickness at the scale of `set_thickness`, from a cache where it is known."""
    keys = [blake2b(image.tobytes(), digest_size=16).digest() for image in levels]
    known = {key: _KNOWN[key] for key in keys if key in _KNOWN}
    new = [k for k, key in enumerate(keys) if key not in known]
    known |= zip([keys[k] for k in new], _thickness(strokes[new], SCALE).tolist(), strict=True)
    if len(_KNOWN) > MAX_KNOWN:
        _KNOWN.clear()
    _KNOWN.update(known)
    return np.array([known[key] for key in keys])


_KNOWN: dict[bytes, float] = {}
"""Thickness of images by their digest, in pixels."""


def stroke_masks(levels: Array, scale: int) -> Array:
    """Enlarge grey levels `(n, H, W)` and binarise at half range: `(n, sH, sW)`, bool."""
    resize_rows, blur_rows = _enlargement(levels.shape[1], scale)
    resize_columns, blur_columns = _enlargement(levels.shape[2], scale)
    images = torch.from_numpy(levels).float() / 255
    large = resize_rows @ images @ resize_columns.T
    large = large.clamp(images.amin((1, 2), keepdim=True), images.amax((1, 2), keepdim=True))
    large = _blur(blur_columns, _blur(blur_rows, large).mT).mT
    large = (255 * large + ROUNDING).floor()
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    strokes: Array = ((large >= low + (high - low) / 2) & (high > low)).numpy()
    return strokes


def _blur(blur: Tensor, images: Tensor) -> Tensor:
    """Compute `blur @ images` along `(n, *H*, W)`, by bands of the matrix: the rest is zero."""
    size = len(blur)
    reach = int(blur[0].count_nonzero())
    parts = []
    for start in range(0, size, BAND_ROWS):
        seen = slice(max(0, start - reach), start + BAND_ROWS + reach)
        parts.append(blur[start : start + BAND_ROWS, seen] @ images[:, seen])
    return torch.cat(parts, dim=1)


def _thickness(strokes: Array, scale: int) -> Array:
    """Return twice the mean distance along the medial axis, `(n,)`, of `(n, sH, sW)`."""
    return np.array([2 / scale * mean_depth(stroke) for stroke in strokes], dtype=float)


def mean_depth(stroke: Array) -> float:
    """Return the mean distance to the background along the medial axis; 0 without a stroke.

    Beyond the image's border there is no background, as in the published code.

    It is the axis of `skimage.morphology.medial_axis`, by the same compiled loop where that is
    available: the function itself builds its table of neighbourhoods again at every call.
    """
    rows, columns = (np.flatnonzero(stroke.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return 0.0
    beside = [slice(max(at[0] - 1, 0), at[-1] + 2) for at in (rows, columns)]
    stroke = np.ascontiguousarray(stroke[tuple(beside)])
    try:
        from skimage.morphology._skeletonize_various_cy import _skeletonize_loop
    except ImportError:  # it is private to scikit-image
        from skimage.morphology import medial_axis

        axis, distance = medial_axis(stroke, return_distance=True, rng=42)
        return float(distance[axis].mean())
    return _axis_depth(stroke, _skeletonize_loop)


def _axis_depth(stroke: Array, thin: Callable[..., None]) -> float:
    from scipy.ndimage import distance_transform_edt

    at = np.flatnonzero(stroke)
    i, j = np.divmod(at, stroke.shape[1])
    nearest = distance_transform_edt(stroke, return_distances=False, return_indices=True)
    nearest_i, nearest_j = nearest.reshape(2, -1)[:, at]
    squares = (nearest_i - i) ** 2 + (nearest_j - j) ** 2
    # Pixels go from the outside in, corners last, ties in a random order that is always the same.
    axis = np.pad(stroke.astype(np.uint8), 1)
    bands = axis[:-2] + axis[1:-1] + axis[2:]
    around = (bands[:, :-2] + bands[:, 1:-1] + bands[:, 2:])[i, j]
    ties = np.random.default_rng(42).permutation(len(at))
    order = np.argsort((squares * 9 + 9 - around) * len(at) + ties)
    thin(axis, i + 1, j + 1, order.astype(np.int32), _stays())
    return float(np.sqrt(squares[axis[i + 1, j + 1] > 0]).mean())


@lru_cache(maxsize=1)
def _stays() -> Array:
    """Tabulate whether the centre of each neighbourhood of 3 x 3 pixels stays, `(512,)`.

    It stays if removing it would change the number of connected parts, or if it ends a line.
    """
    from scipy.ndimage import label

    with_it = (np.arange(512)[:, None] >> np.arange(9) & 1).reshape(512, 3, 3)
    without = with_it.copy()
    without[:, 1, 1] = 0
    parts = [[label(p, np.ones((3, 3)))[1] for p in every] for every in (with_it, without)]
    ends = with_it.sum(axis=(1, 2)) < 3
    joins = np.array(parts[0]) != np.array(parts[1])
    stays: Array = (with_it[:, 1, 1] == 1) & (joins | ends)
    return stays.astype(np.uint8)


def dilated(stroke: Array, radius: int) -> Array:
    """Return the union of `K_r` centred on every pixel of a stroke.

    A pixel of `K_r` and all nearer the centre in both coordinates are in it, so it is enough to
    place it on the stroke's boundary, as one run of pixels a row, with a +1 and a -1 at its ends.
    """
    from scipy.ndimage import binary_erosion

    rows, columns = np.nonzero(stroke & ~binary_erosion(stroke, border_value=1))
    reach = kernel_widths(radius)
    height, width = stroke.shape[0] + 2 * radius, stroke.shape[1] + 2 * radius + 1
    at = (rows[:, None] + np.arange(2 * radius + 1)) * width + columns[:, None] + radius
    starts = np.bincount((at - reach).ravel(), minlength=height * width)
    ends = np.bincount((at + reach + 1).ravel(), minlength=height * width)
    covered = np.cumsum(starts - ends).reshape(height, width) > 0
    inner: Array = covered[radius : height - radius, radius : width - radius - 1]
    return inner | stroke


@lru_cache(maxsize=256)
def kernel_widths(radius: int) -> Array:
    """Return half-widths of the 2r + 1 rows of `K_r`.

    A disk of radius 16 r, drawn in (32 r + 1)^2 pixels, is blurred over +-21 pixels and sampled at
    2r + 1 places a side: a place is in if the blur brings it anything of the disk.
    """
    offset = np.abs(np.arange(-radius, radius + 1))
    nearest = np.maximum(offset * (32 * radius + 1) // (2 * radius + 1) - 21, 0) ** 2
    inside = nearest[:, None] + nearest <= (16 * radius) ** 2
    half: Array = inside.sum(axis=1) // 2
    return half


@lru_cache(maxsize=16)
def _enlargement(size: int, scale: int) -> tuple[Tensor, Tensor]:
    """Return matrices of the cubic enlargement, `(s size, size)`, and of the blur after it."""
    from scipy.ndimage import gaussian_filter1d, zoom

    resize = zoom(np.eye(size), (scale, 1), order=3, mode="mirror", grid_mode=True)
    blur = gaussian_filter1d(np.eye(scale * size), scale / 3, axis=0, mode="reflect")
    return torch.from_numpy(resize).float(), torch.from_numpy(blur).float()


@lru_cache(maxsize=16)
def _reduction(size: int) -> Tensor:
    """Return the matrix of the blur and the cubic reduction after it, `(size / 16, size)`."""
    from scipy.ndimage import gaussian_filter1d, zoom

    blur = gaussian_filter1d(np.eye(size), SCALE / 3, axis=0, mode="reflect")
    return torch.from_numpy(zoom(blur, (1 / SCALE, 1), order=3, mode="mirror", grid_mode=True))


def _intensity(levels: Array) -> Array:
    """Return the median grey level at or above half range, `(n,)`, of `(n, H, W)`."""
    low, high = (f(levels, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    bright = np.where(levels >= low + (high - low) / 2, levels, np.nan)
    return np.asarray(np.nanmedian(bright, axis=(1, 2)))


def _to_levels(images: Tensor) -> Array:
    """Return grey levels `(n, H, W)`, whole numbers from 0 to 255, of images in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"images: expected shape (n, 1, H, W), got {tuple(images.shape)}")
    if images.numel() and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("images: expected values in [0, 1]; divide 8-bit images by 255")
    return (255 * images.detach()[:, 0]).round().cpu().double().numpy()


def _to_images(levels: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(levels / 255)[:, None].to(like)


def _check_targets(name: str, value: Any, n: int) -> Array:
    target = torch.as_tensor(value).detach().cpu().double()
    if tuple(target.shape) not in ((), (n,)):
        raise ValueError(f"{name}: expected one number or ({n},), got {tuple(target.shape)}")
    if not bool(((target >= 0) & target.isfinite()).all()):
        raise ValueError(f"{name}: expected finite values of at least 0")
    return target.expand(n).numpy()
