"""Polynomials by Newton's method: least squares as the oracle, and losses that are none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3.mechanisms.additive.losses import squared_error
from rung3.mechanisms.additive.polynomial import Polynomial


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_lines_are_those_of_least_squares() -> None:
    z, y = draw(500, 2), draw(500, 2, seed=1)
    polynomial = Polynomial(1, 2, outputs=2)
    polynomial.solve(z, squared_error, y, torch.ones(500, 2))
    design = torch.cat([torch.ones(500, 1), z], 1)
    assert torch.allclose(polynomial(z), design @ torch.linalg.lstsq(design, y).solution, atol=1e-4)
    assert polynomial.determined.tolist() == [3, 3]


def test_what_curves_no_more_than_noise_is_pruned() -> None:
    """Of a product, its term stays what least squares make it; five curved terms go."""
    z = draw(4_000, 3)
    y = (z[:, 0] - 2 * z[:, 1] * z[:, 2] + draw(4_000, seed=1))[:, None]
    polynomial = Polynomial(2, 3)
    polynomial.solve(z, squared_error, y, torch.ones(4_000, 1))
    coefficients = dict(
        zip(map(tuple, polynomial.terms), polynomial.weights[:, 0].tolist(), strict=True)
    )
    assert coefficients.pop((1, 2)) == pytest.approx(-2, abs=0.05)
    assert coefficients.pop((0,)) == pytest.approx(1, abs=0.05)
    assert max(map(abs, coefficients.values())) < 0.05
    assert polynomial.determined < 7  # of ten


def test_of_a_code_that_tells_all_twice_the_least_solution_is_taken() -> None:
    """One-hot codes and a constant: any of many solutions fits."""
    z = torch.eye(3).repeat(50, 1)
    polynomial = Polynomial(1, 3)
    polynomial.solve(z, squared_error, z @ torch.tensor([[1.0], [2.0], [3.0]]), torch.ones(150, 1))
    assert torch.allclose(polynomial.weights[:, 0], torch.tensor([1.5, -0.5, 0.5, 1.5]), atol=1e-5)


def test_a_loss_that_is_not_quadratic_goes_to_its_minimum() -> None:
    """Of log cosh, whose derivative is tanh, the sum over rows of `tanh(y - f) q` is nought."""

    def loss(f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (f - y).cosh().log(), (f - y).tanh(), torch.full_like(f, 0.5)

    z = draw(400, 1)
    y = 2 * z + draw(400, 1, seed=1) ** 3
    polynomial = Polynomial(1, 1)
    polynomial.solve(z, loss, y)
    score = (y - polynomial(z)).tanh()
    assert (score * torch.cat([torch.ones(400, 1), z], 1)).mean(0).abs().max() < 2e-3
