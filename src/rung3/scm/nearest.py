"""The nearest point to a start at which a function is zero, one problem a row.

    min |z - z0|^2   such that   g(z) = 0.

Each step solves the problem with g in its linear form at z (sequential quadratic programming with
the distance's own curvature; Nocedal and Wright, *Numerical optimization*, 2006, section 18.3),

    z' = z0 + J^T (J J^T)^-1 (J (z - z0) - g(z)),

and is halved until the merit `|z - z0|^2 / 2 + w |g|_1` falls, w above the multipliers. The point
is stationary; where g bends much there may be a nearer one elsewhere. At a kink of g, such as that
of a pixel that turns black, no step may help although a gap is left; the last steps then only close
it, and the point is as near as the kinks let it come.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Nearest", "judged", "linear", "nearest", "sparsest"]

MAX_STEPS = 80
"""Steps at most; where g is nearly linear, three or four are taken."""

CLOSING_STEPS = 19
"""Steps at most that only close a gap; with the others and the last look, 100 gradients."""

FIRM = 10.0
"""Weight of the gap, in units of its multiplier, in steps that only close it."""

LAST_STEP = 1e-6
"""A step of no coordinate above this ends the search, in the unit of z."""

LONGEST_STEP = 3.0
"""A step changes no coordinate by more, beside the farthest from the start that a coordinate is:
where g is nearly flat, as a probability near 1 is, a full step leads far off."""

HALVINGS = 20
"""Most halvings of a step; a row in which none helps stays where it is."""

SUFFICIENT = 1e-4
"""Share of the expected fall of the merit that is asked for (Armijo)."""


class Nearest(NamedTuple):
    """Where the search ended.

    Attributes:
        point: The point of each row, `(n, d)`.
        gap: What g is there, `(n, m)`.
        distance: The gap over the length of its gradient: how far, in the unit of z, the point
            lies from where that entry of g is zero, `(n, m)`; infinite where nothing moves it.
        jacobian: The gradients there, `(n, m, d)`.
    """

    point: Tensor
    gap: Tensor
    distance: Tensor
    jacobian: Tensor


def nearest(function: Callable[[Tensor], Tensor], start: Tensor) -> Nearest:
    """Find the point nearest to the start, in each row, at which a function is zero.

    Args:
        function: `g`, from `(n, d)` to `(n, m)`, each row by itself, differentiable; m is small.
        start: `z0`, `(n, d)`, in double.

    Example:
        >>> nearest(lambda z: z.sum(1, keepdim=True) - 2, torch.zeros(1, 2).double()).point
        tensor([[1., 1.]], dtype=torch.float64)
    """
    z, moving = start.clone(), torch.ones(len(start), dtype=torch.bool, device=start.device)
    weight = torch.zeros((), device=start.device)
    for _ in range(MAX_STEPS):
        gap, jacobian = linear(function, z)
        step, multiplier = _step(z, start, gap, jacobian)
        weight = torch.maximum(weight, 2 * multiplier.abs())
        moving = moving & step.isfinite().all(1)
        short = step.abs().amax(1) <= LAST_STEP
        scale = _halved(function, z, start, step, gap, weight, moving & ~short)
        scale = torch.where(short & moving, 1.0, scale)
        z = z + scale[:, None] * step.nan_to_num(0.0)
        moving = moving & ~short & (scale > 0)
        if not moving.any():
            break
    return judged(function, _closed(function, z))


def _closed(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Close the gaps that are left, by the shortest steps, whatever the distance from the start."""
    for _ in range(CLOSING_STEPS):
        nearby = judged(function, z)
        gap, jacobian = nearby.gap, nearby.jacobian
        step, multiplier = _step(z, z, gap, jacobian)
        step = step.nan_to_num(0.0)
        moving = (nearby.distance > LAST_STEP).any(1) & (step != 0).any(1)
        if not moving.any():
            break
        scale = _halved(function, z, z, step, gap, FIRM * multiplier.abs(), moving)
        z = z + scale[:, None] * step
        if not (scale > 0).any():
            break
    return z


def judged(function: Callable[[Tensor], Tensor], point: Tensor) -> Nearest:
    """Tell how far a point of each row is from where a function is zero.

    Args:
        function: `g`, as of `nearest`.
        point: The points, `(n, d)`.
    """
    gap, jacobian = linear(function, point)
    distance = gap.abs() / jacobian.norm(dim=2)
    return Nearest(point, gap, torch.where(gap == 0, 0.0, distance), jacobian)


def sparsest(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    groups: Sequence[Sequence[int]],
    count: int,
    near: Callable[[Nearest], Tensor],
) -> Nearest:
    """Find the nearest such point that differs from the start in a few groups of coordinates.

    Every set of so many groups is tried; there are `binomial(groups, count)`.

    Args:
        function: `g`, as of `nearest`.
        start: `z0`, `(n, d)`.
        groups: The coordinates of each group.
        count: Number of groups that may differ.
        near: Which rows of an answer are near enough to zero, `(n,)`.

    Returns:
        Of each row the nearest answer that is near enough; the start, if none is.

    Example:
        >>> slopes = torch.tensor([3.0, 2.0]).double()
        >>> gap = lambda z: (z * slopes).sum(1, keepdim=True) - 6
        >>> near = lambda found: found.distance[:, 0] < 1e-4
        >>> sparsest(gap, torch.zeros(1, 2).double(), [[0], [1]], 1, near).point
        tensor([[2., 0.]], dtype=torch.float64)
    """
    best, least = judged(function, start), torch.full_like(start[:, 0], torch.inf)
    for chosen in itertools.combinations(groups, min(count, len(groups))):
        at = torch.tensor([k for group in chosen for k in group], device=start.device)

        def within(z: Tensor, at: Tensor = at) -> Tensor:
            return function(start.index_copy(1, at, z))

        part = nearest(within, start[:, at])
        point = start.index_copy(1, at, part.point)
        away = torch.where(near(part), (point - start).square().sum(1), torch.inf)
        better = (away < least)[:, None]
        # How far the chosen groups, and not the others, would have to move.
        best = best._replace(
            point=torch.where(better, point, best.point),
            gap=torch.where(better, part.gap, best.gap),
            distance=torch.where(better, part.distance, best.distance),
        )
        least = torch.minimum(least, away)
    return best


def linear(function: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Return g, `(n, m)`, and its Jacobian, `(n, m, d)`."""
    with torch.enable_grad():
        at = z.detach().requires_grad_()
        gap = function(at)
        rows = []
        for entry in gap.unbind(1):
            gradient = None
            if entry.requires_grad:
                gradient = torch.autograd.grad(
                    entry.sum(), at, retain_graph=True, allow_unused=True
                )[0]
            rows.append(torch.zeros_like(at) if gradient is None else gradient)
    return gap.detach(), torch.stack(rows, 1)


def _step(z: Tensor, start: Tensor, gap: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Return the full step, `(n, d)`, and the constraint's multipliers, `(n, m)`."""
    # Rows of unit length: entries of g may have units that are far apart.
    size = jacobian.norm(dim=2).clamp_min(torch.finfo(z.dtype).tiny)
    unit = (jacobian / size[..., None]).nan_to_num(0.0)
    wanted = torch.einsum("nmd,nd->nm", unit, z - start) - gap / size
    gram = torch.linalg.pinv(unit @ unit.mT, hermitian=True)
    length = torch.einsum("nmk,nk->nm", gram, wanted)
    return start + torch.einsum("nmd,nm->nd", unit, length) - z, length / size


def _halved(
    function: Callable[[Tensor], Tensor],
    z: Tensor,
    start: Tensor,
    step: Tensor,
    gap: Tensor,
    weight: Tensor,
    moving: Tensor,
) -> Tensor:
    """Return the share of each row's step with which the merit falls, `(n,)`; 0 if none does.

    Halving begins at the full step, or at what of it is no longer than `LONGEST_STEP` allows.
    """

    def merit(point: Tensor, g: Tensor) -> Tensor:
        return (point - start).square().sum(1) / 2 + (weight * g.abs()).sum(1)

    before = merit(z, gap)
    slope = ((z - start) * step).sum(1) - (weight * gap.abs()).sum(1)
    longest = LONGEST_STEP + (z - start).abs().amax(1)
    scale, taken = longest / torch.maximum(step.abs().amax(1), longest), ~moving
    with torch.no_grad():
        for _ in range(HALVINGS):
            trial = z + scale[:, None] * step
            after = merit(trial, function(trial))
            taken = taken | (after <= before + SUFFICIENT * scale * slope)
            if taken.all():
                break
            scale = torch.where(taken, scale, scale / 2)
    return torch.where(taken & moving, scale, 0.0)
