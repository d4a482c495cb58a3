"""A small classifier of images, and the usual augmentation, to compare counterfactuals with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.seeding import stream
from rung3.data.variables import Image
from rung3.mechanisms.networks.spatial import conv

__all__ = ["fit_classifier", "jittered"]

WIDTH = 16
"""Channels of the first layer; each of the next two has twice as many as the one before."""

BATCH = 64
"""Images a step."""

LEARNING_RATE = 2e-3
"""The highest of the schedule."""

SHIFT = 0.06
"""Share of an image's side that ordinary augmentation moves it by, at most."""

NOISE = 0.05
"""Standard deviation of its noise of pixels, of a range from 0 to 1."""

COLOUR = 0.3
"""How far it changes contrast and the strength of each channel, at most, as a share."""

GAMMA = 0.4
"""Greatest logarithm of its exponent of brightness."""

Transform = Callable[[Tensor, torch.Generator], Tensor]


def fit_classifier(
    image: Image,
    classes: int,
    images: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    transform: Transform | None = None,
    steps: int = 500,
    seed: int = 0,
) -> nn.Module:
    """Train a network of three layers on images, by the weighted log-loss of their labels.

    Args:
        image: The variable.
        classes: Number of labels.
        images: `(n, C, H, W)` in [0, 1].
        labels: `(n,)`.
        weights: Of each row, with mean one; all alike if not given.
        transform: What is done to each batch of images, with a generator.
        steps: Steps of `BATCH` rows, drawn with replacement.
        seed: Of weights, order and transform.

    Returns:
        The network, in evaluation mode: images to logits `(n, classes)`.
    """
    generator = stream(seed, "classifier")
    weights = torch.ones(len(images)) if weights is None else weights
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(generator.initial_seed())
        network = _network(image, classes)
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        for _ in range(steps):
            batch = torch.randint(len(images), (BATCH,), generator=generator)
            seen = images[batch] if transform is None else transform(images[batch], generator)
            losses = F.cross_entropy(network(seen), labels[batch].long(), reduction="none")
            optimizer.zero_grad()
            (losses * weights[batch]).mean().backward()
            optimizer.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def _network(image: Image, classes: int) -> nn.Module:
    axes, channels = len(image.sizes), image.channels
    layers: list[nn.Module] = []
    sizes = list(image.sizes)
    for outputs in (WIDTH, 2 * WIDTH, 4 * WIDTH):
        layers += [
            conv(axes, channels, outputs, 3, 2, 1, bias=False),
            nn.BatchNorm2d(outputs) if axes == 2 else nn.BatchNorm3d(outputs),
            nn.ReLU(),
        ]
        channels, sizes = outputs, [-(-size // 2) for size in sizes]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(channels * torch.Size(sizes).numel(), classes)
    )


def jittered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment images as is usual: shifts, brightness, contrast, strength of channels, noise.

    Args:
        images: `(n, C, ...)` in [0, 1].
        generator: Of all that is drawn.
    """
    n, channels, *sizes = images.shape
    each = (n, *(1,) * (images.ndim - 1))

    def uniform(shape: tuple[int, ...], most: float) -> Tensor:
        return (2 * torch.rand(shape, generator=generator) - 1) * most

    moved = images
    for axis, size in enumerate(sizes, start=2):
        most = max(1, round(SHIFT * size))
        step = torch.randint(-most, most + 1, (), generator=generator)
        moved = moved.roll(int(step), axis)
    bright = moved ** uniform(each, GAMMA).exp()
    mean = bright.flatten(1).mean(1).view(each)
    contrast = mean + (bright - mean) * (1 + uniform(each, COLOUR))
    coloured = contrast * (1 + uniform((n, channels, *each[2:]), COLOUR))
    noise = torch.randn(images.shape, generator=generator)
    return (coloured + NOISE * noise).clamp(0, 1)
