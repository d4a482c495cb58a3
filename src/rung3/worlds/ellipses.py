"""A world of points on ellipses, whose two numbers have one noise of two numbers.

    angle := 2 pi u,                   u ~ Uniform(0, 1)
    b     := 1 + u_2,  r := 1 - log(1 - u_1),
    point := (r b (2 + cos angle), b (2 + sin angle)),   u_1, u_2 ~ Uniform(0, 1)

A row is one point of an ellipse, at an angle; its counterfactuals at other angles are the rest of
this ellipse, of semi-axes r b and b. The two numbers depend on each other, so a model cannot learn
them one by one: which of all maps from noise to points that have this law is right, data do not
tell. At each angle the true map is one of stretching, and monotone.

After the counterfactual ellipses of Nasr-Esfahany, Alizadeh and Shah 2023 (arXiv 2302.02228), in
the form without confounding of Santhirasekaram, Glocker and De Sousa Ribeiro 2025 (arXiv
2510.08294), with an angle that is uniform and scales that are 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rung3.data.variables import Continuous
from rung3.mechanisms import Equation
from rung3.scm.scm import SCM

__all__ = ["ellipse"]


def ellipse() -> SCM:
    """Build the world of points on ellipses: `angle -> point`, in radians and of two numbers.

    Example:
        >>> world = ellipse()
        >>> seen = {"angle": 0.0, "point": [4.5, 3.0]}  # r = 1, b = 1.5
        >>> world.counterfactual(seen, do={"angle": math.pi / 2})["point"]
        tensor([3.0000, 4.5000])
    """
    return SCM(
        "angle -> point",
        variables={
            "angle": Continuous(unit="rad", lower=0, upper=2 * math.pi, circular=True),
            "point": Continuous(dim=2),
        },
        mechanisms={
            "angle": Equation(_angle, noise="Uniform(0, 1)", inverse=_turn),
            "point": Equation(_point, noise="Uniform(0, 1)", inverse=_noise),
        },
        world="ellipse",
    )


def _angle(u: Tensor) -> Tensor:
    return 2 * math.pi * u


def _turn(angle: Tensor) -> Tensor:
    return angle / (2 * math.pi)


def _point(angle: Tensor, u: Tensor) -> Tensor:
    """Return points `(n, 2)` of noise `(n, 2)`."""
    axes = _per_axis(angle)
    b = 1 + u[:, 1]
    r = 1 - torch.log1p(-u[:, 0])
    return axes * torch.stack([r * b, b], dim=1)


def _noise(angle: Tensor, point: Tensor) -> Tensor:
    """Return the noise `(n, 2)` of points `(n, 2)`."""
    wide, b = (point / _per_axis(angle)).unbind(1)
    return torch.stack([-torch.expm1(1 - wide / b), b - 1], dim=1)


def _per_axis(angle: Tensor) -> Tensor:
    """Return `(2 + cos angle, 2 + sin angle)`, `(n, 2)`."""
    return 2 + torch.stack([angle.cos(), angle.sin()], dim=1)
