"""A world of volumes: a ball whose radius r is a parent; its place p and brightness b are noise.

r := 3 + 2.5 u,                                  u ~ U(0, 1)
x := .1 + (.5 + .3 b) sigmoid(2 (r - |at - p|)),   b ~ U(0, 1), p ~ U(-2, 2)^3

in the voxel at each place, rounded to grey levels.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor

from rung3 import SCM, Continuous, Image
from rung3.data.rows import Noise
from rung3.mechanisms import Equation
from rung3.mechanisms.base import Abduction, Mechanism, Parents

SIZE = 16


class Ball(Mechanism):
    """A soft ball; noise `place`, in voxels from the middle, and `bright`."""

    abduction: ClassVar[Abduction] = "posterior"
    assumption: str = "none"

    def build(self) -> None:
        pass

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        place = 4 * torch.rand(n, 3, generator=generator) - 2
        return {"place": place, "bright": torch.rand(n, generator=generator)}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, dict)
        sizes = self.variable.shape[1:]
        axes = [torch.arange(size) - (size - 1) / 2 for size in sizes]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        place = noise["place"][:, :, None, None, None]
        far = (grid - place).square().sum(1).sqrt()
        inside = (2 * (parents["radius"][:, None, None, None] - far)).sigmoid()
        value = 0.1 + (0.5 + 0.3 * noise["bright"][:, None, None, None]) * inside
        return (255 * value).round()[:, None] / 255

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        raise ValueError("noise unknown: take rows that the world drew")

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return torch.zeros(len(value))


def world(size: int = SIZE) -> SCM:
    return SCM(
        "radius -> volume",
        variables={
            "radius": Continuous(unit="voxels", lower=0),
            "volume": Image(1, size, size, size),
        },
        mechanisms={"radius": Equation("3 + 2.5*u", noise="Uniform(0, 1)"), "volume": Ball()},
        world="balls",
    )
