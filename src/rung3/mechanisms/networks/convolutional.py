"""Convolutional networks between an image and a vector, with a context at every depth.

Both are pyramids of residual blocks. The image is halved (`k -> k / 2`) until its shorter side has
fewer than 8 pixels left, with `width`, `2 width` and then `4 width` channels. In every block the
context c (the encoded parents) scales and shifts each channel (FiLM, arXiv 1709.07871), and scales
those of the state:

    h <- e^a(c) h,    h <- h + W2 * relu(g(c) (W1 * relu(h)) + b(c)),

with a = b = 0, g = 1 and W2 = 0 at the start, and |a| at most `MAX_LOG_GAIN`. So parents can scale
what latents put into the state, not only add to it: a stroke that gets twice as bright does so in
every detail. And where a is a sum over parents, their factors multiply.

No block works at full resolution, where most of a CPU's time would go: pixels enter and leave as
2x2 squares (pixel unshuffle and shuffle). Any height and width will do: images are padded at the
right and bottom to a multiple of the pyramid's stride, and cropped again. Volumes go through the
same networks with three spatial axes: voxels enter and leave as 2x2x2 cubes.
"""

from __future__ import annotations

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rung3.data.variables import Image
from rung3.mechanisms.networks.spatial import (
    channels_last,
    conv,
    crop,
    pad,
    run,
    shuffle,
    spread,
    unshuffle,
)

__all__ = ["Block", "ConvDecoder", "ConvEncoder", "Pyramid", "zero"]

MAX_LOG_GAIN = 3.0
"""Greatest logarithm of a factor on the state, and minus the least: factors of several blocks
multiply, and must not overflow."""

COARSEST = 4
"""Least pixels of a pyramid's shorter side, at its coarsest resolution."""


class Pyramid:
    """The sizes and widths of an image's resolutions, from half its size down.

    Args:
        image: The image variable.
        width: Channels at half the image's size.

    Example:
        >>> Pyramid(Image(1, 32, 32), width=32).widths, Pyramid(Image(3, 20, 31), width=32).grid
        ([32, 64, 128], (5, 8))
        >>> Pyramid(Image(1, 48, 40, 64), width=32).top
        (128, 6, 5, 8)
    """

    def __init__(self, image: Image, width: int) -> None:
        self.channels, self.sizes, self.axes = image.channels, image.sizes, len(image.sizes)
        levels = max(1, int(math.log2(min(self.sizes) / COARSEST)))
        stride = 2**levels
        self.grid = tuple(math.ceil(size / stride) for size in self.sizes)
        gaps = [a * stride - b for a, b in zip(self.grid, self.sizes, strict=True)]
        self.padding = tuple(gaps[::-1])
        self.widths = [width * min(4, 2**level) for level in range(levels)]

    @property
    def top(self) -> tuple[int, ...]:
        """Channels and sizes at the coarsest resolution."""
        return (self.widths[-1], *self.grid)

    def enter(self, image: Tensor) -> Tensor:
        """Pad the image to the pyramid's size, and return its squares as channels."""
        return channels_last(unshuffle(pad(image, self.padding), 2))

    def leave(self, squares: Tensor) -> Tensor:
        """Return the image again, without its padding."""
        return crop(shuffle(squares, 2), self.sizes)


class Block(nn.Module):
    """A residual block of two convolutions whose channels the context scales and shifts.

    Args:
        channels: Channels of the state.
        context: Width of the context.
        kernel: Side of the convolutions' kernels, odd.
        axes: Spatial axes of the state.
    """

    def __init__(self, channels: int, context: int, kernel: int = 3, axes: int = 2) -> None:
        super().__init__()
        self.first = conv(axes, channels, channels, kernel, padding=kernel // 2)
        self.film = nn.Linear(context, 2 * channels)
        self.second = conv(axes, channels, channels, kernel, padding=kernel // 2)
        self.gain = nn.Linear(context, channels)
        for layer in (self.film, self.second, self.gain):
            zero(layer)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        h = h * spread(self.gain(context), h).clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN).exp()
        scale, shift = spread(self.film(context), h).chunk(2, dim=1)
        inner = self.first(h.relu()) * (1 + scale) + shift
        out: Tensor = h + self.second(inner.relu())
        return out


class _Stack(nn.ModuleList):
    """Blocks in a row, at one resolution."""

    def __init__(
        self, channels: int, context: int, depth: int, axes: int, checkpointing: bool
    ) -> None:
        super().__init__(Block(channels, context, axes=axes) for _ in range(depth))
        self.checkpointing = checkpointing

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        for block in self:
            h = run(self.checkpointing, block, h, context)
        return h


class ConvEncoder(nn.Module):
    """An image and its context as a vector, `(n, C, ...), (n, context) -> (n, outputs)`.

    Args:
        pyramid: The image's resolutions.
        context: Width of the context.
        outputs: Length of the vector.
        depth: Blocks at each resolution.
        hidden: Width of the last hidden layer.
        checkpointing: Whether to compute activations again in the backward pass.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        context: int,
        outputs: int,
        depth: int = 1,
        hidden: int = 256,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        widths, axes = pyramid.widths, pyramid.axes
        self.stem = conv(axes, 2**axes * pyramid.channels, widths[0], 3, padding=1)
        self.stacks = nn.ModuleList(_Stack(w, context, depth, axes, checkpointing) for w in widths)
        self.downs = nn.ModuleList(
            conv(axes, a, b, 2, stride=2) for a, b in itertools.pairwise(widths)
        )
        self.head = nn.Sequential(
            nn.Linear(math.prod(pyramid.top) + context, hidden),
            nn.SiLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(
        self, image: Float[Tensor, "n c *sizes"], context: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n outputs"]:
        h = self.stacks[0](self.stem(self.pyramid.enter(image)), context)
        for down, stack in zip(self.downs, self.stacks[1:], strict=True):
            h = stack(down(h.relu()), context)
        out: Tensor = self.head(torch.cat([h.relu().flatten(1), context], dim=1))
        return out


class ConvDecoder(nn.Module):
    """A vector and a context as an image, `(n, inputs), (n, context) -> (n, channels, ...)`.

    Args:
        pyramid: The image's resolutions.
        context: Width of the context.
        inputs: Length of the vector.
        channels: Channels to put out.
        depth: Blocks at each resolution.
        checkpointing: Whether to compute activations again in the backward pass.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        context: int,
        inputs: int,
        channels: int,
        depth: int = 2,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        widths, axes = pyramid.widths[::-1], pyramid.axes
        parts = 2**axes
        self.stem = nn.Linear(inputs + context, math.prod(pyramid.top))
        self.stacks = nn.ModuleList(_Stack(w, context, depth, axes, checkpointing) for w in widths)
        self.ups = nn.ModuleList(conv(axes, a, parts * b, 1) for a, b in itertools.pairwise(widths))
        self.film = nn.Linear(context, 2 * widths[-1])
        self.out = conv(axes, widths[-1], parts * channels, 3, padding=1)
        zero(self.film)

    def forward(
        self, code: Float[Tensor, "n k"], context: Float[Tensor, "n c"]
    ) -> Float[Tensor, "n channels *sizes"]:
        h = self.stem(torch.cat([code, context], dim=1)).view(-1, *self.pyramid.top)
        h = self.stacks[0](channels_last(h), context)
        for up, stack in zip(self.ups, self.stacks[1:], strict=True):
            h = stack(shuffle(up(h.relu()), 2), context)
        scale, shift = spread(self.film(context), h).chunk(2, dim=1)
        return self.pyramid.leave(self.out(h.relu() * (1 + scale) + shift))


def zero(layer: nn.Module) -> None:
    """Start a layer at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
