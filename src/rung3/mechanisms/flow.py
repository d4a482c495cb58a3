"""`Flow`: a continuous variable as an invertible function of its noise, given its parents.

`x = f(pa, u)`, `u ~ N(0, I)`, `u = f^-1(x; pa)`, and by change of variables (lecture 1.8.1)

    log p(x | pa) = log p_U(u) + log |det du/dx|.

From x to u: the support is mapped to the real line and standardised to y, and then, coordinate by
coordinate, one network of the parents and of the coordinates before giving m, s and h,

    u = g_h((y - m) / s).

g is a rational-quadratic spline (Durkan et al. 2019, arXiv 1906.04032). Its heights h, the share of
the noise in each bin, depend on the parents; where its knots lie, and its slopes there, are the
variable's own: the densities are as good, for half the work. Several splines are composed. All of
it starts as the identity.

A circle is turned first, by a direction that a network gives, so that what the parents make likely
lies opposite of where it is cut open:

    x' = (x - m(pa)) mod 2h in [-h, h),   and x' in the place of x,

with h half its length. Turning changes no density. The network starts from the arrows `(cos, sin)`
that fit the training data best in least squares, linear in the encoded parents.

A number without parents needs no training: a few of its quantiles tell its distribution, and L-BFGS
fits them in a moment, in `calibrate` (`rung3.mechanisms.networks.one_number`).

A spline is the identity outside its box, whatever the parents; the affine map before it makes the
parents act everywhere. Slopes lie within a factor `MAX_SLOPE` of one, so that single precision
carries a value to its noise and back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parameters_to_vector

from rung3.data.rows import Noise
from rung3.data.variables import Continuous, Image, Variable
from rung3.mechanisms.base import NORMAL, Invertible, Mechanism, Parents, one_tensor
from rung3.mechanisms.networks.encoding import MLP, Circle, ParentEncoder, Standardise
from rung3.mechanisms.networks.one_number import Likelihood
from rung3.mechanisms.networks.real_line import ToReal

__all__ = ["Flow"]

MAX_SLOPE = 100.0
"""Greatest slope of a spline, and inverse of the least: beyond, single precision loses digits."""

BOX = 5.0
"""Half the width of a spline's box, in standard deviations of the noise; the default of zuko."""

KNOT_RANGE = 3.0
"""Greatest inner knot of a spline that starts from quantiles, in deviations of the noise: few rows
lie further out."""

LEAST_BIN = BOX / 1_000
"""Least width of a bin of a spline that starts from quantiles: equal values make no jump."""

MOST_ROWS = 200_000
"""Rows that quantiles are taken from, at most: two hundred for each."""

QUANTILES = 1_000
"""Points that stand for the distribution of a number without parents."""

LBFGS_STEPS = 20
"""Most steps that fit these points: more gain little, and follow chance in few rows."""

LBFGS_TOLERANCE = 1e-5
"""Gain, in nats, below which these steps end."""


class Flow(Invertible):
    """A conditional neural spline flow, for scalars and vectors; noise of the value's shape.

    Args:
        splines: Number of spline transformations after the affine one (0: conditional Gaussian).
        bins: Bins of each spline, at least 2.
        hidden: Widths of the network from the parents to the transformations' parameters.

    Raises:
        ValueError: If there are fewer than 0 splines or 2 bins; on `build`, if the variable is not
            continuous.

    Example:
        >>> from rung3 import Continuous
        >>> mechanism = Flow().bind("thickness", Continuous(lower=0), {})
        >>> x = torch.tensor([0.5, 2.0, 40.0])
        >>> torch.allclose(mechanism.predict(mechanism.abduct(x, {}), {}), x, rtol=1e-4)
        True
    """

    learning_rate: ClassVar[float] = 1e-2
    flexibility: ClassVar[int] = 2
    assumption: str = "monotone in Gaussian noise (each coordinate given those before)"

    def __init__(
        self, splines: int = 1, bins: int = 16, hidden: tuple[int, ...] = (32, 32)
    ) -> None:
        super().__init__()
        if splines < 0 or bins < 2:
            raise ValueError(f"splines={splines} must be at least 0, and bins={bins} at least 2")
        self.splines = splines
        self.bins = bins
        self.hidden = tuple(hidden)

    variable: Continuous
    cached: tuple[list[Any], Any] | None = None
    places: list[tuple[dict[str, Any], str]] | None = None

    @classmethod
    def candidates(
        cls, variable: Variable, parents: Mapping[str, Variable]
    ) -> list[list[Mechanism]]:
        """Name splines; before them a Gaussian, where `AdditiveNoise` is not a candidate."""
        if not isinstance(variable, Continuous) or variable.whole or variable.censored:
            return []
        image = any(isinstance(parent, Image) for parent in parents.values())
        return [[cls(splines=0), cls()]] if image or variable.circular else [[cls()]]

    def build(self) -> None:
        if not isinstance(self.variable, Continuous):
            raise ValueError(
                f"{self.name}: Flow models numbers, and {self.name} is {self.variable}; "
                "use GumbelMax or InverseCDF for categories and VAE for images"
            )
        self.features = self.variable.dim or 1
        self.encoder = ParentEncoder(self.parents)
        self.to_real = ToReal(self.variable)
        self.standardise = Standardise(self.variable.shape)
        self.flow, self.cached, self.places = self._flow(), None, None
        self.closed_form = not (self.encoder.width or self.variable.shape or self.variable.circular)
        if self.variable.circular:
            self.circle = Circle(self.variable)
            self.direction = MLP(self.encoder.width, 2 * self.features, self.hidden)
            for parameter in list(self.direction.parameters())[-2:]:
                nn.init.zeros_(parameter)
            lead = torch.zeros(self.encoder.width + 1, self.features, 2)
            lead[-1, :, 0] = 1  # the last feature is a one: without parents, all point to angle 0
            self.lead = nn.Parameter(lead.flatten(1))

    def _flow(self) -> Any:
        from zuko.flows.autoregressive import MaskedAutoregressiveTransform

        flow = MaskedAutoregressiveTransform(
            self.features,
            self.encoder.width,
            univariate=_Map(self.features, self.splines, self.bins),
            shapes=[(), (), *[(self.bins,)] * self.splines],
            hidden_features=self.hidden,
            activation=partial(nn.ReLU, inplace=True),
        )
        depends = self.features + self.encoder.width > 1
        for parameter in (flow.hyper[-1] if depends else flow.phi).parameters():
            nn.init.zeros_(parameter)
        return flow

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take units, location and scale from the data; without parents, the distribution too."""
        self.encoder.calibrate(parents)
        if self.variable.circular:
            arrows = self.circle(value).reshape(len(value), -1)
            best = torch.linalg.lstsq(self._features(parents, len(value)), arrows, driver="gelsd")
            self.lead.data.copy_(best.solution)
        value = self._turned(value, parents)
        self.to_real.calibrate(value)
        self.standardise.calibrate(self.to_real(value)[0], point=True)
        varied = bool(value.amin() < value.amax())
        if self.closed_form and varied and all(part.requires_grad for part in self.parameters()):
            self._fit_quantiles(value)

    @torch.no_grad()
    def _fit_quantiles(self, value: Tensor) -> None:
        """Fit a number without parents, by the likelihood of so many of its quantiles.

        They lie as a normal variable's would at equal steps, each with the weight of its share.
        """
        end = math.sqrt(2 * math.log(1 + len(value)))
        steps = torch.linspace(-end, end, QUANTILES + 1, device=value.device).double()
        edges = torch.special.ndtr(steps)
        edges[0], edges[-1] = 0, 1
        weight = edges.diff()
        middle = (edges[1:] + edges[:-1]) / 2
        some = value.detach()[:: max(1, len(value) // MOST_ROWS)].sort().values
        points = some[(middle * len(some)).long()]
        if self.splines and not any(bool(part.any()) for part in self.flow.phi):
            self._start_splines(points, middle)
        parts = self.alone()
        before = parameters_to_vector(parts)
        y, w, start = (
            part.double().flatten().cpu().numpy()
            for part in (self._standard(points, {})[0], weight, before)
        )
        climb = Likelihood(y, w, self.bins, BOX, MAX_SLOPE).climb
        best = torch.from_numpy(climb(start, LBFGS_STEPS, LBFGS_TOLERANCE)).to(before)
        _put(best, parts)
        if not self.loss(points, {}).isfinite():
            _put(before, parts)

    def alone(self) -> list[Tensor]:
        """Return the parameters of a number without parents, as `Likelihood` takes them."""
        loc, log_scale, *heights = self.flow.phi
        univariate = self.flow.univariate
        splines = zip(univariate.widths, heights, univariate.slopes, strict=True)
        return [loc, log_scale, *(part for spline in splines for part in spline)]

    @torch.no_grad()
    def _start_splines(self, points: Tensor, shares: Tensor) -> None:
        """Let the first spline pass near the quantiles at its knots."""
        inner = torch.linspace(-KNOT_RANGE, KNOT_RANGE, self.bins - 1)
        near = torch.searchsorted(shares, torch.special.ndtr(inner).to(shares)).to(points.device)
        knots = self._standard(points[near.clamp_max(QUANTILES - 1)], {})[0][:, 0]
        widths, heights = (
            _log_sizes(knots.clamp(-0.99 * BOX, 0.99 * BOX)),
            _log_sizes(inner.to(points)),
        )
        slopes = heights - widths
        bound = math.log(MAX_SLOPE)
        for parameter, target, limit in (
            (self.flow.univariate.widths[0], widths - widths.mean(), bound / 2),
            (self.flow.phi[2], heights - heights.mean(), bound / 2),
            (self.flow.univariate.slopes[0], (slopes[1:] + slopes[:-1]) / 2, bound),
        ):
            # A spline takes w / (1 + |w| / limit) in the place of a parameter w, so that it is
            # never too steep: its inverse gives the parameter.
            inside = target.clamp(-0.9 * limit, 0.9 * limit)
            parameter.copy_(inside / (1 - inside.abs() / limit))

    def _turned(self, value: Tensor, parents: Parents, sign: int = -1) -> Tensor:
        """Turn a circle's values so that the direction of their parents is in the middle."""
        if not self.variable.circular:
            return value
        features = self._features(parents, len(value))
        arrow = features @ self.lead + self.direction(features[:, :-1])
        middle = (self.variable.lower + self.variable.upper) / 2
        turn = self.circle.inverse(arrow.reshape(len(value), *self.circle.shape)) - middle
        return self.variable.wrap(value + sign * turn)

    def _features(self, parents: Parents, n: int) -> Tensor:
        """Return encoded parents and a one, `(n, width + 1)`."""
        features = self.encoder(parents, n)
        return torch.cat([features, features.new_ones(n, 1)], dim=1)

    def _transform(self, parents: Parents, n: int) -> Any:
        """Return the map from y to u, `(n, features)`, under the parents of each row."""
        return self.flow(self.encoder(parents, n)) if self.encoder.width else self._constant()

    def _constant(self) -> Any:
        """Return the map without parents, which is rebuilt only where a parameter has changed."""
        if self.places is None:  # torch's own search for parameters would take most of the time
            modules = self.flow.modules()
            self.places = [(m._parameters, name) for m in modules for name in m._parameters]
        parts = [parameters[name] for parameters, name in self.places]
        if any(part.requires_grad for part in parts):
            return self.flow(None)
        state = [(part.data_ptr(), part._version, part.dtype) for part in parts]
        if self.cached is None or self.cached[0] != state:
            self.cached = state, self.flow(None)
        return self.cached[1]

    def _standard(self, value: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return the value before the flow, `(n, features)`, and `log |dy/dx|`, `(n,)`."""
        n = len(value)
        real, slope = self.to_real(self._turned(value, parents))
        slope = (slope - self.standardise.scale.log()).reshape(n, -1).sum(1)
        return self.standardise(real).reshape(n, self.features), slope

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shape = (n, *self.variable.shape)
        return torch.randn(shape, generator=generator, device=self.observed.device)

    def noise_prior(self) -> str:
        return NORMAL

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name)
        n = len(u)
        real = self._transform(parents, n).inv(u.reshape(n, self.features))
        value = self.to_real.inverse(self.standardise.inverse(real.reshape(u.shape)))
        return self._turned(value, parents, sign=1)

    def invert(self, value: Tensor, parents: Parents) -> Noise:
        standard = self.standardise(self.to_real(self._turned(value, parents))[0])
        u: Tensor = self._transform(parents, len(value))(standard.reshape(-1, self.features))
        return u.reshape(value.shape)

    def reverse(self, noise: Tensor) -> Tensor | None:
        return -noise

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        n, (real, slope) = len(value), self._standard(value, parents)
        u, ladj = self._transform(parents, n).call_and_ladj(real)
        slope = slope + ladj.reshape(n, -1).sum(1)
        log_prob: Tensor = -0.5 * (u.square() + math.log(2 * math.pi)).sum(1) + slope
        return log_prob.to(self.standardise.scale.dtype)


def _put(vector: Tensor, parts: list[Tensor]) -> None:
    """Copy a vector into parameters."""
    for part, piece in zip(parts, vector.split([part.numel() for part in parts]), strict=True):
        part.copy_(piece.view_as(part))


def _log_sizes(knots: Tensor) -> Tensor:
    """Return the logarithms of the sizes of the bins between inner knots."""
    end = knots.new_tensor([BOX])
    return torch.cat([-end, knots, end]).diff().clamp_min(LEAST_BIN).log()


class _Map(nn.Module):
    """One coordinate's map from y to u, from what the network gives.

    Args:
        features: Number of coordinates.
        splines: Number of splines.
        bins: Bins of each.
    """

    def __init__(self, features: int, splines: int, bins: int) -> None:
        super().__init__()
        self.widths = nn.ParameterList(torch.zeros(features, bins) for _ in range(splines))
        self.slopes = nn.ParameterList(torch.zeros(features, bins - 1) for _ in range(splines))

    def forward(self, loc: Tensor, log_scale: Tensor, *heights: Tensor) -> Any:
        """Return the map of parameters `(n, features)` and `(n, features, bins)`, unbounded."""
        from zuko.transforms import MonotonicAffineTransform

        from rung3.mechanisms.networks.spline import Chain, Spline  # zuko takes a moment to import

        splines = [
            Spline(*knots, slope=1 / MAX_SLOPE)
            for knots in zip(self.widths, heights, self.slopes, strict=True)
        ]
        return Chain(MonotonicAffineTransform(loc, log_scale).inv, *splines)
