"""The networks of a hierarchical VAE: one pass up the image, and a chain of latents down again.

The pass up gathers features d of the image, from fine to coarse. The chain starts from a learned
state and goes from coarse to fine; in every block the context c (the encoded parents) scales and
shifts the channels of its state h (see `rung3.mechanisms.networks.convolutional`):

    z_i = m_i(h) + s_i(h) u_i,     h <- block(h + W_i z_i; c).

The caller says where z comes from: from noise u, from the posterior of that noise given the image,
`u_i ~ N(a_i(h, d), b_i(h, d)^2)`, or held at what it was. Unless the prior is to be learned, m = 0
and s = 1: for latents that are noise themselves nothing is lost by that, because all that follows
may transform them.

A stage may move the finer ones: its state and the context give a deformation, what the chain puts
out lies in a frame that is at rest, and the image is that frame deformed (see
`rung3.mechanisms.networks.deformation`). Features of the image are brought into it for the finer
latents, which therefore move with the anatomy when a parent moves it.

The stages are described in `rung3.mechanisms.networks.stages`.

Sources: Sonderby et al. 2016 (arXiv 1602.02282); Child 2021 (arXiv 2011.10650); De Sousa Ribeiro
et al. 2023 (arXiv 2306.15764).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rung3.mechanisms.networks.convolutional import Block, zero
from rung3.mechanisms.networks.deformation import Deformation, moved
from rung3.mechanisms.networks.spatial import (
    Shuffle,
    channels_last,
    conv,
    conv_transpose,
    crop,
    run,
    shuffle,
    spread,
)
from rung3.mechanisms.networks.stages import Grid, Stage

__all__ = ["BottomUp", "Latent", "Source", "TopDown"]

MIN_LOG_SCALE = -6.0
"""Least log-scale of latents, of the prior and the posterior: what is finer tells nothing more."""

MAX_LOG_SCALE = 2.0
"""Greatest log-scale of latents: a wild network must not overflow."""

Source: TypeAlias = Callable[["Latent", Tensor], Tensor]
"""A function that gives the latents z of a layer, from the chain's state before it."""


class Latent(nn.Module):
    """One layer of latents: its prior, its posterior, and how it enters the state.

    Args:
        number: Its place in the chain, from 1.
        index: Which stage, and so which of the image's features, it belongs to.
        stage: That stage.
        axes: Spatial axes of the state.
        learned: Whether the prior's location and scale are functions of the state.
        gain: Factor on the weights with which z enters, at the start.
        checkpointing: Whether to compute activations again in the backward pass.

    Attributes:
        name: Name of its noise, such as `u1`.
        mediator: Name of the latents that the noise gives, such as `z1`.
    """

    def __init__(
        self,
        number: int,
        index: int,
        stage: Stage,
        axes: int,
        learned: bool,
        gain: float,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.name, self.mediator = f"u{number}", f"z{number}"
        self.index, self.channels = index, stage.latents
        self.checkpointing = checkpointing
        # Latents that tell nothing of the image at the first step would stay unused.
        self.mean = conv(axes, 2 * stage.width, stage.latents, 1)
        self.log_scale = conv(axes, 2 * stage.width, stage.latents, 1)
        nn.init.normal_(self.mean.weight, std=(2 * stage.width) ** -0.5)
        nn.init.normal_(self.log_scale.weight, std=0.1 * (2 * stage.width) ** -0.5)
        nn.init.constant_(cast(Tensor, self.log_scale.bias), -1)
        self.enter = conv(axes, stage.latents, stage.width, 1)
        self.enter.weight.data *= gain
        self.learned = conv(axes, stage.width, 2 * stage.latents, 1) if learned else None
        if self.learned is not None:
            zero(self.learned)

    def posterior(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-scale of the noise given the image, each `(n, channels, ...)`."""
        return run(self.checkpointing, self._posterior, h, features)

    def _posterior(self, h: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        seen = torch.cat([h, features], dim=1).relu()
        return self.mean(seen).float(), self.log_scale(seen).float().clamp(
            MIN_LOG_SCALE, MAX_LOG_SCALE
        )

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return `m(h)` and `s(h)`, each `(n, channels, ...)`; the numbers 0 and 1 by default."""
        learned = self.learned
        if learned is None:
            none = h.new_zeros((), dtype=torch.float32)
            return none, none + 1
        both = run(self.checkpointing, lambda h: learned(h.relu()).float(), h)
        mean, log_scale = both.chunk(2, dim=1)
        return mean, log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE).exp()

    def place(self, h: Tensor, u: Tensor) -> Tensor:
        """Return `z = m(h) + s(h) u`."""
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
        return run(self.checkpointing, self._forward, h, context, *z)

    def _forward(self, h: Tensor, context: Tensor, z: Tensor | None = None) -> Tensor:
        if self.latent is not None:
            h = h + self.latent.enter(z)
        out: Tensor = self.block(h, context)
        return out


def _block(stage: Stage, context: int, axes: int) -> Block:
    block = Block(stage.width, context, kernel=1 if stage.resolution == 1 else 3, axes=axes)
    block.film.reset_parameters()  # parents act from the first step on, as latents do
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
        axes = grid.axes
        self.stem = conv(axes, channels * grid.square**axes, stages[0].width, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(_block(stage, context, axes) for _ in range(stage.blocks))
            for stage in seen
        )
        self.downs = nn.ModuleList(
            conv(axes, fine.width, coarse.width, kernel, stride=kernel)
            for (fine, coarse), kernel in zip(
                itertools.pairwise(seen), _factors(grid), strict=False
            )
        )

    def forward(
        self, image: Float[Tensor, "n c *sizes"], context: Float[Tensor, "n k"]
    ) -> tuple[Tensor, ...]:
        h, features = self.stem(self.grid.enter(image)), []
        for index in range(len(self.stages)):
            h = run(self.checkpointing, partial(self._stage, index), h, context)
            features.append(h)
        return tuple(features)

    def _stage(self, index: int, h: Tensor, context: Tensor) -> Tensor:
        if index:
            h = self.downs[index - 1](h.relu())
        for block in cast(Iterable[Block], self.stages[index]):
            h = block(h, context)
        return h


class Motion(nn.Module):
    """The deformation that a stage's state and the context give; none at the start.

    Its velocities lie on a grid twice as fine as the stage.

    Args:
        width: Channels of the state.
        context: Width of the context.
        axes: Spatial axes of the state.
    """

    def __init__(self, width: int, context: int, axes: int) -> None:
        super().__init__()
        self.film = nn.Linear(context, 2 * width)
        self.velocity = conv(axes, width, axes * 2**axes, 3, padding=1)
        zero(self.velocity)

    def forward(self, h: Tensor, context: Tensor) -> Deformation:
        scale, shift = spread(self.film(context), h).chunk(2, dim=1)
        velocity = self.velocity(h.relu() * (1 + scale) + shift)
        return Deformation.of(shuffle(velocity, 2).float())


class TopDown(nn.Module):
    """The chain of latents, and what it decodes to, `(n, outputs, ...)`.

    Args:
        grid: The sizes of the stages.
        stages: From fine to coarse.
        outputs: Channels to put out.
        context: Width of the context.
        learned: Whether the prior's location and scale are functions of the state.
        checkpointing: Whether to compute activations again in the backward pass.
        moving: Index of the stage whose state moves what the finer stages add; `None` for none.
    """

    def __init__(
        self,
        grid: Grid,
        stages: Sequence[Stage],
        outputs: int,
        context: int,
        learned: bool,
        checkpointing: bool = False,
        moving: int | None = None,
    ) -> None:
        super().__init__()
        self.grid, self.moving = grid, moving
        self.motion = None
        if moving is not None:
            self.motion = Motion(stages[moving].width, context, grid.axes)
        axes = grid.axes
        gain = sum(stage.layers for stage in stages if stage.latents) ** -0.5
        numbers = itertools.count(1)

        def layer(index: int) -> Layer:
            stage = stages[index]
            latent = None
            if stage.latents:
                latent = Latent(next(numbers), index, stage, axes, learned, gain, checkpointing)
            return Layer(latent, _block(stage, context, axes), checkpointing)

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
        self.out = conv(axes, stages[0].width, outputs * grid.square**axes, 3, padding=1)

    @property
    def latents(self) -> list[Latent]:
        """The layers of latents, in the order of the chain."""
        return [module for module in self.modules() if isinstance(module, Latent)]

    def shape(self, latent: Latent) -> tuple[int, ...]:
        """Return the shape of a layer's latents, without the batch axis."""
        return (latent.channels, *self.grid.sizes[latent.index])

    def forward(
        self,
        context: Float[Tensor, "n k"],
        source: Source,
        settle: Callable[[Deformation], None] = lambda _: None,
    ) -> Tensor:
        """Decode.

        Args:
            context: The encoded parents.
            source: Where the latents come from.
            settle: Called with the deformation, before the finer stages begin.
        """
        h = channels_last(self.start + spread(self.entry(context), self.start))
        ups: list[Any] = [None, *self.ups]
        deformation = None
        coarse_to_fine = cast(Iterable[Any], self.stages)
        for depth, (up, layers) in enumerate(zip(ups, coarse_to_fine, strict=True)):
            if up is not None:
                h = up(h.relu())
            for layer in layers:
                h = layer(h, context, source)
            if self.motion is not None and self.moving == len(self.stages) - 1 - depth:
                deformation = self.motion(h, context)
                settle(deformation)
        scale, shift = spread(self.film(context), h).chunk(2, dim=1)
        raw = shuffle(self.out(h.relu() * (1 + scale) + shift), self.grid.square).float()
        if deformation is not None:
            raw = moved(raw, deformation.there)
        return crop(raw, self.grid.image.sizes)


def _factors(grid: Grid) -> Iterator[tuple[int, ...]]:
    """Yield by how much each side shrinks from each stage to the next."""
    for fine, coarse in itertools.pairwise(grid.sizes):
        yield tuple(a // b for a, b in zip(fine, coarse, strict=True))


def _up(width: int, coarse: Stage, factor: tuple[int, ...]) -> nn.Module:
    axes = len(factor)
    if coarse.resolution == 1:
        return conv_transpose(axes, coarse.width, width, factor, stride=factor)
    side = factor[0]
    return nn.Sequential(conv(axes, coarse.width, width * side**axes, 1), Shuffle(side))
