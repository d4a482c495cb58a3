"""The discretised logistic: the level nearest to `mu + s eps`, with eps standard logistic.

A pixel's value is a bin of width 1 / L, open at 0 and at 1, and with sigmoid F

    P(x) = F(b) - F(a),   a = (x - 1/2L - mu) / s,   b = (x + 1/2L - mu) / s,
         = F(b) F(-a) (1 - exp(a - b)).

Its counterfactuals are those of a discretised Gaussian, but its tails fall like `exp(-|eps|)`: a
pixel far from where the decoder expects it, at the contour of a stroke, say, pulls with a force
that is bounded by `1 / s`, so scales can be small and means are learned fast (Kingma et al. 2016,
arXiv 1606.04934).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid, softplus

from rung3.data.variables import levels_of
from rung3.mechanisms.likelihoods.base import MARGIN, LocationScale, Normal, clamp, round_level

__all__ = ["DiscretisedLogistic"]


def standard_logistic(
    shape: tuple[int, ...], generator: Generator | None, device: torch.device
) -> Tensor:
    """Draws from the standard logistic."""
    u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    return u.logit(eps=1e-15).to(torch.get_default_dtype())


class DiscretisedLogistic(LocationScale):
    """The level nearest to `mu + s eps`; abduction draws from the exact posterior of eps.

    Args:
        bits: Bits that a pixel was stored with.
        min_log_scale: Lower bound of log s.

    Example:
        >>> params = Normal(torch.tensor([0.5, 0.02]), torch.tensor([-2.0, -2.0]))
        >>> pixels, x = DiscretisedLogistic(bits=8), torch.tensor([191 / 255, 0.0])
        >>> torch.equal(pixels.predict(pixels.abduct(x, params), params), x)
        True
    """

    sample_noise: ClassVar[Callable[..., Tensor]] = staticmethod(standard_logistic)

    def __init__(self, bits: int = 8, min_log_scale: float = -6.0) -> None:
        super().__init__(min_log_scale)
        self.levels = levels_of(bits)

    @staticmethod
    def integral(t: Tensor) -> Tensor:
        return softplus(t)

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        half, precision = 0.5 / self.levels, (-params.log_scale).exp()
        lowest, highest = x < half, x > 1 - half
        below = softplus((x - half - params.mean) * precision).masked_fill(lowest, 0)
        above = softplus((params.mean - half - x) * precision).masked_fill(highest, 0)
        width = (-torch.expm1(-2 * half * precision)).log().masked_fill(lowest | highest, 0)
        return width - below - above

    @torch.no_grad()
    def _draw(self, x: Tensor, params: Normal, generator: Generator | None) -> Tensor:
        """What lies under the pixels, `mu + s eps` given its bin, as its distance from x."""
        half, value = (1 - MARGIN) * 0.5 / self.levels, x.double()
        mean, scale = params.mean.double(), params.log_scale.double().exp()
        low = ((value - half - mean) / scale).masked_fill(x < half, -torch.inf)
        high = ((value + half - mean) / scale).masked_fill(x > 1 - half, torch.inf)
        return (mean + scale * truncated_logistic(low, high, generator) - value).to(x.dtype)

    def abduct(self, x: Tensor, params: Normal, generator: Generator | None = None) -> Tensor:
        offset = self._draw(x, params, generator)
        return (x + offset - params.mean) / params.log_scale.exp()

    def predict(self, eps: Tensor, params: Normal) -> Tensor:
        value = clamp(params.mean + params.log_scale.exp() * eps)
        return round_level(value, self.levels)


def truncated_logistic(low: Tensor, high: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw from the standard logistic given `low < u < high`, for any bounds.

    With `v ~ U(0, 1)`: `u = F^-1((1 - v) F(low) + v F(high))`, in logarithms, and mirrored so that
    the interval lies left of 0, where they lose no digits.

    Args:
        low: Lower bounds, in double precision; `-inf` is allowed.
        high: Upper bounds, of the same shape; `inf` is allowed.
        generator: Source of the randomness.
    """
    mirrored = low + high > 0
    a, b = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    v = torch.rand(a.shape, generator=generator, dtype=a.dtype, device=a.device)
    log_p = torch.logaddexp(logsigmoid(a) + (-v).log1p(), logsigmoid(b) + v.log())
    u = torch.minimum(torch.maximum(log_p - torch.log(-torch.expm1(log_p)), a), b)
    return torch.where(mirrored, -u, u)
