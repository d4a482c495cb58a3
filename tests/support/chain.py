"""A small world whose image has a latent mediator, in closed form.

t := 1/2 + u/10,   i := 4t + u,   z := 2t + i/2 + u,   scan := 1/2 + ((1 + t) z + 3i) / 100
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rung3 import SCM, Image
from rung3.data.rows import Noise
from rung3.mechanisms import Equation
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise


def z_of(u: Tensor, t: Tensor, i: Tensor) -> Tensor:
    return 2 * t + 0.5 * i + u


def g(z: Tensor, t: Tensor, i: Tensor) -> Tensor:
    return 0.5 + 0.01 * (z * (1 + t) + 3 * i)


class Chain(Mechanism):
    """`z := 2t + i/2 + u`, `x := (1 + t) z + 3i`, scaled to an image of 2 x 3 pixels."""

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "none"
    has_latent_mediator = True

    def build(self) -> None:
        self.calls = {"latents": 0, "outcome": 0}

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return {"u": torch.randn(n, *self.variable.shape, generator=generator)}

    def latents(self, noise: Noise, parents: Parents) -> dict[str, Tensor]:
        assert isinstance(noise, Mapping)
        self.calls["latents"] += 1
        return {"z": z_of(noise["u"], *pixels(parents))}

    def outcome(self, latents: Mapping[str, Tensor], parents: Parents) -> Tensor:
        self.calls["outcome"] += 1
        return g(latents["z"], *pixels(parents))

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        return self.outcome(self.latents(noise, parents), parents)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        t, i = pixels(parents)
        z = ((value - 0.5) / 0.01 - 3 * i) / (1 + t)
        return repeat_noise({"u": z - z_of(torch.zeros(()), t, i)}, particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        raise NotImplementedError


def pixels(parents: Parents) -> tuple[Tensor, Tensor]:
    t, i = (parents[name].reshape(-1, 1, 1, 1) for name in ("t", "i"))
    return t, i


def world(mechanism: Mechanism | None = None) -> SCM:
    return SCM(
        graph="t -> i; {t i} -> scan",
        variables={"scan": Image(1, 2, 3, bits=None)},
        mechanisms={
            "t": Equation("0.5 + 0.1*u"),
            "i": Equation("4*t + u"),
            "scan": mechanism or Chain(),
        },
    )
