"""Solvers of `dx/dt = v(x, t)` on a fixed grid, for mechanisms that are the flow of an equation.

Heun's method, two evaluations a step h from t to s = t + h, of second order:

    k = v(x, t),   x <- x + h/2 (k + v(x + h k, s)).

O-BELM (arXiv 2410.07273), one evaluation a step, can be undone exactly. With h_i = t_i - t_(i-1)
and r = h_(i+1) / h_i, every three neighbouring states lie on the line

    x_(i+1) = r^2 x_(i-1) + (1 - r^2) x_i + h_(i+1) (1 + r) v(x_i, t_i),

which gives each of the outer two from the others. So what it computes is known by its last two
states, and its first step is Euler's.

An exact round trip says nothing of a counterfactual: a solver may undo its own errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

__all__ = ["Velocity", "belm_decode", "belm_encode", "belm_start", "heun", "time_grid"]

Velocity: TypeAlias = Callable[[Tensor, float], Tensor]
"""The velocity v of states `(n, ...)` at a time."""


def time_grid(steps: int, start: float = 0.0, end: float = 1.0) -> list[float]:
    """Return the ends of equal steps, `steps + 1` times.

    Raises:
        ValueError: If there are less than one.

    Example:
        >>> time_grid(2), time_grid(2, 1, 0)
        ([0.0, 0.5, 1.0], [1.0, 0.5, 0.0])
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r} must be a whole number of at least 1")
    return [start + (end - start) * k / steps for k in range(steps + 1)]


def heun(velocity: Velocity, x: Tensor, grid: Sequence[float]) -> Tensor:
    """Carry states from the first time of a grid to the last, two evaluations a step.

    Args:
        velocity: The velocity.
        x: States at the first time, `(n, ...)`.
        grid: Times, rising or falling, at least two.

    Returns:
        States at the last time, `(n, ...)`.

    Example:
        >>> import torch
        >>> heun(lambda x, t: x, torch.ones(1), time_grid(100))  # e = 2.71828...
        tensor([2.7182])
    """
    for t, s in pairwise(grid):
        k = velocity(x, t)
        x = x + (s - t) / 2 * (k + velocity(x + (s - t) * k, s))
    return x


def belm_encode(velocity: Velocity, x: Tensor, grid: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Carry states along a grid by O-BELM, one evaluation a step.

    Args:
        velocity: The velocity.
        x: States at the first time, `(n, ...)`.
        grid: Times, rising or falling, at least three.

    Returns:
        The states at the last time but one, and at the last, `(n, ...)` each.

    Raises:
        ValueError: If there are fewer than three times.
    """
    _check_grid(grid)
    before, now = x, x + (grid[1] - grid[0]) * velocity(x, grid[0])
    for i, r, reach in _weights(grid):
        after = r**2 * before + (1 - r**2) * now + reach * velocity(now, grid[i])
        before, now = now, after
    return before, now


def belm_decode(velocity: Velocity, states: tuple[Tensor, Tensor], grid: Sequence[float]) -> Tensor:
    """Undo `belm_encode`, under the same or another velocity.

    Args:
        velocity: The velocity.
        states: What `belm_encode` gave, `(n, ...)` each.
        grid: The grid of `belm_encode`.

    Returns:
        States at the first time, `(n, ...)`.

    Raises:
        ValueError: If there are fewer than three times.

    Example:
        >>> import torch
        >>> def velocity(x, t): return x.cos() + t
        >>> grid, x = time_grid(5), torch.tensor([0.3, 2.0], dtype=torch.float64)
        >>> back = belm_decode(velocity, belm_encode(velocity, x, grid), grid)
        >>> bool((back - x).abs().max() < 1e-14)
        True
    """
    _check_grid(grid)
    now, after = states
    for i, r, reach in reversed([*_weights(grid)]):
        before = (after - (1 - r**2) * now - reach * velocity(now, grid[i])) / r**2
        now, after = before, now
    return now


def belm_start(velocity: Velocity, x: Tensor, grid: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return the two states that `belm_decode` starts from, where only the last is known.

    Args:
        velocity: The velocity.
        x: States at the last time, `(n, ...)`, such as draws of a prior.
        grid: The grid of `belm_encode`.
    """
    return heun(velocity, x, [grid[-1], grid[-2]]), x


def _weights(grid: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Yield for each inner time its number, the ratio r of the steps, and `h_(i+1) (1 + r)`."""
    for i in range(1, len(grid) - 1):
        left, right = grid[i] - grid[i - 1], grid[i + 1] - grid[i]
        yield i, right / left, right * (1 + right / left)


def _check_grid(grid: Sequence[float]) -> None:
    if len(grid) < 3:
        raise ValueError(f"O-BELM needs at least 2 steps, and the grid has {len(grid) - 1}")
