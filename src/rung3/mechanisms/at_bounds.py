"""`AtBounds`: a number that often lies exactly at an end of its support, such as 0, or 100 %.

    x = end        with probability p_end(pa)            (one end, or two)
    x = f(pa, u)   else,

with f any other mechanism, for the values within. One map to the real line cannot do both: it puts
an end at infinity, and a regression then takes whatever stands for it like any other number. The
noise is that of f, `within`, and a uniform one, `part`, which decides as in `InverseCDF`: the lower
end, the values within, the upper end, in this order (a two-part, or hurdle, model: Cragg,
Econometrica 1971). Given x = end, the noise within is drawn from its prior: nothing is known of it.

`log_prob` is the logarithm of a probability at the ends, and of a density within.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.variables import Continuous, Ordinal
from rung3.mechanisms.base import Abduction, Mechanism, Parents, leading, one_tensor
from rung3.mechanisms.discrete import InverseCDF

__all__ = ["AtBounds"]


class AtBounds(Mechanism):
    """A mechanism within the bounds, and a probability to be at one; noise `part`, `within`.

    Args:
        within: Mechanism of the values between: one of rung3's, or its fields as a study names
            them, such as `{"kind": "Flow", "splines": 0}`; a `Flow` if not given.
        hidden: Widths of the network from parents to the ends' probabilities.

    Raises:
        ValueError: On fields that name no mechanism; on `build`, if the variable is not a scalar
            with a bound; on `calibrate`, if no value lies within.

    Example:
        >>> paid = Continuous(lower=0)
        >>> mechanism = AtBounds().bind("wage", paid, {})
        >>> wage = torch.tensor([0.0, 12.5])
        >>> mechanism.predict(mechanism.abduct(wage, {}), {}).detach()
        tensor([ 0.0000, 12.5000])
    """

    abduction: ClassVar[Abduction] = "posterior"
    learning_rate: ClassVar[float] = 1e-2

    def __init__(
        self,
        within: Mechanism | Mapping[str, Any] | None = None,
        hidden: tuple[int, ...] = (32, 32),
    ) -> None:
        super().__init__()
        if isinstance(within, Mechanism):
            within = {"kind": type(within).__name__, **within.config()}
        self.within = dict(within) if within is not None else None
        self.hidden = tuple(hidden)
        self.assumption = f"within the bounds: {self._inner().assumption}; else uniform noise"

    variable: Continuous

    def _inner(self) -> Mechanism:
        """Return the mechanism of the values within, unbound."""
        from rung3 import mechanisms as families

        fields = {"kind": "Flow"} if self.within is None else dict(self.within)
        family = getattr(families, str(fields.pop("kind", None)), None)
        if not (isinstance(family, type) and issubclass(family, Mechanism)):
            raise ValueError(
                f"within={self.within!r}: expected a mechanism of rung3, or its fields, such as "
                '{"kind": "Flow"}'
            )
        return family(**fields)

    def build(self) -> None:
        v = self.variable
        scalar = isinstance(v, Continuous) and not v.shape and not v.circular
        ends = [end for end in (v.lower, v.upper) if abs(end) < torch.inf] if scalar else []
        if scalar and v.whole:
            raise ValueError(
                f"{self.name}: {v} is whole numbers; use Counts(zeros=True), whose zeros have a "
                "probability of their own"
            )
        if not ends:
            raise ValueError(
                f"{self.name}: AtBounds models a number with a lower or an upper bound, and "
                f"{self.name} is {v}; declare it as Continuous(lower=0), say, or use Flow"
            )
        self.atoms = tuple(ends)
        self.inside = int(v.lower > -torch.inf)
        self.part = InverseCDF(self.hidden).bind(self.name, Ordinal(len(ends) + 1), self.parents)
        self.rest = self._inner().bind(self.name, v, self.parents)

    def _level(self, value: Tensor) -> Tensor:
        """Return which part a value is in: at the lower end, within, at the upper end, from 0."""
        inside = torch.full_like(value, self.inside, dtype=torch.long)
        at_low, at_high = value <= self.variable.lower, value >= self.variable.upper
        return inside.masked_fill(at_low, 0).masked_fill(at_high, len(self.atoms))

    def _within(self, value: Tensor) -> Tensor:
        """Return the values, with some value within in the place of those at an end."""
        low, high = self.variable.lower, self.variable.upper
        middle = max(low, high - 1) if low == -torch.inf else min((low + high) / 2, low + 1)
        return torch.where(self._level(value) == self.inside, value, middle)

    def _value(self, level: Tensor, within: Tensor) -> Tensor:
        """Return the value of a level, given the value within."""
        value = torch.where(level < self.inside, self.variable.lower, within)
        return torch.where(level > self.inside, self.variable.upper, value).to(within)

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Fit both parts, as far as they need no training steps."""
        level = self._level(value)
        within = level == self.inside
        if not within.any():
            raise ValueError(
                f"{self.name}: no value lies within its bounds; declare it as Binary or Ordinal"
            )
        self.part.calibrate(level, parents)
        self.rest.calibrate(value[within], {k: v[within] for k, v in parents.items()})

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return {
            "part": one_tensor(self.part.sample_noise(n, parents, generator), self.name),
            "within": one_tensor(self.rest.sample_noise(n, parents, generator), self.name),
        }

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert not isinstance(noise, Tensor)
        level = self.part.predict(noise["part"], parents)
        return self._value(level, self.rest.predict(noise["within"], parents))

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        level, lead = self._level(value), leading(len(value), particles)
        part = self.part.abduct(level, parents, particles, generator)
        repeated = {k: v.repeat(particles or 1, *[1] * (v.ndim - 1)) for k, v in parents.items()}
        prior = self.rest.sample_noise(math.prod(lead), repeated, generator)
        unknown = one_tensor(prior, self.name).reshape(lead)
        known = self.rest.abduct(self._within(value), parents, particles, generator)
        within = torch.where(level == self.inside, one_tensor(known, self.name), unknown)
        return {"part": one_tensor(part, self.name), "within": within}

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        level = self._level(value)
        density = self.rest.log_prob(self._within(value), parents)
        return self.part.log_prob(level, parents) + torch.where(level == self.inside, density, 0.0)

    def describe(self) -> str:
        return f"AtBounds({self._inner().describe() if self.within else ''})"
