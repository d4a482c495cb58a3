"""A known world of small images, and how a mechanism is fitted to it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from scipy import stats
from torch import Tensor

from rung3 import Continuous, Image
from rung3.data.variables import Variable
from rung3.mechanisms.autoencoder import Autoencoder

NOISE = 0.02
"""Deviation of a pixel's noise."""


class Bars:
    """`x = (1/4 + s) t_a + noise`, with a brightness s and one of two templates a.

    Where no pixel is saturated, the counterfactual of s is `x + (s~ - s) t_a`.
    """

    image = Image(1, 8, 8)
    parents: ClassVar[dict[str, Variable]] = {"s": Continuous()}

    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.arange(8).view(1, 8, 1).expand(1, 8, 8)
        self.templates = torch.stack([(rows % 4 < 2).float(), (rows % 4 >= 2).float()])
        which = torch.randint(2, (n,), generator=generator)
        self.template = self.templates[which]
        self.s = torch.rand(n, generator=generator) / 2
        noise = NOISE * torch.randn((n, 1, 8, 8), generator=generator)
        self.under = 0.1 + noise
        self.x = self.render(self.s)

    def render(self, s: Tensor) -> Tensor:
        """The images of these rows at another brightness."""
        value = self.under + (0.25 + s.view(-1, 1, 1, 1)) * self.template
        return value.clamp(0, 1).mul(255).round() / 255

    @staticmethod
    def entropy(levels: bool) -> float:
        """Of an image given s, in nats: 64 pixels of Gaussian noise, and which template it is."""
        pixel = float(stats.norm(scale=NOISE).entropy())
        return 64 * (pixel + (math.log(255) if levels else 0)) + math.log(2)


def learn(mechanism: Autoencoder, steps: int = 400, seed: int = 0) -> Autoencoder:
    """The mechanism, bound to 2000 rows of the world and fitted to them."""
    torch.manual_seed(seed)
    world = Bars(2000, seed=0)
    real = mechanism.likelihood == "gaussian"
    image = replace(world.image, bits=None) if real else world.image
    bound = mechanism.bind("image", image, world.parents)
    bound.calibrate(world.x, {"s": world.s})
    optimiser = torch.optim.AdamW(bound.parameters(), 1e-2, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, steps)
    for _ in range(steps):
        rows = torch.randint(2000, (64,))
        optimiser.zero_grad()
        bound.loss(world.x[rows], {"s": world.s[rows]}).backward()
        torch.nn.utils.clip_grad_norm_(bound.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return bound.eval()
