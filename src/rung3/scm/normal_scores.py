"""Noise as standard normal scores, `z = Phi^-1(F(u))`, and back: one unit for noise of any prior.

Tails are read from the nearer side, so that rare noise keeps its digits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from scipy import stats
from torch import Tensor

__all__ = ["NormalScore"]

SCIPY: dict[str, Callable[..., Any]] = {
    "Normal": stats.norm,
    "Uniform": lambda low, high: stats.uniform(low, high - low),
    "Gamma": lambda shape, rate: stats.gamma(shape, scale=1 / rate),
    "Beta": stats.beta,
    "Exponential": lambda rate: stats.expon(scale=1 / rate),
    "Laplace": stats.laplace,
    "LogNormal": lambda loc, scale: stats.lognorm(scale, scale=math.exp(loc)),
    "Gumbel": stats.gumbel_r,
    "StudentT": stats.t,
    "Cauchy": stats.cauchy,
    "HalfNormal": lambda scale: stats.halfnorm(scale=scale),
    "Chi2": stats.chi2,
    "Weibull": lambda scale, shape: stats.weibull_min(shape, scale=scale),
    "Pareto": lambda scale, shape: stats.pareto(shape, scale=scale),
}
"""SciPy's distribution of each noise that has a name in text, with torch's parameters."""

MOST = 8.0
"""Greatest score, in standard deviations: noise at the very end of its support has it."""


@dataclass(frozen=True)
class NormalScore:
    """The scores of noise of one prior.

    Attributes:
        distribution: SciPy's distribution of the noise.
    """

    distribution: Any

    @classmethod
    def of(cls, prior: str) -> Self | None:
        """Return the scores of a prior such as `"Gamma(10.0, 5.0)"`; `None` where it is not known.

        Example:
            >>> NormalScore.of("Uniform(0.0, 1.0)").score(torch.tensor([0.5]))
            tensor([0.], dtype=torch.float64)
        """
        match = re.fullmatch(r"(\w+)\(([^()]*)\)", prior)
        if match is None or match[1] not in SCIPY:
            return None
        try:
            parameters = [float(p) for p in match[2].split(",")]
        except ValueError:
            return None
        return cls(SCIPY[match[1]](*parameters))

    def score(self, noise: Tensor) -> Tensor:
        """Return the scores of noise, in double, of its shape."""
        u = noise.detach().double().cpu().numpy()
        below = torch.as_tensor(stats.norm.ppf(self.distribution.cdf(u)))
        above = torch.as_tensor(stats.norm.isf(self.distribution.sf(u)))
        z = below.where(below < 0, above)
        return z.clamp(-MOST, MOST).to(noise.device)

    def noise(self, score: Tensor) -> Tensor:
        """Return the noise of scores in double; gradients go through."""
        quantile: Any = _Quantile  # torch leaves `apply` untyped
        noise: Tensor = quantile.apply(score, self.distribution)
        return noise


class _Quantile(torch.autograd.Function):
    """`u = F^-1(Phi(z))`, with the slope `phi(z) / f(u)`."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, distribution: Any) -> Tensor:
        z = score.detach().cpu().numpy()
        low, high = distribution.ppf(stats.norm.cdf(z)), distribution.isf(stats.norm.sf(z))
        u = torch.as_tensor(low).where(score.cpu() < 0, torch.as_tensor(high))
        log_slope = stats.norm.logpdf(z) - distribution.logpdf(u.numpy())
        slope = torch.as_tensor(log_slope).exp().nan_to_num(0.0)
        ctx.save_for_backward(slope.to(score.device))
        return u.to(score.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None
