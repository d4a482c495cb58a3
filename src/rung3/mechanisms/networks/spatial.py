"""Layers by the number of spatial axes: images `(n, C, H, W)` have 2, volumes `(n, C, D, H, W)` 3.

What is said of squares of pixels below holds for cubes of voxels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = [
    "FORMATS",
    "Shuffle",
    "channels_last",
    "conv",
    "conv_transpose",
    "crop",
    "pad",
    "run",
    "shuffle",
    "spread",
    "unshuffle",
]

T = TypeVar("T")

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory formats with the channels last, by the number of a tensor's axes."""


def conv(axes: int, *args: Any, **options: Any) -> nn.Conv2d | nn.Conv3d:
    """Make a convolution over so many spatial axes; arguments as of `torch.nn.Conv2d`.

    Example:
        >>> conv(3, 1, 4, 3, padding=1)
        Conv3d(1, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    """
    return CONV[axes](*args, **options)


def conv_transpose(axes: int, *args: Any, **options: Any) -> nn.Module:
    """Make a transposed convolution over so many spatial axes."""
    return CONV_TRANSPOSE[axes](*args, **options)


def spread(channels: Tensor, like: Tensor) -> Tensor:
    """Return numbers of channels `(n, C)` with a spatial axis for each of `like`'s, of length 1.

    Example:
        >>> spread(torch.ones(2, 3), torch.ones(2, 5, 8, 8, 8)).shape
        torch.Size([2, 3, 1, 1, 1])
    """
    return channels.reshape(*channels.shape, *[1] * (like.ndim - 2))


def unshuffle(h: Tensor, side: int) -> Tensor:
    """Return the squares of so many pixels a side as channels, as `torch.pixel_unshuffle` does.

    Example:
        >>> unshuffle(torch.zeros(1, 2, 8, 4, 6), 2).shape
        torch.Size([1, 16, 4, 2, 3])
    """
    if h.ndim == 4:
        return F.pixel_unshuffle(h, side)
    n, channels, *sizes = h.shape
    axes = len(sizes)
    split = h.reshape(n, channels, *itertools.chain(*((size // side, side) for size in sizes)))
    outer, inner = range(2, 2 + 2 * axes, 2), range(3, 3 + 2 * axes, 2)
    moved = split.permute(0, 1, *inner, *outer)
    return moved.reshape(n, channels * side**axes, *(size // side for size in sizes))


def shuffle(h: Tensor, side: int) -> Tensor:
    """Return channels as squares of pixels again: the inverse of `unshuffle`.

    Example:
        >>> volume = torch.arange(2 * 8 * 4 * 6).view(1, 2, 8, 4, 6)
        >>> torch.equal(shuffle(unshuffle(volume, 2), 2), volume)
        True
    """
    if h.ndim == 4:
        return F.pixel_shuffle(h, side)
    n, channels, *sizes = h.shape
    axes = len(sizes)
    split = h.reshape(n, channels // side**axes, *[side] * axes, *sizes)
    order = itertools.chain(*((2 + axes + k, 2 + k) for k in range(axes)))
    return split.permute(0, 1, *order).reshape(n, -1, *(size * side for size in sizes))


class Shuffle(nn.Module):
    """`shuffle` as a layer."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, h: Tensor) -> Tensor:
        return shuffle(h, self.side)


def pad(image: Tensor, after: Sequence[int]) -> Tensor:
    """Pad at the end of every spatial axis, the last rows, columns and slices repeated.

    Args:
        image: `(n, C, ...)`.
        after: Pixels to add, the last axis first, as torch pads.
    """
    if not any(after):
        return image
    sides = itertools.chain(*((0, size) for size in after))
    return F.pad(image, tuple(sides), mode="replicate")


def crop(image: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the image without what `pad` added to these sizes."""
    for axis, size in enumerate(sizes, 2):
        image = image.narrow(axis, 0, size)
    return image


def channels_last(h: Tensor) -> Tensor:
    """Return the layout in which convolutions run fastest on CPUs (measured: up to 1.4 times)."""
    return h.contiguous(memory_format=FORMATS[h.ndim])


def run(checkpointing: bool, function: Callable[..., T], *inputs: Tensor) -> T:
    """Call a function; with checkpointing, its activations are computed again for gradients."""
    if checkpointing and torch.is_grad_enabled():
        value = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        return cast(T, value)
    return function(*inputs)
