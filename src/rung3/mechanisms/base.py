"""The contract of a mechanism: `x := f(pa, u)`.

A mechanism is one variable as a function of its parents and of its own exogenous noise. It is
configured first (`VAE(latent=16)`), and bound to its variable and parents by the `SCM`, which calls
`bind`. Every family is one file that fills in this contract, and every family passes
`rung3.testing.check_mechanism`.

Inside a mechanism values always have one batch axis: `(n, ...)`. Only abducted noise may have a
second one in front, `(K, n, ...)`, when K particles are asked for.

A family whose noise is a function of the value fills in `Invertible`, all others `Mechanism`.
"""

from __future__ import annotations

import copy
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Generator, Tensor, nn

from rung3.data.precision import Precise
from rung3.data.rows import Noise, map_noise
from rung3.data.variables import CensoredTime, Discrete, Image, Variable

__all__ = [
    "Abduction",
    "ImpossibleError",
    "Invertible",
    "Mechanism",
    "Parents",
    "Passes",
    "Trainable",
]

Abduction = Literal["exact", "posterior", "approximate"]
Parents = Mapping[str, Tensor]
Passes = Iterator[Callable[[Tensor, Parents], None]]
"""Passes over all rows, each as what takes values and parents of the rows, a batch at a time."""

NORMAL = "Normal(0.0, 1.0)"
"""Standard normal noise, as `Mechanism.noise_prior` writes it."""

UNIFORM = "Uniform(0.0, 1.0)"
"""Uniform noise, as `Mechanism.noise_prior` writes it."""


class ImpossibleError(ValueError):
    """Evidence of probability zero: a value that its mechanism never gives.

    Args:
        name: Name of the variable.
        impossible: Mask `(n, ...)` of the impossible values.
        why: Which value is impossible, and why.
    """

    def __init__(self, name: str, impossible: Tensor, why: str) -> None:
        super().__init__(f"{name}: evidence has probability zero: {why}")
        self.name, self.why = name, why
        self.row = int(impossible.nonzero()[0, 0])

    def at(self, row: int) -> ValueError:
        """Return the same error, naming the row."""
        return ValueError(f"{self.name}: evidence has probability zero in row {row}: {self.why}")


class Trainable(nn.Module, ABC):
    """The unit of training: one mechanism, or those that hidden causes join as one.

    Attributes:
        name: Name of its variable.
        variable: That variable.
        parents: What its loss is given beside its value, by name.
        differentiates: Whether its loss takes derivatives itself: if its weights lie in parts, all
            of them are then gathered at once, and not layer by layer.
        averaged: Whether `fit` keeps a moving average of its weights; not, if what it learns
            beside them fits only the weights of the last step.
    """

    differentiates: ClassVar[bool] = False
    averaged: ClassVar[bool] = True

    name: str
    variable: Variable
    parents: dict[str, Variable]

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """The highest learning rate that trains it well; `fit` takes it if not told another."""

    @property
    @abstractmethod
    def betas(self) -> tuple[float, float]:
        """Decays of AdamW's averages of gradients and of their squares."""

    @abstractmethod
    def calibrate(self, value: Tensor, parents: Parents) -> None:
        """Take location, scale and range from training data, before the first step."""

    @abstractmethod
    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return what training minimises, averaged over rows."""

    @property
    def learns(self) -> bool:
        """Whether it has parameters that are not frozen."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def after_step(self, seed: int, done: float) -> str | None:
        """Do what there is to do between two steps of training; by default nothing.

        Args:
            seed: Seed of the training.
            done: Share of its steps that were taken, from 0 to 1.

        Returns:
            If its networks started over, why, in a sentence: then the steps so far count for
            nothing (`rung3.training.restarts`).
        """
        return None

    @abstractmethod
    def describe(self) -> str:
        """Describe what is trained, as it would be written."""

    def training_record(self) -> dict[str, Any]:
        """Return what its training record says beside its losses; nothing by default."""
        return {}


class Mechanism(Precise, Trainable):
    """A causal mechanism `x := f(pa, u)` (lecture 1.6, Figure 8).

    A subclass keeps every argument of its constructor under the argument's own name (that is how it
    is saved), and makes its networks in `build`, when the variable and the parents are known.

    Attributes:
        abduction: `"exact"` (invertible), `"posterior"` (exact posterior of a many-to-one map) or
            `"approximate"` (amortised or numerical).
        assumption: What a counterfactual rests on in addition to the graph, in one clause.
        observation_noise: Keys of the noise that are noise of observation alone (VAE: `eps`); a
            query's `temperature` scales them.
        tolerance: How far a value that is asked for by backtracking may be missed, in its unit;
            `None` where the noise says it.
        learning_rate: The highest learning rate that trains it well; the default of `fit`.
        betas: Decays of AdamW's averages of gradients and of their squares. The second is shorter
            than usual, because the losses of deep hierarchies jump.
        flexibility: How much it can express, among the families that `choose` tries: those of
            lower flexibility come first.
        arguments: Names of the parents, where the mechanism itself says them (equations).
        wants_noise: Whether prediction uses the noise.
        by_row: Whether a value depends only on the noise and the parents of its own row.
        atoms: Values that have a probability of their own, beside the density.
        closed_form: Whether `calibrate` fits it, so that `choose` does not train it.
        knows_censoring: Whether it can model a `CensoredTime`.
        has_density: Whether it has a log-probability, or a bound; if not, `log_prob` refuses.
        renamed: Former names of arguments, which saved models still use, with today's names.
        query_options: Names of its arguments that a query may give other values, such as `steps`.
        has_latent_mediator: Whether the parents cause latents, which then cause the value, as
            `rung3.mechanisms.autoencoder.LatentMediator` computes them.
        name: Name of the variable that it is bound to; empty before.
        variable: That variable.
        parents: Its parents, by name.
        observed: `(2, *shape)` least and greatest value seen in training (NaN before), for
            continuous variables; `(classes,)` which categories were seen, for discrete ones; empty
            for images. In double where the data are (see `rung3.data.precision`).
    """

    abduction: ClassVar[Abduction]
    assumption: str
    observation_noise: ClassVar[tuple[str, ...]] = ()
    tolerance: float | None = None
    learning_rate: ClassVar[float] = 1e-3
    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)
    flexibility: ClassVar[int] = 0
    knows_censoring: ClassVar[bool] = False
    has_density: ClassVar[bool] = True
    renamed: ClassVar[Mapping[str, str]] = {}
    query_options: ClassVar[tuple[str, ...]] = ()

    precise = "observed"
    arguments: tuple[str, ...] | None = None
    wants_noise: bool = True
    by_row: bool = True
    atoms: tuple[float, ...] = ()
    closed_form: bool = False
    has_latent_mediator: bool = False
    name: str = ""
    variable: Variable
    parents: dict[str, Variable]
    observed: Tensor

    @classmethod
    def candidates(
        cls, variable: Variable, parents: Mapping[str, Variable]
    ) -> list[list[Mechanism]]:
        """Name the mechanisms of this family that `choose` tries for a variable with parents.

        Returns:
            Groups of mechanisms, the simplest first; a later group is tried only if none before it
            is good enough. Nothing by default.
        """
        return []

    def bind(self, name: str, variable: Variable, parents: Mapping[str, Variable]) -> Self:
        """Return a copy of this mechanism, made for a variable and its parents.

        Raises:
            ValueError: If the mechanism cannot model such a variable.
        """
        if isinstance(variable, CensoredTime) and not self.knows_censoring:
            raise ValueError(f"{name}: {self.describe()} knows no censored times; use Lifetime()")
        bound = copy.deepcopy(self)
        bound.name, bound.variable, bound.parents = name, variable, dict(parents)
        bound.register_buffer("observed", nothing_observed(variable))
        bound.build()
        return bound

    @abstractmethod
    def build(self) -> None:
        """Make networks and buffers for `self.variable` and `self.parents`, or refuse them."""

    @abstractmethod
    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        """Draw `n` times from the prior of the noise; tensors of shape `(n, ...)`."""

    @abstractmethod
    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """Return the value `f(pa, u)`, shape `(n, *shape)`, in the variable's own unit."""

    @abstractmethod
    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Return noise that gives this value under these parents: `(n, ...)`, or `(K, n, ...)`."""

    @abstractmethod
    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Return `log p(x | pa)` in the variable's own unit, or a lower bound, `(n,)`, in nats."""

    def loss(self, value: Tensor, parents: Parents) -> Tensor:
        """Return what training minimises, averaged over rows: by default `-log p(x | pa)`."""
        return -self.log_prob(value, parents).mean()

    def noise_prior(self) -> str:
        """Describe the prior of its noise; mechanisms of one variable share noise of one prior."""
        return self.describe()

    def takes(self, other: Mechanism) -> bool:
        """Tell whether noise that another mechanism of the variable abducted is noise of this one.

        If not, this one's noise is redrawn, by `renew`.
        """
        if not self.wants_noise or self is other:
            return True
        return other.wants_noise and self.noise_prior() == other.noise_prior()

    def renew(
        self, noise: Noise, other: Mechanism, parents: Parents, n: int, generator: Generator
    ) -> Noise:
        """Draw noise of this mechanism where another one abducted noise that it cannot take.

        Args:
            noise: The abducted noise, `(n, ...)`; empty if there is none.
            other: The mechanism that abducted it.
            parents: Values of this mechanism's parents, `(n, ...)`.
            n: Number of rows.
            generator: Source of what is redrawn.
        """
        return self.sample_noise(n, parents, generator)

    @property
    def is_guided(self) -> bool:
        """Whether answers weigh parents that changed otherwise (`rung3.mechanisms.guidance`)."""
        return False

    def for_query(self, changed: Set[str] = frozenset(), **options: Any) -> Self:
        """Return the mechanism as a query wants it, its parameters shared; by default, itself.

        Args:
            changed: Names of the parents that were set, or descend from what was set.
            options: Values of some of `query_options`.

        Raises:
            ValueError: If a value is out of range.
        """
        return self

    def mean(self, noise: Noise, parents: Parents) -> Tensor:
        """Return the prediction averaged over a decoder's noise of observation, `(n, *shape)`."""
        return self.predict(noise, parents)

    def reverse(self, noise: Tensor) -> Tensor | None:
        """Return the noise at the opposite rank, `F^-1(1 - F(u))`; `None` where F is not known.

        Noise of observation is left out. It gives a mechanism of the same `p(x | pa)` and other
        counterfactuals; see `rung3.effects.bounds.sensitivity`.
        """
        return None

    def alternatives(self) -> Sequence[Mechanism]:
        """Return bound mechanisms of the same `p(x | pa)` and other counterfactuals; here none."""
        return ()

    def calibrate(self, value: Tensor, parents: Parents) -> None:
        """Take location, scale and range from training data, before the first step."""
        self.observe(value)
        self.calibrate_networks(value, parents)

    def observe(self, value: Tensor) -> None:
        """Take the range of training data `(n, *shape)`, or which categories they have."""
        if isinstance(self.variable, Discrete):
            codes = value.long().unique()
            self.observed[codes] = True
        elif not isinstance(self.variable, Image):
            self.keep(torch.stack([value.amin(0), value.amax(0)]))

    def calibrate_networks(self, value: Tensor, parents: Parents) -> None:
        """Add what a family needs to `calibrate`; nothing by default."""

    def calibrate_by_batches(self, value: Tensor, parents: Parents) -> Passes:
        """Fit to all rows, in passes over batches, what `calibrate` fitted to a sample of them.

        By default there is no pass: the sample is enough for scales, and for few parameters.
        Gradients are off.

        Args:
            value: Values of the sample, `(n, *shape)`.
            parents: Those of the parents.

        Returns:
            An iterator over the passes that it needs: of each, what takes values and parents of a
            batch. When it is asked for the next, all batches have been taken.
        """
        return iter(())

    def out_of_range(self, value: Tensor) -> Tensor:
        """Mask the values outside the range seen in training (none if unknown), `(n,)`."""
        if isinstance(self.variable, Discrete) and self.observed.any():
            return ~self.observed[value.long()]
        if isinstance(self.variable, Discrete | Image):
            return torch.zeros(len(value), dtype=torch.bool, device=value.device)
        low, high = self.observed
        outside: Tensor = (value < low) | (value > high)
        return outside.flatten(1).any(1) if outside.ndim > 1 else outside

    def effective_parameters(self) -> float:
        """Return how many parameters the data determined: inf without limit, NaN if unknown."""
        return math.nan

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments that differ from their defaults: what is saved."""
        return {k: v for k, (v, default) in self._constructed().items() if v != default}

    def clone(self) -> Self:
        """Return the same mechanism, without what binding and training gave it."""
        return type(self)(**{k: v for k, (v, _) in self._constructed().items()})

    def _constructed(self) -> dict[str, tuple[Any, Any]]:
        """Return the constructor's arguments, each with its default."""
        # Without a constructor of its own it has that of torch modules, (*args, **kwargs). That is
        # asked, not the class, whose `__new__` takes anything where its weights lie in parts.
        given = islice(inspect.signature(type(self).__init__).parameters.items(), 1, None)
        return {
            name: (getattr(self, name), parameter.default)
            for name, parameter in given
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }

    def describe(self) -> str:
        """Write the mechanism as code, such as `VAE(latent=16)`."""
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({arguments})"

    def __repr__(self) -> str:
        return self.describe()


class Invertible(Mechanism):
    """A mechanism whose noise is a function of the value and the parents: abduction is exact."""

    abduction: ClassVar[Abduction] = "exact"

    @abstractmethod
    def invert(self, value: Tensor, parents: Parents) -> Noise:
        """Return the noise that gives this value under these parents, `(n, ...)`."""

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return repeat_noise(self.invert(value, parents), particles)


def repeat_noise(noise: Noise, particles: int | None) -> Noise:
    """Repeat noise `(n, ...)` that is known exactly as K particles `(K, n, ...)`, uncopied."""
    if particles is None:
        return noise
    return map_noise(lambda tensor: tensor.expand(particles, *tensor.shape), noise)


def leading(n: int, particles: int | None) -> tuple[int, ...]:
    """Return the leading axes `(n,)` or `(K, n)`."""
    return (n,) if particles is None else (particles, n)


def one_tensor(noise: Noise, name: str) -> Tensor:
    """Return the noise of a mechanism whose noise is one tensor.

    Raises:
        ValueError: If it is a dict.
    """
    if isinstance(noise, Tensor):
        return noise
    raise ValueError(f"{name}: expected noise as one tensor, got the parts {list(noise)}")


def nothing_observed(variable: Variable) -> Tensor:
    """Return the buffer `observed` of a mechanism that has seen no data."""
    if isinstance(variable, Discrete):
        return torch.zeros(variable.classes, dtype=torch.bool)
    if isinstance(variable, Image):
        return torch.empty(0)
    return torch.full((2, *variable.shape), torch.nan)
