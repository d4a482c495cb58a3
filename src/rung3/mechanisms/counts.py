r"""`Counts`: whole numbers from 0, Poisson or negative binomial, perhaps with zeros of their own.

    x = min{k : F(k | pa) > Phi(u)},      u ~ N(0, 1)

with mean `m = exp(w(pa))`, and

    Poisson               P(k) = m^k exp(-m) / k!
    negative binomial     P(k) = C(k + r - 1, k) (r / (r + m))^r (m / (r + m))^k,  Var = m + m^2/r
    zeros of their own    P(k) = p(pa) [k = 0] + (1 - p(pa)) P'(k)

(the last: Lambert, Technometrics 1992). Given x = k, u is normal between the quantiles of F(k - 1)
and F(k): the posterior is exact. Both tails are computed in logarithms, so that a count far out
comes back as well as any other. Without hidden layers it is the generalised linear model with a
logarithmic link, fitted by its likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise
from rung3.data.variables import Continuous, Variable
from rung3.mechanisms.base import Mechanism, Parents, leading, one_tensor
from rung3.mechanisms.double_normal import DoubleNormal
from rung3.mechanisms.networks.encoding import MLP, ParentEncoder

__all__ = ["Counts"]

Array = npt.NDArray[np.float64]

LARGEST_LOG_MEAN = 20.0
"""Logarithm of the largest mean, 5e8: beyond it whole numbers are amounts."""

LARGEST_LOG_SIZE = 12.0
"""Logarithm of the largest r: beyond it a negative binomial is a Poisson distribution."""

LARGEST = 1e15
"""The largest count: doubles tell whole numbers apart up to it."""

UNDERFLOW = 1e-280
"""Tail probability below which the tail is taken from its first term."""

EDGE = 1e-9
"""Share of a count's probability that is left free at each of its ends, for rounding."""


class Counts(DoubleNormal):
    """A count of events; noise `(n,)`, normal.

    Args:
        family: Its distribution; the Poisson one has the mean for its variance.
        zeros: Whether zeros have an additional probability (zero inflation).
        hidden: Widths of the network from parents to the logarithm of the mean; a line if there are
            none.

    Raises:
        ValueError: On an unknown family; on `build`, if the variable is not a whole number from 0.

    Example:
        >>> mechanism = Counts("poisson").bind("visits", Continuous(lower=0, whole=True), {})
        >>> visits = torch.tensor([0.0, 1.0, 12.0])
        >>> mechanism.predict(mechanism.abduct(visits, {}), {})
        tensor([ 0.,  1., 12.])
    """

    assumption: str = "monotone in normal noise, not known from data"

    variable: Continuous

    def __init__(
        self,
        family: Literal["poisson", "negative binomial"] = "negative binomial",
        zeros: bool = False,
        hidden: tuple[int, ...] = (),
    ) -> None:
        super().__init__(hidden)
        if family not in ("poisson", "negative binomial"):
            raise ValueError(f"family={family!r}: expected 'poisson' or 'negative binomial'")
        self.family, self.zeros = family, zeros

    @classmethod
    def candidates(
        cls, variable: Variable, parents: Mapping[str, Variable]
    ) -> list[list[Mechanism]]:
        """Name lines, then networks, for whole numbers from 0."""
        if not isinstance(variable, Continuous) or not _counts(variable):
            return []
        wide = (64, 64)
        return [
            [cls("poisson"), cls(), cls(zeros=True)],
            [cls(hidden=wide), cls(zeros=True, hidden=wide)],
        ]

    def build(self) -> None:
        v = self.variable
        if not isinstance(v, Continuous) or not _counts(v):
            raise ValueError(
                f"{self.name}: Counts models whole numbers from 0, and {self.name} is {v}; declare "
                "it as Continuous(lower=0, whole=True), or use Flow"
            )
        self.encoder = ParentEncoder(self.parents)
        self.network = MLP(self.encoder.width, 1 + self.zeros, self.hidden)
        for parameter in list(self.network.parameters())[-2:]:
            nn.init.zeros_(parameter)
        if self.family == "negative binomial":
            self.log_size = nn.Parameter(torch.ones(()))

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Start at the mean count; a line is fitted at once."""
        self.encoder.calibrate(parents)
        last = list(self.network.parameters())[-1]
        with torch.no_grad():
            last[0] = value.double().mean().clamp_min(1 / len(value)).log()
            if self.zeros:
                last[1] = -1.0
        self.solve_line(value, parents)

    def mean_count(self, parents: Parents, n: int) -> Tensor:
        """Return the mean of the counts given the parents, `(n,)`, in double."""
        log_mean, log_p = self._moments(parents, n)
        mean: Tensor = log_mean.exp()
        return mean if log_p is None else mean * (1 - log_p.exp())

    def _moments(self, parents: Parents, n: int) -> tuple[Tensor, Tensor | None]:
        """Return `log m`, and `log p` of the zeros of their own, `(n,)`, in double."""
        out = self.network(self.encoder(parents, n)).double()
        log_mean = out[:, 0].clamp(-LARGEST_LOG_MEAN, LARGEST_LOG_MEAN)
        return log_mean, nn.functional.logsigmoid(out[:, 1]) if self.zeros else None

    def _log_size(self) -> Tensor:
        return self.log_size.double().clamp(-LARGEST_LOG_SIZE, LARGEST_LOG_SIZE)

    def _log_family(self, k: Tensor, log_mean: Tensor) -> Tensor:
        """Return `log P'(k)`."""
        if self.family == "poisson":
            return k * log_mean - log_mean.exp() - torch.lgamma(k + 1)
        log_r = self._log_size()
        r, log_sum = log_r.exp(), torch.logaddexp(log_r, log_mean)
        ways = torch.lgamma(k + r) - torch.lgamma(r) - torch.lgamma(k + 1)
        return ways + r * (log_r - log_sum) + k * (log_mean - log_sum)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        k = value.double()
        whole = (k >= 0) & (k == k.round())
        k = torch.where(whole, k, 0.0)
        log_mean, log_p = self._moments(parents, len(k))
        score = self._log_family(k, log_mean)
        if log_p is not None:
            score = score + torch.log1p(-log_p.exp().clamp_max(1 - 1e-12))
            score = torch.where(k == 0, torch.logaddexp(log_p, score), score)
        return torch.where(whole, score, -torch.inf).to(value.dtype)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name)
        k = self._tails(parents, len(u)).quantile(u.detach().double().cpu().numpy())
        return torch.from_numpy(k).to(u.device, self.variable.dtype)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        lead = leading(len(value), particles)
        share = torch.rand(lead, generator=generator, device=value.device, dtype=torch.float64)
        within = share.clamp(EDGE, 1 - EDGE).cpu().numpy()
        tails = self._tails(parents, len(value))
        u = tails.noise(value.detach().double().cpu().numpy(), within)
        return torch.from_numpy(u).to(value.device)

    @torch.no_grad()
    def _tails(self, parents: Parents, n: int) -> _Tails:
        log_mean, log_p = self._moments(parents, n)
        size = None if self.family == "poisson" else float(self._log_size().exp())
        log_zero = None if log_p is None else log_p.cpu().numpy()
        return _Tails(log_mean.exp().cpu().numpy(), size, log_zero)


class _Tails:
    """The distribution functions of counts, `(n,)`, in logarithms from both ends.

    Args:
        mean: m.
        size: r, of the negative binomial distribution; `None` for Poisson's.
        log_zero: `log p` of the zeros of their own.
    """

    def __init__(self, mean: Array, size: float | None, log_zero: Array | None) -> None:
        self.mean, self.size, self.log_zero = mean, size, log_zero

    def log_cdf(self, k: Array) -> Array:
        """Return `log P(x <= k)`; -inf below 0."""
        from scipy.special import betainc, pdtr

        at = np.maximum(k, 0)
        if self.size is None:
            plain = pdtr(at, self.mean)
        else:
            plain = betainc(self.size, at + 1, self.size / (self.size + self.mean))
        ratio = at / self.mean if self.size is None else self._step(at - 1, inverse=True)
        log_tail = self._log(plain, self._log_pmf(at), ratio)
        if self.log_zero is not None:
            log_tail = np.logaddexp(self.log_zero, np.log(-np.expm1(self.log_zero)) + log_tail)
        return np.where(k < 0, -np.inf, log_tail)

    def log_survival(self, k: Array) -> Array:
        """Return `log P(x > k)`; 0 below 0."""
        from scipy.special import betainc, pdtrc

        at = np.maximum(k, 0)
        if self.size is None:
            plain = pdtrc(at, self.mean)
        else:
            plain = betainc(at + 1, self.size, self.mean / (self.size + self.mean))
        log_tail = self._log(plain, self._log_pmf(at + 1), self._step(at + 1))
        if self.log_zero is not None:
            log_tail = log_tail + np.log(-np.expm1(self.log_zero))
        return np.where(k < 0, 0.0, log_tail)

    def _log(self, plain: Array, first: Array, ratio: Array) -> Array:
        """Return the logarithm of a tail, or of its geometric bound where it underflows."""
        far = plain < UNDERFLOW
        bound = first - np.log1p(-np.clip(ratio, 0, 1 - 1e-12))
        return np.where(far, bound, np.log(np.where(far, 1, plain)))

    def _step(self, k: Array, inverse: bool = False) -> Array:
        """Return `P'(k + 1) / P'(k)`, or its inverse."""
        if self.size is None:
            return self.mean / (k + 1)
        at = np.maximum(k, 0)
        step = (at + self.size) * self.mean / ((at + 1) * (self.size + self.mean))
        return np.where(k < 0, 0.0, 1 / step) if inverse else step

    def _log_pmf(self, k: Array) -> Array:
        from scipy.special import gammaln

        if self.size is None:
            return np.asarray(k * np.log(self.mean) - self.mean - gammaln(k + 1))
        r, m = self.size, self.mean
        ways = gammaln(k + r) - gammaln(r) - gammaln(k + 1)
        return np.asarray(ways + r * np.log(r / (r + m)) + k * np.log(m / (r + m)))

    def noise(self, k: Array, share: Array) -> Array:
        """Return noise that gives the counts, by a uniform share of their probability."""
        from scipy.special import ndtri_exp

        log_mass = self._log_mass(k)
        below = self.log_cdf(k) < math.log(0.5)
        low = np.logaddexp(self.log_cdf(k - 1), log_mass + np.log(share))
        high = np.logaddexp(self.log_survival(k), log_mass + np.log(share))
        return np.asarray(np.where(below, ndtri_exp(low), -ndtri_exp(high)))

    def _log_mass(self, k: Array) -> Array:
        plain = self._log_pmf(k)
        if self.log_zero is None:
            return plain
        plain = plain + np.log(-np.expm1(self.log_zero))
        return np.where(k == 0, np.logaddexp(self.log_zero, plain), plain)

    def quantile(self, u: Array) -> Array:
        """Return the least k whose distribution function exceeds `Phi(u)`, by bisection."""
        from scipy.special import log_ndtr

        below, low_tail, high_tail = u < 0, log_ndtr(u), log_ndtr(-u)

        def enough(k: Array) -> npt.NDArray[np.bool_]:
            far = self.log_survival(k) < high_tail
            return np.asarray(np.where(below, self.log_cdf(k) > low_tail, far))

        spread = self.mean if self.size is None else self.mean + self.mean**2 / self.size
        top = np.ceil(self.mean + np.maximum(u, 1) * np.sqrt(spread)) + 1
        while not (done := enough(top) | (top > LARGEST)).all():
            top = np.where(done, top, 2 * top)
        bottom = np.full_like(top, -1)
        while (wide := top - bottom > 1).any():
            middle = np.floor((bottom + top) / 2)
            reached = enough(middle)
            top = np.where(wide & reached, middle, top)
            bottom = np.where(wide & ~reached, middle, bottom)
        return np.asarray(top)


def _counts(variable: Continuous) -> bool:
    """Return whether a variable's values are whole numbers from 0."""
    open_above = variable.lower == 0 and variable.upper == math.inf
    return variable.whole and open_above and not variable.shape
