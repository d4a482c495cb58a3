"""The density at the end of a path, by the divergence of its velocity along the way.

    log p(x) = log N(u; 0, I) - int_0^1 div v dt,   div v = E[e . (dv/dz) e],

with the divergence exact in few dimensions, one derivative each, or estimated with draws of e = -1
or 1 (Hutchinson).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from rung3.mechanisms.solvers import Velocity, heun, time_grid

__all__ = ["Divergence", "estimated_divergence", "exact_divergence", "path_log_density"]

Divergence: TypeAlias = Callable[
    [Callable[[Tensor], Tensor], Tensor, Tensor], tuple[Tensor, Tensor]
]
"""Returns velocities `(n, *shape)` and their divergence `(n,)`, of a velocity, states and signs."""


def path_log_density(velocity: Velocity, x: Tensor, steps: int, divergence: Divergence) -> Tensor:
    """Return `log p(x)` of values at the end of a path, `(n,)`, in nats.

    Args:
        velocity: The velocity, from noise at time 0 to values at 1.
        x: Values, `(n, *shape)`.
        steps: Steps of Heun's method.
        divergence: How the divergence is computed.
    """
    size = x[0].numel()
    signs = 2.0 * torch.randint_like(x, 2) - 1

    def augmented(state: Tensor, t: float) -> Tensor:
        z = state[:, :size].reshape(x.shape)
        v, change = divergence(lambda at: velocity(at, t), z, signs)
        return torch.cat([v.reshape(len(z), -1), change[:, None]], dim=1)

    start = torch.cat([x.reshape(len(x), -1), x.new_zeros(len(x), 1)], dim=1)
    end = heun(augmented, start, time_grid(steps, 1, 0))
    u, change = end[:, :size], end[:, size]
    log_prior = -0.5 * (u.square() + math.log(2 * math.pi)).sum(1)
    return log_prior + change


def exact_divergence(
    velocity: Callable[[Tensor], Tensor], z: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """Return velocities, and their divergence, exactly, `(n,)`: one derivative a coordinate."""
    one_each = torch.eye(signs[0].numel(), dtype=z.dtype, device=z.device)
    return _divergence(velocity, z, [row.expand(len(z), -1).reshape(z.shape) for row in one_each])


def estimated_divergence(
    velocity: Callable[[Tensor], Tensor], z: Tensor, signs: Tensor
) -> tuple[Tensor, Tensor]:
    """Return velocities, and an estimate of their divergence, `(n,)`: `e . (dv/dz) e`."""
    return _divergence(velocity, z, [signs])


def _divergence(
    velocity: Callable[[Tensor], Tensor], z: Tensor, directions: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return velocities, and the sum of `e . (dv/dz) e` over directions e, `(n,)`."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        z = z if z.requires_grad else z.requires_grad_()
        v = velocity(z)
        total = z.new_zeros(len(z))
        for e in directions:
            (pulled,) = torch.autograd.grad(v, z, e, retain_graph=True, create_graph=graph)
            total = total + (pulled * e).reshape(len(z), -1).sum(1)
    return (v, total) if graph else (v.detach(), total.detach())
