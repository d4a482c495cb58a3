"""A U-Net: a field of the same shape as an image or a volume, given features of time and parents.

Pixels enter and leave as squares of `patch` pixels a side (cubes in a volume), so that no block
works at full resolution. From there each level halves the resolution, with `blocks` residual blocks
on the way down and as many on the way up; what the way down computed is added on the way up. In
every block the features c scale and shift each channel (FiLM, arXiv 1709.07871):

    h <- h + W2 * silu((1 + g(c)) norm(W1 * silu(norm(h))) + b(c)),

with g = b = W2 = 0 at the start, and so is the output. Self-attention follows a block where the
longer side of its state has at most `attention` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rung3.mechanisms.networks.convolutional import zero

__all__ = ["PRESETS", "UNet", "UNetOptions", "unet_options"]

GROUP = 16
"""Channels that are normalised together."""

COARSEST = 4
"""Least pixels of the shorter side at a preset's coarsest level."""

MOST_FACTOR = 4
"""Greatest width of a preset's level, in units of the finest level's."""


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class UNetOptions:
    """The options of a U-Net.

    Args:
        width: Channels of the finest level, a multiple of 16.
        factors: Channels of each level in units of `width`, from fine to coarse; if not given 1, 2,
            4, 4, ... until the shorter side has fewer than 8 pixels.
        blocks: Residual blocks of each level, on the way down and on the way up.
        attention: Longest side in pixels at which states attend to themselves; 0 for never.
        head: Channels of each head of attention.
        patch: Side in pixels of the squares that enter the finest level.

    Raises:
        ValueError: If an option is out of range.
    """

    width: int = 48
    factors: tuple[int, ...] | None = None
    blocks: int = 1
    attention: int = 16
    head: int = 32
    patch: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "head", "patch"):
            if not _whole(getattr(self, name), 1):
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least 1")
        if not _whole(self.attention, 0):
            raise ValueError(f"attention={self.attention!r} must be at least 0 pixels")
        if self.width % GROUP:
            raise ValueError(f"width={self.width} must be a multiple of {GROUP}")
        if self.factors is not None:
            object.__setattr__(self, "factors", tuple(self.factors))
            if not self.factors or not all(_whole(factor, 1) for factor in self.factors):
                raise ValueError(f"factors={self.factors} must be whole numbers of at least 1")

    def config(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as a study file has them."""
        changed = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in changed.items()}


PRESETS: Mapping[str, UNetOptions] = MappingProxyType(
    {
        "small": UNetOptions(width=32),
        "medium": UNetOptions(width=48),
        "large": UNetOptions(width=64, blocks=2),
    }
)
"""U-Nets by size; the small one and the medium one train on a CPU."""


def unet_options(network: str | UNetOptions | Mapping[str, Any]) -> UNetOptions:
    """Return a preset's options by its name, or those that a mapping of fields holds.

    Raises:
        ValueError: If there is no such preset, a field is unknown, or an option is out of range.

    Example:
        >>> unet_options("small") == unet_options({"width": 32})
        True
    """
    if isinstance(network, UNetOptions):
        return network
    if isinstance(network, str):
        if network not in PRESETS:
            raise ValueError(f"network={network!r} must be one of {', '.join(map(repr, PRESETS))}")
        return PRESETS[network]
    known = list(asdict(UNetOptions()))
    if not isinstance(network, Mapping) or not network.keys() <= {*known}:
        raise ValueError(
            f"network: expected {', '.join(map(repr, PRESETS))}, or a mapping of "
            f"{', '.join(known)}, got {network!r}"
        )
    return UNetOptions(**network)


class UNet(nn.Module):
    """A field on an image or a volume, `(n, C, *size), (n, features) -> (n, outputs, *size)`.

    Args:
        channels: Channels of what enters.
        size: Height and width in pixels, or depth, height and width.
        features: Length of the features that scale and shift channels.
        options: See `UNetOptions`.
        outputs: Channels of what leaves; as many as enter if not given.
        checkpointing: Compute activations again in the backward pass: less memory, more time.

    Raises:
        ValueError: If the size has not two or three axes.

    Example:
        >>> network = UNet(1, (20, 31), features=5, options=UNetOptions(width=16))
        >>> network(torch.randn(2, 1, 20, 31), torch.randn(2, 5)).shape
        torch.Size([2, 1, 20, 31])
        >>> volume = UNet(1, (4, 6, 8), features=5, options=UNetOptions(width=16))
        >>> volume(torch.randn(2, 1, 4, 6, 8), torch.randn(2, 5)).shape
        torch.Size([2, 1, 4, 6, 8])
    """

    def __init__(
        self,
        channels: int,
        size: Sequence[int],
        features: int,
        options: UNetOptions,
        outputs: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.axes = len(size)
        if self.axes not in _CONVOLUTIONS:
            raise ValueError(f"size={tuple(size)}: expected two sides of an image, or three")
        self.size, self.patch, self.checkpointing = tuple(size), options.patch, checkpointing
        widths = [options.width * factor for factor in _factors(options, size)]
        stride = options.patch * 2 ** (len(widths) - 1)
        self.padded = tuple(math.ceil(side / stride) * stride for side in size)
        convolution = _CONVOLUTIONS[self.axes]
        pixels = options.patch**self.axes
        self.stem = convolution(channels * pixels, widths[0], 3, padding=1)

        def stack(level: int) -> _Stack:
            side = max(self.padded) // (options.patch * 2**level)
            head = options.head if side <= options.attention else 0
            return _Stack(widths[level], features, options.blocks, head, self.axes)

        self.down = nn.ModuleList(stack(level) for level in range(len(widths)))
        self.up = nn.ModuleList(stack(level) for level in range(len(widths)))
        self.halve = nn.ModuleList(convolution(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.widen = nn.ModuleList(convolution(b, a, 1) for a, b in pairwise(widths))
        self.norm = _norm(widths[0])
        self.out = convolution(widths[0], (outputs or channels) * pixels, 3, padding=1)
        zero(self.out)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        h = self.stem(_fast(to_patches(self._pad(image), self.patch)))
        passed = []
        for level, stack in enumerate(self.down):
            h = self._run(stack, h, features)
            passed.append(h)
            if level < len(self.halve):
                h = self.halve[level](h)
        for level in reversed(range(len(self.up))):
            if level < len(self.halve):
                h = F.interpolate(self.widen[level](h), scale_factor=2) + passed[level]
            h = self._run(self.up[level], h, features)
        out = from_patches(self.out(F.silu(self.norm(h))), self.patch)
        for axis, side in enumerate(self.size, start=2):
            out = out.narrow(axis, 0, side)
        return out

    def _pad(self, image: Tensor) -> Tensor:
        """Repeat the last pixels up to the size that the levels need."""
        missing = [a - b for a, b in zip(self.padded, self.size, strict=True)]
        ends = [end for side in reversed(missing) for end in (0, side)]
        return F.pad(image, ends, mode="replicate") if any(missing) else image

    def _run(self, stack: nn.Module, h: Tensor, features: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            computed: Tensor = checkpoint(stack, h, features, use_reentrant=False)
            return computed
        result: Tensor = stack(h, features)
        return result


class _Block(nn.Module):
    """A residual block of two convolutions, whose channels the features scale and shift."""

    def __init__(self, channels: int, features: int, axes: int) -> None:
        super().__init__()
        self.before, self.within = _norm(channels), _norm(channels)
        self.first = _CONVOLUTIONS[axes](channels, channels, 3, padding=1)
        self.second = _CONVOLUTIONS[axes](channels, channels, 3, padding=1)
        self.film = nn.Linear(features, 2 * channels)
        for layer in (self.film, self.second):
            zero(layer)

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        film = self.film(features)
        scale, shift = film.reshape(*film.shape, *[1] * (h.ndim - 2)).chunk(2, dim=1)
        inner = self.within(self.first(F.silu(self.before(h))))
        out: Tensor = h + self.second(F.silu(inner * (1 + scale) + shift))
        return out


class _Attention(nn.Module):
    """Self-attention over all pixels of a state, added to it; nothing at the start."""

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.heads = max(1, channels // head)
        while channels % self.heads:
            self.heads -= 1
        self.norm = _norm(channels)
        self.ask = nn.Linear(channels, 3 * channels)
        self.answer = nn.Linear(channels, channels)
        zero(self.answer)

    def forward(self, h: Tensor) -> Tensor:
        tokens = self.norm(h).flatten(2).transpose(1, 2)
        n, length, channels = tokens.shape
        projected = self.ask(tokens).view(n, length, 3, self.heads, channels // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        # Of these few tokens: torch's fused attention takes ten times as long backward on CPUs.
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)
        read = weights.to(value.dtype) @ value
        answer = self.answer(read.transpose(1, 2).reshape(n, length, channels))
        out: Tensor = h + answer.transpose(1, 2).reshape(h.shape)
        return out


class _Stack(nn.Module):
    """Blocks in a row at one resolution, each followed by attention where there are heads."""

    def __init__(self, channels: int, features: int, depth: int, head: int, axes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(channels, features, axes) for _ in range(depth))
        self.attention = nn.ModuleList(
            _Attention(channels, head) for _ in range(depth if head else 0)
        )

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        for k, block in enumerate(self.blocks):
            h = block(h, features)
            if self.attention:
                h = self.attention[k](h)
        return h


def to_patches(image: Tensor, side: int) -> Tensor:
    """Move the pixels of each square or cube to channels, `(n, C, *size) -> (n, C side^d, ...)`.

    Example:
        >>> image = torch.arange(32.0).view(1, 2, 4, 4)
        >>> torch.equal(to_patches(image, 2), F.pixel_unshuffle(image, 2))
        True
        >>> torch.equal(from_patches(to_patches(image, 2), 2), image)
        True
    """
    n, channels, *size = image.shape
    axes = len(size)
    split = [part for length in size for part in (length // side, side)]
    places = range(2, 2 + 2 * axes)
    apart = image.reshape(n, channels, *split).permute(0, 1, *places[1::2], *places[::2])
    return apart.reshape(n, channels * side**axes, *split[::2])


def from_patches(patches: Tensor, side: int) -> Tensor:
    """Undo `to_patches`."""
    n, channels, *size = patches.shape
    axes = len(size)
    apart = patches.reshape(n, channels // side**axes, *[side] * axes, *size)
    order = [place for axis in range(axes) for place in (2 + axes + axis, 2 + axis)]
    together = apart.permute(0, 1, *order)
    return together.reshape(n, -1, *(length * side for length in size))


_CONVOLUTIONS: Mapping[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}


def _factors(options: UNetOptions, size: Sequence[int]) -> tuple[int, ...]:
    if options.factors is not None:
        return options.factors
    levels = max(1, 1 + int(math.log2(max(1, min(size) / options.patch / COARSEST))))
    return tuple(min(MOST_FACTOR, 2**level) for level in range(levels))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // GROUP, channels)


def _fast(h: Tensor) -> Tensor:
    """Return the layout in which convolutions of images run fastest on CPUs."""
    return h.contiguous(memory_format=torch.channels_last) if h.ndim == 4 else h
