"""Counterfactual training of small models: what its tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import halves
import torch
from torch import Generator, Tensor, nn

from rung3 import SCM, Rows
from rung3.data.rows import Noise
from rung3.evaluation import Oracles
from rung3.mechanisms import VAE
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.training.counterfactual import CounterfactualObjective
from rung3.training.counterfactual.loss import CounterfactualLoss
from rung3.training.counterfactual.preparation import columns, prepare

TINY: dict[str, Any] = {"latent": 2, "width": 2, "depth": 1, "cooling": 0}


class Gain(Mechanism):
    """`x = 2 theta render(left, right) + u`: at theta = 0 it does not listen to its parents."""

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "none"

    def build(self) -> None:
        self.theta = nn.Parameter(torch.tensor(0.0))

    def _pattern(self, parents: Parents) -> Tensor:
        flat = torch.zeros(len(parents["left"]), *self.variable.shape)
        return 2 * halves.render(parents["left"], parents["right"], flat)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return 0.1 * torch.randn(n, *self.variable.shape, generator=generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Tensor)
        return self.theta * self._pattern(parents) + noise

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return value - self.theta * self._pattern(parents)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        noise = self.abduct(value, parents)
        assert isinstance(noise, Tensor)
        return -50 * noise.square().flatten(1).sum(1)


def tiny(mechanism: Mechanism | None = None, fitted: bool = True) -> SCM:
    """A model of the world's causes, and a mechanism of its image that has learned nothing."""
    torch.manual_seed(0)
    model = halves.scm(mechanism or VAE(**TINY))
    model.fitted = {"image": {}} if fitted else {}
    return model


def bound(
    model: SCM, rows: Rows, predictors: Oracles | Sequence[Oracles], **options: Any
) -> CounterfactualLoss:
    aim = CounterfactualObjective(
        predictors=predictors, **{"weight": 1.0, "after": 0, "ramp": 0} | options
    )
    image = model.mechanisms["image"]
    columns(aim, model, ["image"])
    return prepare(aim, model, {"image": image}, rows, None, 0, False)["image"]
