"""Gaussian likelihoods: `x = mu + sigma eps` with `eps ~ N(0, 1)`, for real pixels and for levels.

`Gaussian`, for real-valued pixels, is that equation and its density. `DiscretisedGaussian` is for
pixels stored as whole levels: with the bin (a, b) of `rung3.mechanisms.likelihoods.base`,

    P(x) = Phi(b) - Phi(a),

and given the pixel, eps is a normal truncated to (a, b).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from rung3.mechanisms.likelihoods.base import (
    Discretised,
    LocationScale,
    Normal,
    clamp,
    draw_truncated,
)

__all__ = ["DiscretisedGaussian", "Gaussian", "truncated_normal"]

UNDERFLOW_LOG_P = -600.0
"""Log-probability, in nats, below which a probability is near the least double, and Newton's method
takes the place of Phi^-1."""

NEWTON_STEPS = 4
"""Steps of that method: each doubles the digits, and it starts with two or more."""

MAX_INNER = 8.0
"""Deviations within its bin from where on a pixel is certain in single precision."""


def normal_integral(t: Tensor) -> Tensor:
    """Return `t Phi(t) + phi(t)`, the integral of Phi up to t."""
    density = (-0.5 * t.square()).exp() / math.sqrt(2 * math.pi)
    integral: Tensor = t * torch.special.ndtr(t) + density
    return integral


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

    whole_levels = False
    integral = staticmethod(normal_integral)

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        eps = self.abduct(x, params)
        return -0.5 * (eps.square() + math.log(2 * math.pi)) - params.log_scale

    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        return (x - params.mean) / params.log_scale.exp()

    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        return clamp(params.mean + params.log_scale.exp() * eps)


def log_quantile(log_p: Tensor) -> Tensor:
    """Invert log Phi: by Phi^-1, and by Newton's method where the probability underflows."""
    u: Tensor = torch.special.ndtri(log_p.exp())
    tail = log_p < UNDERFLOW_LOG_P
    if tail.any():
        target = log_p[tail]
        x = -(-2 * target).sqrt()
        for _ in range(NEWTON_STEPS):
            x = x - (torch.special.log_ndtr(x) - target) / _hazard(x)
        u[tail] = x
    return u


def _hazard(x: Tensor) -> Tensor:
    """Return `phi(x) / Phi(x)`, the derivative of log Phi, accurate in both tails."""
    hazard: Tensor = math.sqrt(2 / math.pi) / torch.special.erfcx(-x / math.sqrt(2))
    return hazard


truncated_normal = partial(draw_truncated, torch.special.log_ndtr, log_quantile)
"""Draws from N(0, 1) given `low < u < high`: `(low, high, generator)`."""


class DiscretisedGaussian(Discretised):
    """The level nearest to `mu + sigma eps`, with eps standard normal; see `Discretised`.

    Example:
        >>> normal = Normal(torch.tensor([0.5, 0.02]), torch.tensor([-2.0, -2.0]))
        >>> pixels, x = DiscretisedGaussian(bits=8), torch.tensor([191 / 255, 0.0])
        >>> torch.equal(pixels.predict(pixels.abduct(x, normal), normal), x)
        True
    """

    integral = staticmethod(normal_integral)
    truncated = staticmethod(truncated_normal)

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        return _log_bin(x, params.mean, params.log_scale, self.levels)


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
        near = torch.add(c, w, alpha=-0.5).clamp_min_(-MAX_INNER)  # B
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
    """Return the Mills ratio `Phi(-t) / phi(t)` for t above -8, to 1e-6.

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


_log_bin: Callable[[Tensor, Tensor, Tensor, int], Tensor] = _LogBin.apply
