from __future__ import annotations

import math

import pytest
import torch
from scipy import special, stats
from torch import Tensor

from rung3.mechanisms.likelihoods.base import Likelihood, Normal
from rung3.mechanisms.likelihoods.gaussian import DiscretisedGaussian, Gaussian, truncated_normal
from rung3.mechanisms.likelihoods.logistic import DiscretisedLogistic

LEVELS = torch.arange(256) / 255


def normal(mean: float | Tensor, log_scale: float | Tensor, n: int = 1) -> Normal:
    return Normal(torch.as_tensor(mean).expand(n), torch.as_tensor(log_scale).expand(n))


def grid(n: int, bits: int = 8) -> tuple[Tensor, Normal]:
    """Pixels, means and scales of every size, the ends of the range among them."""
    levels = 2**bits - 1
    x = torch.randint(levels + 1, (n,)) / levels
    x[: n // 4] = torch.randint(2, (n // 4,)).float()
    mean = torch.rand(n)
    mean[::5] = torch.randint(2, (len(mean[::5]),)).float()
    return x, Normal(mean, torch.empty(n).uniform_(-8, 1))


@pytest.mark.parametrize("pixels", [Gaussian(), DiscretisedGaussian(), DiscretisedLogistic()])
@pytest.mark.parametrize("mean", [-0.2, 0.0, 0.003, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("log_scale", [-12.0, -6.0, -2.0, 0.0, 3.0])
def test_the_mean_is_that_of_what_is_predicted(
    pixels: Likelihood[Normal], mean: float, log_scale: float
) -> None:
    """Pixels are clamped: a black one, `mu = 0`, is not black on average."""
    n, params = 40_000, normal(mean, log_scale)
    eps = pixels.sample_noise((n,), torch.Generator().manual_seed(0), torch.device("cpu"))
    drawn = pixels.predict(eps, params).double()
    level = 0.5 / 255 if log_scale < -5 else 0.0  # to which pixels are rounded
    within = 4 * drawn.std().item() / n**0.5 + level + 1e-5
    assert pixels.mean(params).item() == pytest.approx(drawn.mean().item(), abs=within)


def test_the_mean_of_a_black_pixel_in_closed_form() -> None:
    black = normal(0.0, -2.0)
    scale = math.exp(-2)
    assert DiscretisedLogistic().mean(black).item() == pytest.approx(scale * math.log(2), abs=1e-4)
    expected = scale / math.sqrt(2 * math.pi)
    assert DiscretisedGaussian().mean(black).item() == pytest.approx(expected, abs=1e-6)


def test_the_mean_has_gradients_at_every_scale() -> None:
    mu = torch.linspace(0, 1, 11).requires_grad_()
    for pixels in (Gaussian(), DiscretisedLogistic()):
        for log_scale in (-12.0, -3.0, 5.0):
            params = Normal(mu, torch.full((11,), log_scale))
            (slope,) = torch.autograd.grad(pixels.mean(params).sum(), mu)
            assert ((slope >= 0) & (slope <= 1 + 1e-3)).all()
            assert slope.sum() > 0


@pytest.mark.parametrize("mean", [0.0, 0.003, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("log_scale", [-8.0, -6.0, -3.0, 0.0, 2.0])
def test_discretised_probabilities_sum_to_one(mean: float, log_scale: float) -> None:
    log_prob = DiscretisedGaussian().log_prob(LEVELS, normal(mean, log_scale, 256))
    # Wide scales: each of 256 bins is a difference of two numbers near one, 1e-7 apart at best.
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=2e-4)


def test_discretised_log_prob_agrees_with_double_precision_where_that_is_exact() -> None:
    x, (mean, log_scale) = grid(2000)
    got = DiscretisedGaussian().log_prob(x, Normal(mean, log_scale))
    scale = log_scale.double().exp()
    low, high = (x.double() - mean - 1 / 510) / scale, (x.double() - mean + 1 / 510) / scale
    low[x == 0], high[x == 1] = -torch.inf, torch.inf
    flip = low + high > 0
    a, b = torch.where(flip, -high, low).numpy(), torch.where(flip, -low, high).numpy()
    expected = torch.from_numpy(special.log_ndtr(b)) + torch.from_numpy(
        special.log1p(-special.ndtr(a) / special.ndtr(b).clip(1e-300))
    )
    sure = torch.from_numpy(b) > -30
    assert sure.sum() > 500
    torch.testing.assert_close(got[sure].double(), expected[sure], rtol=1e-3, atol=1e-3)


def test_discretised_log_prob_and_gradients_are_finite_and_right_in_the_tails() -> None:
    mean = torch.tensor([1.0, 0.0, 0.5, 1.0], requires_grad=True)
    x = torch.tensor([0.0, 1.0, 0.25, 0.75])
    log_scale = torch.full((4,), -11.0, requires_grad=True)
    log_prob = DiscretisedGaussian(min_log_scale=-12).log_prob(x, Normal(mean, log_scale))
    slope, stretch = torch.autograd.grad(log_prob.sum(), (mean, log_scale))
    # Far from its bin, a pixel feels the bin's nearest edge: -d^2 / 2 sigma^2.
    edge = (x - mean.detach()).abs().double() - 1 / 510
    precision = math.exp(22)
    torch.testing.assert_close(log_prob.double(), -0.5 * edge**2 * precision, rtol=1e-3, atol=0)
    pull = (x - mean.detach()).sign().double() * edge * precision
    torch.testing.assert_close(slope.double(), pull.detach(), rtol=1e-3, atol=0)
    torch.testing.assert_close(stretch.double(), (edge**2 * precision).detach(), rtol=1e-3, atol=0)


def test_gaussian_density_is_that_of_torch() -> None:
    x, params = grid(100)
    expected = torch.distributions.Normal(params.mean, params.log_scale.exp()).log_prob(x)
    torch.testing.assert_close(Gaussian().log_prob(x, params), expected)


@pytest.mark.parametrize("bits", [1, 8, 12])
def test_discretised_round_trip_is_exact_at_every_scale(bits: int) -> None:
    x, params = grid(200_000, bits)
    pixels = DiscretisedGaussian(bits)
    eps = pixels.abduct(x, params)
    assert eps.isfinite().all()
    assert torch.equal(pixels.predict(eps, params), x)


def test_gaussian_round_trip() -> None:
    x, params = grid(10_000)
    pixels = Gaussian()
    torch.testing.assert_close(
        pixels.predict(pixels.abduct(x, params), params), x, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("log_scale", [-6.0, -4.0, -1.0])
@pytest.mark.parametrize("mean", [0.0, 0.001, 0.4, 1.0])
def test_noise_abducted_from_the_models_own_pixels_is_standard_normal(
    mean: float, log_scale: float
) -> None:
    params = normal(mean, log_scale, 20_000)
    pixels = DiscretisedGaussian()
    x = pixels.predict(torch.randn(20_000), params)
    assert (mean in (0.0, 1.0)) <= bool(((x == 0) | (x == 1)).float().mean() > 0.4)
    eps = pixels.abduct(x, params)
    assert stats.kstest(eps.numpy(), "norm").pvalue > 1e-3


def test_a_saturated_pixel_knows_its_noise_on_one_side_only() -> None:
    n = 20_000
    params = normal(0.0, -4.0, n)
    eps = DiscretisedGaussian().abduct(torch.zeros(n), params)
    bound = 1 / 510 * math.exp(4)
    assert eps.max() < bound
    truth = stats.truncnorm(-math.inf, bound)
    assert stats.kstest(eps.numpy(), truth.cdf).pvalue > 1e-3
    assert eps.min() < -3


def test_a_mean_outside_the_range_does_not_explode_under_another_scale() -> None:
    """A raw mean below 0 with a tiny sigma: (x - mu) / sigma would be 200 standard deviations."""
    pixels, x = DiscretisedGaussian(), torch.zeros(1, 1, 1, 1000)
    certain = pixels.params(torch.cat([x - 0.5, x - 20], 1))
    eps = pixels.abduct(x, certain)
    assert eps.abs().max() < 5
    vague = Normal(x + 0.5, x - 3)
    assert (pixels.predict(eps, vague) - 0.5).abs().max() < 5 * math.exp(-3)


@pytest.mark.parametrize(
    ("low", "high"), [(-1, 2), (5, 5.1), (30, 31), (60, 61), (1000, 1000.01), (-200, -199)]
)
def test_truncated_normal_has_the_right_distribution_however_far_out(
    low: float, high: float
) -> None:
    n = 20_000
    u = truncated_normal(torch.full((n,), low).double(), torch.full((n,), high).double())
    assert u.min() >= low
    assert u.max() <= high
    a, b = (low, high) if low >= 0 or high > 0 else (-high, -low)
    v = u if a == low else -u
    # Survival function, in logarithms: 1 - F(v) = (Q(v) - Q(b)) / (Q(a) - Q(b)).
    log_q = [
        torch.special.log_ndtr(-t) for t in (v, torch.tensor(a).double(), torch.tensor(b).double())
    ]
    survival = ((log_q[0] - log_q[1]).exp() - (log_q[2] - log_q[1]).exp()) / (
        1 - (log_q[2] - log_q[1]).exp()
    )
    assert stats.kstest(survival.numpy(), "uniform").pvalue > 1e-3


def test_mean_is_clamped_and_its_gradient_stopped_only_where_it_leads_out() -> None:
    raw = torch.tensor([-0.5, -0.5, 0.5, 1.5, 1.5], requires_grad=True)
    params = Gaussian().params(torch.cat([raw.view(1, 1, 1, 5), torch.zeros(1, 1, 1, 5)], 1))
    assert params.mean.tolist() == [[[[0, 0, 0.5, 1, 1]]]]
    down = torch.tensor([1.0, -1, 1, 1, -1])
    (params.mean.flatten() * down).sum().backward()
    assert raw.grad is not None
    assert raw.grad.tolist() == [0, -1, 1, 1, 0]


def test_scale_stays_above_its_bound() -> None:
    raw = torch.full((1, 1, 1, 1), -1e4)
    params = DiscretisedGaussian(min_log_scale=-5).params(raw.expand(1, 2, 1, 1))
    assert params.log_scale.item() == pytest.approx(-5)
    with pytest.raises(ValueError, match="min_log_scale=-20 must lie between -12 and 0"):
        Gaussian(min_log_scale=-20)


def test_predictions_are_differentiable_in_the_pixels_that_were_seen() -> None:
    x = torch.tensor([0.2, 0.8], requires_grad=True)
    pixels, params = DiscretisedGaussian(), normal(0.5, -1.0, 2)
    answer = pixels.predict(pixels.abduct(x, params), normal(0.4, -0.5, 2))
    (slope,) = torch.autograd.grad(answer.sum(), x)
    # At 0.4 - 0.49 the first is clamped, and does not move; the second moves by sigma'/sigma.
    torch.testing.assert_close(slope, torch.tensor([0.0, math.exp(0.5)]))


@pytest.mark.parametrize("pixels", [Gaussian(), DiscretisedGaussian()])
def test_a_predicted_pixel_at_an_end_of_the_range_can_be_pulled_inwards_but_not_out(
    pixels: Gaussian | DiscretisedGaussian,
) -> None:
    """Dark ground whose noise lies below 0: a stroke that should be there can be learned."""
    mean = torch.tensor([0.0, 1.0], requires_grad=True)
    eps = torch.tensor([-3.0, 3.0])
    for sign, reached in ((1.0, [1.0, 0.0]), (-1.0, [0.0, -1.0])):
        x = pixels.predict(eps, Normal(mean, torch.full((2,), -3.0)))
        assert x.tolist() == [0, 1]
        (gradient,) = torch.autograd.grad(-sign * x.sum(), mean)
        assert (-gradient).tolist() == reached
