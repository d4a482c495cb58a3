"""Small networks by second-order steps: closed forms as oracles, and what the data determine."""

from __future__ import annotations

import math

import pytest
import torch

from rung3.mechanisms.additive.losses import normal_spread, squared_error
from rung3.mechanisms.additive.regression import Regression


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def solved(z: torch.Tensor, y: torch.Tensor) -> Regression:
    torch.manual_seed(0)
    regression = Regression(z.shape[1], 8, y.shape[1])
    regression.solve(z, squared_error, y, torch.ones_like(y))
    return regression


def test_derivatives_are_those_of_autograd() -> None:
    """The Jacobian, and the derivative of each loss."""
    regression = Regression(3, 4)
    q = regression.design(draw(7, 3)).double()
    weights = draw(regression.features * 5 + 4).double()
    jacobian = regression.jacobian(weights, q, regression.run(weights, q)[1])
    expected = torch.autograd.functional.jacobian(lambda w: regression.run(w, q)[0], weights)
    assert torch.allclose(jacobian, expected, atol=1e-12)
    f, y = draw(7).double().requires_grad_(), draw(7, seed=1).double()
    for loss, columns in ((squared_error, (y, y.abs())), (normal_spread, (y,))):
        value, slope, _ = loss(f, *columns)
        assert torch.allclose(torch.autograd.grad(value.sum(), f)[0], slope)


def test_of_a_line_it_learns_the_line() -> None:
    """Where the truth is linear, the network errs about as little as least squares."""
    z = draw(2_000, 2)
    mean = z @ torch.tensor([[1.0, 0.5], [-2.0, 0.0]])
    y = mean + draw(2_000, 2, seed=1)
    error = (solved(z, y)(z) - mean).square().mean(0).sqrt()
    line = torch.linalg.lstsq(z, y).solution
    assert (error < 2 * ((z @ line - mean).square().mean(0).sqrt() + 0.02)).all()


def test_what_the_data_do_not_ask_for_is_pruned() -> None:
    """Of a product among five causes, hardly more than one parameter is determined."""
    z = draw(4_000, 4)
    mean = (2 * z[:, 0] * z[:, 1])[:, None]
    regression = solved(z, mean + draw(4_000, 1, seed=1))
    assert 1 <= regression.determined < 6
    far = 3 * draw(1_000, 4, seed=2)
    assert (regression(far)[:, 0] - 2 * far[:, 0] * far[:, 1]).abs().mean() < 0.3


def test_a_narrow_ridge_is_found() -> None:
    """One unit says it, if it is found: steps from units drawn at random seldom do."""
    z = draw(20_000, 2)
    mean = 4 * (8 * (z[:, :1] ** 2 - z[:, 1:])).sigmoid()
    error = (solved(z, mean + draw(20_000, 1, seed=1))(z) - mean).square().mean().sqrt()
    assert error < 0.03  # sqrt(k / n) is 0.016 for the true form's k = 5


def test_it_goes_on_from_the_weights_that_it_has() -> None:
    z = draw(3_000, 1)
    mean = (2 * z).sin()
    y = mean + 0.3 * draw(3_000, 1, seed=1)
    regression = solved(z[:500], y[:500])
    before = (regression(z) - mean).square().mean().sqrt()
    regression.solve(z, squared_error, y, torch.ones_like(y))
    after = (regression(z) - mean).square().mean().sqrt()
    assert after < before < 0.15
    assert after < 0.05


def test_the_spread_is_that_of_what_is_left() -> None:
    z = draw(5_000, 1)
    rest = (z / 2).exp() * draw(5_000, 1, seed=1)
    torch.manual_seed(0)
    regression = Regression(1, 8)
    regression.solve(z, normal_spread, rest)
    at = torch.tensor([[-1.0], [0.0], [1.0]])
    assert regression(at)[:, 0].exp().tolist() == pytest.approx(
        [math.exp(-0.5), 1, math.exp(0.5)], rel=0.1
    )


@pytest.mark.parametrize("y", [torch.zeros(60, 1), torch.arange(60.0)[:, None] / 60], ids=str)
def test_without_noise_or_without_change_it_stays_finite(y: torch.Tensor) -> None:
    z = torch.linspace(-1, 1, 60)[:, None]
    assert (solved(z, y)(z) - y).abs().max() < 0.01
