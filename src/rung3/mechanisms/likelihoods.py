"""Likelihoods of a pixel: `x = mu + sigma eps`, `eps ~ N(0, 1)`.

`Gaussian`, for real-valued pixels, is that equation and its density. `DiscretisedGaussian` is for
pixels that were stored as whole levels k / L (L = 255 for 8 bits): what is seen is the level
nearest to `mu + sigma eps`, so a pixel's value is a bin of width 1 / L, open at 0 and at 1, and

    P(x) = Phi(b) - Phi(a),   a = (x - 1/2L - mu) / sigma,   b = (x + 1/2L - mu) / sigma.

Given the pixel, eps is a normal truncated to (a, b): its posterior, from which abduction draws. To
take `(x - mu) / sigma` instead would be wrong at 0 and 1, where eps is known on one side only.

In both, mu lies in [0, 1], in training as in queries. The gradient of that clamp vanishes only
where a step would lead further out, so no pixel is ever stuck.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.autograd import Function

__all__ = ["DiscretisedGaussian", "Gaussian", "Likelihood", "Normal"]

MARGIN = 1 / 32
"""Share of a bin, at its edges, that abducted noise keeps clear of, so that rounding is safe."""

FAR = 1e6
"""A bound in standard deviations that stands for infinity, where gradients are still finite."""


class Normal(NamedTuple):
    """Mean, in [0, 1], and log of the scale, of every pixel; each `(n, C, H, W)`."""

    mean: Tensor
    log_scale: Tensor


class Likelihood(ABC):
    """How a pixel comes from a decoder's output and from eps.

    Args:
        min_log_scale: Lower bound of log sigma, from -12 to 0, with pixels from 0 to 1: it bounds
            what a constant pixel can add to the likelihood, and the gradients of a wrong one.
    """

    def __init__(self, min_log_scale: float = -6.0) -> None:
        if not -12 <= min_log_scale <= 0:
            raise ValueError(f"min_log_scale={min_log_scale} must lie between -12 and 0")
        self.min_log_scale = min_log_scale

    def params(self, mean: Float[Tensor, "n c h w"], log_scale: Float[Tensor, "n c h w"]) -> Normal:
        """A network's unbounded outputs as parameters: mu in [0, 1], log sigma above its bound."""
        excess = torch.nn.functional.softplus(log_scale - self.min_log_scale)
        return Normal(_clamp(mean), self.min_log_scale + excess)

    @abstractmethod
    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        """Log-probability, or log-density over [0, 1], of every pixel, `(n, C, H, W)` in nats."""

    @abstractmethod
    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        """Noise eps that gives these pixels, drawn from its posterior, `(n, C, H, W)`."""

    @abstractmethod
    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        """The pixels, in [0, 1], `(n, C, H, W)`."""


class Gaussian(Likelihood):
    """`x = mu + sigma eps` as it stands; abduction is exact, and predictions are clamped to [0, 1].

    Example:
        >>> normal = Normal(torch.tensor([0.5]), torch.tensor([-2.0]))
        >>> pixels = Gaussian()
        >>> pixels.predict(pixels.abduct(torch.tensor([0.75]), normal), normal)
        tensor([0.7500])
    """

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        eps = self.abduct(x, params)
        return -0.5 * (eps.square() + math.log(2 * math.pi)) - params.log_scale

    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        return (x - params.mean) / params.log_scale.exp()

    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        return (params.mean + params.log_scale.exp() * eps).clamp(0, 1)


class DiscretisedGaussian(Likelihood):
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
        self.levels = 2**bits - 1

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        low, high = self._bin(x, params)
        # Mirrored so that both ends lie left of the mean, where log Phi loses no digits.
        mirrored = low + high > 0
        a, b = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
        log_a, log_b = _log_ndtr(a), _log_ndtr(b)
        return log_b + _log1mexp(log_a - log_b)

    def _bin(self, x: Tensor, params: Normal, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Standardised ends of a share of the pixels' bins, open at 0 and 1."""
        half, precision = 0.5 / self.levels, (-params.log_scale).exp()
        low = (x - share * half - params.mean) * precision
        high = (x + share * half - params.mean) * precision
        return low.masked_fill(x < half, -FAR), high.masked_fill(x > 1 - half, FAR)

    @torch.no_grad()
    def _draw(self, x: Tensor, params: Normal, generator: Generator | None) -> Tensor:
        """What lies under the pixels, `mu + sigma eps` given its bin, as its distance from x."""
        double = Normal(params.mean.double(), params.log_scale.double())
        low, high = self._bin(x.double(), double, share=1 - MARGIN)
        eps = truncated_normal(low, high, generator)
        return (double.mean + double.log_scale.exp() * eps - x).to(x.dtype)

    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        offset = self._draw(x, params, generator)
        return (x + offset - params.mean) / params.log_scale.exp()

    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        value = (params.mean + params.log_scale.exp() * eps).clamp(0, 1)
        level: Tensor = _round(value * self.levels) / self.levels
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


def _log1mexp(x: Tensor) -> Tensor:
    """`log(1 - exp(x))` for x < 0 (Maechler 2012), with finite gradients at x = 0."""
    x = x.clamp_max(-torch.finfo(x.dtype).tiny)
    near = x > -math.log(2)
    by_expm1: Tensor = (-torch.where(near, x, -1.0).expm1()).log()
    by_log1p: Tensor = (-torch.where(near, -1.0, x).exp()).log1p()
    return torch.where(near, by_expm1, by_log1p)


class _LogNdtr(Function):
    """log Phi with a gradient that is right in the tail (torch's is wrong below x = -1000)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        log_ndtr: Tensor = torch.special.log_ndtr(x)
        return log_ndtr

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * _hazard(x)


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
_log_ndtr: _Map = _LogNdtr.apply
_clamp: _Map = _Clamp.apply
_round: _Map = _Round.apply
