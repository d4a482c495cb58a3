"""The stages of a hierarchical VAE, described: `Stage`, the `Grid` of their sizes, and a preset.

As in `rung3.mechanisms.networks.convolutional`, pixels enter and leave as squares (pixel unshuffle
and shuffle), and images are padded at the right and bottom, and cropped again; a volume's voxels
do so as cubes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from rung3.data.variables import Image
from rung3.mechanisms.networks.spatial import channels_last, crop, pad, shuffle, unshuffle

__all__ = ["Grid", "Stage", "preset"]

MAX_PADDING = 4 / 3
"""Greatest size of a padded image's shorter side, relative to the image's own."""

SMALL = {2: 64, 3: 32}
"""Longest shortest side, by the number of axes, of an image whose preset starts at half its
resolution; others start at a quarter, with twice the channels, so that the first stage stays
affordable."""

COARSEST = 4
"""Least resolution of a preset's last stage, in px: below, little is left that has a place."""

MAX_WIDTH = 256
"""Most channels of a preset's stage: wider ones cost more than they tell."""


@dataclass(frozen=True)
class Stage:
    """One resolution of a hierarchical VAE.

    Args:
        resolution: Pixels of the image's shorter side at this stage; 1, below others, for a vector.
        width: Channels.
        layers: Layers of the chain, of one residual block each.
        latents: Channels of the latents of each layer; 0 for none at this stage.
        blocks: Residual blocks of the pass up.

    Raises:
        ValueError: If a number is not a whole one, or too small.

    Example:
        >>> Stage(16, 32, layers=2, latents=8)
        Stage(resolution=16, width=32, layers=2, latents=8, blocks=2)
    """

    resolution: int
    width: int
    layers: int = 1
    latents: int = 0
    blocks: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            count, least = getattr(self, field.name), 0 if field.name == "latents" else 1
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                expected = f"a whole number of at least {least}"
                raise ValueError(f"Stage: {field.name}={count!r} must be {expected}")


class Grid:
    """The sizes of every stage, and the padding that they need.

    Args:
        name: The image's name, for errors.
        image: The image variable.
        stages: From fine to coarse.

    Attributes:
        square: Side of the squares in which pixels enter and leave.
        sizes: Height and width at each stage, after the depth of a volume.
        padding: Pixels added at the end of each axis, the last one first: right, bottom, ...

    Raises:
        ValueError: If the stages cannot reach the image's size, or one does not divide the one
            before.

    Example:
        >>> grid = Grid("scan", Image(1, 28, 40), [Stage(14, 8), Stage(7, 8), Stage(1, 8)])
        >>> grid.square, grid.sizes, grid.padding
        (2, [(14, 20), (7, 10), (1, 1)], (0, 0))
        >>> Grid("scan", Image(1, 40, 48, 42), [Stage(10, 8), Stage(5, 8)]).sizes
        [(10, 12, 12), (5, 6, 6)]
    """

    def __init__(self, name: str, image: Image, stages: Sequence[Stage]) -> None:
        self.image = image
        short = min(image.sizes)
        resolutions = [stage.resolution for stage in stages]
        _check_resolutions(name, resolutions, short)
        self.square = _square(resolutions[0], short)
        # Longer sides grow by whole pixels of the coarsest stage that is not a vector.
        least = resolutions[0] * self.square
        unit = least // min((r for r in resolutions if r > 1), default=1)
        padded = [unit * math.ceil(size / unit) for size in image.sizes]
        shortest = image.sizes.index(short)
        padded[shortest] = least

        def size(index: int, resolution: int) -> tuple[int, ...]:
            vector = resolution == 1 and index > 0
            return tuple(1 if vector else resolution * side // least for side in padded)

        self.sizes = [size(*stage) for stage in enumerate(resolutions)]
        gaps = [b - a for a, b in zip(image.sizes, padded, strict=True)]
        self.padding = tuple(gaps[::-1])

    @property
    def axes(self) -> int:
        """Number of spatial axes."""
        return len(self.image.sizes)

    def enter(self, image: Tensor) -> Tensor:
        """Pad the image by its last rows and columns, and return its squares as channels."""
        return channels_last(unshuffle(pad(image, self.padding), self.square))

    def leave(self, squares: Tensor) -> Tensor:
        """Return the image again, cropped."""
        return crop(shuffle(squares, self.square), self.image.sizes)


def _square(finest: int, short: int) -> int:
    """Return the least power of two that takes so many squares across the shorter side."""
    return 1 << max(0, math.ceil(math.log2(short / finest)))


def _check_resolutions(name: str, resolutions: Sequence[int], short: int) -> None:
    finest = resolutions[0]
    if finest * _square(finest, short) > MAX_PADDING * short:
        fits = [r for r in range(1, short + 1) if r * _square(r, short) <= MAX_PADDING * short]
        near = min(fits, key=lambda r: abs(r - finest))
        raise ValueError(
            f"{name}: the first stage has resolution {finest}, and no power of two times that is "
            f"near the image's {short} px; use {near}, for instance"
        )
    for fine, coarse in itertools.pairwise(resolutions):
        if fine % coarse or fine == coarse:
            coarser = [r for r in range(1, fine) if fine % r == 0]
            use = f"use {coarser[-1]}, for instance" if coarser else "leave it out"
            raise ValueError(
                f"{name}: a stage of resolution {coarse} cannot follow one of {fine}: each must "
                f"divide the one before, and be smaller; {use}"
            )


def preset(image: Image) -> tuple[Stage, ...]:
    """Choose stages for an image, from half its resolution (a quarter if large) to 4 to 8 px.

    An image is large above 64 px, and a volume above 32 voxels, a side.

    The first stage has no latents. At high resolution they would hold what parents should say, such
    as a stroke's thickness in its contour: the bound is then better, and counterfactuals are worse.

    Example:
        >>> [(stage.resolution, stage.width) for stage in preset(Image(1, 32, 32))]
        [(16, 32), (8, 64), (4, 128)]
        >>> [(stage.resolution, stage.width) for stage in preset(Image(1, 192, 192))]
        [(48, 64), (24, 128), (12, 256), (6, 256)]
        >>> [(stage.resolution, stage.width) for stage in preset(Image(1, 160, 192, 160))]
        [(40, 64), (20, 128), (10, 256), (5, 256)]
    """
    short = min(image.sizes)
    square, width = (2, 32) if short <= SMALL[len(image.sizes)] else (4, 64)
    resolution = math.ceil(short / square)
    halvings = max(0, int(math.log2(resolution / COARSEST)))
    resolution = math.ceil(resolution / 2**halvings) * 2**halvings
    stages = [Stage(resolution, width, layers=3, latents=0 if halvings else 16)]
    for level in range(1, halvings + 1):
        layers, latents = (4, 4) if level == 1 else (3, 16)
        channels = min(width * 2**level, MAX_WIDTH)
        stages.append(Stage(resolution // 2**level, channels, layers, latents))
    return tuple(stages)
