r"""`Lifetime`: the time to an event, which may be longer than the follow-up (censored).

    log t = m(pa) + s z,      z = F^-1(Phi(u)),      u ~ N(0, 1)

with m a line of the parents or a network, and z of one of three families, whose survival is

    Weibull         S(z) = exp(-e^z)
    log-logistic    S(z) = 1 / (1 + e^z)
    log-normal      S(z) = Phi(-z)

(accelerated failure time: Kalbfleisch and Prentice 2002, chapter 2). A time that was seen has the
density, one that is longer than t the survival: `log_prob` is `log p(t)` or `log P(T > t)`. Given
that it is longer, u is normal above the noise of t, from which it is drawn: the posterior is exact.
What is predicted is always the time of the event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise
from rung3.data.variables import CensoredTime, Variable
from rung3.mechanisms.base import Mechanism, Parents, leading, one_tensor
from rung3.mechanisms.double_normal import DoubleNormal
from rung3.mechanisms.networks.encoding import MLP, ParentEncoder

__all__ = ["Lifetime"]

Family = Literal["weibull", "log-logistic", "log-normal"]

LARGEST_LOG_SCALE = 8.0
"""Logarithm of the largest s, and the negative of the least: beyond it all times are alike."""

LEAST_SHARE = 1e-12
"""Least share of the survival that a draw may have left: doubles know no smaller ones apart."""


class Lifetime(DoubleNormal):
    """A time to an event; noise `(n,)`, normal.

    Args:
        family: Distribution of the logarithm of the time.
        hidden: Widths of the network from parents to its location; a line if there are none.

    Raises:
        ValueError: On an unknown family; on `build`, if the variable is no `CensoredTime`.

    Example:
        >>> life = CensoredTime(unit="years")
        >>> mechanism = Lifetime().bind("life", life, {})
        >>> times = life.code([2.0, 5.0], seen=[1, 0])
        >>> noise = mechanism.abduct(times, {}, None, torch.Generator().manual_seed(0))
        >>> first, second = mechanism.predict(noise, {}).tolist()
        >>> round(first, 4), second > 5
        (2.0, True)
    """

    assumption: str = "monotone in normal noise, follow-up ends by chance given the parents"
    knows_censoring: ClassVar[bool] = True

    variable: CensoredTime

    def __init__(self, family: Family = "weibull", hidden: tuple[int, ...] = ()) -> None:
        super().__init__(hidden)
        if family not in ("weibull", "log-logistic", "log-normal"):
            raise ValueError(
                f"family={family!r}: expected 'weibull', 'log-logistic' or 'log-normal'"
            )
        self.family = family

    @classmethod
    def candidates(
        cls, variable: Variable, parents: Mapping[str, Variable]
    ) -> list[list[Mechanism]]:
        """Name lines of each family, then networks."""
        if not isinstance(variable, CensoredTime):
            return []
        families: tuple[Family, ...] = ("weibull", "log-logistic", "log-normal")
        return [[cls(one) for one in families], [cls(one, hidden=(64, 64)) for one in families]]

    def build(self) -> None:
        if not isinstance(self.variable, CensoredTime):
            raise ValueError(
                f"{self.name}: Lifetime models times that may be censored, and {self.name} is "
                f"{self.variable}; declare it as CensoredTime(), or use Flow"
            )
        self.encoder = ParentEncoder(self.parents)
        self.network = MLP(self.encoder.width, 1, self.hidden)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Start at the typical time; a line is fitted at once."""
        self.encoder.calibrate(parents)
        logs = value.double().abs().log()
        with torch.no_grad():
            list(self.network.parameters())[-1].fill_(logs.mean())
            self.log_scale.fill_(logs.std().clamp_min(1e-3).log() if len(logs) > 1 else 0.0)
        self.solve_line(value, parents)

    def _standard(self, times: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return z of times, `(n,)`, in double, and `log s`."""
        location, log_scale = self._location(parents, len(times)), self._log_scale()
        return (times.double().log() - location) * (-log_scale).exp(), log_scale

    def _location(self, parents: Parents, n: int) -> Tensor:
        location: Tensor = self.network(self.encoder(parents, n)).double()[:, 0]
        return location

    def _log_scale(self) -> Tensor:
        return self.log_scale.double().clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)

    def _log_survival(self, z: Tensor) -> Tensor:
        match self.family:
            case "weibull":
                return -z.exp()
            case "log-logistic":
                return -nn.functional.softplus(z)
        log_survival: Tensor = torch.special.log_ndtr(-z)
        return log_survival

    def _log_density(self, z: Tensor) -> Tensor:
        match self.family:
            case "weibull":
                return z - z.exp()
            case "log-logistic":
                return z - 2 * nn.functional.softplus(z)
        return -z.square() / 2 - math.log(2 * math.pi) / 2

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        times = value.double().abs().clamp_min(torch.finfo(torch.float64).tiny)
        z, log_scale = self._standard(times, parents)
        density = self._log_density(z) - log_scale - times.log()
        later = torch.where(value < 0, self._log_survival(z), -torch.inf)
        score: Tensor = torch.where(value > 0, density, later).to(value.dtype)
        return score

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name).double()
        log_below, log_above = torch.special.log_ndtr(u), torch.special.log_ndtr(-u)
        match self.family:
            case "weibull":
                z = (-log_above).log()
            case "log-logistic":
                z = log_below - log_above
            case _:
                z = u
        times: Tensor = (self._location(parents, len(u)) + self._log_scale().exp() * z).exp()
        return times.to(self.variable.dtype)

    @torch.no_grad()
    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        lead = leading(len(value), particles)
        share = torch.rand(lead, generator=generator, device=value.device, dtype=torch.float64)
        z, _ = self._standard(value.abs(), parents)
        log_survival = self._log_survival(z)
        later = log_survival + share.clamp_min(LEAST_SHARE).log()
        return _noise(torch.where(value > 0, log_survival, later))


def _noise(log_survival: Tensor) -> Tensor:
    """Return u with `log P(U > u)`, precise in both tails."""
    from scipy.special import ndtri_exp

    above = log_survival.cpu().clamp_max(-1e-300)
    below = (-torch.expm1(above)).log()
    upper = above < math.log(0.5)
    u = torch.where(
        upper,
        -torch.from_numpy(ndtri_exp(torch.where(upper, above, -1.0).numpy())),
        torch.from_numpy(ndtri_exp(torch.where(upper, -1.0, below).numpy())),
    )
    return u.to(log_survival.device)
