"""`Loaded`: a mechanism whose Gaussian noise is shared, in part, with those of others.

    x := f(pa, u),    u = (sum_c w_c h_c + e) / sqrt(1 + sum_c w_c^2),    e, h_c ~ N(0, 1),

so u stays standard normal, and two mechanisms that listen to one hidden cause h have correlated
noise. Given h, with `s^2 = 1 / (1 + |w|^2)`,

    log p(x | pa, h) = log p(x | pa) - log N(u; 0, 1) + log N(u; s w h, s^2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise
from rung3.data.variables import Variable
from rung3.mechanisms.base import NORMAL, Abduction, Mechanism, Parents, one_tensor, repeat_noise
from rung3.mechanisms.equation import Equation
from rung3.mechanisms.flow import Flow

__all__ = ["Loaded", "can_be_loaded", "unwrapped"]


def can_be_loaded(mechanism: Mechanism, variable: Variable) -> bool:
    """Say whether a mechanism is scalar, with standard normal noise: a flow, or an equation."""
    normal = isinstance(mechanism, Equation) and mechanism.noise is None and mechanism.wants_noise
    return (
        variable.kind == "continuous"
        and variable.shape == ()
        and (normal or isinstance(mechanism, Flow))
    )


class Loaded(Mechanism):
    """A mechanism with Gaussian noise that listens to hidden causes; noise e, `(n,)`.

    Args:
        inner: The mechanism, bound to its variable and its observed parents.
        causes: The hidden causes, and whether this mechanism is the first that listens to each: its
            weight starts at one, those of others at zero, so that both signs are within reach.
    """

    abduction: ClassVar[Abduction] = "exact"

    def __init__(self, inner: Mechanism, causes: Mapping[str, bool]) -> None:
        super().__init__()
        self.inner = inner
        self.causes = tuple(causes)
        self.weights = nn.Parameter(torch.tensor([float(first) for first in causes.values()]))
        self.assumption = (
            f"{inner.assumption}; hidden causes act on it by Gaussian noise of constant loadings: "
            "as much whatever its parents are"
        )

    def build(self) -> None:
        """Do nothing: the mechanism within is bound already."""

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        self.inner.calibrate(value, self._inner_parents(parents))

    @property
    def loadings(self) -> Tensor:
        """Correlations of u with each hidden cause, `(causes,)`."""
        return self.weights * self.spread

    @property
    def spread(self) -> Tensor:
        """Standard deviation of u given the hidden causes."""
        return (1 + self.weights.square().sum()).rsqrt()

    def _inner_parents(self, parents: Parents) -> dict[str, Tensor]:
        return {name: parents[name] for name in self.inner.parents}

    def _shared(self, parents: Parents) -> Tensor:
        parts = [w * parents[name] for w, name in zip(self.weights, self.causes, strict=True)]
        return torch.stack(parts).sum(0)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return torch.randn(n, generator=generator, device=self.observed.device)

    def noise_prior(self) -> str:
        return NORMAL

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = (self._shared(parents) + one_tensor(noise, self.name)) * self.spread
        return self.inner.predict(u, self._inner_parents(parents))

    def total(self, value: Tensor, parents: Parents) -> Tensor:
        """Return the noise u, hidden causes included, `(n,)`."""
        return one_tensor(self.inner.abduct(value, self._inner_parents(parents)), self.name)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        e = self.total(value, parents) / self.spread - self._shared(parents)
        return repeat_noise(e, particles)

    def slope(self, value: Tensor, parents: Parents, u: Tensor) -> Tensor:
        """Return `log |du/dx|`, `(n,)`."""
        return self.inner.log_prob(value, self._inner_parents(parents)) - _normal(u)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        u, s = self.total(value, parents), self.spread
        e = u / s - self._shared(parents)
        return self.slope(value, parents, u) + _normal(e) - s.log()

    def config(self) -> dict[str, Any]:
        return self.inner.config()

    def describe(self) -> str:
        return f"{self.inner.describe()}, loaded by {', '.join(self.causes)}"


def unwrapped(mechanism: Mechanism) -> Mechanism:
    """Return the mechanism itself, without hidden causes."""
    return mechanism.inner if isinstance(mechanism, Loaded) else mechanism


def _normal(u: Tensor) -> Tensor:
    return -0.5 * (u.square() + math.log(2 * math.pi))
