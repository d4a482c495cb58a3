from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from rung3.mechanisms.likelihoods.base import Normal
from rung3.mechanisms.likelihoods.logistic import DiscretisedLogistic, truncated_logistic


def everywhere(bits: int, log_scale: float, wide: bool = True) -> tuple[Tensor, Normal]:
    """Every level under means all over the range, its ends among them."""
    levels = 2**bits - 1
    mean = torch.tensor([0.0, 0.003, 0.4, 0.5, 0.98, 1.0]) if wide else torch.tensor([0.4])
    x, mean = torch.meshgrid(torch.arange(levels + 1) / levels, mean, indexing="ij")
    return x, Normal(mean, torch.full_like(mean, log_scale))


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("log_scale", [-12.0, -7.5, -3.0, 0.0, 3.0])
def test_probabilities_sum_to_one_over_the_levels(bits: int, log_scale: float) -> None:
    x, params = everywhere(bits, log_scale)
    total = DiscretisedLogistic(bits, -12).log_prob(x, params).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(6), rtol=0, atol=2e-4)


@pytest.mark.parametrize("log_scale", [-7.5, -3.0, 0.0])
def test_a_level_has_the_probability_of_its_bin(log_scale: float) -> None:
    """The probability by scipy; far right of the mean by survival, which has digits there."""
    x, params = everywhere(8, log_scale, wide=False)
    mean, scale = params.mean.double()[0].item(), math.exp(log_scale)
    law = stats.logistic(mean, scale)
    low, high = (x.double().numpy() + side / 510 for side in (-1, 1))
    low[0], high[-1] = -math.inf, math.inf
    left = law.cdf(high) - law.cdf(low)
    right = law.sf(low) - law.sf(high)
    expected = torch.from_numpy(left).where(x < mean, torch.from_numpy(right)).log()
    density = DiscretisedLogistic(8, -12).log_prob(x, params).double()
    near = expected > -600
    assert near.sum() > 60
    torch.testing.assert_close(density[near], expected[near], rtol=1e-4, atol=1e-3)


def test_far_in_the_tails_it_falls_linearly_with_a_force_that_is_bounded() -> None:
    log_scale = -11.0
    x = torch.tensor([0.0, 1.0, 0.25, 0.75])
    mean = torch.tensor([1.0, 0.0, 0.5, 0.4], requires_grad=True)
    scale = torch.full((4,), log_scale, requires_grad=True)
    log_prob = DiscretisedLogistic(8, -12).log_prob(x, Normal(mean, scale))
    slope, stretch = torch.autograd.grad(log_prob.sum(), (mean, scale))
    # The bin's nearer edge decides: -d / s.
    edge = (x - mean.detach()).abs() - 1 / 510
    torch.testing.assert_close(log_prob, -edge * math.exp(-log_scale), rtol=1e-3, atol=0)
    pull = (x - mean.detach()).sign() * math.exp(-log_scale)
    torch.testing.assert_close(slope, pull, rtol=1e-3, atol=0)
    torch.testing.assert_close(stretch, edge * math.exp(-log_scale), rtol=1e-3, atol=0)


@pytest.mark.parametrize("mean", [-1e6, -3.0, 0.0, 1.0, 4.0, 1e6])
@pytest.mark.parametrize("log_scale", [-12.0, 0.0, 20.0])
def test_gradients_are_right_however_wrong_the_mean_is(mean: float, log_scale: float) -> None:
    """`log P = log(1 - exp(a - b)) + log F(-a) + log F(b)`, the outer bins open at one side."""
    x = torch.arange(256) / 255
    parts = [torch.full((256,), value, requires_grad=True) for value in (mean, log_scale)]
    log_prob = DiscretisedLogistic(8, -12).log_prob(x, Normal(*parts))
    slope, stretch = torch.autograd.grad(log_prob.sum(), parts)
    precision = math.exp(-log_scale)
    a, b = ((x.double().numpy() + side / 510 - mean) * precision for side in (-1, 1))
    closed_below, closed_above = np.arange(256) > 0, np.arange(256) < 255
    inner, width = closed_below & closed_above, precision / 255
    truth = inner * np.log(-np.expm1(-width))
    truth = truth - closed_below * np.logaddexp(0, a) - closed_above * np.logaddexp(0, -b)
    below, above = closed_below * special.expit(a), closed_above * special.expit(-b)
    force = precision * (below - above)
    spread = a * below - b * above - inner * width / math.expm1(min(width, 500))
    np.testing.assert_allclose(log_prob.detach(), truth, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(slope, force, rtol=1e-3, atol=1e-6 * precision)
    np.testing.assert_allclose(stretch, spread, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bits", [1, 8, 12])
@pytest.mark.parametrize("log_scale", [-12.0, -7.5, -4.0, 0.0, 2.0])
def test_round_trip_is_exact_at_every_level_in_single_precision(
    bits: int, log_scale: float
) -> None:
    """Saturated levels, and levels thousands of scales from the mean, among them."""
    pixels = DiscretisedLogistic(bits, -12)
    x, params = everywhere(bits, log_scale)
    for _ in range(1 if bits == 12 else 20):
        eps = pixels.abduct(x, params)
        assert eps.dtype == torch.float32
        assert eps.isfinite().all()
        assert torch.equal(pixels.predict(eps, params), x)


@pytest.mark.parametrize("log_scale", [-6.0, -4.0, -1.0])
@pytest.mark.parametrize("mean", [0.0, 0.001, 0.4, 1.0])
def test_noise_abducted_from_the_models_own_pixels_is_standard_logistic(
    mean: float, log_scale: float
) -> None:
    """Where bins are many scales wide, their margins begin to show: 0.014 at -7."""
    n, pixels = 20_000, DiscretisedLogistic(8, -12)
    params = Normal(torch.full((n,), mean), torch.full((n,), log_scale))
    prior = pixels.sample_noise((n,), torch.Generator().manual_seed(1), torch.device("cpu"))
    assert stats.kstest(prior.numpy(), "logistic").pvalue > 1e-3
    eps = pixels.abduct(pixels.predict(prior, params), params)
    assert stats.kstest(eps.numpy(), "logistic").pvalue > 1e-3
    assert not torch.equal(eps, prior)  # a draw within the bin


def test_a_saturated_pixel_knows_its_noise_on_one_side_only() -> None:
    n, bound = 20_000, 1 / 510 * math.exp(4)
    params = Normal(torch.zeros(n), torch.full((n,), -4.0))
    eps = DiscretisedLogistic().abduct(torch.zeros(n), params)
    assert eps.max() < bound
    law = stats.logistic()
    rank = law.cdf(eps.numpy()) / law.cdf(bound)
    assert stats.kstest(rank, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1, 2), (5, 5.1), (30, 31), (1e4, 1e4 + 1), (-200, -199), (-math.inf, -40), (3, math.inf)],
)
def test_truncated_logistic_has_the_right_distribution_however_far_out(
    low: float, high: float
) -> None:
    ends = [torch.full((20_000,), end).double() for end in (low, high)]
    u = truncated_logistic(ends[0], ends[1])
    assert low <= u.min() <= u.max() <= high
    # Mirrored to the left, where F(u) / F(high) has its digits: log F = -log(1 + exp(-u)).
    a, b, u = (low, high, u) if low + high < 0 else (-high, -low, -u)
    log_f = [
        -torch.logaddexp(torch.zeros(()).double(), -t) for t in (u, *map(torch.tensor, (a, b)))
    ]
    inner, least = (log_f[0] - log_f[2]).exp(), (log_f[1] - log_f[2]).exp()
    assert stats.kstest(((inner - least) / (1 - least)).numpy(), "uniform").pvalue > 1e-3


def test_predictions_are_differentiable_in_the_pixels_that_were_seen() -> None:
    x, pixels = torch.tensor([0.2, 0.8], requires_grad=True), DiscretisedLogistic()
    narrow, wide = (Normal(torch.full((2,), 0.5), torch.full((2,), s)) for s in (-1.0, -0.7))
    answer = pixels.predict(pixels.abduct(x, narrow), wide)
    (slope,) = torch.autograd.grad(answer.sum(), x)
    torch.testing.assert_close(slope, torch.full((2,), math.exp(0.3)))
