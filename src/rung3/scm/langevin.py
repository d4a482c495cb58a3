r"""Draws near a start, from where a function is zero: Langevin steps along a surface.

    p(z) ~ exp(-|z - z0|^2 / (2 T))   given   g(z) = 0,     T the temperature,

the normal law around z0 of variance T, conditioned on g. With P the projection onto the directions
in which g stays (the kernel of its Jacobian J), a step of size h is

    v = P (-(h / 2 T) (z - z0) + sqrt(h) xi),   y = z + v + J^T a   with a such that g(y) = 0,

and it is taken with the probability of Metropolis and Hastings, in which the law has the density
`exp(-|z - z0|^2 / (2 T)) / sqrt(det J J^T)` on the surface. A step whose way back does not end
where it came from is not taken.

Source: Zappa, Holmes-Cerfon and Goodman 2018, *Monte Carlo on manifolds: sampling densities and
integrating functions* (Communications on Pure and Applied Mathematics 71).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from rung3.scm.nearest import Nearest, judged, linear, nearest

__all__ = ["STEPS", "langevin"]

STEPS = 30
"""Steps of each chain, which starts from the nearest point to a draw: almost one of the law."""

STEP = 1.5
"""Size of a step in units of the temperature, of one dimension; of d it is `d^(1/3)` times less."""

NEWTON = 8
"""Steps back to the surface, at most; few are needed where g is nearly linear."""

CLOSE = 1e-8
"""Distance from the surface, in the unit of z, at which a point lies on it."""

RANK = 1e-12
"""Least eigenvalue of `J J^T`, relatively: entries of g with less say what others say already."""


class _State(NamedTuple):
    """Where the chains are, `(n, d)`, and the Jacobian there, `(n, m, d)`."""

    z: Tensor
    jacobian: Tensor

    def normal(self, v: Tensor) -> Tensor:
        """Return the part of v in which g changes, `(n, d)`."""
        gram = torch.linalg.pinv(self.jacobian @ self.jacobian.mT, rtol=RANK, hermitian=True)
        length = gram @ (self.jacobian @ v[..., None])
        part: Tensor = (self.jacobian.mT @ length)[..., 0]
        return part

    def tangent(self, v: Tensor) -> Tensor:
        """Return the part of v in which g stays, `(n, d)`."""
        return v - self.normal(v)

    def log_volume(self) -> Tensor:
        """Return `log det(J J^T) / 2`, over the eigenvalues that are not zero, `(n,)`."""
        sizes = torch.linalg.eigvalsh(self.jacobian @ self.jacobian.mT)
        half: Tensor = torch.where(sizes > RANK * sizes[:, -1:], sizes, 1.0).log().sum(1) / 2
        return half


def langevin(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    temperature: float,
    generator: Generator,
    steps: int = STEPS,
) -> Nearest:
    """Draw one point a row of the law around the start, given that a function is zero.

    Args:
        function: `g`, from `(n, d)` to `(n, m)`, each row by itself, differentiable.
        start: `z0`, `(n, d)`, in double.
        temperature: T, the variance around the start.
        generator: Source of the draws.
        steps: Number of steps.

    Returns:
        The points, and how far g is from zero there.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> start = torch.zeros(500, 2).double()
        >>> z = langevin(lambda z: z[:, :1] - 2, start, 0.25, generator).point
        >>> bool((z[:, 0] - 2).abs().max() < 1e-12), round(float(z[:, 1].std()), 1)
        (True, 0.5)
    """

    def noise() -> Tensor:
        shape, kind, device = start.shape, start.dtype, start.device
        return torch.randn(shape, generator=generator, dtype=kind, device=device)

    first = nearest(function, start + temperature**0.5 * noise())
    # Entries of g may have units that are far apart; constant factors leave the law as it is.
    unit = first.jacobian.norm(dim=2).clamp_min(torch.finfo(start.dtype).tiny)

    def even(z: Tensor) -> Tensor:
        scaled: Tensor = function(z) / unit
        return scaled

    state = _State(first.point, linear(even, first.point)[1])
    size = STEP * temperature / start.shape[1] ** (1 / 3)
    for _ in range(steps):
        v = state.tangent(_drift(state, start, temperature, size) + size**0.5 * noise())
        there, reached = _back_to_surface(even, state, state.z + v)
        new = _State(there, linear(even, there)[1])
        back = new.tangent(state.z - new.z)
        reverse, returned = _back_to_surface(even, new, new.z + back)
        same = (reverse - state.z).abs().amax(1) < CLOSE**0.5
        ratio = _log_ratio(state, new, v, back, start, temperature, size)
        draw = torch.rand(len(start), generator=generator, device=start.device).double()
        taken = reached & returned & same & (draw.log() < ratio)
        state = _State(*(_where(taken, a, b) for a, b in zip(new, state, strict=True)))
    return judged(function, state.z)


def _where(taken: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(taken.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _drift(state: _State, start: Tensor, temperature: float, size: float) -> Tensor:
    return -size / (2 * temperature) * (state.z - start)


def _log_ratio(
    old: _State,
    new: _State,
    v: Tensor,
    back: Tensor,
    start: Tensor,
    temperature: float,
    size: float,
) -> Tensor:
    """Return the log of the ratio of densities and proposals, `(n,)`."""

    def log_density(state: _State) -> Tensor:
        return -(state.z - start).square().sum(1) / (2 * temperature) - state.log_volume()

    def log_proposal(state: _State, step: Tensor) -> Tensor:
        away = step - state.tangent(_drift(state, start, temperature, size))
        return -away.square().sum(1) / (2 * size)

    moved = log_density(new) - log_density(old)
    ratio = moved + log_proposal(new, back) - log_proposal(old, v)
    return ratio.nan_to_num(-torch.inf)


def _back_to_surface(
    function: Callable[[Tensor], Tensor], base: _State, point: Tensor
) -> tuple[Tensor, Tensor]:
    """Go back along the normals at a base; return where to, and which rows reach the surface."""
    near = torch.zeros(len(point), dtype=torch.bool, device=point.device)
    for _ in range(NEWTON):
        gap, jacobian = linear(function, point)
        away = torch.where(gap == 0, 0.0, gap.abs() / jacobian.norm(dim=2))
        near = away.nan_to_num(torch.inf).amax(1) < CLOSE
        if near.all():
            break
        slope = jacobian @ base.jacobian.mT
        length = torch.linalg.pinv(slope, rtol=RANK) @ gap[..., None]
        point = point - (base.jacobian.mT @ length)[..., 0].nan_to_num(0.0)
    return point, near
