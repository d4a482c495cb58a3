"""`Contaminated`: a Gaussian around a function of the parents, with occasional outliers.

    x := T(m(pa) + s u)          with probability 1 - p
    x := a + (b - a) Phi(u)      with probability p,              u ~ N(0, 1)

T brings a value into its variable's support: on a circle of length L, `T(y) = y mod L`; else
`T(y) = min(max(y, lower), upper)`. The noise is u and which of the two it was. With
`w_k = N(x + k L; m, s)` (k in Z on a circle, else k = 0) and U the density of outliers,

    p(x | pa) = (1 - p) sum_k w_k + p U(x).

Abduction draws from the exact posterior: an outlier with probability `p U(x) / p(x | pa)`, and then
`u = Phi^-1((x - a) / (b - a))`; else `u = (x + k L - m) / s` with probability in proportion to w_k.
An end that T clips to has a probability, not a density, of `(1 - p) Phi(+-(end - m) / s)`; there u
is a Gaussian truncated to what lies beyond.

Source: the contamination model of Huber 1964, *Robust estimation of a location parameter*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Generator, Tensor

from rung3.data.expressions import Expression
from rung3.data.rows import Noise
from rung3.data.variables import Continuous
from rung3.mechanisms.base import Abduction, ImpossibleError, Mechanism, Parents, leading

__all__ = ["Contaminated"]

WINDING_RANGE = 6.0
"""Standard deviations on either side of the centre that a circle's windings are summed over: what
lies beyond has probability 2e-9."""

LEAST_TAIL = torch.finfo(torch.float32).tiny
"""Least share of the range below an outlier, which keeps its noise finite."""

LEAST_UPPER_TAIL = 1e-16
"""Least share of the range above an outlier: half of what double precision tells from zero."""

LOWEST_END = -35.0
"""Deviations from the centre of the furthest end: below -38, Phi is zero in double precision."""

MAX_NOISE = 40.0
"""Greatest noise beyond an end that values are clipped to, in standard deviations."""


class Contaminated(Mechanism):
    """A Gaussian with uniform outliers; noise `u` (standard normal) and `outlier` (0 or 1), `(n,)`.

    Args:
        centre: `m(pa)` as text in the grammar of `rung3.data.expressions`; its names are the
            parents.
        scale: Standard deviation s, in the variable's unit.
        outliers: Probability p of an outlier.
        between: Ends a and b of the range on which outliers are uniform; the support if not given.

    Raises:
        ValueError: If the scale is not positive, the probability not in [0, 1] or a is not less
            than b; on `build`, if the variable is not a real number, or an end is unbounded.

    Example:
        >>> hue = Continuous(lower=0, upper=1, circular=True)
        >>> mechanism = Contaminated("digit/10", scale=0.05, outliers=0.1)
        >>> bound = mechanism.bind("hue", hue, {"digit": Continuous()})
        >>> noise = {"u": torch.tensor([-1.0, 0.0]), "outlier": torch.tensor([0.0, 1.0])}
        >>> bound.predict(noise, {"digit": torch.tensor([0.0, 0.0])})
        tensor([0.9500, 0.5000])
    """

    abduction: ClassVar[Abduction] = "posterior"
    assumption: str = "which rows are outliers, and their noise, by their exact posterior"
    variable: Continuous

    def __init__(
        self,
        centre: str,
        scale: float,
        outliers: float = 0.0,
        between: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"scale={scale} must be positive")
        if not 0 <= outliers <= 1:
            raise ValueError(f"outliers={outliers} must be a probability, from 0 to 1")
        if between is not None and not (len(between) == 2 and between[0] < between[1]):
            raise ValueError(f"between={between} must be two numbers, the lower one first")
        self.centre = centre
        self.scale = scale
        self.outliers = outliers
        self.between = None if between is None else tuple(between)
        self._expression = Expression(centre)
        self.arguments = self._expression.arguments

    def build(self) -> None:
        if not isinstance(self.variable, Continuous) or self.variable.shape:
            raise ValueError(
                f"{self.name}: Contaminated models a real number, and it is {self.variable}"
            )
        names = list(self._expression.arguments)
        if set(names) != set(self.parents):
            raise ValueError(
                f"{self.name}: the names in its centre are {names}, but the graph's parents of "
                f"{self.name} are {list(self.parents)}"
            )
        self.low, self.high = self.between or (self.variable.lower, self.variable.upper)
        if not self.variable.lower <= self.low < self.high <= self.variable.upper:
            raise ValueError(
                f"{self.name}: outliers between {self.low:g} and {self.high:g} lie outside its "
                f"support [{self.variable.lower:g}, {self.variable.upper:g}]"
            )
        if self.outliers and math.isinf(self.high - self.low):
            raise ValueError(
                f"{self.name}: its support is unbounded; say what outliers lie between, such as "
                "between=(1.5, 6)"
            )

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        device = self.observed.device
        u = torch.randn(n, generator=generator, device=device)
        chance = torch.rand(n, generator=generator, device=device)
        return {"u": u, "outlier": (chance < self.outliers).to(u)}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        if isinstance(noise, Tensor) or noise.keys() != {"u", "outlier"}:
            raise ValueError(f"{self.name}: expected noise with the parts u and outlier")
        u, outlier = noise["u"], noise["outlier"]
        usual = self._inside(self._location(parents, len(u)) + self.scale * u)
        if not self.outliers:
            return self.variable.hold(usual, self.wide)
        far = self.low + (self.high - self.low) * torch.special.ndtr(u.double())
        return self.variable.hold(torch.where(outlier > 0, far, usual), self.wide)

    def _inside(self, value: Tensor) -> Tensor:
        """Apply T."""
        v = self.variable
        return v.wrap(value) if v.circular else value.clamp(v.lower, v.upper)

    def _location(self, parents: Parents, n: int) -> Tensor:
        """Return `m(pa)`, `(n,)`, in double."""
        centre = self._expression(**{name: parents[name].double() for name in self.parents})
        return centre.double().to(self.observed.device).expand(n)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        shape = leading(len(value), particles)
        draws = torch.rand((3, *shape), generator=generator, device=value.device).double()
        x, centre = value.double(), self._location(parents, len(value))
        usual, far = self._log_usual(x, centre), self._log_outlier(x)
        total = torch.logaddexp(usual, far)
        if not (possible := total.isfinite()).all():
            why = f"{value[~possible][0]:g} is never drawn under these parents"
            raise ImpossibleError(self.name, ~possible, why)
        outlier = draws[0] < (far - total).exp()
        share = ((x - self.low) / (self.high - self.low)) if self.outliers else x.new_tensor(0.5)
        u_far = torch.special.ndtri(share.clamp(LEAST_TAIL, 1 - LEAST_UPPER_TAIL))
        u = torch.where(outlier, u_far, self._usual_noise(x, centre, draws[1], draws[2]))
        return {"u": u.to(value.dtype), "outlier": outlier.to(value.dtype)}

    def _usual_noise(self, x: Tensor, centre: Tensor, wound: Tensor, beyond: Tensor) -> Tensor:
        """Return the u of values that are not outliers; uniform draws choose where several fit."""
        u = (self._turns(x, centre) - centre) / self.scale
        if self.variable.circular:
            # A winding k has probability in proportion to w_k: by inverse CDF.
            shares = torch.softmax(-u.square() / 2, dim=0).cumsum(0)
            winding = (wound[None] >= shares.view(-1, *[1] * (wound.ndim - 1), len(x))).sum(0)
            u = u.T.expand(*wound.shape, len(u))
            return u.gather(-1, winding.clamp_max(u.shape[-1] - 1)[..., None])[..., 0]
        below, above = self._clipped(x)
        end = torch.where(above, -u[0], u[0])
        outside = torch.special.ndtri((1 - beyond) * torch.special.ndtr(end.clamp_min(LOWEST_END)))
        drawn = torch.where(above, -outside, outside).clamp(-MAX_NOISE, MAX_NOISE)
        return torch.where(below | above, drawn, u[0])

    def _turns(self, x: Tensor, centre: Tensor) -> Tensor:
        """Return all numbers that T maps to x, `(k, n)`; several only on a circle."""
        if not self.variable.circular:
            return x[None]
        length = self.variable.upper - self.variable.lower
        windings = math.ceil(WINDING_RANGE * self.scale / length) + 1
        k = torch.arange(-windings, windings + 1, device=x.device, dtype=x.dtype)[:, None]
        return centre + self.variable.difference(x, centre) + length * k

    def _clipped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tell whether x lies at the lower, and at the upper end that T clips to."""
        return x <= self.variable.lower, x >= self.variable.upper

    def _log_usual(self, x: Tensor, centre: Tensor) -> Tensor:
        """Return `log (1 - p) sum_k w_k`; at an end that T clips to, its log-probability."""
        if self.outliers == 1:
            return torch.full_like(x, -torch.inf)
        u = (self._turns(x, centre) - centre) / self.scale
        density = torch.logsumexp(-u.square() / 2, dim=0) - math.log(self.scale)
        density = density - 0.5 * math.log(2 * math.pi)
        if not self.variable.circular:
            below, above = self._clipped(x)
            mass = torch.special.log_ndtr(torch.where(above, -u[0], u[0]))
            density = torch.where(below | above, mass, density)
        return density + math.log1p(-self.outliers)

    def _log_outlier(self, x: Tensor) -> Tensor:
        """Return `log p U(x)`; -inf at an end that T clips to, which has a probability."""
        possible = (x >= self.low) & (x <= self.high) & torch.tensor(self.outliers > 0)
        if not self.variable.circular and self.outliers < 1:
            below, above = self._clipped(x)
            possible = possible & ~below & ~above
        level = math.log(self.outliers / (self.high - self.low)) if self.outliers else -math.inf
        return torch.where(possible, level, -torch.inf).to(x)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        x, centre = value.double(), self._location(parents, len(value))
        return torch.logaddexp(self._log_usual(x, centre), self._log_outlier(x)).to(value.dtype)
