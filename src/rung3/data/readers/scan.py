"""A scan: numbers on a grid in space, as a value of an image variable, and changed by one.

Whatever order a file has, a volume's depth goes from the feet to the head, its rows from the front
to the back, and its columns from the subject's right to the left: axial slices as radiologists
look at them. Numbers become pixels by two levels of the file's own unit, black and white,

    x = (v - black) / (white - black),     cut to [0, 1],

and a change of pixels becomes one of numbers by the same two, so that what lies beyond black and
white, outside the crop or in other slices stays what it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rung3.data.resizing import Placement, place, resample, spread_back
from rung3.data.variables import Image

__all__ = ["ROUNDING", "Plane", "Scan", "ScanOptions", "need"]

Array = np.ndarray[Any, Any]
Plane = Literal["axial", "coronal", "sagittal"]

PLANES: dict[str, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
"""The axis of an oriented volume that each kind of slice lies across."""

TAILS = (0.5, 99.5)
"""Percentiles that are black and white where nothing says what is: a few voxels, such as those of
vessels, are far brighter than all others."""

ROUNDING = 0.01
"""Greatest difference of two spacings, relative to their size, that counts as rounding."""


@dataclass(frozen=True)
class ScanOptions:
    """What is taken from files of scans.

    Args:
        black: Number, in the file's unit (Hounsfield units of a CT), that becomes 0. If not given,
            the end of the window that the file asks for, and else the 0.5 % percentile of what is
            taken.
        white: Number that becomes 1, in the same way; the 99.5 % percentile. Where a file stores
            white as its least number (MONOCHROME1), the two are swapped.
        plane: Take one slice of a volume: `"axial"`, `"coronal"` or `"sagittal"`.
        at: Where it is cut, from 0 (feet, front, right) to 1 (head, back, left).
        index: Which volume of a 4-D file, or frame of a file of several, from 0.

    Raises:
        ValueError: If only one of black and white is given, or they are the same, there is no such
            plane, `at` lies outside 0 to 1, or the index is negative.
    """

    black: float | None = None
    white: float | None = None
    plane: Plane | None = None
    at: float = 0.5
    index: int | None = None

    def __post_init__(self) -> None:
        if (self.black is None) != (self.white is None) or (
            self.black is not None and self.black == self.white
        ):
            raise ValueError(
                f"black={self.black} and white={self.white}: expected two different numbers, or "
                "neither"
            )
        if self.plane is not None and self.plane not in PLANES:
            raise ValueError(f"plane={self.plane!r}: expected one of {', '.join(PLANES)}")
        if not 0 <= self.at <= 1:
            raise ValueError(f"at={self.at} must lie between 0 and 1")
        if self.index is not None and self.index < 0:
            raise ValueError(f"index={self.index} must be at least 0")


class Scan(ABC):
    """A scan as it was read, and the file that it can be written to again.

    Attributes:
        array: The file's numbers as they are stored, in the modality's unit.
        voxels: What was taken of them: a view, oriented, which `add` changes.
        spacing: Millimetres from voxel to voxel along its axes.

    Args:
        oriented: A view of the file's numbers, `(D, H, W)` in the order above or `(H, W)`.
        spacing: Millimetres from voxel to voxel along each of its axes.
        window: Black and white as the file asks for them, if it does.
        options: What to take of it.
        inverted: Whether the file stores white as the least number.

    Raises:
        ValueError: If a slice is wanted of a single picture.
    """

    array: Array

    def __init__(
        self,
        oriented: Array,
        spacing: Sequence[float],
        window: tuple[float, float] | None,
        options: ScanOptions,
        inverted: bool = False,
    ) -> None:
        self.window, self.options, self.inverted = window, options, inverted
        self.voxels, self.spacing = oriented, np.array(spacing, dtype=float)
        if options.plane is not None:
            if oriented.ndim == 2:
                raise ValueError(f"is a single picture, of which no {options.plane} slice is there")
            axis = PLANES[options.plane]
            number = round(options.at * (oriented.shape[axis] - 1))
            self.voxels = _slice(oriented, axis, number)
            self.spacing = np.delete(self.spacing, axis)

    @cached_property
    def levels(self) -> tuple[float, float]:
        """The numbers that are black and white; the other way round where white is the least."""
        black, white = self._levels()
        return (white, black) if self.inverted else (black, white)

    def _levels(self) -> tuple[float, float]:
        if self.options.black is not None and self.options.white is not None:
            return self.options.black, self.options.white
        if self.window is not None:
            return self.window
        black, white = np.percentile(self.voxels, TAILS)
        if black == white:
            black, white = self.voxels.min(), self.voxels.max()
        if black == white:
            raise ValueError(f"holds nothing but the number {black:g}")
        return float(black), float(white)

    def value(self, image: Image) -> tuple[Tensor, str]:
        """Return the scan as a value of a variable, and how it was resized, if it was.

        Args:
            image: The variable, of one channel.

        Raises:
            ValueError: If it has another number of axes, or another aspect in millimetres and the
                image does not say what then.
        """
        black, white = self.levels
        placed = self._placed(image)
        share = (self.voxels - black) / (white - black)
        inner = resample(np.clip(share, 0, 1), placed, nearest=image.bits == 1)
        whole = np.zeros(image.sizes)
        whole[_part(placed)] = inner
        same = self.voxels.shape == image.sizes and not placed.before.any()
        value = image.nearest(torch.from_numpy(whole)[None].clamp(0, 1)).to(image.dtype)
        return value, "" if same else f"{_spell(self.voxels.shape)}, {placed.how}"

    def fits(self, image: Image) -> bool:
        """Return whether it has the image's aspect, in millimetres."""
        return self._place(image) is not None

    def add(self, change: Tensor, image: Image) -> None:
        """Change the scan as its value was changed.

        Args:
            change: Counterfactual minus factual value of the variable, `(1, ...)`.
            image: The variable.
        """
        black, white = self.levels
        placed = self._placed(image)
        inner = change[0].double().numpy(force=True)[_part(placed)]
        self.voxels += (white - black) * spread_back(inner, placed, self.voxels.shape)

    @abstractmethod
    def write(self, path: Path, note: str) -> None:
        """Write the scan as a file like the one that it was read from, marked as derived.

        Args:
            path: The file, or of a series the folder.
            note: What was done, to be written into its header.
        """

    def _placed(self, image: Image) -> Placement:
        """Return where the voxels lie on the image's pixels."""
        if image.channels != 1:
            raise ValueError(f"is grey, and the variable has {image.channels} channels; declare 1")
        if len(image.sizes) != self.voxels.ndim:
            cure = "say which plane to cut" if self.voxels.ndim == 3 else "declare no depth"
            raise ValueError(
                f"has {_spell(self.voxels.shape)} voxels, and the variable {_spell(image.sizes)}; "
                f"{cure}"
            )
        placed = self._place(image)
        if placed is None:
            raise ValueError(
                f"has {_spell(self.voxels.shape)} voxels of {_spell(self.spacing)} mm, another "
                f"aspect than {_spell(image.sizes)}; declare fit='crop' or fit='pad' to keep it"
            )
        scale = self.spacing.min() / self.spacing
        return placed._replace(start=placed.start * scale, extent=placed.extent * scale)

    def _place(self, image: Image) -> Placement | None:
        """Return where cubes as small as the finest voxels lie; `None` for another aspect."""
        size = np.array(self.voxels.shape) * self.spacing / self.spacing.min()
        return place(size, np.array(image.sizes), image.fit)


def _slice(volume: Array, axis: int, number: int) -> Array:
    """Return a slice, a view; with depth as its rows, upright."""
    cut = volume[(slice(None),) * axis + (number,)]
    return cut if axis == 0 else cut[::-1]


def _part(placed: Placement) -> tuple[slice, ...]:
    """Return the place of the inner pixels on the goal."""
    return tuple(slice(a, a + n) for a, n in zip(placed.before, placed.inner, strict=True))


def _spell(sizes: Sequence[float] | Array) -> str:
    return "x".join(f"{size:g}" for size in sizes)


def need(package: str) -> None:
    """Refuse to continue without a package of the extra `medical`.

    Raises:
        ValueError: If it is not installed.
    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ValueError(
            f"scans are read by {package}, which is not installed; pip install 'rung3[medical]'"
        )
