"""Solvers against closed forms, and a counterfactual with truth beside every round trip."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rung3.mechanisms.solvers import (
    Velocity,
    belm_decode,
    belm_encode,
    belm_start,
    heun,
    time_grid,
)

POINTS = torch.linspace(-2, 2, 9).double()[:, None]


def mixture(shift: float) -> Velocity:
    """The exact velocity from N(0, 1) to half of N(shift - 1, 1/4), half of N(shift + 1, 1/4)."""
    centres = torch.tensor([shift - 1.0, shift + 1.0]).double()

    def velocity(z: Tensor, t: float) -> Tensor:
        variance = (1 - t) ** 2 + t**2 / 4
        apart = z - t * centres
        weights = (-apart.square() / (2 * variance)).softmax(dim=1)
        each = centres + (t / 4 - (1 - t)) / variance * apart
        return (weights * each).sum(1, keepdim=True)

    return velocity


def counterfactual_of(x: Tensor) -> Tensor:
    """The inverse-CDF counterfactual of the mixture that moves by one: x + 1."""
    return x + 1


Solve = Callable[[Velocity, Velocity, Tensor, list[float]], Tensor]


def by(solver: Callable[[Velocity, Tensor, list[float]], Tensor]) -> Solve:
    return lambda before, after, x, grid: solver(after, solver(before, x, grid[::-1]), grid)


def by_belm(before: Velocity, after: Velocity, x: Tensor, grid: list[float]) -> Tensor:
    return belm_decode(after, belm_encode(before, x, grid[::-1]), grid[::-1])


@pytest.mark.parametrize(
    ("solve", "round_trip", "wrong"),
    [(by(heun), 2e-2, 1e-2), (by_belm, 1e-12, 5e-2)],
    ids=["heun", "belm"],
)
def test_a_round_trip_and_a_counterfactual_with_truth(
    solve: Solve, round_trip: float, wrong: float
) -> None:
    grid = time_grid(20)
    repeated = solve(mixture(0), mixture(0), POINTS, grid)
    moved = solve(mixture(0), mixture(1), POINTS, grid)
    assert (repeated - POINTS).abs().max() < round_trip
    assert (moved - counterfactual_of(POINTS)).square().mean().sqrt() < wrong


@pytest.mark.parametrize(
    ("solve", "order"),
    [(by(heun), 2), (by_belm, 1)],  # its last two states differ by a step under the old parents
    ids=["heun", "belm"],
)
def test_errors_of_counterfactuals_fall_with_the_steps(solve: Solve, order: int) -> None:
    errors = [
        (solve(mixture(0), mixture(1), POINTS, time_grid(k)) - counterfactual_of(POINTS))
        .abs()
        .mean()
        for k in (20, 80)
    ]
    assert errors[0] / errors[1] > 0.7 * 4**order


def test_velocities_are_asked_for_at_the_times_of_their_steps() -> None:
    """A time that is not moved on in an inner loop would be asked for twice."""
    times: list[float] = []

    def velocity(z: Tensor, t: float) -> Tensor:
        times.append(t)
        return torch.zeros_like(z)

    grid = time_grid(2)
    heun(velocity, POINTS, grid)
    assert times == [0, 0.5, 0.5, 1]
    times.clear()
    states = belm_encode(velocity, POINTS, time_grid(3))
    belm_decode(velocity, states, time_grid(3))
    assert times == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3, 1 / 3])


def test_belm_on_uneven_grids_and_from_a_prior() -> None:
    grid = [1.0, 0.7, 0.5, 0.2, 0.0]
    states = belm_encode(mixture(0), POINTS, grid)
    assert torch.allclose(belm_decode(mixture(0), states, grid), POINTS, atol=1e-12)
    fine = time_grid(200, 1, 0)
    u = heun(mixture(0), POINTS, fine)
    back = belm_decode(mixture(0), belm_start(mixture(0), u, fine), fine)
    assert torch.allclose(back, POINTS, atol=1e-3)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True])
def test_steps_below_one_are_refused(steps: object) -> None:
    message = re.escape(f"steps={steps!r} must be a whole number of at least 1")
    with pytest.raises(ValueError, match=message):
        time_grid(steps)  # type: ignore[arg-type]


def test_belm_needs_two_steps() -> None:
    with pytest.raises(ValueError, match="O-BELM needs at least 2 steps, and the grid has 1"):
        belm_encode(mixture(0), POINTS, time_grid(1))


def test_heun_is_exact_for_velocities_linear_in_time() -> None:
    x = heun(lambda z, t: torch.full_like(z, math.pi * t), POINTS, time_grid(1))
    assert torch.allclose(x, POINTS + math.pi / 2)
