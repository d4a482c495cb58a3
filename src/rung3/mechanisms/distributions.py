"""Distributions of an equation's noise: read from text, drawn from under a generator, and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch import distributions as td
from torch.distributions import Distribution

__all__ = ["NOISES", "clamp_inside", "draw", "parse_distribution", "some_value", "support_ends"]

NOISES: dict[str, Callable[..., Distribution]] = {
    kind.__name__: kind
    for kind in (
        td.Normal, td.Uniform, td.Gamma, td.Beta, td.Exponential, td.Laplace, td.LogNormal,
        td.Gumbel, td.StudentT, td.Cauchy, td.HalfNormal, td.Chi2, td.Weibull, td.Pareto,
    )
}  # fmt: skip
"""Distributions of noise that have a name in text: those of torch for one number."""


def parse_distribution(noise: Distribution | str | None) -> Distribution:
    """Read a distribution such as `"Gamma(10, 5)"`; standard normal if none is given.

    Raises:
        ValueError: If it is none of `NOISES`, or its parameters are not those of one.
    """
    if noise is None:
        return td.Normal(0.0, 1.0)
    if isinstance(noise, Distribution):
        return noise
    name, _, rest = str(noise).partition("(")
    try:
        parameters = [float(p) for p in rest.rstrip(") ").split(",") if p.strip()]
        return NOISES[name.strip()](*parameters, validate_args=True)
    except (KeyError, ValueError, TypeError):
        raise ValueError(
            f"noise {noise!r}: expected one of {', '.join(NOISES)} with its parameters, such as "
            '"Gamma(10, 5)"'
        ) from None


def draw(
    distribution: Distribution,
    shape: tuple[int, ...],
    generator: Generator | None,
    device: torch.device,
) -> Tensor:
    """Draw under a generator, which `torch.distributions` do not take: it seeds torch's own."""
    if generator is None:
        return distribution.sample(shape).to(device)
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return distribution.sample(shape).to(device)


def support_ends(distribution: Distribution) -> tuple[float, float]:
    """Return the least and greatest value of the noise."""
    support: Any = distribution.support
    low = float(getattr(support, "lower_bound", -torch.inf))
    return low, float(getattr(support, "upper_bound", torch.inf))


def clamp_inside(u: Tensor, low: float, high: float) -> Tensor:
    """Move noise just inside the support: torch's densities leave out one end or the other."""
    eps = torch.finfo(u.dtype).eps
    floor = low + eps * max(abs(low), eps) if low > -torch.inf else low
    return u.clamp(floor, high - eps * abs(high) if high < torch.inf else high)


def some_value(distribution: Distribution) -> float:
    """Return a value inside the support, to stand in for those outside."""
    low, high = support_ends(distribution)
    return (low + high) / 2 if abs(low + high) < torch.inf else max(low, -1.0) + 1.0
