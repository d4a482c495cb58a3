"""A small world of images of two causes, and of a kind that nobody labels.

left := 0.5 u,   right := 0.5 left + 0.25 u,   u ~ U(0, 1)
image := 0.1 + left L + right R + 0.02 u,   u ~ N(0, I)

L and R light up half the rows of the left and of the right half: which, is the sign of the first
pixel's noise. It is part of the image's noise, and so the true counterfactual has it too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rung3 import SCM, Image
from rung3.mechanisms import Equation
from rung3.mechanisms.base import Mechanism

SIZE = 8
GRAPH = "left -> right; {left right} -> image"
UPPER = (torch.arange(SIZE) % 4 < 2).view(1, 1, SIZE, 1)
LEFT = (torch.arange(SIZE) < SIZE // 2).view(1, 1, 1, SIZE)


def render(left: Tensor, right: Tensor, u: Tensor) -> Tensor:
    """The image, of 8-bit pixels."""
    lit = (u[:, :, :1, :1] > 0) == UPPER
    cause = torch.where(LEFT, left.view(-1, 1, 1, 1), right.view(-1, 1, 1, 1))
    return (0.1 + lit * cause + 0.02 * u).clamp(0, 1).mul(255).round() / 255


def measured(image: Tensor) -> dict[str, Tensor]:
    """Both causes, as they can be read off images: how much brighter one half of the rows is."""
    rows = (image * torch.where(UPPER, 4, -4)).mean((1, 2)).unflatten(1, (2, SIZE // 2))
    left, right = rows.mean(2).abs().div(2).unbind(1)
    return {"left": left, "right": right}


def scm(image: Mechanism, **more: Any) -> SCM:
    """The world's graph and causes, with any mechanism of the image."""
    return SCM(
        GRAPH,
        variables={"image": Image(1, SIZE, SIZE)},
        mechanisms={
            "left": Equation("0.5*u", noise="Uniform(0, 1)"),
            "right": Equation("0.5*left + 0.25*u", noise="Uniform(0, 1)"),
            "image": image,
        },
        **more,
    )


def world() -> SCM:
    return scm(Equation(render), world="halves")
