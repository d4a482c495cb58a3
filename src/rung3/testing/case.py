"""A mechanism under test: bound, with parents that lie all over their supports, and rows drawn.

`rung3.testing` runs its checks on it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.data.seeding import stream
from rung3.data.variables import Continuous, Discrete, Image, Variable
from rung3.mechanisms.base import Mechanism

__all__ = ["Subject", "far", "prepare"]


@dataclass
class Subject:
    """A bound mechanism under test, with rows drawn from it.

    Attributes:
        mechanism: The mechanism, bound.
        parents: Values of its parents, `(n, ...)`.
        seed: Seed of all that is drawn.
        tolerance: Greatest error of a round trip, relative to `|x|` plus the rows' deviation.
        noise: Noise drawn from its prior.
        value: The value it predicts from that, `(n, *shape)`.
    """

    mechanism: Mechanism
    parents: dict[str, Tensor]
    seed: int
    tolerance: float
    noise: Noise = field(init=False)
    value: Tensor = field(init=False)

    def __post_init__(self) -> None:
        with torch.no_grad():
            self.noise = self.draw("noise")
            self.value = self.mechanism.predict(self.noise, self.parents)

    @property
    def n(self) -> int:
        """Number of rows."""
        return next((len(value) for value in self.parents.values()), _rows(self.mechanism.variable))

    @property
    def scale(self) -> Tensor:
        """Standard deviation of the rows' values, `(*shape)`; 1 where they are constant."""
        spread = self.value.double().std(0)
        return torch.where(spread > 0, spread, torch.ones_like(spread)).to(self.value)

    def generator(self, name: str) -> Generator:
        """Return the stream of random numbers of this name."""
        return stream(self.seed, name, self.mechanism.observed.device)

    def draw(self, name: str) -> Noise:
        """Draw noise from its prior."""
        return self.mechanism.sample_noise(self.n, self.parents, self.generator(name))

    def abduct(self, name: str = "abduct", particles: int | None = None) -> Noise:
        """Abduct noise from the rows."""
        generator = self.generator(name)
        return self.mechanism.abduct(self.value, self.parents, particles, generator)

    def error(self, value: Tensor, expected: Tensor) -> float:
        """Return the greatest error, relative to the expected size plus the rows' deviation."""
        if not value.is_floating_point():
            return float((value != expected).sum())
        v = self.mechanism.variable
        apart = v.difference(value, expected)
        return float((apart.abs() / (expected.abs() + self.scale)).max())


def prepare(
    mechanism: Mechanism,
    variable: Variable,
    parents: Mapping[str, Variable],
    *,
    values: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Subject:
    """Bind a mechanism (unless it is), and draw what the checks look at; see `check_mechanism`."""
    if not mechanism.name:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            name = "x" if "x" not in parents else "_".join([*parents, "child"])
            mechanism = mechanism.bind(name, variable, parents)
    rows, generator = _rows(variable), stream(seed, "parents")
    given = {k: v.validate(k, values[k]) for k, v in parents.items()} if values else None
    drawn = {k: _any_value(v, rows, generator) for k, v in parents.items()}
    return Subject(copy.deepcopy(mechanism), given or drawn, seed, tolerance)


def _rows(variable: Variable) -> int:
    return 16 if isinstance(variable, Image) else 4000


def _any_value(variable: Variable, n: int, generator: Generator) -> Tensor:
    """Draw values all over a variable's support, `(n, *shape)`."""
    if isinstance(variable, Discrete):
        return torch.randint(variable.classes, (n,), generator=generator).to(variable.dtype)
    uniform = torch.rand((n, *variable.shape), generator=generator)
    if isinstance(variable, Image):
        levels = float(variable.levels or 255)
        return (uniform * levels).round() / levels
    assert isinstance(variable, Continuous)
    value = _into(variable, 3 * uniform - 1.5, 1.5)
    return value.round() if variable.whole else value


def _into(variable: Continuous, value: Tensor, reach: float) -> Tensor:
    """Map values in [-reach, reach] into the support, stretched or moved."""
    low, high = variable.lower, variable.upper
    if low > -torch.inf and high < torch.inf:
        return variable.wrap(low + (value / reach + 1) / 2 * (high - low))
    return value.abs() + low if low > -torch.inf else torch.minimum(value, value + high)


def far(variable: Variable, value: Tensor) -> Tensor:
    """Return values at 5 to 50 deviations from the mean, inside the support."""
    if not isinstance(variable, Continuous):
        return value
    steps = torch.tensor([5.0, -5.0, 20.0, -20.0, 50.0, -50.0], device=value.device)
    away = steps.repeat(len(value) // len(steps) + 1)[: len(value)]
    away = away.reshape(-1, *[1] * (value.ndim - 1))
    moved = value.mean(0) + away * value.std(0)
    moved = moved.round() if variable.whole else moved
    return (
        variable.wrap(moved) if variable.circular else moved.clamp(variable.lower, variable.upper)
    )
