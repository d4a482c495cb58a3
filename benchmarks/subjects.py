"""What the benchmarks of image mechanisms are run on: mechanisms said in YAML, and random rows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch
import yaml
from torch import Tensor

from rung3 import Categorical, Continuous, Image, mechanisms
from rung3.mechanisms import Mechanism

__all__ = ["bound", "mechanism_option", "rows", "training_step"]

PARENTS = {"digit": Categorical(10), "thickness": Continuous(), "intensity": Continuous()}


def mechanism_option(parser: argparse.ArgumentParser, default: list[str]) -> None:
    """Add the option that says which mechanisms: `kind` and fields, as in a study."""
    parser.add_argument(
        "--mechanism", nargs="+", default=default, help="such as '{kind: VAE, latent: 32}'"
    )


def bound(text: str, size: int) -> Mechanism:
    """The mechanism of a square grey image, with the same weights every time."""
    fields = yaml.safe_load(text)
    torch.manual_seed(0)
    mechanism: Mechanism = getattr(mechanisms, fields.pop("kind"))(**fields)
    return mechanism.bind("image", Image(1, size, size), PARENTS)


def rows(
    shape: tuple[int, ...], n: int
) -> tuple[Tensor, Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Random images `(n, *shape)`, their parents, and what these might have been instead."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(256, (n, *shape), generator=generator)
    parents = {
        "digit": torch.randint(10, (n,), generator=generator),
        "thickness": 1 + 5 * torch.rand(n, generator=generator),
        "intensity": 70 + 180 * torch.rand(n, generator=generator),
    }
    return levels / 255, parents, {k: v.roll(1) for k, v in parents.items()}


def training_step(mechanism: Mechanism, optimizer: torch.optim.Optimizer, n: int) -> None:
    """Loss, gradients and update on `n` random rows."""
    value, parents, _ = rows(mechanism.variable.shape, n)
    mechanism.train()
    mechanism.loss(value, parents).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    mechanism.eval()
