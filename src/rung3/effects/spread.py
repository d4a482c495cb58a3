"""Uncertainty of a counterfactual: maps of its spread over draws of the noise.

    x~_k = f(x; do, u_k),     u_k ~ P(U | x),     k = 1, ..., K

Means, standard deviations and quantiles of the x~_k, pixel by pixel; on a circle, of how far they
are from their mean direction, the shorter way round. Draws are made a few at a time and then
forgotten: of images the sums and the counts of grey levels are kept, whatever K is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Values
from rung3.data.seeding import Seed
from rung3.data.variables import Continuous, Image, Variable, levels_of
from rung3.effects.particles import Clouds
from rung3.mechanisms.networks.encoding import centre
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Uncertainty", "uncertainty"]


@dataclass(frozen=True)
class Uncertainty:
    """The spread of a counterfactual over particles, in the outcome's unit.

    Attributes:
        mean: Mean over the particles, `(n, *shape)`.
        std: Standard deviation over the particles, `(n, *shape)`.
        quantiles: By level q, the least value that at least a share q of the particles does not
            exceed, `(n, *shape)`; of images to the nearest of (at most) 256 grey levels.
        outcome: Name of the outcome.
        particles: Number K of particles.
    """

    mean: Tensor
    std: Tensor
    quantiles: Mapping[float, Tensor]
    outcome: str
    particles: int


@in_own_precision
def uncertainty(
    model: SCM,
    values: Values,
    do: Mapping[str, Any],
    outcome: str,
    *,
    particles: int = 100,
    quantiles: Iterable[float] = (0.05, 0.5, 0.95),
    temperature: float = 1.0,
    seed: Seed = None,
) -> Uncertainty:
    """Map the spread of each row's counterfactual over draws of its noise.

    It is the uncertainty that the row leaves open under the model, not that of learning the model.

    Args:
        model: The model.
        values: Rows, a value of every variable.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the variable that is looked at.
        particles: Number K of draws.
        quantiles: Levels of the quantiles, between 0 and 1.
        temperature: Factor on the noise of observation (a VAE's eps); 0 predicts from z alone.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Returns:
        Mean, standard deviation and quantiles.

    Raises:
        ValueError: If there are fewer than two particles, a level is not between 0 and 1, or the
            outcome is a category without order.

    Example:
        >>> from rung3 import Binary
        >>> from rung3.mechanisms import Equation
        >>> model = SCM("dose -> cured", {"cured": Binary()}, {"dose": Equation("u")})
        >>> spread = uncertainty(model, {"dose": 0.0, "cured": 1}, {"dose": 2.0}, "cured", seed=0)
        >>> 0 <= spread.mean <= 1, spread.quantiles[0.95]
        (tensor(True), tensor(1.))
    """
    wanted = list(quantiles)
    wrong = [q for q in wanted if not 0 < q < 1]
    if wrong:
        raise ValueError(f"quantiles: expected levels between 0 and 1, got {wrong[0]}")
    clouds = Clouds(model, values, do, outcome, particles, temperature, seed)
    parts = []
    for _, _, draws in clouds:
        v = clouds.variable
        tally = _Counts(v) if isinstance(v, Image) else _Draws(v)
        for part in draws:
            tally.add(part.detach())
        parts.append(tally.summary(wanted))
    whole = [torch.cat(maps) for maps in zip(*parts, strict=True)]
    mean, std, *levels = whole if clouds.batched else [one.squeeze(0) for one in whole]
    return Uncertainty(mean, std, dict(zip(wanted, levels, strict=True)), outcome, particles)


class _Tally(ABC):
    """A running summary of draws."""

    @abstractmethod
    def add(self, draws: Tensor) -> None:
        """Add draws `(k, n, *shape)`."""

    @abstractmethod
    def summary(self, quantiles: list[float]) -> list[Tensor]:
        """Return mean, standard deviation and quantiles, each `(n, *shape)`."""


class _Draws(_Tally):
    """Draws of numbers, which are few enough to store."""

    def __init__(self, variable: Variable) -> None:
        self.line = variable if isinstance(variable, Continuous) else Continuous()
        self.draws: list[Tensor] = []

    def add(self, draws: Tensor) -> None:
        self.draws.append(draws)

    def summary(self, quantiles: list[float]) -> list[Tensor]:
        draws = torch.cat(self.draws)
        draws = draws if draws.is_floating_point() else draws.to(torch.get_default_dtype())
        origin = centre(self.line, draws) if self.line.circular else draws.new_zeros(())
        away = self.line.difference(draws, origin).sort(0).values
        centred = [away.mean(0), *(away[_rank(q, len(away)) - 1] for q in quantiles)]
        mean, *levels = (self.line.wrap(origin + value) for value in centred)
        return [mean, away.std(0), *levels]


class _Counts(_Tally):
    """Draws of images: the sums of their pixels, and how often each pixel had each grey level."""

    def __init__(self, image: Image) -> None:
        self.levels = levels_of(min(image.bits or 8, 8))
        self.particles = 0
        self.first: Tensor | None = None

    def add(self, draws: Tensor) -> None:
        if self.first is None:
            self.first = draws[0]
            self.sums = torch.zeros(2, *self.first.shape, dtype=torch.float64, device=draws.device)
            self.counts = draws.new_zeros((self.levels + 1, *self.first.shape), dtype=torch.int32)
        self.particles += len(draws)
        away = (draws - self.first).double()  # of a pixel that never changes the spread is zero
        self.sums += torch.stack([away.sum(0), away.square().sum(0)])
        at = (draws * self.levels).round().long()
        self.counts.scatter_add_(0, at, torch.ones_like(at, dtype=torch.int32))

    def summary(self, quantiles: list[float]) -> list[Tensor]:
        assert self.first is not None
        mean, square = self.sums / self.particles
        excess = self.particles / (self.particles - 1)
        std = (excess * (square - mean.square())).clamp_min(0).sqrt()
        below = self.counts.cumsum(0)
        reached = [(below < _rank(q, self.particles)).sum(0) / self.levels for q in quantiles]
        return [(self.first + mean).to(self.first), std.to(self.first), *reached]


def _rank(q: float, particles: int) -> int:
    """Return how many of the particles make a share of at least q."""
    return max(1, math.ceil(q * particles - 1e-9))
