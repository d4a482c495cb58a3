"""Mixture of discretised logistics: a pixel's distribution of any shape (Salimans et al. 2017).

Levels are k / L, and a bin of width 1 / L lies around each, open at 0 and at 1. For channel c of a
pixel, given the channels before it (red, green, blue),

    F_c(t) = (1 - d) sum_k w_kc sigmoid((t - m_kc) / s_kc) + d (t + 1/2L) / (1 + 1/L),
    m_kc = mu_kc + sum_{j < c} a_kcj (x_j - 1/2),   w_kc ~ w_k prod_{j < c} P_k(x_j | x_{< j}),

and `P(x_c) = F_c(x_c + 1/2L) - F_c(x_c - 1/2L)`: of one component, the channels share the weight,
and are linear in each other (PixelCNN++, arXiv 1701.05517, sections 2.1 and 2.2). The last term
gives every level at least the probability 2^-18 (d = 2^-10 for 8 bits).

The noise is by inverse CDF: `x_c` is the level in whose bin F_c passes `Phi(eps_c)`, channel after
channel, and so monotone in eps_c. Given the pixel, `Phi(eps_c)` is uniform over its bin: the exact
posterior, from which abduction draws. The least probability is what makes that invertible: between
two far components F is flat, and no number eps would tell its levels apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid, softplus

from rung3.data.variables import levels_of
from rung3.mechanisms.likelihoods.base import EDGE_SHARE, Likelihood, clamped_mean

__all__ = ["LogisticMixture", "Mixture"]

LEAST_PROBABILITY = 2.0**-18
"""Least probability of a level: 64 times what `Phi(eps)` resolves, eps in single precision."""

INSET = LEAST_PROBABILITY / 8
"""Probability, at each edge of a bin, that abducted noise stays clear of (at most a quarter)."""

MAX_BITS = 12
"""Most bits of a pixel: the floor of so many levels would take 1/64 of the probability."""


class Mixture(NamedTuple):
    """K components of every pixel; the coefficients of channel c on those before it stand together.

    Shapes: `(n, K, H, W)`, normalised; twice `(n, K, C, H, W)`; and `(n, K, C (C - 1) / 2, H, W)`.
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor
    coefficient: Tensor


class _Channel(NamedTuple):
    """Components of one channel given those before it, `(n, K, H, W)` each."""

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor


class LogisticMixture(Likelihood[Mixture]):
    """Pixels of any number of channels as mixtures of discretised logistics.

    Args:
        bits: Bits that a pixel was stored with, up to 12.
        min_log_scale: Lower bound of the logistics' log-scales.
        components: Number K of logistics.

    Raises:
        ValueError: If the pixels have more than 12 bits, or there is no component.

    Example:
        >>> pixels, x = LogisticMixture(components=2), torch.tensor([0, 1, 128, 255]) / 255
        >>> params = pixels.params(torch.zeros(4, pixels.outputs(1), 1, 1))
        >>> eps = pixels.abduct(x.view(4, 1, 1, 1), params)
        >>> torch.equal(pixels.predict(eps, params).flatten(), x)
        True
    """

    whole_levels = True

    def __init__(self, bits: int = 8, min_log_scale: float = -6.0, components: int = 10) -> None:
        super().__init__(min_log_scale)
        if not 1 <= bits <= MAX_BITS:
            raise ValueError(
                f"bits={bits} must lie between 1 and {MAX_BITS} for a mixture of logistics; "
                "use the discretised Gaussian for more"
            )
        if components < 1:
            raise ValueError(f"components={components} must be at least 1")
        self.bits = bits
        self.components = components
        self.levels = levels_of(bits)
        self.floor = LEAST_PROBABILITY * 2**bits

    def outputs(self, channels: int) -> int:
        """Return `K (1 + 2 C + C (C - 1) / 2)`: 3 K for grey and 10 K for colour."""
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def params(self, raw: Float[Tensor, "n k *sizes"]) -> Mixture:
        """Start the means spread over [0, 1], so that components differ from the first step."""
        count = self.components
        components = raw.unflatten(1, (count, -1))
        sizes = range(1, components.shape[2])
        channels = next(c for c in sizes if self.outputs(c) == raw.shape[1])
        weight, mean, log_scale, coefficient = components.split(
            [1, channels, channels, channels * (channels - 1) // 2], dim=2
        )
        start = (torch.arange(count, device=raw.device, dtype=raw.dtype) + 0.5) / count
        return Mixture(
            weight.squeeze(2).log_softmax(1),
            mean + start.view(-1, *[1] * (mean.ndim - 2)),
            self.bounded(log_scale),
            coefficient.tanh(),
        )

    def mean(self, params: Mixture) -> Tensor:
        """Average the components, each the mean of its logistic clamped to [0, 1].

        `int_0^1 sigmoid((m - t) / s) dt = s (softplus(m / s) - softplus((m - 1) / s))`. For one
        channel it is the expectation, except for rounding to levels; the next channels follow from
        the means of those before them.
        """
        means = params.mean[:, :, :0]
        for c in range(params.mean.shape[2]):
            m, s = _centre(means, params, c), params.log_scale[:, :, c].exp()
            inside = clamped_mean(m, s, softplus)
            means = torch.cat([means, inside[:, :, None]], dim=2)
        mixed = (params.log_weight.exp()[:, :, None] * means).sum(1)
        mean: Tensor = (1 - self.floor) * mixed + 0.5 * self.floor
        return mean

    def weights(self, params: Mixture, gamma: float) -> Tensor:
        """Return 1 for every pixel, whatever gamma: a mixture has no single sigma to weigh by."""
        return params.log_weight.new_ones(())

    def log_prob(self, x: Tensor, params: Mixture) -> Tensor:
        """Return `log P(x_c | x_{< c})` of every channel, in nats; their sum is the pixel's."""
        log_prob, log_weight = [], params.log_weight
        for c in range(x.shape[1]):
            joint = self._joint(x[:, c], _given(x[:, :c], params, log_weight))
            log_prob.append(joint.logsumexp(1))
            log_weight = joint - log_prob[c][:, None]
        mixed = torch.stack(log_prob, dim=1) + math.log1p(-self.floor)
        return torch.logaddexp(mixed, mixed.new_tensor(math.log(LEAST_PROBABILITY)))

    def abduct(self, x: Tensor, params: Mixture, generator: Generator | None = None) -> Tensor:
        double, value = _double(params), x.double()
        v = torch.rand(x.shape, generator=generator, dtype=value.dtype, device=x.device)
        half, eps, log_weight = (1 - EDGE_SHARE) * 0.5 / self.levels, [], double.log_weight
        for c in range(x.shape[1]):
            pixel, channel = value[:, c], _given(value[:, :c], double, log_weight)
            low = self._cdf(pixel - half, channel).masked_fill(pixel < half, 0)
            high = self._cdf(pixel + half, channel).masked_fill(pixel > 1 - half, 1)
            inset = ((high - low) / 4).clamp_max(INSET)
            p = low + inset + v[:, c] * (high - low - 2 * inset)
            eps.append(torch.special.ndtri(p))
            log_weight = self._joint(pixel, channel).log_softmax(1)
        return torch.stack(eps, dim=1).to(x.dtype)

    def predict(self, eps: Tensor, params: Mixture) -> Tensor:
        double, p = _double(params), torch.special.ndtr(eps.double())
        x, log_weight = eps[:, :0], double.log_weight
        for c in range(eps.shape[1]):
            channel = _given(x.double(), double, log_weight)
            pixel = self._level(p[:, c], channel).to(eps.dtype) / self.levels
            if torch.is_grad_enabled():
                pixel = pixel + self._step(p[:, c], pixel.double(), channel).to(eps.dtype)
            x = torch.cat([x, pixel[:, None]], dim=1)
            log_weight = self._joint(pixel.double(), channel).log_softmax(1)
        return x

    def _joint(self, x: Tensor, channel: _Channel) -> Tensor:
        """Return `log w_k P_k(x)`, `(n, K, H, W)`, for a channel's pixels `(n, H, W)`.

        With `b - a = w`: `sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(-w))`.
        """
        x, half = x[:, None], 0.5 / self.levels
        precision = (-channel.log_scale).exp()
        z, half_w = (x - channel.mean) * precision, half * precision
        above, below = x > half, x < 1 - half  # whether the bin ends on that side
        log_bin = logsigmoid(z + half_w) * below + logsigmoid(half_w - z) * above
        log_bin += (-(-2 * half_w).expm1()).log() * (above & below)
        joint: Tensor = channel.log_weight + log_bin
        return joint

    def _cdf(self, t: Tensor, channel: _Channel) -> Tensor:
        """Return `F(t)`, `(n, H, W)`."""
        z = (t[:, None] - channel.mean) * (-channel.log_scale).exp()
        mixed = (channel.log_weight.exp() * z.sigmoid()).sum(1)
        cdf: Tensor = (1 - self.floor) * mixed + LEAST_PROBABILITY * (self.levels * t + 0.5)
        return cdf

    @torch.no_grad()
    def _level(self, p: Tensor, channel: _Channel) -> Tensor:
        """Find the level k, from 0 to L, in whose bin F passes p: the first that ends above p."""
        low, high = torch.zeros_like(p), torch.full_like(p, self.levels)
        for _ in range(self.bits):
            middle = ((low + high) / 2).floor()
            passed = self._cdf((middle + 0.5) / self.levels, channel) >= p
            low, high = torch.where(passed, low, middle + 1), torch.where(passed, middle, high)
        return low

    def _step(self, p: Tensor, x: Tensor, channel: _Channel) -> Tensor:
        """Return zero, with the gradient of `F^-1(p)` at x; none where that lies outside [0, 1]."""
        gap = p - self._cdf(x, channel)
        z = (x.detach()[:, None] - channel.mean) * (-channel.log_scale).exp()
        peaks = channel.log_weight.exp() * z.sigmoid() * (-z).sigmoid() * (-channel.log_scale).exp()
        slope = (1 - self.floor) * peaks.sum(1) + LEAST_PROBABILITY * self.levels
        inside = ((x > 0) | (gap > 0)) & ((x < 1) | (gap < 0))
        step: Tensor = (gap - gap.detach()) / slope.detach() * inside
        return step


def _given(earlier: Tensor, params: Mixture, log_weight: Tensor) -> _Channel:
    """Return the channel that follows those of `earlier`, `(n, c, H, W)`."""
    c = earlier.shape[1]
    return _Channel(log_weight, _centre(earlier[:, None], params, c), params.log_scale[:, :, c])


def _centre(earlier: Tensor, params: Mixture, c: int) -> Tensor:
    """Return `m_kc`, `(n, K, H, W)`, given the channels before, `(n, 1 or K, c, H, W)`."""
    if c == 0:
        return params.mean[:, :, 0]
    slopes = params.coefficient[:, :, c * (c - 1) // 2 : c * (c + 1) // 2]
    return params.mean[:, :, c] + (slopes * (earlier - 0.5)).sum(2)


def _double(params: Mixture) -> Mixture:
    # In single precision, the bins of a sharp component would not be told apart.
    return Mixture(*(p.double() for p in params))
