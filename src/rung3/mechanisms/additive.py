"""`AdditiveNoise`: a function of the parents, and noise that does not know them.

    x = T^-1(m(pa) + s(pa) e),    e = g^-1(u),    u ~ N(0, 1),    u = g((T(x) - m(pa)) / s(pa)),

with T the map from the support to the real line (the identity where there are no bounds), s = 1
unless a spread is asked for, g a neural spline without any input, and, by change of variables,

    log p(x | pa) = log p_e((T(x) - m(pa)) / s(pa)) - log s(pa) + log |dT/dx|.

With s = 1 a counterfactual is the factual value moved by `m(pa~) - m(pa)`, so its error is that of
a regression, and no more. All of it is fitted before the first step of training: m by least
squares, a polynomial's in closed form, a network's by second-order steps (see
`rung3.mechanisms.regression`), or by a regressor of scikit-learn, or one like those; s by the
normal likelihood of what m leaves, after which m is fitted anew, each row weighted by 1 / s^2; and
g by the likelihood of what is left then.

Identified under the assumption, whatever the noise's distribution (Hoyer et al. 2008, *Nonlinear
causal discovery with additive noise models*; with a spread, but for rare cases, Immer et al. 2023,
*On the identifiability and estimation of causal location-scale noise models*); `rung3.diagnose`
tests it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from rung3.mechanisms.base import Abduction, Mechanism, Parents, one_tensor, repeat_noise
from rung3.mechanisms.encoding import ParentEncoder, Standardise
from rung3.mechanisms.flow import Flow
from rung3.mechanisms.regression import Regression, spread, squares
from rung3.mechanisms.support import ToReal
from rung3.rows import Noise
from rung3.variables import Continuous, Image

__all__ = ["AdditiveNoise"]

MOST, CHUNK = 500, 65_536
"""Most terms of a polynomial; rows whose terms are held at once."""


class AdditiveNoise(Mechanism):
    """A regression on the parents plus noise independent of them; noise of the value's shape.

    Args:
        degree: Of the polynomial m in the encoded parents; a network if not given.
        hidden: Widths of the network; a line runs beside it.
        spread: Whether the noise's spread depends on the parents, by a network of these widths too.
        regressor: What has `fit(features, target)` and `predict(features)` of arrays `(n, d)` and
            `(n,)`, such as scikit-learn's; `fit` of the model fits it, on the parents' values as
            they are (categories one-hot). One that overfits makes the noise look too small. It
            cannot be saved, and gives no gradients.

    Raises:
        ValueError: On a degree below 1, or beside a spread; on a regressor without `fit` and
            `predict`, or beside a degree or a spread, or of a vector; on `build`, if the variable
            is not continuous, a parent is an image, or the polynomial has too many terms.

    Example:
        >>> from rung3 import SCM, fit, worlds
        >>> rows = worlds.lecture().sample(2_000, seed=0)
        >>> model = SCM("x1 -> x2", mechanisms={"x2": AdditiveNoise(degree=1)})
        >>> _ = fit(model, rows, epochs=2, progress=False)
        >>> answer = model.counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})
        >>> round(answer["x2"].item())  # 4 + 3 (5 - 2)
        13
    """

    seen: Tensor
    abduction: ClassVar[Abduction] = "exact"
    learning_rate: ClassVar[float] = 1e-2
    assumption: str = "noise adds to a function of the parents, and does not depend on them"

    def __init__(
        self,
        degree: int | None = None,
        hidden: tuple[int, ...] = (16,),
        spread: bool = False,
        regressor: Any = None,
    ) -> None:
        super().__init__()
        if regressor is not None:
            lacking = [verb for verb in ("fit", "predict") if not callable(_verb(regressor, verb))]
            if lacking or isinstance(regressor, type) or degree is not None or spread:
                raise ValueError(
                    f"regressor={regressor!r}: expected an object with fit and predict, and no "
                    f"degree or spread beside it (degree={degree}, spread={spread})"
                )
        if degree is not None and (degree < 1 or spread):
            raise ValueError(f"degree={degree} must be at least 1, and without spread={spread}")
        self.degree = degree
        self.hidden = tuple(hidden)
        self.spread = spread
        self.regressor = regressor
        if spread:
            self.assumption = (
                "noise, times a spread that the parents set, adds to a function of them"
            )

    def build(self) -> None:
        if not isinstance(self.variable, Continuous):
            raise ValueError(
                f"{self.name}: AdditiveNoise models numbers, and {self.name} is {self.variable}; "
                "use GumbelMax or InverseCDF for categories and VAE for images"
            )
        if images := [k for k, kind in self.parents.items() if isinstance(kind, Image)]:
            raise ValueError(f"{self.name}: AdditiveNoise takes no image, and {images[0]} is one")
        self.encoder = ParentEncoder(self.parents)
        self.to_real = ToReal(self.variable)
        self.standardise = Standardise(self.variable.shape)
        inputs, outputs = self.encoder.width, self.variable.dim or 1
        self.location: _Polynomial | _Regressor | Regression | None = None
        if self.regressor is not None and (self.variable.shape or not inputs):
            raise ValueError(f"{self.name}: a regressor gives one number, from at least one parent")
        if self.regressor is not None:
            self.location = _Regressor(self.regressor, self.name)
        elif inputs and self.degree is None:
            self.location = Regression(inputs, self.hidden, outputs)
        elif inputs:
            terms = math.comb(inputs + (self.degree or 0), inputs)
            if terms > MOST:
                raise ValueError(
                    f"{self.name}: a polynomial of degree {self.degree} in {inputs} features has "
                    f"{terms} terms, more than {MOST}; give a lower degree, or none for networks"
                )
            self.location = _Polynomial(self.degree or 0, inputs, outputs)
        self.log_spread = (
            Regression(inputs, self.hidden, outputs) if self.spread and inputs else None
        )
        self.register_buffer("seen", torch.zeros(2, outputs))
        self.rest = Flow().bind(self.name, Continuous(dim=self.variable.dim), {})
        self.solved = self.rest.solved

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Fit it: units and scales, m, s, and the noise's distribution."""
        self.to_real.calibrate(value)
        if not isinstance(self.location, _Regressor):  # which takes values as they are
            self.encoder.calibrate(parents)
            self.standardise.calibrate(self.to_real(value)[0])
        n, standard = len(value), self._standard(value)[0]
        z, y = self.encoder(parents, n), standard.reshape(n, -1)
        if isinstance(self.location, _Polynomial | _Regressor):
            self.location.solve(z, y)
        elif self.location is not None:
            self.location.solve(z, squares, y, torch.ones_like(y))
        if self.log_spread is not None:
            self._solve_spread(z, y)
        self.rest.calibrate(self._rest(standard, parents)[0], {})

    def _solve_spread(self, z: Tensor, y: Tensor) -> None:
        """What m leaves, by its size; then m anew, where it is told more exactly."""
        assert isinstance(self.location, Regression)
        assert self.log_spread is not None
        self.log_spread.solve(z, spread, y - self.location(z))
        told = self.log_spread(z)
        self.seen.copy_(torch.stack([told.amin(0), told.amax(0)]))
        weight = (-2 * told).exp()
        self.location.solve(z, squares, y, weight / weight.mean(0))

    def config(self) -> dict[str, Any]:
        """The arguments that differ from their defaults.

        Raises:
            ValueError: If there is a regressor, which cannot be saved.
        """
        if self.regressor is not None:
            raise ValueError(
                f"{self.name}: its regressor {self.regressor!r} cannot be saved without pickle; "
                "keep the code that made it, or use a degree or networks"
            )
        return super().config()

    def describe(self) -> str:
        if self.regressor is not None:
            return f"AdditiveNoise(regressor={self.regressor!r})"
        return super().describe()

    def _standard(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The value on the real line, standardised, and `log |dy/dx|`, `(n,)`."""
        real, slope = self.to_real(value)
        slope = (slope - self.standardise.scale.log()).reshape(len(value), -1).sum(1)
        return self.standardise(real), slope

    def _map(self, parents: Parents, like: Tensor) -> tuple[Tensor, Tensor]:
        """What m and log s are, each of the shape of `like`; s stays within what training saw."""
        if self.location is None:
            return torch.zeros_like(like), torch.zeros_like(like)
        z = self.encoder(parents, len(like))
        mean = self.location(z).reshape(like.shape)
        if self.log_spread is None:
            return mean, torch.zeros_like(like)
        low, high = self.seen
        return mean, self.log_spread(z).clamp(low, high).reshape(like.shape)

    def _rest(self, standard: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """The noise e of the shape of `standard`, and `log |de/dy|`, `(n,)`."""
        mean, log_spread = self._map(parents, standard)
        slope = -log_spread.reshape(len(standard), -1).sum(1)
        return (standard - mean) * (-log_spread).exp(), slope

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return self.rest.sample_noise(n, {}, generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        rest = self.rest.predict(one_tensor(noise, self.name), {})
        mean, log_spread = self._map(parents, rest)
        return self.to_real.inverse(self.standardise.inverse(mean + log_spread.exp() * rest))

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        rest = self._rest(self._standard(value)[0], parents)[0]
        return repeat_noise(self.rest.abduct(rest, {}), particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        standard, slope = self._standard(value)
        rest, own = self._rest(standard, parents)
        return self.rest.log_prob(rest, {}) + slope + own


class _Polynomial(nn.Module):
    """A polynomial `(n, inputs) -> (n, outputs)`, its constant included."""

    coefficients: Tensor

    def __init__(self, degree: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.terms = [
            list(term)
            for k in range(degree + 1)
            for term in itertools.combinations_with_replacement(range(inputs), k)
        ]
        self.register_buffer("coefficients", torch.zeros(len(self.terms), outputs))

    def _design(self, z: Tensor) -> Tensor:
        return torch.stack([z[:, term].prod(1) for term in self.terms], 1)

    def solve(self, z: Tensor, y: Tensor) -> None:
        """Least squares; of the solutions, where there are many (one-hot codes), the least."""
        terms = len(self.terms)
        gram, target = z.new_zeros(terms, terms).double(), y.new_zeros(terms, y.shape[1]).double()
        for some, own in zip(z.split(CHUNK), y.split(CHUNK), strict=True):
            design = self._design(some.double())
            gram += design.T @ design
            target += design.T @ own.double()
        self.coefficients.copy_(torch.linalg.pinv(gram, hermitian=True, rtol=1e-12) @ target)

    def forward(self, z: Tensor) -> Tensor:
        return self._design(z) @ self.coefficients


class _Regressor(nn.Module):
    """A regressor of arrays, `(n, inputs) -> (n, 1)`; without gradients."""

    def __init__(self, regressor: Any, name: str) -> None:
        super().__init__()
        self.regressor = regressor
        self.name = name

    def solve(self, z: Tensor, y: Tensor) -> None:
        """Fit it."""
        self.regressor.fit(z.double().numpy(force=True), y[:, 0].double().numpy(force=True))

    def forward(self, z: Tensor) -> Tensor:
        try:
            told = self.regressor.predict(z.double().numpy(force=True))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{self.name}: its regressor: {error}") from None
        return torch.as_tensor(told, device=z.device).to(z).reshape(len(z), 1)


def _verb(regressor: Any, verb: str) -> Any:
    return getattr(regressor, verb, None)
