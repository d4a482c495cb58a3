"""Hierarchical VAEs with weights away from their start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rung3 import Categorical, Continuous, Image
from rung3.data.variables import Variable
from rung3.mechanisms import HVAE, Stage

PARENTS: dict[str, Variable] = {"digit": Categorical(3), "s": Continuous()}

IMAGE = Image(1, 8, 12)

STAGES = (Stage(4, 6, latents=1), Stage(2, 6, layers=2, latents=2))


def bound(
    image: Image = IMAGE,
    stages: tuple[Stage, ...] = STAGES,
    seed: int = 0,
    by: float = 0.15,
    **options: Any,
) -> HVAE:
    """Bound, with weights away from their start, where the parents' part is zero."""
    torch.manual_seed(seed)
    mechanism = HVAE(stages=stages, **options).bind("scan", image, PARENTS)
    for parameter in mechanism.parameters():
        parameter.data += by * torch.randn_like(parameter)
    return mechanism.eval()


def draw(n: int = 5, image: Image = IMAGE) -> tuple[Tensor, dict[str, Tensor]]:
    levels = 2 ** (image.bits or 8) - 1
    x = torch.randint(levels + 1, (n, *image.shape)) / levels
    x[:, :, :2] = 0
    return x, {"digit": torch.randint(3, (n,)), "s": torch.randn(n)}


def other(parents: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"digit": (parents["digit"] + 1) % 3, "s": parents["s"] + 1}


def mediate(
    mechanism: HVAE, noise: dict[str, Tensor], pa: dict[str, Tensor], pa_: dict[str, Tensor]
) -> dict[str, Tensor]:
    z, z_ = mechanism.latents(noise, pa), mechanism.latents(noise, pa_)
    base = mechanism.outcome(z, pa)
    return {
        "direct": mechanism.outcome(z, pa_) - base,
        "indirect": mechanism.outcome(z_, pa) - base,
        "total": mechanism.outcome(z_, pa_) - base,
    }
