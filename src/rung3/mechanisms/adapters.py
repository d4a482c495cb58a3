"""Mechanisms brought along: conditional distributions of torch, flows of zuko, graphs of DoWhy-GCM.

Whatever gives `p(x | pa)` becomes `x := f(pa, u)` by the map from value to noise that it has:

| brought | u of x | inverse |
|---|---|---|
| a family with location m and scale s | `(x - m) / s` | `m + s u` |
| a distribution of `T(b)` | that of `b = T^-1(x)` | T of its inverse |
| any other with a distribution function F | `F(x)` | `F^-1(u)`, by halving if torch has none |
| a zuko flow | its transform | the transform's inverse |

Regressions are brought with `AdditiveNoise(regressor=...)`. All of it runs as it is, and none of it
can be saved: a Python object is not a description, and rung3 reads no pickles.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from rung3.data.rows import Noise
from rung3.data.variables import Continuous, Variable
from rung3.mechanisms.additive.mechanism import AdditiveNoise
from rung3.mechanisms.base import (
    Abduction,
    ImpossibleError,
    Mechanism,
    Parents,
    one_tensor,
    repeat_noise,
)
from rung3.mechanisms.equation import draw

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Conditional", "ZukoFlow", "from_dowhy"]

LOCATED = (td.Normal, td.Laplace, td.Cauchy, td.Gumbel)
HALVINGS, DOUBLINGS = 100, 60


class Conditional(Mechanism):
    """A conditional distribution of `torch.distributions`; noise `(n,)`, in double.

    Args:
        distribution: A function, or a module (whose parameters `fit` then trains), from the
            parents' values `(n,)`, by name, to a distribution of batch shape `(n,)`.

    Raises:
        ValueError: On `build`, if its arguments are not the parents, or the variable is no number;
            on use, if the distribution is discrete or has no distribution function in torch.

    Example:
        >>> from torch.distributions import Gamma
        >>> mechanism = Conditional(lambda age: Gamma(2.0, 1 / (1 + age)))
        >>> dose = mechanism.bind("dose", Continuous(lower=0), {"age": Continuous()})
        >>> parents, x = {"age": torch.tensor([0.0, 3.0])}, torch.tensor([1.0, 5.0])
        >>> dose.predict(dose.abduct(x, parents), parents)
        tensor([1., 5.])
    """

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "monotone in the noise of the distribution that was brought"

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
        """Refused: what was brought is a Python object.

        Raises:
            ValueError: Always.
        """
        raise _unsaved(self.name, "its distribution is a Python function")

    def describe(self) -> str:
        return f"Conditional({getattr(self.distribution, '__name__', 'module')})"

    def _given(self, parents: Parents, n: int) -> Distribution:
        given = {name: parents[name].double() for name in self.arguments or ()}
        found = self.distribution(**given)
        if not isinstance(found, Distribution):
            raise ValueError(f"{self.name}: expected a torch distribution, got {found!r}")
        if found.event_shape or found.batch_shape not in ((), (1,), (n,)):
            raise ValueError(
                f"{self.name}: expected a distribution of batch shape ({n},), got {found}"
            )
        if _support(found).is_discrete:
            raise ValueError(
                f"{self.name}: {found} is discrete, and no value tells its noise; use InverseCDF "
                "or GumbelMax, with table= if its probabilities are known"
            )
        expanded: Distribution = found.expand((n,))
        return expanded

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        given = self._given(parents, n)
        return _noise(given, draw(given, (), generator, self.observed.device), self.name)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name)
        made = _value(self._given(parents, len(u)), u.double(), self.name)
        return self.variable.hold(made, self.wide)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        given, x = self._given(parents, len(value)), value.double()
        if not (possible := _support(given).check(x)).all():
            why = f"{float(x[~possible][0]):g} is outside the support of {given}"
            raise ImpossibleError(self.name, ~possible, why)
        u = _noise(given, x, self.name)
        with torch.no_grad():
            again = _value(given, u, self.name)
        lost = ~torch.isclose(again, x, rtol=1e-4, atol=1e-6)
        if lost.any():
            raise ValueError(
                f"{self.name}: {float(x[lost][0]):g} lies so far out that no number of double "
                f"precision tells its noise: {given} says it is all but impossible"
            )
        return repeat_noise(u, particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        given, x = self._given(parents, len(value)), value.double()
        possible = _support(given).check(x)
        drawn = x if possible.all() else torch.where(possible, x, given.sample())
        log_prob = given.log_prob(drawn).where(possible, torch.tensor(-torch.inf).to(x))
        return log_prob.to(self.variable.dtype)


class ZukoFlow(Mechanism):
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

    abduction: ClassVar[Abduction] = "exact"
    assumption: str = "monotone in the noise of the flow that was brought"

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
        """Refused: what was brought is a Python object.

        Raises:
            ValueError: Always.
        """
        raise _unsaved(self.name, "its flow is a Python object")

    def describe(self) -> str:
        return f"ZukoFlow({type(self.flow).__name__})"

    def _given(self, parents: Parents, n: int) -> Any:
        if not self.parents:
            return self.flow()
        columns = [parents[name].reshape(n, -1) for name in self.parents]
        return self.flow(torch.cat(columns, 1).to(self.variable.dtype))

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        base = self._given(parents, n).base
        drawn = draw(base, () if base.batch_shape else (n,), generator, self.observed.device)
        return drawn.reshape(n, *self.variable.shape)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        u = one_tensor(noise, self.name)
        value: Tensor = self._given(parents, len(u)).transform.inv(u.reshape(len(u), -1))
        return value.reshape(u.shape)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        n = len(value)
        u: Tensor = self._given(parents, n).transform(value.reshape(n, -1))
        return repeat_noise(u.reshape(value.shape), particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        n = len(value)
        log_prob: Tensor = self._given(parents, n).log_prob(value.reshape(n, -1))
        return log_prob


def from_dowhy(model: Any, variables: Mapping[str, Variable] | None = None) -> SCM:
    """A graph of DoWhy-GCM as an `SCM`, with the regressions that it has learned.

    Nodes with a fitted `AdditiveNoiseModel` whose parents are numbers bring their regression, which
    stays as it is; the distribution of their noise, and all other mechanisms, are what `fit` then
    learns. DoWhy itself is not needed.

    Args:
        model: A causal model of `dowhy.gcm`, such as an `InvertibleStructuralCausalModel`.
        variables: What the columns are, where they are not numbers.

    Raises:
        ValueError: If it has no graph with causal mechanisms.
    """
    from rung3.graph import CausalGraph
    from rung3.scm.scm import SCM

    try:
        arrows = [(str(a), str(b)) for a, b in model.graph.edges]
        nodes = {str(node): model.graph.nodes[node] for node in model.graph.nodes}
    except AttributeError:
        raise ValueError(f"expected a causal model of dowhy.gcm, got {model!r}") from None
    kinds = dict(variables or {})
    graph = CausalGraph.of(sorted(nodes), arrows)  # DoWhy's parents are in this order, too
    mechanisms: dict[str, Mechanism] = {}
    for name in graph.nodes:
        brought = getattr(nodes[name].get("causal_mechanism"), "prediction_model", None)
        parents = [kinds.get(parent, Continuous()) for parent in graph.parents(name)]
        scalar = all(isinstance(kind, Continuous) and not kind.shape for kind in parents)
        if brought is not None and scalar and isinstance(kinds.get(name, Continuous()), Continuous):
            mechanisms[name] = AdditiveNoise(regressor=_Fitted(copy.deepcopy(brought)))
    return SCM(graph, kinds, mechanisms)


class _Fitted:
    """A regression that is not fitted again."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, features: Any, target: Any) -> _Fitted:
        return self

    def predict(self, features: Any) -> Any:
        return self.model.predict(features)


def _support(distribution: Distribution) -> Any:
    support: Any = distribution.support
    return support


def _noise(given: Distribution, value: Tensor, name: str) -> Tensor:
    """The noise behind values."""
    if isinstance(given, td.TransformedDistribution):
        for transform in reversed(given.transforms):
            value = transform.inv(value)
        return _noise(given.base_dist, value, name)
    if isinstance(given, LOCATED):
        return (value - given.loc) / given.scale
    return _cdf(given, value, name)


def _value(given: Distribution, u: Tensor, name: str) -> Tensor:
    """The values that noise gives."""
    if isinstance(given, td.TransformedDistribution):
        value = _value(given.base_dist, u, name)
        for transform in given.transforms:
            value = transform(value)
        return value
    if isinstance(given, LOCATED):
        return given.loc + given.scale * u
    try:
        return given.icdf(u)
    except NotImplementedError:
        return _halve(given, u, name)


def _cdf(given: Distribution, value: Tensor, name: str) -> Tensor:
    try:
        return given.cdf(value)
    except NotImplementedError:
        raise ValueError(
            f"{name}: {given} cannot be inverted: torch has no distribution function of it; use "
            "a location-scale family, a transformed one, or Equation with its noise"
        ) from None


@torch.no_grad()
def _halve(given: Distribution, u: Tensor, name: str) -> Tensor:
    """Where the distribution function is u, by halving brackets."""
    support = _support(given)
    low, high = (
        torch.as_tensor(getattr(support, end, other)).to(u).expand(u.shape)
        for end, other in (("lower_bound", -1.0), ("upper_bound", 1.0))
    )
    for _ in range(DOUBLINGS):
        above = _cdf(given, low, name) > u if not hasattr(support, "lower_bound") else u < 0
        below = _cdf(given, high, name) < u if not hasattr(support, "upper_bound") else u > 1
        if not (above.any() or below.any()):
            break
        low, high = torch.where(above, 2 * low, low), torch.where(below, 2 * high + 1, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = _cdf(given, middle, name) > u
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def _unsaved(name: str, why: str) -> ValueError:
    return ValueError(
        f"{name}: {why}, which cannot be saved without pickle; keep the code that made it, or use "
        "a mechanism of rung3"
    )
