"""Resizing of images and volumes: where a source lies on its goal, and resampling along every axis.

A triangle filter, as wide as the larger of the two grids' steps, neither skips pixels where there
are fewer of them nor leaves squares where there are more.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = ["Fit", "Placement", "place", "resample", "spread_back"]

Array = np.ndarray[Any, Any]
Fit = Literal["crop", "pad"]


class Placement(NamedTuple):
    """What part of a source is drawn on what part of a goal; one number an axis.

    Attributes:
        start: Where the part of the source begins.
        extent: How far it reaches.
        inner: Pixels of the goal that it is drawn on.
        before: Pixels of the goal before it, which stay black.
        how: As text.
    """

    start: Array
    extent: Array
    inner: Array
    before: Array
    how: str


def place(size: Array, goal: Array, fit: Fit | None) -> Placement | None:
    """Return where a source of a size lies on a goal with its aspect kept; `None` if refused.

    Args:
        size: Of the source, in units that are the same along every axis.
        goal: Pixels along every axis.
        fit: What becomes of another aspect: `"crop"` or `"pad"`; `None` refuses it.

    Example:
        >>> place(np.array([10.0, 20.0]), np.array([5, 5]), "crop")[:2]
        (array([0., 5.]), array([10., 10.]))
    """
    inner = np.maximum(np.rint(size * (goal / size).min()), 1).astype(int)
    extent, how = size.astype(float), "resized"
    if (inner != goal).any():
        if fit is None:
            return None
        how = {"crop": "cropped and resized", "pad": "padded and resized"}[fit]
        if fit == "crop":
            extent, inner = np.minimum(goal / (goal / size).max(), size), goal
    return Placement((size - extent) / 2, extent, inner, (goal - inner) // 2, how)


def resample(source: Array, placed: Placement, nearest: bool = False) -> Array:
    """Return the placed part of a source on the goal's pixels, `inner` of them.

    Args:
        source: Numbers, one axis for each of the placement's.
        placed: The placement, in the source's pixels.
        nearest: Whether to take the nearest pixel: no mixture of two labels is a label.
    """
    for axis, (start, extent, n) in enumerate(
        zip(placed.start, placed.extent, placed.inner, strict=True)
    ):
        step = extent / n
        centres = start + (np.arange(n) + 0.5) * step
        source = _along(source, axis, centres, max(step, 1.0), nearest)
    return source


def spread_back(change: Array, placed: Placement, shape: tuple[int, ...]) -> Array:
    """Return a change of the goal's inner pixels on the source's, `shape`; 0 where none was placed.

    Args:
        change: Of the goal, `inner` pixels.
        placed: The placement, in the source's pixels.
        shape: Of the source.
    """
    spread = np.zeros(shape)
    where = []
    for axis, (start, extent, n) in enumerate(
        zip(placed.start, placed.extent, placed.inner, strict=True)
    ):
        step = extent / n
        centres = (np.arange(shape[axis]) + 0.5 - start) / step
        inside = (centres > 0) & (centres < n)
        where.append(np.flatnonzero(inside))
        change = _along(change, axis, centres[inside], max(1 / step, 1.0))
    spread[np.ix_(*where)] = change
    return spread


def _along(
    source: Array, axis: int, centres: Array, support: float, nearest: bool = False
) -> Array:
    """Resample along an axis, at centres in pixels from the axis's edge."""
    n = source.shape[axis]
    if nearest:
        return source.take(np.clip(np.floor(centres), 0, n - 1).astype(int), axis)
    weights = np.maximum(0, 1 - np.abs(np.arange(n) + 0.5 - centres[:, None]) / support)
    weights /= weights.sum(1, keepdims=True)
    return np.moveaxis(np.tensordot(weights, source, (1, axis)), 0, axis)
