"""The networks of a hierarchical VAE: one pass up the image, and a chain of latents down again.

The pass up gathers features d of the image, from fine to coarse. The chain starts from a learned
state and goes from coarse to fine; in every block the context c (the encoded parents) scales and
shifts the channels of its state h (see `rung3.mechanisms.networks.convolutional`):

    z_i = m_i(h) + s_i(h) u_i,     h <- block(h + W_i z_i; c).

Where z comes from is the caller's business: from noise u, from the posterior of that noise given
the image, `u_i ~ N(a_i(h, d), b_i(h, d)^2)`, or held at what it was. Unless the prior is to be
learned, m = 0 and s = 1: for latents that are noise themselves nothing is lost by that, because
all that follows may transform them.

As in `rung3.mechanisms.networks.convolutional`, pixels enter and leave as squares (pixel unshuffle
and shuffle), and images are padded at the right and bottom, and cropped again.

Sources: Sonderby et al. 2016 (arXiv 1602.02282); Child 2021 (arXiv 2011.10650); De Sousa Ribeiro
et al. 2023 (arXiv 2306.15764).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rung3.data.variables import Image
from rung3.mechanisms.networks.convolutional import Block, channels_last, zero

__all__ = ["BottomUp", "Grid", "Latent", "Source", "Stage", "TopDown", "preset"]

SPARE = 4 / 3
"""Greatest size of a padded image's shorter side, relative to the image's own."""


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


T = TypeVar("T")

Source: TypeAlias = Callable[["Latent", Tensor], Tensor]
"""Gives the latents z of a layer, from the chain's state before it."""


class Grid:
    """The height and width of every stage, and the padding that they need.

    Args:
        name: The image's name, for errors.
        image: The image variable.
        stages: From fine to coarse.

    Attributes:
        square: Side of the squares in which pixels enter and leave.
        sizes: Height and width at each stage.

    Raises:
        ValueError: If the stages cannot reach the image's size, or one does not divide the one
            before.

    Example:
        >>> grid = Grid("scan", Image(1, 28, 40), [Stage(14, 8), Stage(7, 8), Stage(1, 8)])
        >>> grid.square, grid.sizes, grid.padding
        (2, [(14, 20), (7, 10), (1, 1)], (0, 0))
    """

    def __init__(self, name: str, image: Image, stages: Sequence[Stage]) -> None:
        self.height, self.width = image.height, image.width
        short, long = sorted((image.height, image.width))
        resolutions = [stage.resolution for stage in stages]
        _check_resolutions(name, resolutions, short)
        self.square = _square(resolutions[0], short)
        padded = resolutions[0] * self.square
        unit = padded // min((r for r in resolutions if r > 1), default=1)
        across = unit * math.ceil(long / unit)
        upright = image.height > image.width

        def size(index: int, resolution: int) -> tuple[int, int]:
            other = 1 if resolution == 1 and index else resolution * across // padded
            return (other, resolution) if upright else (resolution, other)

        self.sizes = [size(*stage) for stage in enumerate(resolutions)]
        bottom, right = padded - short, across - long
        self.padding = (bottom, right) if upright else (right, bottom)

    def enter(self, image: Tensor) -> Tensor:
        """The padded image (its last rows and columns repeated), its squares as channels."""
        right, bottom = self.padding
        if right or bottom:
            image = F.pad(image, (0, right, 0, bottom), mode="replicate")
        return channels_last(F.pixel_unshuffle(image, self.square))

    def leave(self, squares: Tensor) -> Tensor:
        """The image again, cropped."""
        return F.pixel_shuffle(squares, self.square)[..., : self.height, : self.width]


def _square(finest: int, short: int) -> int:
    """The least power of two that takes so many squares across the shorter side."""
    return 1 << max(0, math.ceil(math.log2(short / finest)))


def _check_resolutions(name: str, resolutions: Sequence[int], short: int) -> None:
    finest = resolutions[0]
    if finest * _square(finest, short) > SPARE * short:
        fits = [r for r in range(1, short + 1) if r * _square(r, short) <= SPARE * short]
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
    """Stages for an image's size, from half its resolution (a quarter above 64 px) to 4 to 8.

    The first stage has no latents. Those at high resolution hold what parents should say, a
    stroke's thickness in its contour, say: the bound is then better, and counterfactuals are worse.

    Example:
        >>> [(stage.resolution, stage.width) for stage in preset(Image(1, 32, 32))]
        [(16, 32), (8, 64), (4, 128)]
        >>> [(stage.resolution, stage.width) for stage in preset(Image(1, 192, 192))]
        [(48, 64), (24, 128), (12, 256), (6, 256)]
    """
    short = min(image.height, image.width)
    square = 2 if short <= 64 else 4
    resolution, width = math.ceil(short / square), 32 if short <= 64 else 64
    halvings = max(0, int(math.log2(resolution / 4)))
    resolution = math.ceil(resolution / 2**halvings) * 2**halvings
    stages = [Stage(resolution, width, layers=3, latents=0 if halvings else 16)]
    for level in range(1, halvings + 1):
        layers, latents = (4, 4) if level == 1 else (3, 16)
        wide = min(width * 2**level, 256)
        stages.append(Stage(resolution // 2**level, wide, layers, latents))
    return tuple(stages)


def _again(on: bool, function: Callable[..., T], *given: Tensor) -> T:
    """The function's value; if on, what it goes through is computed again in the backward pass."""
    if on and torch.is_grad_enabled():
        again = checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False)
        return cast(T, again)
    return function(*given)


class Latent(nn.Module):
    """One layer of latents: its prior, its posterior, and how it enters the state.

    Args:
        name: Name of its noise.
        index: Which stage, and so which of the image's features, it belongs to.
        stage: That stage.
        learned: Whether the prior's location and scale are functions of the state.
        gain: Factor on the weights with which z enters, at the start.
        checkpointing: Whether to compute activations again in the backward pass.
    """

    def __init__(
        self, name: str, index: int, stage: Stage, learned: bool, gain: float, checkpointing: bool
    ) -> None:
        super().__init__()
        self.name, self.index, self.channels = name, index, stage.latents
        self.checkpointing = checkpointing
        # The latents tell something of the image from the first step on: else they stay unused.
        self.mean = nn.Conv2d(2 * stage.width, stage.latents, 1)
        self.log_scale = nn.Conv2d(2 * stage.width, stage.latents, 1)
        nn.init.normal_(self.mean.weight, std=(2 * stage.width) ** -0.5)
        nn.init.normal_(self.log_scale.weight, std=0.1 * (2 * stage.width) ** -0.5)
        nn.init.constant_(cast(Tensor, self.log_scale.bias), -1)
        self.enter = nn.Conv2d(stage.latents, stage.width, 1)
        self.enter.weight.data *= gain
        self.learned = nn.Conv2d(stage.width, 2 * stage.latents, 1) if learned else None
        if self.learned is not None:
            zero(self.learned)

    def posterior(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of the noise given the image, each `(n, channels, ...)`."""
        return _again(self.checkpointing, self._posterior, h, features)

    def _posterior(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.cat([h, features], dim=1).relu()
        return self.mean(seen).float(), self.log_scale(seen).float().clamp(-6, 2)

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """`m(h)` and `s(h)`, each `(n, channels, ...)`; the numbers 0 and 1 if not learned."""
        learned = self.learned
        if learned is None:
            none = h.new_zeros((), dtype=torch.float32)
            return none, none + 1
        found = _again(self.checkpointing, lambda h: learned(h.relu()).float(), h)
        mean, log_scale = found.chunk(2, dim=1)
        return mean, log_scale.clamp(-6, 2).exp()

    def place(self, h: Tensor, u: Tensor) -> Tensor:
        """`z = m(h) + s(h) u`."""
        mean, scale = self.prior(h)
        return mean + scale * u


class Layer(nn.Module):
    """A step of the chain: latents, where the stage has any, and the block that follows them."""

    def __init__(self, latent: Latent | None, block: Block, checkpointing: bool) -> None:
        super().__init__()
        self.latent = latent
        self.block = block
        self.checkpointing = checkpointing

    def forward(self, h: Tensor, context: Tensor, source: Source) -> Tensor:
        z = () if self.latent is None else (source(self.latent, h),)
        return _again(self.checkpointing, self._forward, h, context, *z)

    def _forward(self, h: Tensor, context: Tensor, z: Tensor | None = None) -> Tensor:
        if self.latent is not None:
            h = h + self.latent.enter(z)
        out: Tensor = self.block(h, context)
        return out


def _block(stage: Stage, context: int) -> Block:
    block = Block(stage.width, context, kernel=1 if stage.resolution == 1 else 3)
    block.film.reset_parameters()  # the parents speak from the first step, as latents do
    return block


class BottomUp(nn.Module):
    """The pass up to the coarsest stage with latents: features by stage, `(n, width, ...)` each.

    Args:
        grid: The sizes of the stages.
        stages: From fine to coarse.
        channels: Channels of the image.
        context: Width of the context.
        checkpointing: Whether to compute activations again in the backward pass.
    """

    def __init__(
        self,
        grid: Grid,
        stages: Sequence[Stage],
        channels: int,
        context: int,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.checkpointing = grid, checkpointing
        seen = stages[: 1 + max(i for i, stage in enumerate(stages) if stage.latents)]
        self.stem = nn.Conv2d(channels * grid.square**2, stages[0].width, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(_block(stage, context) for _ in range(stage.blocks)) for stage in seen
        )
        self.downs = nn.ModuleList(
            nn.Conv2d(fine.width, coarse.width, kernel, stride=kernel)
            for (fine, coarse), kernel in zip(
                itertools.pairwise(seen), _factors(grid), strict=False
            )
        )

    def forward(
        self, image: Float[Tensor, "n c h w"], context: Float[Tensor, "n k"]
    ) -> tuple[Tensor, ...]:
        h, features = self.stem(self.grid.enter(image)), []
        for index in range(len(self.stages)):
            h = _again(self.checkpointing, partial(self._stage, index), h, context)
            features.append(h)
        return tuple(features)

    def _stage(self, index: int, h: Tensor, context: Tensor) -> Tensor:
        if index:
            h = self.downs[index - 1](h.relu())
        for block in cast(Iterable[Block], self.stages[index]):
            h = block(h, context)
        return h


class TopDown(nn.Module):
    """The chain of latents, and what it decodes to, `(n, outputs, H, W)`.

    Args: those of `BottomUp`, and
        outputs: Channels to put out.
        learned: Whether the prior's location and scale are functions of the state.
    """

    def __init__(
        self,
        grid: Grid,
        stages: Sequence[Stage],
        outputs: int,
        context: int,
        learned: bool,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.grid = grid
        gain = sum(stage.layers for stage in stages if stage.latents) ** -0.5
        names = (f"u{i + 1}" for i in itertools.count())

        def layer(index: int) -> Layer:
            stage = stages[index]
            latent = None
            if stage.latents:
                latent = Latent(next(names), index, stage, learned, gain, checkpointing)
            return Layer(latent, _block(stage, context), checkpointing)

        top = stages[-1].width
        self.start = nn.Parameter(torch.zeros(1, top, *grid.sizes[-1]))
        self.entry = nn.Linear(context, top)
        self.stages = nn.ModuleList(  # coarse to fine
            nn.ModuleList(layer(index) for _ in range(stages[index].layers))
            for index in reversed(range(len(stages)))
        )
        pairs = zip(itertools.pairwise(stages), _factors(grid), strict=True)
        ups = [_up(fine.width, coarse, factor) for (fine, coarse), factor in pairs]
        self.ups = nn.ModuleList(ups[::-1])
        self.film = nn.Linear(context, 2 * stages[0].width)
        zero(self.film)
        self.out = nn.Conv2d(stages[0].width, outputs * grid.square**2, 3, padding=1)

    @property
    def latents(self) -> list[Latent]:
        """The latents, in the order of the chain."""
        return [module for module in self.modules() if isinstance(module, Latent)]

    def shape(self, latent: Latent) -> tuple[int, int, int]:
        """Shape of a layer's latents, without the batch axis."""
        return (latent.channels, *self.grid.sizes[latent.index])

    def forward(self, context: Float[Tensor, "n k"], source: Source) -> Tensor:
        h = channels_last(self.start + self.entry(context)[:, :, None, None])
        ups: list[Any] = [None, *self.ups]
        for up, layers in zip(ups, cast(Iterable[Any], self.stages), strict=True):
            if up is not None:
                h = up(h.relu())
            for layer in layers:
                h = layer(h, context, source)
        scale, shift = self.film(context)[:, :, None, None].chunk(2, dim=1)
        return self.grid.leave(self.out(h.relu() * (1 + scale) + shift)).float()


def _factors(grid: Grid) -> Iterator[tuple[int, int]]:
    """By how much height and width shrink from each stage to the next."""
    for fine, coarse in itertools.pairwise(grid.sizes):
        yield fine[0] // coarse[0], fine[1] // coarse[1]


def _up(width: int, coarse: Stage, factor: tuple[int, int]) -> nn.Module:
    if coarse.resolution == 1:
        return nn.ConvTranspose2d(coarse.width, width, factor, stride=factor)
    return nn.Sequential(
        nn.Conv2d(coarse.width, width * factor[0] ** 2, 1), nn.PixelShuffle(factor[0])
    )
