"""Small fits: one number that is learned, and models of numbers and images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

import rung3
from rung3 import SCM, Binary, Continuous, Image
from rung3.data.rows import Noise
from rung3.mechanisms import VAE, Equation, Flow
from rung3.mechanisms.base import Abduction, Mechanism, Parents
from rung3.training.options import History

PLAIN: dict[str, Any] = {
    "lr": 1e-3, "schedule": "constant", "warmup": 0, "ema": None, "clip": None,
}  # fmt: skip

QUIET: dict[str, Any] = {"progress": False, "accelerator": "cpu"}

ALL: dict[str, Any] = QUIET | {"validation_share": 0}

DEFAULTS: dict[str, Any] = {
    "epochs": 1, "batch_size": 1, "lr": 1.0, "weight_decay": 0.0, "seed": 0, "patience": None,
    "ema": None, "clip": None, "skip": None, "schedule": "constant", "warmup": 0,
    "precision": "32-true",
    "devices": 1, "num_nodes": 1, "strategy": "auto", "accelerator": "cpu", "logger": None,
    "checkpoints": None, "checkpoint_every": None, "resume": True, "progress": False,
    "max_seconds": None,
}  # fmt: skip


def fit(model: SCM, *rows: Any, **options: Any) -> History:
    """`rung3.fit` with a constant rate and nothing else, unless a test asks for it."""
    return rung3.fit(model, *rows, **PLAIN | options)


class Location(Mechanism):
    """`x = theta + u`; its loss has the gradient `theta - mean(x)`, whatever the parents."""

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "none"

    def __init__(self, start: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.start = start
        self.scale = scale

    def build(self) -> None:
        self.theta = nn.Parameter(torch.tensor(self.start))

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return torch.randn(n, generator=generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Tensor)
        return self.theta + noise

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return value - self.theta

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return -self.scale * 0.5 * (value - self.theta).square()


class Breaks(Location):
    """Its third loss is NaN."""

    calls = 0

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        self.calls += 1
        return super().loss(value, parents) + (math.nan if self.calls == 3 else 0)


class Kink(Location):
    """`|theta|` as a norm: at zero its loss is finite and its gradient NaN."""

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        return self.theta.square().sqrt()


def by_hand(mean: float, steps: int, clip: float = math.inf, **options: Any) -> list[float]:
    """Theta after each of so many steps of AdamW on `(theta - mean)^2 / 2`."""
    rate = options.pop("rate", lambda step: options["lr"])
    theta = nn.Parameter(torch.tensor(0.0))
    settings: dict[str, Any] = {"weight_decay": 0.0, "betas": (0.9, 0.99), **options}
    optimizer = torch.optim.AdamW([theta], **settings)
    path = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step)
        gradient = theta.item() - mean
        theta.grad = torch.tensor(math.copysign(min(abs(gradient), clip), gradient))
        optimizer.step()
        path.append(theta.item())
    return path


def locations(**mechanisms: Location) -> SCM:
    return SCM("; ".join(mechanisms), mechanisms=mechanisms)


def theta(model: SCM, name: str = "x") -> float:
    return float(model.mechanisms[name].state_dict()["theta"])


def linear(share: float = 1.0) -> tuple[SCM, SCM]:
    """A linear-Gaussian chain, and an SCM that can be it exactly; `share` of y is not missing."""
    world = SCM(x=Equation("2*u + 1"), y=Equation("3 - 0.5*x + 0.5*u"), z=Equation("x + y + 1.5*u"))
    flow = Flow(splines=0, hidden=())
    model = SCM(
        world.graph,
        variables={"y": Continuous(missing=share < 1)},
        mechanisms=dict.fromkeys(world.variables, flow),
    )
    return world, model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether weights are equal bit for bit, NaN included."""
    return one.keys() == other.keys() and all(
        torch.equal(one[k].nan_to_num(-99.0), other[k].nan_to_num(-99.0)) for k in one
    )


def trajectory(epochs: int, mean: float = 10.0, **options: Any) -> float:
    """Theta after so many full-batch steps of `fit`."""
    model = locations(x=Location())
    fit(model, {"x": [mean] * 4}, epochs=epochs, batch_size=4, **ALL | options)
    return theta(model)


def images(n: int = 60) -> tuple[SCM, dict[str, Tensor]]:
    """A model that draws noise in its loss, and rows for it."""
    sick = torch.arange(n) % 3 == 0
    draw = torch.Generator().manual_seed(0)
    scan = torch.randint(200, (n, 1, 8, 8), generator=draw) / 255 + 0.2 * sick[:, None, None, None]
    model = SCM(
        "age; sick; {age sick} -> scan",
        variables={"sick": Binary(), "scan": Image(1, 8, 8)},
        mechanisms={
            "age": Flow(splines=1, bins=4, hidden=(8,)),
            "scan": VAE(latent=2, width=2, depth=1, cooling=10),
        },
    )
    rows = {"age": torch.randn(n, generator=draw), "sick": sick, "scan": scan}
    return model, rows


def run(folder: Path, **changes: Any) -> tuple[float, History]:
    """A run that one may start again; `rows` and `held` among the changes."""
    rows, held = changes.pop("rows", [9.0, 8.0, 7.0]), changes.pop("held", [3.0])
    model = changes.pop("model", locations(x=Location()))
    columns = [dict.fromkeys(model.variables, values) for values in (rows, held)]
    options = {"epochs": 6, "batch_size": 1, "lr": 0.5, "checkpoints": folder} | QUIET | changes
    history = fit(model, *columns, **options)
    return theta(model), history
