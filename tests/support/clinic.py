"""A small world of images in which the site tells the disease, for all but a few.

disease ~ B(1/2),   site = disease with probability 0.95
image := 0.1 + 0.4 site L + (0.3 + 0.05 v) disease R + 0.02 u

L and R light up the left and the right half; v is the first pixel's u.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rung3 import SCM, Binary, Categorical, Image
from rung3.mechanisms import Equation, GumbelMax, InverseCDF
from rung3.mechanisms.base import Mechanism

SIZE = 8
GRAPH = "disease -> site; {disease site} -> image"
LEFT = (torch.arange(SIZE) < SIZE // 2).view(1, 1, 1, SIZE)


def render(disease: Tensor, site: Tensor, u: Tensor) -> Tensor:
    """The image, of 8-bit pixels."""
    shown = (0.3 + 0.05 * u[:, :, :1, :1]) * disease.view(-1, 1, 1, 1)
    lit = torch.where(LEFT, 0.4 * site.view(-1, 1, 1, 1), shown)
    return (0.1 + lit + 0.02 * u).clamp(0, 1).mul(255).round() / 255


def scm(image: Mechanism, **more: object) -> SCM:
    """The world's graph and causes, with any mechanism of the image."""
    return SCM(
        GRAPH,
        variables={
            "disease": Binary(labels=("healthy", "ill")),
            "site": Categorical(labels=("A", "B")),
            "image": Image(1, SIZE, SIZE),
        },
        mechanisms={
            "disease": InverseCDF(table=[0.5, 0.5]),
            "site": GumbelMax(table=[[0.95, 0.05], [0.05, 0.95]]),
            "image": image,
        },
        **more,  # type: ignore[arg-type]
    )


def world() -> SCM:
    return scm(Equation(render), world="clinic")
