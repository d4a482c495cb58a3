"""The contract of a likelihood of pixels, and what those of a location and a scale share.

A likelihood says how a pixel `x` comes from a decoder's output and from noise `eps`; every image
mechanism takes any of them. Most say

    x = mu + sigma eps,

either as it stands (`Gaussian`) or rounded to the nearest of the levels k / L that pixels are
stored as (`Discretised`; L = 255 for 8 bits). In both, mu lies in [0, 1], in training as in
queries, and so does what is predicted. The gradient of that clamp vanishes only where a step would
lead further out, so no pixel is ever stuck.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.autograd import Function
from torch.nn import functional as F

from rung3.data.shared_batch import batch_mean
from rung3.data.variables import levels_of

__all__ = ["Discretised", "Likelihood", "LocationScale", "Normal", "clamp", "quantised"]

EDGE_SHARE = 1 / 32
"""Share of a bin, at its edges, that abducted noise stays clear of, so that rounding is safe."""

MAX_LOG_SCALE = 5.0
"""Upper bound of log-scales: pixels lie between 0 and 1, and a wild network must not overflow."""

INITIAL_LOG_SCALE = -2.0
"""Log-scale, above its bound, of a network that puts out zeros."""

Params = TypeVar("Params")


def standard_normal(
    shape: tuple[int, ...], generator: Generator | None, device: torch.device
) -> Tensor:
    """Draw from N(0, 1)."""
    return torch.randn(shape, generator=generator, device=device)


class Likelihood(ABC, Generic[Params]):
    """The distribution of a pixel, given a decoder's output, and its noise eps.

    Args:
        min_log_scale: Lower bound of a log-scale, from -12 to 0, with pixels from 0 to 1: it bounds
            what a constant pixel can add to the likelihood, and the gradients of a wrong one.

    Attributes:
        whole_levels: Whether pixels are whole levels, so that the constructor takes `bits`; if not,
            they are real numbers.
        sample_noise: Draws eps from its prior: `(shape, generator, device)`.
    """

    whole_levels: ClassVar[bool]
    sample_noise: ClassVar[Callable[..., Tensor]] = staticmethod(standard_normal)

    def __init__(self, min_log_scale: float = -6.0) -> None:
        if not -12 <= min_log_scale <= 0:
            raise ValueError(f"min_log_scale={min_log_scale} must lie between -12 and 0")
        self.min_log_scale = min_log_scale

    def bounded(self, raw: Tensor) -> Tensor:
        """Turn a network's unbounded output into log-scales within their bounds."""
        excess = F.softplus(raw + INITIAL_LOG_SCALE - self.min_log_scale)
        return (self.min_log_scale + excess).clamp_max(MAX_LOG_SCALE)

    def unbounded(self, log_scale: Tensor) -> Tensor:
        """Return the network's output that `bounded` turns into these log-scales.

        Example:
            >>> from rung3.mechanisms.likelihoods.gaussian import Gaussian
            >>> pixels = Gaussian()
            >>> pixels.bounded(pixels.unbounded(torch.tensor([-3.0, -1.0])))
            tensor([-3., -1.])
        """
        excess = (log_scale - self.min_log_scale).clamp_min(1e-3)
        return excess + torch.log(-torch.expm1(-excess)) - INITIAL_LOG_SCALE + self.min_log_scale

    @abstractmethod
    def outputs(self, channels: int) -> int:
        """Return how many channels a decoder puts out for an image of so many channels."""

    @abstractmethod
    def params(self, raw: Float[Tensor, "n k *sizes"]) -> Params:
        """Turn a decoder's unbounded output, of `outputs(C)` channels, into parameters."""

    @abstractmethod
    def mean(self, params: Params) -> Tensor:
        """Return the expected pixels, in [0, 1], `(n, C, H, W)`, before rounding to levels."""

    @abstractmethod
    def weights(self, params: Params, gamma: float) -> Tensor:
        """Return the pixels' weights in a loss, of mean 1, without gradient; all 1 at gamma 0."""

    @abstractmethod
    def log_prob(self, x: Tensor, params: Params) -> Tensor:
        """Return each pixel's log-probability, or log-density over [0, 1], `(n, C, H, W)`, nats."""

    @abstractmethod
    def abduct(self, x: Tensor, params: Params, generator: Generator | None = None) -> Tensor:
        """Draw the noise eps that gives these pixels from its posterior, `(n, C, H, W)`."""

    @abstractmethod
    def predict(self, eps: Tensor, params: Params) -> Tensor:
        """Return the pixels, in [0, 1], `(n, C, H, W)`."""


class Normal(NamedTuple):
    """Mean, in [0, 1], and log of the scale, of every pixel; each `(n, C, H, W)`."""

    mean: Tensor
    log_scale: Tensor


class LocationScale(Likelihood[Normal]):
    """Likelihoods `x = mu + sigma eps`, with mu and log sigma, in this order, for every channel.

    Pixels are clamped to [0, 1], so their mean is not mu, and near black and white far from it:

        E clamp(mu + sigma eps) = int_0^1 P(mu + sigma eps > t) dt
                                = sigma (G(mu / sigma) - G((mu - 1) / sigma)),
        G(t) = int_-inf^t F(v) dv,    F the distribution function of eps, which is symmetric.

    Attributes:
        integral: G, the integral of the distribution function of eps up to t.
    """

    integral: ClassVar[Callable[..., Tensor]]

    def outputs(self, channels: int) -> int:
        return 2 * channels

    def params(self, raw: Float[Tensor, "n k *sizes"]) -> Normal:
        mean, log_scale = raw.chunk(2, dim=1)
        return Normal(clamp(mean), self.bounded(log_scale))

    def mean(self, params: Normal) -> Tensor:
        return clamped_mean(params.mean, params.log_scale.exp(), self.integral)

    def weights(self, params: Normal, gamma: float) -> Tensor:
        """Return `w_i ~ sigma_i^(2 gamma)` (Seitzer et al. 2022, arXiv 2203.09168)."""
        weights: Tensor = (2 * gamma * params.log_scale.detach()).exp()
        return weights / batch_mean(weights)


class Discretised(LocationScale):
    """The level nearest to `mu + sigma eps`; abduction draws from the exact posterior of eps.

    A pixel's value is a bin of width 1 / L, open at 0 and at 1, and given the pixel, eps is its
    prior truncated to (a, b):

        a = (x - 1/2L - mu) / sigma,   b = (x + 1/2L - mu) / sigma.

    To take `(x - mu) / sigma` instead would be wrong at 0 and 1, where eps is known on one side
    only.

    Args:
        bits: Bits that a pixel was stored with; up to 12 for exact round trips in single precision.
        min_log_scale: Lower bound of log sigma.

    Attributes:
        truncated: Draws eps given its bounds: `(low, high, generator)`.
    """

    whole_levels = True
    truncated: ClassVar[Callable[..., Tensor]]

    def __init__(self, bits: int = 8, min_log_scale: float = -6.0) -> None:
        super().__init__(min_log_scale)
        self.levels = levels_of(bits)

    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        offset = self._offset(x, params, generator)
        return (x + offset - params.mean) / params.log_scale.exp()

    @torch.no_grad()
    def _offset(self, x: Tensor, params: Normal, generator: Generator | None) -> Tensor:
        """Draw `mu + sigma eps` given the pixel's bin, and return its distance from x."""
        half, value = 0.5 / self.levels, x.double()
        mean, scale = params.mean.double(), params.log_scale.double().exp()
        low = (value - (1 - EDGE_SHARE) * half - mean) / scale
        high = (value + (1 - EDGE_SHARE) * half - mean) / scale
        low, high = low.masked_fill(x < half, -torch.inf), high.masked_fill(x > 1 - half, torch.inf)
        return (mean + scale * self.truncated(low, high, generator) - value).to(x.dtype)

    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        return quantised(params.mean + params.log_scale.exp() * eps, self.levels)


def clamped_mean(mu: Tensor, scale: Tensor, integral: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `E clamp(mu + scale eps)`, by the integral of the distribution function of eps."""
    inside: Tensor = scale * (integral(mu / scale) - integral((mu - 1) / scale))
    return inside.clamp(0, 1)


def draw_truncated(
    log_cdf: Callable[[Tensor], Tensor],
    quantile: Callable[[Tensor], Tensor],
    low: Tensor,
    high: Tensor,
    generator: Generator | None = None,
) -> Tensor:
    """Draw from a symmetric distribution given `low < u < high`, however far in its tails.

    With `v ~ U(0, 1)`: `u = F^-1((1 - v) F(low) + v F(high))`, in logarithms, and mirrored so that
    the interval lies left of 0, where they lose no digits.

    Args:
        log_cdf: Logarithm of the distribution function F.
        quantile: Its inverse, a function of log-probabilities.
        low: Lower bounds, in double precision; `-inf` is allowed.
        high: Upper bounds, of the same shape; `inf` is allowed.
        generator: Source of the randomness.
    """
    mirrored = low + high > 0
    a, b = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    v = torch.rand(a.shape, generator=generator, dtype=a.dtype, device=a.device)
    log_p = torch.logaddexp(log_cdf(a) + (-v).log1p(), log_cdf(b) + v.log())
    u = torch.minimum(torch.maximum(quantile(log_p), a), b)
    return torch.where(mirrored, -u, u)


class _Clamp(Function):
    """Clamp to [0, 1] whose gradient is stopped only where it leads further out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        down = gradients[0] > 0
        return gradients[0].masked_fill(((x < 0) & down) | ((x > 1) & ~down), 0)


class _Round(Function):
    """The nearest whole number, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


_Map: TypeAlias = Callable[[Tensor], Tensor]
clamp: _Map = _Clamp.apply
_round_through: _Map = _Round.apply


def quantised(pixels: Tensor, levels: int | None) -> Tensor:
    """Return pixels cut at 0 and 1 and, of whole levels, rounded to one; gradients pass.

    Example:
        >>> quantised(torch.tensor([-0.1, 0.4, 0.9]), 2), quantised(torch.tensor([1.5]), None)
        (tensor([0.0000, 0.5000, 1.0000]), tensor([1.]))
    """
    inside = clamp(pixels)
    return inside if levels is None else _round_through(inside * levels) / levels
