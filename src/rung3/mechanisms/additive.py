"""`AdditiveNoise`: a function of the parents, and noise that does not know them.

    x = T^-1(m(pa) + e),    e = g^-1(u),    u ~ N(0, 1),    u = g(T(x) - m(pa)),

with T the map from the support to the real line (the identity where there are no bounds), g a
neural spline without any input, and, by change of variables,

    log p(x | pa) = log p_e(T(x) - m(pa)) + log |dT/dx|.

A counterfactual is the factual value moved by `m(pa~) - m(pa)`, so its error is that of a
regression, and no more. m is a polynomial, by least squares in closed form; or the mean of a few
networks, each trained by the likelihood as if it were alone: where data are few they differ, and
their mean errs less than any one of them; or a regressor of scikit-learn, or one like those.

Identified under the assumption, whatever the noise's distribution (Hoyer et al. 2008, *Nonlinear
causal discovery with additive noise models*); `rung3.diagnose` tests it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from rung3.mechanisms.base import Abduction, Mechanism, Parents, one_tensor, repeat_noise
from rung3.mechanisms.encoding import ParentEncoder, Standardise
from rung3.mechanisms.flow import Flow
from rung3.mechanisms.support import ToReal
from rung3.rows import Noise
from rung3.variables import Continuous, Image

__all__ = ["AdditiveNoise"]

MOST, CHUNK = 500, 65_536
"""Most terms of a polynomial; rows whose terms are held at once."""


class AdditiveNoise(Mechanism):
    """A regression on the parents plus noise independent of them; noise of the value's shape.

    Args:
        degree: Of the polynomial m in the encoded parents; networks if not given.
        hidden: Widths of each network.
        members: Number of networks.
        regressor: What has `fit(features, target)` and `predict(features)` of arrays `(n, d)` and
            `(n,)`, such as scikit-learn's; `fit` of the model fits it, on the parents' values as
            they are (categories one-hot). One that overfits makes the noise look too small. It
            cannot be saved, and gives no gradients.

    Raises:
        ValueError: On a degree below 1, or no members; on a regressor without `fit` and `predict`,
            or beside a degree, or of a vector; on `build`, if the variable is not
            continuous, a parent is an image, or the polynomial has too many terms.

    Example:
        >>> from rung3 import SCM, fit, worlds
        >>> rows = worlds.lecture().sample(2_000, seed=0)
        >>> model = SCM("x1 -> x2", mechanisms={"x2": AdditiveNoise(degree=1)})
        >>> _ = fit(model, rows, epochs=2, progress=False)
        >>> answer = model.counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})
        >>> round(answer["x2"].item())  # 4 + 3 (5 - 2)
        13
    """

    abduction: ClassVar[Abduction] = "exact"
    learning_rate: ClassVar[float] = 1e-2
    assumption: str = "noise adds to a function of the parents, and does not depend on them"

    def __init__(
        self,
        degree: int | None = None,
        hidden: tuple[int, ...] = (32, 32, 32),
        members: int = 6,
        regressor: Any = None,
    ) -> None:
        super().__init__()
        if regressor is not None:
            lacking = [verb for verb in ("fit", "predict") if not callable(_verb(regressor, verb))]
            if lacking or isinstance(regressor, type) or degree is not None:
                raise ValueError(
                    f"regressor={regressor!r}: expected an object with fit and predict, and no "
                    f"degree beside it (degree={degree})"
                )
        if (degree is not None and degree < 1) or members < 1:
            raise ValueError(f"degree={degree} and members={members} must be at least 1")
        self.degree = degree
        self.hidden = tuple(hidden)
        self.members = members
        self.regressor = regressor

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
        self.location: nn.Module | None = None
        if self.regressor is not None and (self.variable.shape or not inputs):
            raise ValueError(f"{self.name}: a regressor gives one number, from at least one parent")
        if self.regressor is not None:
            self.location = _Regressor(self.regressor, self.name)
        elif inputs and self.degree is None:
            self.location = _Networks(self.members, inputs, self.hidden, outputs)
        elif inputs:
            terms = math.comb(inputs + (self.degree or 0), inputs)
            if terms > MOST:
                raise ValueError(
                    f"{self.name}: a polynomial of degree {self.degree} in {inputs} features has "
                    f"{terms} terms, more than {MOST}; give a lower degree, or none for networks"
                )
            self.location = _Polynomial(self.degree or 0, inputs, outputs)
        self.rest = Flow().bind(self.name, Continuous(dim=self.variable.dim), {})

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Take units and scales from the training data; fit the polynomial, if it is one."""
        self.to_real.calibrate(value)
        if not isinstance(self.location, _Regressor):  # which takes values as they are
            self.encoder.calibrate(parents)
            self.standardise.calibrate(self.to_real(value)[0])
        standard = self._standard(value)[0]
        if isinstance(self.location, _Polynomial | _Regressor):
            self.location.solve(self.encoder(parents, len(value)), standard.reshape(len(value), -1))
            standard = standard - self._mean(parents, standard)
        elif isinstance(self.location, _Networks):
            return  # what they leave is not known yet: the noise's scale is learned with them
        self.rest.calibrate(standard, {})

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

    def _means(self, parents: Parents, like: Tensor) -> Tensor:
        """What each network (or the polynomial) says m is, `(members, n, *shape)`, standardised."""
        if self.location is None:
            return torch.zeros_like(like)[None]
        means: Tensor = self.location(self.encoder(parents, len(like)))
        return means.reshape(len(means), *like.shape)

    def _mean(self, parents: Parents, like: Tensor) -> Tensor:
        return self._means(parents, like).mean(0)

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return self.rest.sample_noise(n, {}, generator)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        rest = self.rest.predict(one_tensor(noise, self.name), {})
        return self.to_real.inverse(self.standardise.inverse(rest + self._mean(parents, rest)))

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        standard = self._standard(value)[0]
        return repeat_noise(
            self.rest.abduct(standard - self._mean(parents, standard), {}), particles
        )

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        standard, slope = self._standard(value)
        return self.rest.log_prob(standard - self._mean(parents, standard), {}) + slope

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """`-log p(x | pa)` under each network alone, averaged."""
        standard, slope = self._standard(value)
        rest = (standard - self._means(parents, standard)).flatten(0, 1)
        return -self.rest.log_prob(rest, {}).mean() - slope.mean()


class _Polynomial(nn.Module):
    """A polynomial `(n, inputs) -> (1, n, outputs)`, its constant included."""

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
        value: Tensor = self._design(z) @ self.coefficients
        return value[None]


class _Networks(nn.Module):
    """Perceptrons side by side, `(n, inputs) -> (members, n, outputs)`; linear beyond the data."""

    def __init__(self, members: int, inputs: int, hidden: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        layers = list(itertools.pairwise((inputs, *hidden, outputs)))
        self.weights = nn.ParameterList(
            (2 * torch.rand(members, a, b) - 1) / math.sqrt(a) for a, b in layers
        )
        self.biases = nn.ParameterList(
            (2 * torch.rand(members, 1, b) - 1) / math.sqrt(a) for a, b in layers
        )

    def forward(self, z: Tensor) -> Tensor:
        values = z.expand(len(self.weights[0]), *z.shape)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = F.elu(values) if k else values
            values = torch.baddbmm(bias, values, weight)
        return values


class _Regressor(nn.Module):
    """A regressor of arrays, `(n, inputs) -> (1, n, 1)`; without gradients."""

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
        return torch.as_tensor(told, device=z.device).to(z).reshape(1, len(z), 1)


def _verb(regressor: Any, verb: str) -> Any:
    return getattr(regressor, verb, None)
