"""`AdditiveNoise`: a function of the parents, and noise that does not know them.

    x = T^-1(m(pa) + s(pa) e),    e = g^-1(u),    u ~ N(0, 1),    u = g((T(x) - m(pa)) / s(pa)),

with T the map from the support to the real line (the identity where there are no bounds), s = 1
unless a spread is asked for, g a neural spline without any input, and, by change of variables,

    log p(x | pa) = log p_e((T(x) - m(pa)) / s(pa)) - log s(pa) + log |dT/dx|.

With s = 1 a counterfactual is the factual value moved by `m(pa~) - m(pa)`, so its error is that of
a regression, and no more. Everything is fitted before the first step of training. m is fitted by
least squares: a polynomial in closed form, a network by second-order steps (see
`rung3.mechanisms.additive.regression`), trees by boosting (`rung3.mechanisms.additive.trees`), or
by a regressor of scikit-learn, or one like those. s is fitted by the normal likelihood of what m
leaves, and then m again, each row weighted by 1 / s^2; and g by the likelihood of the rest.

Least squares waste what noise that is not normal tells: with the Fisher information I =
E[(log p_e)'^2], one row tells `I var(e) >= 1` times as much of m as they use of it. If there are
enough rows to tell g from a normal for certain, m is fitted once more, by the likelihood of g
(Bickel 1982, *On adaptive estimation*), and then g again; if there are only enough to tell that its
tails are heavy, by that of a Student's t.

The counterfactual is identified under the assumption, whatever the noise's distribution (Hoyer et
al. 2008, *Nonlinear causal discovery with additive noise models*; with a spread, except in rare
cases, Immer et al. 2023, *On the identifiability and estimation of causal location-scale noise
models*); `rung3.diagnose` tests it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from rung3.data.rows import Noise
from rung3.data.variables import Continuous, Image, Variable
from rung3.mechanisms.additive.losses import Loss, adaptive, normal_spread, squared_error
from rung3.mechanisms.additive.polynomial import Polynomial
from rung3.mechanisms.additive.regression import Regression
from rung3.mechanisms.additive.trees import Trees
from rung3.mechanisms.base import Invertible, Mechanism, Parents, Passes, one_tensor
from rung3.mechanisms.flow import Flow
from rung3.mechanisms.networks.encoding import ParentEncoder, Standardise
from rung3.mechanisms.networks.real_line import ToReal

__all__ = ["AdditiveNoise"]

MAX_TERMS = 500
"""Most terms of a curved polynomial: a step takes the cube of their number."""

MAX_CANDIDATE_TERMS = 100
"""Most terms of a polynomial that `choose` tries: more would take too many rows to tell."""

CANDIDATE_TREES = 200
"""Most trees of a sum that `choose` tries: boosting stops earlier where rows tell no more."""


class AdditiveNoise(Invertible):
    """A regression on the parents plus noise independent of them; noise of the value's shape.

    Args:
        degree: Degree of the polynomial m in the encoded parents; a network if not given.
        hidden: Most units of the network, fewer for wider parents; a line is added to it.
        spread: Whether the noise's spread depends on the parents, by such a network too.
        trees: Most trees in a sum that takes the place of m, for functions with steps. Beyond the
            data it is constant, and it gives no gradients.
        regressor: An object with `fit(features, target)` and `predict(features)` of arrays `(n, d)`
            and `(n,)`, such as scikit-learn's. `fit` of the model fits it, on the parents' values
            as they are (categories one-hot). One that overfits makes the noise look too small. It
            cannot be saved, and gives no gradients.

    Raises:
        ValueError: On a degree or a number of units or trees below 1, or two of degree, spread,
            trees and regressor; on a regressor without `fit` and `predict`, or of a vector; on
            `build`, if the variable is not continuous, a parent is an image, or the polynomial
            has too many terms.

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
    learning_rate: ClassVar[float] = 1e-2
    flexibility: ClassVar[int] = 1
    assumption: str = "noise adds to a function of the parents, and does not depend on them"

    def __init__(
        self,
        degree: int | None = None,
        hidden: int = 16,
        spread: bool = False,
        regressor: Any = None,
        trees: int | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(degree, hidden, spread, regressor, trees)
        self.degree = degree
        self.hidden = hidden
        self.spread = spread
        self.regressor = regressor
        self.trees = trees
        if spread:
            self.assumption = (
                "noise, times a spread that the parents set, adds to a function of them"
            )

    @classmethod
    def candidates(
        cls, variable: Variable, parents: Mapping[str, Variable]
    ) -> list[list[Mechanism]]:
        """Name a line, curves and a network; then a spread; then trees, for steps."""
        if not isinstance(variable, Continuous) or variable.circular or variable.whole:
            return []
        if variable.censored or any(isinstance(parent, Image) for parent in parents.values()):
            return []
        width = ParentEncoder(parents).width
        degrees = [k for k in (2, 3) if math.comb(width + k, k) <= MAX_CANDIDATE_TERMS]
        curves = [cls(degree=degree) for degree in degrees]
        return [
            [cls(degree=1), *curves, cls()],
            [cls(spread=True)],
            [cls(trees=CANDIDATE_TREES)],
        ]

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
        self.location = self._location(inputs, outputs)
        self.log_spread = (
            Regression(inputs, self.hidden, outputs, products=False)
            if self.spread and inputs
            else None
        )
        self.register_buffer("seen", torch.zeros(2, outputs))
        self.rest = Flow().bind(self.name, Continuous(dim=self.variable.dim), {})
        self.closed_form = self.rest.closed_form

    def _location(
        self, inputs: int, outputs: int
    ) -> Polynomial | Regression | Trees | _Regressor | None:
        """Return m, unfitted; without parents it is zero, and none is needed."""
        if self.regressor is not None:
            if self.variable.shape or not inputs:
                raise ValueError(
                    f"{self.name}: a regressor gives one number, from at least one parent"
                )
            return _Regressor(self.regressor, self.name)
        if not inputs:
            return None
        if self.trees is not None:
            return Trees(self.trees, outputs)
        if self.degree is None:
            return Regression(inputs, self.hidden, outputs)
        terms = math.comb(inputs + self.degree, inputs)
        if self.degree != 1 and terms > MAX_TERMS:
            raise ValueError(
                f"{self.name}: a polynomial of degree {self.degree} in {inputs} features has "
                f"{terms} terms, more than {MAX_TERMS}; give a lower degree, or none for networks"
            )
        return Polynomial(self.degree, inputs, outputs)

    @torch.no_grad()
    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Fit everything: units and scales, m, s, and the noise's distribution."""
        self.to_real.calibrate(value)
        if not isinstance(self.location, _Regressor):  # which takes values as they are
            self.encoder.calibrate(parents)
            self.standardise.calibrate(self.to_real(value)[0], point=True)
        n, standard = len(value), self._standardised(value)
        z = self._features(parents, n)
        if isinstance(self.location, Polynomial | Regression):
            self._solve(z, standard, parents)
            return
        if isinstance(self.location, Trees):
            predicted = self.location.solve(z, standard.reshape(n, -1)).reshape(standard.shape)
            self.rest.calibrate(standard - predicted, {})
            return
        if self.location is not None:
            self.location.solve(z, standard)
        self.rest.calibrate(self._residual(standard, parents)[0], {})

    def _solve(self, z: Tensor, standard: Tensor, parents: Parents) -> None:
        """Fit m, s and g, starting from what they are, if they were fitted before."""
        assert isinstance(self.location, Polynomial | Regression)
        if self.location.weights.any():
            likelihood = self._likelihood(self._residual(standard, parents)[0])
            self._fit(z, standard, parents, likelihood or squared_error)
            return
        if self.log_spread is not None:
            self._start_spread(z, standard.reshape(len(z), -1))
        residual = self._fit(z, standard, parents, squared_error)
        if (likelihood := self._likelihood(residual)) is not None:
            self._fit(z, standard, parents, likelihood)

    def _start_spread(self, z: Tensor, y: Tensor) -> None:
        """Fit a first s, to what a rough m leaves in a few rows."""
        assert isinstance(self.location, Regression)
        assert self.log_spread is not None
        self.location.solve(z, squared_error, y, torch.ones_like(y), rough=True)
        self.log_spread.solve(z, normal_spread, y - self.location(z), rough=True)
        self.location.weights.zero_()

    def _fit(self, z: Tensor, standard: Tensor, parents: Parents, loss: Loss) -> Tensor:
        """Fit m by this loss, on the scale that s gives each row; then s; then g to the rest."""
        assert isinstance(self.location, Polynomial | Regression)
        y = standard.reshape(len(z), -1)
        if self.log_spread is None:
            self.location.solve(z, loss, y, torch.ones_like(y))
        else:
            self.location.solve(z, loss, y, self.log_spread(z).exp())
            self.log_spread.solve(z, normal_spread, y - self.location(z))
            log_spread = self.log_spread(z)
            self.seen.copy_(torch.stack([log_spread.amin(0), log_spread.amax(0)]))
        residual = self._residual(standard, parents)[0]
        self.rest.calibrate(residual, {})
        return residual

    def calibrate_by_batches(self, value: Tensor, parents: Parents) -> Passes:
        """Fit a polynomial m to all rows; s, and the noise's distribution, are the sample's."""
        if not isinstance(self.location, Polynomial):
            return
        likelihood = self._likelihood(self._residual(self._standardised(value), parents)[0])
        for take in self.location.passes(likelihood or squared_error):
            yield partial(self._give, take)
        self.rest.calibrate(self._residual(self._standardised(value), parents)[0], {})

    def _give(self, take: Callable[..., None], value: Tensor, parents: Parents) -> None:
        """Give features, and the columns of the loss: the standardised value, and its scale."""
        y = self._standardised(value).reshape(len(value), -1)
        take(self._features(parents, len(value)), y, torch.ones_like(y))

    def _likelihood(self, residual: Tensor) -> Loss | None:
        """Return the loss that fits m best, if it tells much more of m than squares do."""
        if not self.rest.closed_form:
            return None
        return adaptive(lambda e: self.rest.log_prob(e, {}), residual)

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return `-log p(x | pa)`; without gradients for trees, whose own rows show small noise."""
        loss = super().loss(value, parents)
        return loss - (loss - loss.detach()) if isinstance(self.location, Trees) else loss

    def effective_parameters(self) -> float:
        """Count those of m and s; the noise's distribution always has the same number."""
        if isinstance(self.location, Trees | _Regressor):
            return math.inf
        parts = [part for part in (self.location, self.log_spread) if part is not None]
        return float(sum(part.determined.sum() for part in parts))

    def config(self) -> dict[str, Any]:
        """Return the arguments that differ from their defaults.

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
        """Return the value on the real line, standardised, and `log |dy/dx|`, `(n,)`."""
        real, slope = self.to_real(value)
        slope = slope - self.standardise.scale.log()
        return self._scaled(real), slope.reshape(len(value), -1).sum(1)

    def _standardised(self, value: Tensor) -> Tensor:
        """Return the value on the real line, standardised, alone."""
        return self._scaled(self.to_real(value)[0])

    def _scaled(self, real: Tensor) -> Tensor:
        """Standardise, but for a regressor, which takes numbers as they are."""
        return real if isinstance(self.location, _Regressor) else self.standardise(real)

    def _features(self, parents: Parents, n: int) -> Tensor:
        """Return the features that m is a function of, `(n, width)`."""
        plain = isinstance(self.location, _Regressor)
        return self.encoder.plain(parents, n) if plain else self.encoder(parents, n)

    def moments(self, parents: Parents, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return m, and log s if it is not 0, of the shape of `like`; s stays in the range seen."""
        if self.location is None:
            return torch.zeros_like(like), None
        z = self._features(parents, len(like))
        mean = self.location(z).reshape(like.shape)
        if self.log_spread is None:
            return mean, None
        low, high = self.seen
        return mean, self.log_spread(z).clamp(low, high).reshape(like.shape)

    def _residual(self, standard: Tensor, parents: Parents) -> tuple[Tensor, Tensor | float]:
        """Return the noise e of the shape of `standard`, and `log |de/dy|`, `(n,)` or 0."""
        mean, log_spread = self.moments(parents, standard)
        if log_spread is None:
            return standard - mean, 0.0
        slope = -log_spread.reshape(len(standard), -1).sum(1)
        return (standard - mean) * (-log_spread).exp(), slope

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return self.rest.sample_noise(n, {}, generator)

    def noise_prior(self) -> str:
        return self.rest.noise_prior()

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        residual = self.rest.predict(one_tensor(noise, self.name), {})
        mean, log_spread = self.moments(parents, residual)
        scaled = residual if log_spread is None else log_spread.exp() * residual
        value = self.to_real.inverse(self.standardise.inverse(mean + scaled))
        return self.variable.hold(value, self.wide)

    def invert(self, value: Tensor, parents: Parents) -> Noise:
        return self.rest.invert(self._residual(self._standardised(value), parents)[0], {})

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        standard, slope = self._standard(value)
        residual, spread_slope = self._residual(standard, parents)
        log_prob = self.rest.log_prob(residual, {}) + slope + spread_slope
        return log_prob.to(self.standardise.scale.dtype)


class _Regressor(nn.Module):
    """A regressor of arrays, `(n, inputs) -> (n, 1)`; without gradients."""

    def __init__(self, regressor: Any, name: str) -> None:
        super().__init__()
        self.regressor = regressor
        self.name = name

    def solve(self, z: Tensor, y: Tensor) -> None:
        """Fit it."""
        self.regressor.fit(z.double().numpy(force=True), y.double().numpy(force=True))

    def forward(self, z: Tensor) -> Tensor:
        try:
            predicted = self.regressor.predict(z.double().numpy(force=True))
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{self.name}: its regressor: {error}") from None
        return torch.as_tensor(predicted, device=z.device).to(z).reshape(len(z), 1)


def _check_arguments(
    degree: int | None, hidden: int, spread: bool, regressor: Any, trees: int | None
) -> None:
    """Refuse arguments of `AdditiveNoise` that are out of range, or do not go together."""
    if regressor is not None:
        verbs = [getattr(regressor, verb, None) for verb in ("fit", "predict")]
        usable = all(map(callable, verbs)) and not isinstance(regressor, type)
        if not usable or degree is not None or spread:
            raise ValueError(
                f"regressor={regressor!r}: expected an object with fit and predict, and no "
                f"degree or spread beside it (degree={degree}, spread={spread})"
            )
    if trees is not None and (not isinstance(trees, int) or trees < 1):
        raise ValueError(f"trees={trees!r} must be a number of trees, at least 1")
    if trees is not None and (degree is not None or spread or regressor is not None):
        raise ValueError(
            f"trees={trees}: expected no degree, spread or regressor beside it "
            f"(degree={degree}, spread={spread}, regressor={regressor!r})"
        )
    if degree is not None and (degree < 1 or spread):
        raise ValueError(f"degree={degree} must be at least 1, and without spread={spread}")
    if not isinstance(hidden, int) or hidden < 1:
        raise ValueError(f"hidden={hidden!r} must be a number of units, at least 1")
