"""Mechanisms brought along: conditional distributions of torch, and flows of zuko.

Whatever gives `p(x | pa)` becomes `x := f(pa, u)` by the map from value to noise that it has:

| adapted | u of x | inverse |
|---|---|---|
| a family with location m and scale s | `(x - m) / s` | `m + s u` |
| a distribution of `T(b)` | that of `b = T^-1(x)` | T of its inverse |
| any other with a distribution function F | `F(x)` | `F^-1(u)`, by halving if torch has none |
| a zuko flow | its transform | the transform's inverse |

Regressions are adapted by `AdditiveNoise(regressor=...)`. All of these run as they are, and none
can be saved: a Python object is not a description, and rung3 reads no pickles.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from rung3.data.rows import Noise
from rung3.data.variables import Continuous
from rung3.mechanisms.base import ImpossibleError, Invertible, Parents, one_tensor
from rung3.mechanisms.distributions import draw

__all__ = ["Conditional", "ZukoFlow"]

LOCATION_SCALE = (td.Normal, td.Laplace, td.Cauchy, td.Gumbel)
"""Families of torch whose noise is `(x - m) / s`."""

HALVINGS = 100
"""Halvings of a bracket to a value: double precision has 53 binary digits, and few are lost."""

DOUBLINGS = 60
"""Doublings of a bracket's ends, from 1 to 1e18."""


class Conditional(Invertible):
    """A conditional distribution of `torch.distributions`; noise `(n,)`, in double.

    Args:
        distribution: A function, or a module (whose parameters `fit` then trains), from the
            parents' values `(n,)`, by name, to a distribution of batch shape `(n,)`.

    Raises:
        ValueError: On `build`, if its arguments are not the parents, or the variable is not a
            number; on use, if the distribution is discrete, or torch has no distribution function
            of it.

    Example:
        >>> from torch.distributions import Gamma
        >>> mechanism = Conditional(lambda age: Gamma(2.0, 1 / (1 + age)))
        >>> dose = mechanism.bind("dose", Continuous(lower=0), {"age": Continuous()})
        >>> parents, x = {"age": torch.tensor([0.0, 3.0])}, torch.tensor([1.0, 5.0])
        >>> dose.predict(dose.abduct(x, parents), parents)
        tensor([1., 5.])
    """

    assumption: str = "monotone in the noise of the distribution that was given"

    def __init__(self, distribution: Callable[..., Distribution]) -> None:
        super().__init__()
        self.distribution = distribution
        call = distribution.forward if isinstance(distribution, nn.Module) else distribution
        self.arguments = tuple(inspect.signature(call).parameters)

    def build(self) -> None:
        if not isinstance(self.variable, Continuous) or self.variable.shape:
            raise ValueError(
                f"{self.name}: Conditional models numbers, and {self.name} is {self.variable}; "
                "use InverseCDF or GumbelMax for categories, with table= if they are known"
            )
        if set(self.arguments or ()) != set(self.parents):
            raise ValueError(
                f"{self.name}: the distribution's arguments are {list(self.arguments or ())}, but "
                f"the graph's parents of {self.name} are {list(self.parents)}"
            )

    def config(self) -> dict[str, Any]:
        """Refuse: a Python object cannot be saved.

        Raises:
            ValueError: Always.
        """
        raise _unsaved(self.name, "its distribution is a Python function")

    def describe(self) -> str:
        return f"Conditional({getattr(self.distribution, '__name__', 'module')})"

    def _conditional(self, parents: Parents, n: int) -> Distribution:
        """Return `p(x | pa)`, of batch shape `(n,)`."""
        values = {name: parents[name].double() for name in self.arguments or ()}
        conditional = self.distribution(**values)
        if not isinstance(conditional, Distribution):
            raise ValueError(f"{self.name}: expected a torch distribution, got {conditional!r}")
        if conditional.event_shape or conditional.batch_shape not in ((), (1,), (n,)):
            raise ValueError(
                f"{self.name}: expected a distribution of batch shape ({n},), got {conditional}"
            )
        if _support(conditional).is_discrete:
            raise ValueError(
                f"{self.name}: {conditional} is discrete, and no value tells its noise; use "
                "InverseCDF or GumbelMax, with table= if its probabilities are known"
            )
        expanded: Distribution = conditional.expand((n,))
        return expanded

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        conditional = self._conditional(parents, n)
        value = draw(conditional, (), generator, self.observed.device)
        return _noise(conditional, value, self.name)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name)
        value = _value(self._conditional(parents, len(u)), u.double(), self.name)
        return self.variable.hold(value, self.wide)

    def invert(self, value: Tensor, parents: Parents) -> Noise:
        conditional, x = self._conditional(parents, len(value)), value.double()
        if not (possible := _support(conditional).check(x)).all():
            why = f"{float(x[~possible][0]):g} is outside the support of {conditional}"
            raise ImpossibleError(self.name, ~possible, why)
        u = _noise(conditional, x, self.name)
        with torch.no_grad():
            returned = _value(conditional, u, self.name)
        lost = ~torch.isclose(returned, x, rtol=1e-4, atol=1e-6)
        if lost.any():
            raise ValueError(
                f"{self.name}: {float(x[lost][0]):g} lies so far out that no number of double "
                f"precision tells its noise: under {conditional} it is almost impossible"
            )
        return u

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        conditional, x = self._conditional(parents, len(value)), value.double()
        possible = _support(conditional).check(x)
        # Elsewhere, torch refuses to give a density: a value drawn stands in.
        inside = x if possible.all() else torch.where(possible, x, conditional.sample())
        log_prob = conditional.log_prob(inside).where(possible, torch.tensor(-torch.inf).to(x))
        return log_prob.to(self.variable.dtype)


class ZukoFlow(Invertible):
    """A flow of zuko, trained or not; noise of the value's shape, from the flow's base.

    Args:
        flow: A lazy flow such as `zuko.flows.NSF(1, context=2)`, whose base knows no context. Its
            context is the parents' values, as they are, side by side in the order of the graph's
            nodes; `fit` trains it further.

    Raises:
        ValueError: On `build`, if the variable is not continuous, or the flow is none.

    Example:
        >>> from zuko.flows import MAF
        >>> flow = ZukoFlow(MAF(1, context=1)).bind("y", Continuous(), {"x": Continuous()})
        >>> parents, y = {"x": torch.tensor([0.0])}, torch.tensor([1.5])
        >>> flow.predict(flow.abduct(y, parents), parents).detach()
        tensor([1.5000])
    """

    assumption: str = "monotone in the noise of the flow that was given"

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def build(self) -> None:
        if not callable(self.flow):
            raise ValueError(
                f"{self.name}: ZukoFlow takes a flow of zuko, such as zuko.flows.NSF(1), got "
                f"{self.flow!r}; a study file cannot hold one"
            )
        if not isinstance(self.variable, Continuous):
            raise ValueError(
                f"{self.name}: ZukoFlow models numbers, and {self.name} is {self.variable}; use "
                "InverseCDF or GumbelMax for categories"
            )
        if not all(len(kind.shape) <= 1 for kind in self.parents.values()):
            raise ValueError(f"{self.name}: ZukoFlow takes numbers and categories, no images")

    def config(self) -> dict[str, Any]:
        """Refuse: a Python object cannot be saved.

        Raises:
            ValueError: Always.
        """
        raise _unsaved(self.name, "its flow is a Python object")

    def describe(self) -> str:
        return f"ZukoFlow({type(self.flow).__name__})"

    def _conditional(self, parents: Parents, n: int) -> Any:
        """Return `p(x | pa)`, a distribution of zuko, of batch shape `(n,)`."""
        if not self.parents:
            return self.flow()
        columns = [parents[name].reshape(n, -1) for name in self.parents]
        return self.flow(torch.cat(columns, 1).to(self.variable.dtype))

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        base = self._conditional(parents, n).base
        u = draw(base, () if base.batch_shape else (n,), generator, self.observed.device)
        return u.reshape(n, *self.variable.shape)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name)
        value: Tensor = self._conditional(parents, len(u)).transform.inv(u.reshape(len(u), -1))
        return value.reshape(u.shape)

    def invert(self, value: Tensor, parents: Parents) -> Noise:
        n = len(value)
        u: Tensor = self._conditional(parents, n).transform(value.reshape(n, -1))
        return u.reshape(value.shape)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        n = len(value)
        log_prob: Tensor = self._conditional(parents, n).log_prob(value.reshape(n, -1))
        return log_prob


def _support(distribution: Distribution) -> Any:
    support: Any = distribution.support
    return support


def _noise(conditional: Distribution, value: Tensor, name: str) -> Tensor:
    """Return the noise behind values."""
    if isinstance(conditional, td.TransformedDistribution):
        for transform in reversed(conditional.transforms):
            value = transform.inv(value)
        return _noise(conditional.base_dist, value, name)
    if isinstance(conditional, LOCATION_SCALE):
        return (value - conditional.loc) / conditional.scale
    return _cdf(conditional, value, name)


def _value(conditional: Distribution, u: Tensor, name: str) -> Tensor:
    """Return the values that noise gives."""
    if isinstance(conditional, td.TransformedDistribution):
        value = _value(conditional.base_dist, u, name)
        for transform in conditional.transforms:
            value = transform(value)
        return value
    if isinstance(conditional, LOCATION_SCALE):
        return conditional.loc + conditional.scale * u
    try:
        return conditional.icdf(u)
    except NotImplementedError:
        return _halve(conditional, u, name)


def _cdf(conditional: Distribution, value: Tensor, name: str) -> Tensor:
    try:
        return conditional.cdf(value)
    except NotImplementedError:
        raise ValueError(
            f"{name}: {conditional} cannot be inverted: torch has no distribution function of it; "
            "use a location-scale family, a transformed one, or Equation with its noise"
        ) from None


@torch.no_grad()
def _halve(conditional: Distribution, u: Tensor, name: str) -> Tensor:
    """Find where the distribution function is u, by halving brackets."""
    support = _support(conditional)
    low, high = (
        torch.as_tensor(getattr(support, end, other)).to(u).expand(u.shape)
        for end, other in (("lower_bound", -1.0), ("upper_bound", 1.0))
    )
    for _ in range(DOUBLINGS):
        above = _cdf(conditional, low, name) > u if not hasattr(support, "lower_bound") else u < 0
        below = _cdf(conditional, high, name) < u if not hasattr(support, "upper_bound") else u > 1
        if not (above.any() or below.any()):
            break
        low, high = torch.where(above, 2 * low, low), torch.where(below, 2 * high + 1, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = _cdf(conditional, middle, name) > u
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def _unsaved(name: str, why: str) -> ValueError:
    return ValueError(
        f"{name}: {why}, which cannot be saved without pickle; keep the code that made it, or use "
        "a mechanism of rung3"
    )
