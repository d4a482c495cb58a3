"""A small world of images, and models of it that are right or wrong in a known way.

position := 1.5 u,   brightness := 0.15 + 0.02 tanh(position) + 0.01 u
image := 0.4 + brightness bump(position) + 0.1 u,   u ~ U(0, 1) in every pixel
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rung3 import SCM, Image
from rung3.data.rows import Noise
from rung3.mechanisms import Equation
from rung3.mechanisms.base import Abduction, Mechanism, Parents

SIZE = 12
GRAPH = "position -> brightness; {position brightness} -> image"


def base(position: Tensor, brightness: Tensor) -> Tensor:
    """The image without noise, `(n, 1, 12, 12)`."""
    line = torch.arange(SIZE) - (SIZE - 1) / 2
    column = torch.exp(-((line - position[:, None]) ** 2) / 4)
    row = torch.exp(-(line**2) / 8)
    return 0.4 + (brightness[:, None, None] * row[:, None] * column[:, None])[:, None]


def right(position: Tensor, brightness: Tensor, u: Tensor) -> Tensor:
    return base(position, brightness) + 0.1 * u


def nothing(position: Tensor, brightness: Tensor, u: Tensor) -> Tensor:
    """Its counterfactuals are the factual image."""
    return u + 0 * base(position, brightness)


def wrong_sign(position: Tensor, brightness: Tensor, u: Tensor) -> Tensor:
    """Its counterfactuals move every pixel as far, the other way."""
    return u - base(position, brightness)


def scm(image: Any, **more: Any) -> SCM:
    """The world's graph and causes, with any mechanism of the image."""
    mechanism = image if isinstance(image, Mechanism) else Equation(image)
    return SCM(
        GRAPH,
        variables={"image": Image(1, SIZE, SIZE, bits=None)},
        mechanisms={
            "position": Equation("1.5*u"),
            "brightness": Equation("0.15 + 0.02*tanh(position) + 0.01*u"),
            "image": mechanism,
        },
        **more,
    )


def world() -> SCM:
    return scm(Equation(right, noise="Uniform(0, 1)"), world="blobs")


class Latent(Mechanism):
    """`x = base(pa) + z + eps`: z the mean of what is left, eps the rest; z is blurred by draws."""

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "none"
    observation_noise: ClassVar[tuple[str, ...]] = ("eps",)

    def __init__(self, blur: float = 0.0) -> None:
        super().__init__()
        self.blur = blur

    def build(self) -> None:
        self.modes: list[bool] = []

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        eps = torch.randn(n, *self.variable.shape, generator=generator)
        return {"z": torch.zeros(n, 1, 1, 1), "eps": eps}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        self.modes.append(self.training)
        assert isinstance(noise, Mapping)
        return base(parents["position"], parents["brightness"]) + noise["z"] + noise["eps"]

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        rest = value - base(parents["position"], parents["brightness"])
        z = rest.mean((1, 2, 3), keepdim=True)
        shape = z.shape if particles is None else (particles, *z.shape)
        drawn = z + self.blur * torch.randn(shape, generator=generator)
        return {"z": drawn, "eps": (rest - z).expand(*shape[:-3], *rest.shape[1:])}

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return torch.zeros(len(value))


class Refuses(Equation):
    """The right mechanism, which does not know what the image would be at another position."""

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        image = super().predict(noise, parents)
        if (parents["position"] > 1e3).any():
            raise ValueError("image: nobody knows")
        return image
