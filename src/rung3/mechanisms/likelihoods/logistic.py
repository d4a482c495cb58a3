"""The discretised logistic: the level nearest to `mu + s eps`, with eps standard logistic.

With the bin (a, b) of `rung3.mechanisms.likelihoods.base`, and sigmoid F,

    P(x) = F(b) - F(a) = F(b) F(-a) (1 - exp(a - b)).

Its counterfactuals are those of a discretised Gaussian, but its tails fall like `exp(-|eps|)`: a
pixel far from where the decoder expects it, for instance at the contour of a stroke, pulls with a
force that is bounded by `1 / s`, so scales can be small and means are learned fast (Kingma et al.
2016, arXiv 1606.04934).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Generator, Tensor
from torch.nn.functional import logsigmoid, softplus

from rung3.mechanisms.likelihoods.base import Discretised, Normal, draw_truncated

__all__ = ["DiscretisedLogistic", "truncated_logistic"]

LEAST_TAIL = 1e-15
"""Least probability beyond what the prior draws: it keeps noise finite, up to 34.5."""


def standard_logistic(
    shape: tuple[int, ...], generator: Generator | None, device: torch.device
) -> Tensor:
    """Draw from the standard logistic."""
    u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    return u.logit(eps=LEAST_TAIL).to(torch.get_default_dtype())


def log_quantile(log_p: Tensor) -> Tensor:
    """Invert the logarithm of the sigmoid."""
    return log_p - torch.log(-torch.expm1(log_p))


truncated_logistic = partial(draw_truncated, logsigmoid, log_quantile)
"""Draws from the standard logistic given `low < u < high`: `(low, high, generator)`."""


class DiscretisedLogistic(Discretised):
    """The level nearest to `mu + s eps`, with eps standard logistic; see `Discretised`.

    Example:
        >>> params = Normal(torch.tensor([0.5, 0.02]), torch.tensor([-2.0, -2.0]))
        >>> pixels, x = DiscretisedLogistic(bits=8), torch.tensor([191 / 255, 0.0])
        >>> torch.equal(pixels.predict(pixels.abduct(x, params), params), x)
        True
    """

    sample_noise = staticmethod(standard_logistic)
    integral = staticmethod(softplus)
    truncated = staticmethod(truncated_logistic)

    def log_prob(self, x: Tensor, params: Normal) -> Tensor:
        half, precision = 0.5 / self.levels, (-params.log_scale).exp()
        lowest, highest = x < half, x > 1 - half
        below = softplus((x - half - params.mean) * precision).masked_fill(lowest, 0)
        above = softplus((params.mean - half - x) * precision).masked_fill(highest, 0)
        width = (-torch.expm1(-2 * half * precision)).log().masked_fill(lowest | highest, 0)
        return width - below - above
