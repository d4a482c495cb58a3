from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from rung3.data.variables import Image
from rung3.mechanisms.likelihoods.base import Likelihood
from rung3.mechanisms.likelihoods.mixture import LogisticMixture, Mixture
from rung3.mechanisms.likelihoods.registry import likelihood_of


def mixture(
    pixels: LogisticMixture, n: int, channels: int = 1, spread: float = 1.0, seed: int = 0
) -> Mixture:
    """Random parameters of one pixel, the same in all n rows; scales fall with the spread."""
    generator = torch.Generator().manual_seed(seed)
    raw = spread * torch.randn(1, pixels.outputs(channels), 1, 1, generator=generator)
    return pixels.params(raw.expand(n, -1, 1, 1))


def of(*components: tuple[float, float, float], n: int = 1) -> Mixture:
    """A grey pixel's mixture of components (weight, mean, log-scale), n times."""
    weight, mean, log_scale = (
        torch.tensor(part).view(1, -1, 1, 1).expand(n, -1, 1, 1)
        for part in zip(*components, strict=True)
    )
    empty = mean[:, :, None][:, :, :0]
    return Mixture(weight.log(), mean[:, :, None], log_scale[:, :, None], empty)


def levels(bits: int, channels: int = 1) -> Tensor:
    """Every pixel of so many channels, `(2^(bits C), C, 1, 1)`."""
    grid = itertools.product(range(2**bits), repeat=channels)
    return torch.tensor(list(grid)).view(-1, channels, 1, 1) / (2**bits - 1)


@pytest.mark.parametrize("spread", [0.3, 3.0, 30.0])
@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (1, 1), (12, 1), (3, 3), (4, 2)])
def test_probabilities_sum_to_one_over_all_levels(bits: int, channels: int, spread: float) -> None:
    pixels, x = LogisticMixture(bits, components=3), levels(bits, channels)
    log_prob = pixels.log_prob(x, mixture(pixels, len(x), channels, spread))
    assert log_prob.shape == x.shape
    assert log_prob.flatten(1).sum(1).exp().sum().item() == pytest.approx(1, abs=1e-4)


def test_every_channel_is_normalised_given_those_before_it() -> None:
    pixels, x = LogisticMixture(3, components=3), levels(3, 3)
    each = pixels.log_prob(x, mixture(pixels, len(x), 3, 2.0)).flatten(1).exp()
    green = each[:, 1].view(8, 8, 8)
    torch.testing.assert_close(green.sum(1), torch.ones(8, 8))
    assert (green - green[:1]).abs().max() > 1e-2  # it does depend on red
    torch.testing.assert_close(each[:, 2].view(8, 8, 8).sum(2), torch.ones(8, 8))


def test_a_single_logistic_is_that_of_scipy() -> None:
    x = levels(8)
    log_prob = LogisticMixture().log_prob(x, of((1.0, 0.3, -3.0), n=256)).flatten().double()
    edges = torch.cat([torch.tensor([-math.inf]), (torch.arange(255) + 0.5) / 255])
    edges = torch.cat([edges, torch.tensor([math.inf])]).double()
    bins = torch.from_numpy(stats.logistic(0.3, math.exp(-3)).cdf(edges.numpy())).diff()
    expected = (1 - 2**-10) * bins + 2**-18
    torch.testing.assert_close(log_prob, expected.log(), rtol=0, atol=1e-4)


def test_channels_follow_each_other_by_their_coefficients() -> None:
    """With one narrow component, blue is where red and green put it."""
    pixels = LogisticMixture(components=1)
    raw = torch.zeros(1, 10, 1, 1)
    raw[0, 4:7] = -20.0  # scales
    raw[0, 7:] = torch.tensor([0.5, -0.25, 1.0]).atanh().clamp(-9, 9).view(3, 1, 1)
    eps = torch.zeros(1, 3, 1, 1)
    eps[0, 0] = 3.0
    red, green, blue = pixels.predict(eps, pixels.params(raw)).flatten().tolist()
    assert red > 0.51
    assert green == pytest.approx(0.5 + 0.5 * (red - 0.5), abs=1 / 255)
    assert blue == pytest.approx(0.5 - 0.25 * (red - 0.5) + (green - 0.5), abs=1 / 255)


@pytest.mark.parametrize("log_scale", [-12.0, -6.0, -1.0])
def test_gradients_are_right_in_the_far_tails(log_scale: float) -> None:
    """Those of `log(c P + 2^-18)`, with `c = 1 - 2^-10` and a single component."""
    x = torch.tensor([0.0, 1.0, 0.25, 1.0]).view(4, 1, 1, 1)
    mean = torch.tensor([1.0, 0.0, 0.75, 40.0]).view(4, 1, 1, 1, 1).requires_grad_()
    scale = torch.full_like(mean, log_scale).requires_grad_()
    weight = torch.zeros(4, 1, 1, 1, requires_grad=True)
    log_prob = LogisticMixture(min_log_scale=-12).log_prob(
        x, Mixture(weight, mean, scale, mean[:, :, :0])
    )
    by_mean, by_scale, by_weight = torch.autograd.grad(log_prob.sum(), (mean, scale, weight))
    bin_ = np.array([[-math.inf, 0.5], [254.5, math.inf], [63.25, 64.25], [254.5, math.inf]]) / 255
    s = math.exp(log_scale)
    ends = (bin_ - mean.detach().flatten().double().numpy()[:, None]) / s
    law, share = stats.logistic, 1 - 2**-10
    density = law.pdf(ends)
    moment = np.where(np.isinf(ends), 0, ends) * density
    right = ends[:, 0] > 0
    total = np.where(right, law.sf(ends) @ [1, -1], law.cdf(ends) @ [-1, 1]) * share + 2**-18
    np.testing.assert_allclose(log_prob.detach().flatten(), np.log(total), atol=1e-4)
    for gradient, change in ((by_mean, density @ [1, -1] / s), (by_scale, moment @ [1, -1])):
        truth = share * change / total
        np.testing.assert_allclose(gradient.flatten(), truth, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(by_weight.flatten(), 1 - 2**-18 / total, atol=1e-4)


@pytest.mark.parametrize("spread", [0.3, 3.0, 30.0])
@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (8, 1), (12, 1), (3, 3), (4, 2)])
def test_round_trip_is_exact_on_every_level(bits: int, channels: int, spread: float) -> None:
    pixels, x = LogisticMixture(bits, min_log_scale=-12), levels(bits, channels).repeat(5, 1, 1, 1)
    params = mixture(pixels, len(x), channels, spread)
    eps = pixels.abduct(x, params)
    assert eps.isfinite().all()
    assert torch.equal(pixels.predict(eps, params), x)


def test_round_trip_is_exact_where_the_mixture_is_flat_or_saturated() -> None:
    pixels, x = LogisticMixture(min_log_scale=-12), levels(8).repeat(40, 1, 1, 1)
    narrow = of((0.5, 0.1, -12.0), (0.5, 0.9, -12.0), n=len(x))
    outside = of((0.3, -5.0, -3.0), (0.7, 3.0, -6.0), n=len(x))
    for params in (narrow, outside):
        assert torch.equal(pixels.predict(pixels.abduct(x, params), params), x)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_noise_abducted_from_the_mixtures_own_pixels_is_standard_normal(
    channels: int, spread: float
) -> None:
    pixels, n = LogisticMixture(components=4), 10_000
    params = mixture(pixels, n, channels, spread, seed=1)
    x = pixels.predict(torch.randn(n, channels, 1, 1), params)
    eps = pixels.abduct(x, params).flatten(1)
    for c in range(channels):
        assert stats.kstest(eps[:, c].numpy(), "norm").pvalue > 1e-3
    if channels > 1:
        correlation = torch.corrcoef(eps.T) - torch.eye(channels)
        assert correlation.abs().max() < 4.5 / n**0.5


def test_pixels_drawn_by_noise_have_the_stated_probabilities() -> None:
    pixels, n = LogisticMixture(2, components=3), 40_000
    for channels in (1, 2):
        x = levels(2, channels)
        params = mixture(pixels, n, channels, 2.0)
        drawn = pixels.predict(torch.randn(n, channels, 1, 1), params)
        count = (drawn == x[:, None]).flatten(2).all(2).sum(1)
        here = Mixture(*(p[: len(x)] for p in params))
        expected = n * pixels.log_prob(x, here).flatten(1).sum(1).double().exp()
        expected *= n / expected.sum()
        assert stats.chisquare(count.numpy(), expected.numpy()).pvalue > 1e-3


def test_prediction_is_monotone_and_the_median_at_zero() -> None:
    pixels, n = LogisticMixture(components=4), 500
    params = mixture(pixels, n, spread=3.0)
    x = pixels.predict(torch.linspace(-6, 6, n).view(n, 1, 1, 1), params).flatten()
    assert (x.diff() >= 0).all()
    assert x[[0, -1]].tolist() == [0, 1]
    median = pixels.predict(torch.zeros(1, 1, 1, 1), Mixture(*(p[:1] for p in params)))
    cdf = pixels.log_prob(levels(8), Mixture(*(p[:256] for p in params))).flatten().exp().cumsum(0)
    assert median.item() * 255 == (cdf < 0.5).sum()


@pytest.mark.parametrize("seed", range(3))
def test_mean_is_the_expectation_over_levels(seed: int) -> None:
    pixels, x = LogisticMixture(components=3), levels(8)
    params = mixture(pixels, 256, spread=2.0, seed=seed)
    expected = (pixels.log_prob(x, params).exp() * x).sum()
    assert pixels.mean(params)[0].item() == pytest.approx(expected.item(), abs=1e-3)


def test_means_of_colours_are_in_range_and_near_the_expectation() -> None:
    pixels, n = LogisticMixture(components=3), 20_000
    params = mixture(pixels, n, 3, 1.0)
    drawn = pixels.predict(torch.randn(n, 3, 1, 1), params).mean(0).flatten()
    mean = pixels.mean(params)[0].flatten()
    torch.testing.assert_close(mean, drawn, rtol=0, atol=0.05)
    far = pixels.mean(mixture(pixels, 50, 3, 100.0))
    assert 0 <= far.min() <= far.max() <= 1


def test_the_gradient_of_a_prediction_is_that_of_the_inverse_cdf() -> None:
    pixels = LogisticMixture(12)
    eps = torch.tensor([[[[-1.0]]], [[[0.0]]], [[[0.7]]]], requires_grad=True)

    def params(shift: float | Tensor) -> Mixture:
        weight, mean, *rest = of((0.4, 0.3, -2.5), (0.6, 0.6, -3.0), n=3)
        return Mixture(weight, mean + shift, *rest)

    shift = torch.zeros((), requires_grad=True)
    by_eps, by_shift = torch.autograd.grad(pixels.predict(eps, params(shift)).sum(), (eps, shift))
    step = 0.02
    rise = pixels.predict(eps + step, params(0)) - pixels.predict(eps - step, params(0))
    torch.testing.assert_close(by_eps, (rise / (2 * step)).detach(), rtol=0.05, atol=0)
    assert by_shift.item() == pytest.approx(3, rel=0.02)


def test_predictions_follow_what_was_seen_and_stay_in_range() -> None:
    pixels = LogisticMixture()
    x = torch.tensor([0.2, 0.8, 0.0]).mul(255).round().div(255).view(3, 1, 1, 1).requires_grad_()
    same = of((0.5, 0.3, -1.5), (0.5, 0.7, -1.5), n=3)
    (slope,) = torch.autograd.grad(pixels.predict(pixels.abduct(x, same), same).sum(), x)
    torch.testing.assert_close(slope.flatten()[:2], torch.ones(2), rtol=0.02, atol=0)
    assert slope.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 16}, "bits=16 must lie between 1 and 12"),
        ({"components": 0}, "components=0 must be at least 1"),
        ({"min_log_scale": -20.0}, "min_log_scale=-20"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogisticMixture(**options)


@pytest.mark.parametrize("kind", ["discretised", "gaussian", "mixture"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_every_likelihood_fills_in_the_contract(kind: str, channels: int) -> None:
    image = Image(channels, 4, 5, bits=None if kind == "gaussian" else 8)
    pixels: Likelihood[object] = likelihood_of("scan", image, kind)
    params = pixels.params(torch.randn(2, pixels.outputs(channels), 4, 5))
    shape = (2, channels, 4, 5)
    x = torch.randint(256, shape) / 255
    assert pixels.log_prob(x, params).shape == shape
    mean = pixels.mean(params)
    assert mean.shape == shape
    assert 0 <= mean.min() <= mean.max() <= 1
    eps = pixels.abduct(x, params)
    assert eps.shape == shape
    torch.testing.assert_close(pixels.predict(eps, params), x, atol=1e-5, rtol=0)
    assert (pixels.weights(params, 0.0) == 1).all()
    assert pixels.weights(params, 0.5).mean().item() == pytest.approx(1)
