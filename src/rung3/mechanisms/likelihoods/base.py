"""Likelihoods of a pixel: how `x` comes from a decoder's output and from noise `eps`.

`Likelihood` is their contract; every image mechanism takes any of them. The two Gaussian ones say
`x = mu + sigma eps`, `eps ~ N(0, 1)`. `Gaussian`, for real-valued pixels, is that equation and its
density. `DiscretisedGaussian` is for pixels that were stored as whole levels k / L (L = 255 for 8
bits): what is seen is the level nearest to `mu + sigma eps`, so a pixel's value is a bin of width
1 / L, open at 0 and at 1, and

    P(x) = Phi(b) - Phi(a),   a = (x - 1/2L - mu) / sigma,   b = (x + 1/2L - mu) / sigma.

Given the pixel, eps is a normal truncated to (a, b): its posterior, from which abduction draws. To
take `(x - mu) / sigma` instead would be wrong at 0 and 1, where eps is known on one side only.

In both, mu lies in [0, 1], in training as in queries, and so does what is predicted. The gradient
of that clamp vanishes only where a step would lead further out, so no pixel is ever stuck.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rung3.data.shared_batch import batch_mean
from rung3.data.variables import levels_of

__all__ = ["DiscretisedGaussian", "Gaussian", "Likelihood", "LocationScale", "Normal"]

MARGIN = 1 / 32
"""Share of a bin, at its edges, that abducted noise keeps clear of, so that rounding is safe."""

MOST_LOG_SCALE = 5.0
"""Upper bound of log-scales: pixels lie between 0 and 1, and a wild network must not overflow."""

INITIAL_LOG_SCALE = -2.0
"""Log-scale, above its bound, of a network that puts out zeros."""


class Normal(NamedTuple):
    """Mean, in [0, 1], and log of the scale, of every pixel; each `(n, C, H, W)`."""

    mean: Tensor
    log_scale: Tensor


Params = TypeVar("Params")


def standard_normal(
    shape: tuple[int, ...], generator: Generator | None, device: torch.device
) -> Tensor:
    """Draws from N(0, 1)."""
    return torch.randn(shape, generator=generator, device=device)


class Likelihood(ABC, Generic[Params]):
    """How a pixel comes from a decoder's output and from eps.

    Args:
        min_log_scale: Lower bound of a log-scale, from -12 to 0, with pixels from 0 to 1: it bounds
            what a constant pixel can add to the likelihood, and the gradients of a wrong one.

    Attributes:
        sample_noise: Draws eps from its prior: `(shape, generator, device)`.
    """

    sample_noise: ClassVar[Callable[..., Tensor]] = staticmethod(standard_normal)

    def __init__(self, min_log_scale: float = -6.0) -> None:
        if not -12 <= min_log_scale <= 0:
            raise ValueError(f"min_log_scale={min_log_scale} must lie between -12 and 0")
        self.min_log_scale = min_log_scale

    def bounded(self, raw: Tensor) -> Tensor:
        """A network's unbounded output as log-scales within their bounds."""
        excess = torch.nn.functional.softplus(raw + INITIAL_LOG_SCALE - self.min_log_scale)
        return (self.min_log_scale + excess).clamp_max(MOST_LOG_SCALE)

    @abstractmethod
    def outputs(self, channels: int) -> int:
        """Channels that a decoder puts out for an image of so many channels."""

    @abstractmethod
    def params(self, raw: Float[Tensor, "n k h w"]) -> Params:
        """A decoder's unbounded output, of `outputs(C)` channels, as parameters."""

    @abstractmethod
    def mean(self, params: Params) -> Tensor:
        """The expected pixels, in [0, 1], `(n, C, H, W)`, before they are rounded to levels."""

    @abstractmethod
    def weights(self, params: Params, gamma: float) -> Tensor:
        """Weights of the pixels in a loss, of mean one, without gradient; all one at gamma 0."""

    @abstractmethod
    def log_prob(self, x: Tensor, params: Params) -> Tensor:
        """Log-probability, or log-density over [0, 1], of every pixel, `(n, C, H, W)` in nats."""

    @abstractmethod
    def abduct(self, x: Tensor, params: Params, generator: Generator | None = None) -> Tensor:
        """Noise eps that gives these pixels, drawn from its posterior, `(n, C, H, W)`."""

    @abstractmethod
    def predict(self, eps: Tensor, params: Params) -> Tensor:
        """The pixels, in [0, 1], `(n, C, H, W)`."""


def normal_integral(t: Tensor) -> Tensor:
    """`t Phi(t) + phi(t)`."""
    density = (-0.5 * t.square()).exp() / math.sqrt(2 * math.pi)
    integral: Tensor = t * torch.special.ndtr(t) + density
    return integral


def clamped_mean(mu: Tensor, scale: Tensor, integral: Callable[[Tensor], Tensor]) -> Tensor:
    """`E clamp(mu + scale eps)`, by the integral of the distribution function of eps."""
    inside: Tensor = scale * (integral(mu / scale) - integral((mu - 1) / scale))
    return inside.clamp(0, 1)


class LocationScale(Likelihood[Normal]):
    """What `x = mu + sigma eps` shares: mu and log sigma, in this order, for every channel.

    Pixels are clamped to [0, 1], so their mean is not mu, and near black and white far from it:

        E clamp(mu + sigma eps) = int_0^1 P(mu + sigma eps > t) dt
                                = sigma (G(mu / sigma) - G((mu - 1) / sigma)),
        G(t) = int_-inf^t F(v) dv,    F the distribution function of eps, which is symmetric.
    """

    @staticmethod
    @abstractmethod
    def integral(t: Tensor) -> Tensor:
        """G, the integral of the distribution function of eps up to t."""

    def outputs(self, channels: int) -> int:
        return 2 * channels

    def params(self, raw: Float[Tensor, "n k h w"]) -> Normal:
        mean, log_scale = raw.chunk(2, dim=1)
        return Normal(clamp(mean), self.bounded(log_scale))

    def mean(self, params: Normal) -> Tensor:
        return clamped_mean(params.mean, params.log_scale.exp(), self.integral)

    def weights(self, params: Normal, gamma: float) -> Tensor:
        """`w_i ~ sigma_i^(2 gamma)` (Seitzer et al. 2022, arXiv 2203.09168)."""
        weights: Tensor = (2 * gamma * params.log_scale.detach()).exp()
        return weights / batch_mean(weights)


class Gaussian(LocationScale):
    """`x = mu + sigma eps` as it stands; abduction is exact, and predictions are clamped to [0, 1].

    Example:
        >>> normal = Normal(torch.tensor([0.5]), torch.tensor([-2.0]))
        >>> pixels = Gaussian()
        >>> pixels.predict(pixels.abduct(torch.tensor([0.75]), normal), normal)
        tensor([0.7500])
        >>> pixels.mean(Normal(torch.zeros(1), torch.tensor([-2.0])))  # black, or lighter
        tensor([0.0540])
    """

    integral = staticmethod(normal_integral)

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        eps = self.abduct(x, params)
        return -0.5 * (eps.square() + math.log(2 * math.pi)) - params.log_scale

    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        return (x - params.mean) / params.log_scale.exp()

    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        return clamp(params.mean + params.log_scale.exp() * eps)


class DiscretisedGaussian(LocationScale):
    """The level nearest to `mu + sigma eps`; abduction draws from the exact posterior of eps.

    Args:
        bits: Bits that a pixel was stored with; up to 12 for exact round trips in single precision.
        min_log_scale: Lower bound of log sigma.

    Example:
        >>> normal = Normal(torch.tensor([0.5, 0.02]), torch.tensor([-2.0, -2.0]))
        >>> pixels, x = DiscretisedGaussian(bits=8), torch.tensor([191 / 255, 0.0])
        >>> torch.equal(pixels.predict(pixels.abduct(x, normal), normal), x)
        True
    """

    def __init__(self, bits: int = 8, min_log_scale: float = -6.0) -> None:
        super().__init__(min_log_scale)
        self.levels = levels_of(bits)

    integral = staticmethod(normal_integral)

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        return _log_bin(x, params.mean, params.log_scale, self.levels)

    @torch.no_grad()
    def _draw(self, x: Tensor, params: Normal, generator: Generator | None) -> Tensor:
        """What lies under the pixels, `mu + sigma eps` given its bin, as its distance from x."""
        half, value = 0.5 / self.levels, x.double()
        mean, scale = params.mean.double(), params.log_scale.double().exp()
        low = (value - (1 - MARGIN) * half - mean) / scale
        high = (value + (1 - MARGIN) * half - mean) / scale
        low, high = low.masked_fill(x < half, -torch.inf), high.masked_fill(x > 1 - half, torch.inf)
        return (mean + scale * truncated_normal(low, high, generator) - value).to(x.dtype)

    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        offset = self._draw(x, params, generator)
        return (x + offset - params.mean) / params.log_scale.exp()

    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        value = clamp(params.mean + params.log_scale.exp() * eps)
        return round_level(value, self.levels)


def round_level(value: Tensor, levels: int) -> Tensor:
    """The nearest of the levels `k / levels`, with the gradient of the identity."""
    level: Tensor = _round(value * levels) / levels
    return level


def truncated_normal(low: Tensor, high: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw from N(0, 1) given `low < u < high`, for any bounds, however far in the tails.

    With `v ~ U(0, 1)`: `u = Phi^-1((1 - v) Phi(low) + v Phi(high))`, in logarithms, and mirrored
    so that the interval lies left of 0, where they lose no digits.

    Args:
        low: Lower bounds, in double precision; `-inf` is allowed.
        high: Upper bounds, of the same shape; `inf` is allowed.
        generator: Source of the randomness.
    """
    mirrored = low + high > 0
    a, b = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    v = torch.rand(a.shape, generator=generator, dtype=a.dtype, device=a.device)
    log_ndtr = torch.special.log_ndtr
    log_p = torch.logaddexp(log_ndtr(a) + (-v).log1p(), log_ndtr(b) + v.log())
    u = torch.minimum(torch.maximum(_log_ndtri(log_p), a), b)
    return torch.where(mirrored, -u, u)


def _log_ndtri(log_p: Tensor) -> Tensor:
    """Inverse of log Phi: by Phi^-1, and by Newton's method where the probability underflows."""
    u: Tensor = torch.special.ndtri(log_p.exp())
    tail = log_p < -600
    if tail.any():
        target = log_p[tail]
        x = -(-2 * target).sqrt()
        for _ in range(4):
            x = x - (torch.special.log_ndtr(x) - target) / _hazard(x)
        u[tail] = x
    return u


def _hazard(x: Tensor) -> Tensor:
    """`phi(x) / Phi(x)`, the derivative of log Phi, accurate in both tails."""
    hazard: Tensor = math.sqrt(2 / math.pi) / torch.special.erfcx(-x / math.sqrt(2))
    return hazard


class _LogBin(Function):
    """Log-probability of a bin, `log(Phi(b) - Phi(a))`, exact in digits however far in the tails.

    With the bin's distance `c = |x - mu| / sigma`, its width `w = 1 / L sigma`, its edges
    `B = c - w/2` and `A = c + w/2`, and the Mills ratio `m(t) = Phi(-t) / phi(t)`,

        P = phi(B) D,   D = m(B) - e m(A),   e = exp(-w c),

    since `phi(A) = e phi(B)`, and with e = 0 for a bin that is open outwards; so
    `d log P = -(1 - e) / D dc + (1 + e) / 2D dw`. It is evaluated for every pixel at every step,
    and so written out, with its gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
        precision = log_scale.neg().exp_()
        distance = x - mean
        c, w = distance.abs().mul_(precision), precision / levels
        # Beyond 8 deviations inside its bin a pixel is certain, in single precision.
        near = torch.add(c, w, alpha=-0.5).clamp_min_(-8)  # B
        closed = (x - 0.5).abs_().lt_(0.5 - 0.5 / levels)
        # 1 - e with all its digits: -expm1(-w c) where the bin is closed, and 1 where it is open.
        fall = torch.addcmul(1 - closed, closed, (w * c).neg_().expm1_(), value=-1)
        e = 1 - fall
        d = _mills(near).sub_(_mills(torch.add(c, w, alpha=0.5)).mul_(e))
        d = torch.maximum(d, w * e)  # a lower bound of D, below which only rounding leads
        by_c, by_w = fall / d, (1 + e).div_(d).mul_(0.5)
        ctx.save_for_backward(
            distance.sign_().mul_(by_c).mul_(precision), c.mul_(by_c).sub_(w.mul_(by_w))
        )
        return d.log_().sub_(near.square_().add_(math.log(2 * math.pi)).mul_(0.5))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_mean, by_log_scale = (gradients[0] * slope for slope in ctx.saved_tensors)
        return -by_mean, by_mean, by_log_scale, None


def _mills(t: Tensor) -> Tensor:
    """The Mills ratio `Phi(-t) / phi(t)` for t above -8, to 1e-6.

    By erfc up to 5, and beyond by Laplace's continued fraction, cut after `5 / t`,

        1 / (t + 1 / (t + 2 / (t + ...))) = t (t^4 + 14 t^2 + 33) / (t^6 + 15 t^4 + 45 t^2 + 15),

    scaled to 1 at 5. The function erfcx says the same, at ten times the cost on processors.
    """
    inner, outer = t.clamp_max(5), t.clamp_min(5)
    ratio: Tensor = inner.square().mul_(0.5).exp_()
    ratio.mul_(inner.mul_(math.sqrt(0.5)).erfc_()).mul_(outer)
    s = outer.square_()
    ratio.mul_((s + 14).mul_(s).add_(33))
    ratio.div_((s + 15).mul_(s).add_(45).mul_(s).add_(15))
    return ratio.mul_(math.sqrt(math.pi / 2) * 26140 / 5040)


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
_log_bin: Callable[[Tensor, Tensor, Tensor, int], Tensor] = _LogBin.apply
clamp: _Map = _Clamp.apply
_round: _Map = _Round.apply
