"""What `do` puts in the place of a mechanism: a value, a function, or another mechanism.

Each keeps the mechanism that it replaces, for its exogenous noise: the noise of an intervened
variable is still drawn, so that worlds asked with one seed stay paired, and a function may ask for
the value that the variable would have had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Generator, Tensor

from rung3.data.expressions import Function
from rung3.data.rows import Noise, spell_unknown
from rung3.data.variables import Discrete, Variable
from rung3.mechanisms.base import Abduction, ImpossibleError, Mechanism, Parents
from rung3.scm.parts import in_parts

__all__ = ["Apply", "Intervention", "SetTo", "intervene"]

CHANCE = "do:u"
"""Key of the uniform noise that a function draws."""

NATURAL = "do:own"
"""Key of the noise of the value that the variable would have had."""


class Intervention(Mechanism):
    """A mechanism put in place by `do`, over the one that it replaces."""

    abduction: ClassVar[Abduction] = "exact"
    by_row: bool = False  # it may hold one value a row
    assumption: str = "set by intervention"

    def __init__(self, original: Mechanism, parents: Mapping[str, Variable], held: bool) -> None:
        super().__init__()
        self.original = original
        self.name = original.name
        self.variable = original.variable
        self.parents = dict(parents)
        self.held = held
        self.wants_noise = False
        self.register_buffer("observed", original.observed, persistent=False)
        self.wide = original.wide

    def build(self) -> None:
        """Do nothing: an intervention is made bound."""

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        return {}

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        return {}


class SetTo(Intervention):
    """`do(x := value)`, one value for all rows or one for each (lecture, Figure 13).

    Args:
        original: The mechanism that it replaces.
        value: A value of the variable, or a batch of them.
        held: Whether it is a factual value, kept.
    """

    value: Tensor

    def __init__(self, original: Mechanism, value: Any, held: bool = False) -> None:
        super().__init__(original, {}, held)
        valid = self.variable.validate(self.name, value, self.wide).to(original.observed.device)
        self.per_row = valid.ndim > len(self.variable.shape)
        if valid.is_floating_point() and valid.isnan().any():
            raise ValueError(f"{self.name}: cannot be set to NaN")
        value = valid if self.per_row else valid.unsqueeze(0)
        self.register_buffer("value", value, persistent=False)

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """Give the value, `(1, *shape)` or `(n, *shape)`."""
        return self.variable.hold(self.value, self.wide)  # the model may have changed its type

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Give 0 where the value is the one set, else minus infinity (truncated factorisation)."""
        return torch.where(_same(value, self.value), 0.0, -torch.inf)

    def describe(self) -> str:
        if self.held:
            return "held at its factual value"
        if self.per_row or self.variable.shape:
            return "set to a given value in each row" if self.per_row else "set to a given value"
        if isinstance(self.variable, Discrete):
            return f"set to {self.variable.label(int(self.value))}"
        return f"set to {self.value.item():g} {self.variable.unit}".rstrip()


class Apply(Intervention):
    """`do(x := g(pa, x, u))`: a function of the parents, of the value it would have had, of chance.

    Args:
        original: The mechanism that it replaces.
        function: Its arguments are matched by name: parents, the variable itself, or `u`, uniform
            on [0, 1) and fresh in each row `(n,)` (unless a parent is called so). One before a `/`
            takes all of these variables as a mapping, for names that are not identifiers.
    """

    def __init__(self, original: Mechanism, function: Callable[..., Any]) -> None:
        try:
            called = Function(function)
        except (TypeError, ValueError):
            raise ValueError(
                f"do({original.name}=function): {function!r} hides its arguments' names; "
                f"write it as lambda {original.name}: ..."
            ) from None
        known = {**original.parents, original.name: original.variable}
        random = "u" in called.words and "u" not in known
        unknown = [name for name in called.arguments if name not in known]
        if unknown and not (random and unknown == ["u"] and "u" not in called.quoted):
            raise ValueError(
                f"do({original.name}=function): {spell_unknown(unknown, known)}; its arguments "
                "must be parents, or the variable itself"
            )
        natural = called.whole or original.name in called.arguments
        used = {k: v for k, v in original.parents.items() if natural or k in called.arguments}
        super().__init__(original, used, held=False)
        self.function = called
        self.natural, self.random = natural, random
        self.wants_noise = natural or random
        self.assumption = original.assumption

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        noise = self.original.sample_noise(n, parents, generator) if self.natural else {}
        return self._with_chance(noise, n, generator) if self.random else noise

    def _with_chance(self, natural: Noise, n: int, generator: Generator | None) -> Noise:
        u = torch.rand(n, generator=generator, device=self.observed.device)
        if isinstance(natural, Tensor):
            return {CHANCE: u, NATURAL: natural}
        deeper = (CHANCE, NATURAL)  # keys of a function that this one is applied to
        primed = {f"{k}'" if k.startswith(deeper) else k: v for k, v in natural.items()}
        return {CHANCE: u, **primed}

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        """Give nothing: a function tells neither its chance nor what the value would have been."""
        if not self.wants_noise:
            wrong = ~_same(value, self.predict({}, parents))
            if wrong.any():
                raise ImpossibleError(
                    self.name, wrong, f"it is {self.describe()}, which gives another"
                )
        return {}

    def takes(self, other: Mechanism) -> bool:
        """Say whether nothing must be drawn: chance is new to all but the function itself."""
        if self is other or not self.wants_noise:
            return True
        return not self.random and self.original.takes(other)

    def renew(
        self, noise: Noise, other: Mechanism, parents: Parents, n: int, generator: Generator
    ) -> Noise:
        """Draw chance, and the noise of the value that the variable would have had."""
        natural: Noise = noise if self.natural else {}
        if self.natural and not self.original.takes(other):
            natural = self.original.renew(noise, other, parents, n, generator)
        return self._with_chance(natural, n, generator) if self.random else natural

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """Apply the function; `(1, *shape)` where it gives one value for all rows."""
        given, chance = {name: parents[name] for name in self.parents}, {}
        if self.random:
            if isinstance(noise, Tensor) or CHANCE not in noise:
                self._not_known("what chance gave", "u")
            chance["u"] = noise[CHANCE]
            rest = {k.removesuffix("'"): part for k, part in noise.items() if k != CHANCE}
            noise = noise.get(NATURAL, rest)
        if self.natural:
            if noise == {} and self.original.wants_noise:
                self._not_known("the value it would have had", "itself")
            given[self.name] = in_parts(self.original, self.original.predict, noise, parents)
        result = self.variable.read(self.name, self.function(given, **chance))
        result = result.to(self.observed.device)
        result = result if result.ndim > len(self.variable.shape) else result.unsqueeze(0)
        if result.isnan().any():
            raise ValueError(f"{self.name}: the function that it is set to gives NaN")
        return self.variable.validate(self.name, result, self.wide)

    def _not_known(self, what: str, of: str) -> NoReturn:
        raise ValueError(
            f"{self.name}: {what} is not known, as do({self.name}=function of {of}) cannot be "
            "inverted; abduct with the model that do() was called on, or sample"
        )

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        """Give it where the function uses neither the variable's natural value nor chance.

        Raises:
            ValueError: If it does.
        """
        if self.wants_noise:
            of = "itself" if self.natural else "u"
            raise ValueError(
                f"{self.name}: log_prob is not known under do({self.name}=function of {of})"
            )
        return torch.where(_same(value, self.predict({}, parents)), 0.0, -torch.inf)

    def describe(self) -> str:
        named = (*self.parents, self.name) if self.function.whole else self.function.arguments
        return f"set to a function of {', '.join(named) or 'nothing'}"


def _same(value: Tensor, other: Tensor) -> Tensor:
    """Mask `(n,)` the rows whose values `(n, *shape)` equal the other's, up to rounding."""
    return torch.isclose(value, other.to(value)).reshape(len(value), -1).all(1)


def intervene(
    original: Mechanism, value: Any, variables: Mapping[str, Variable], held: bool = False
) -> Mechanism:
    """Make the mechanism that `do(name=value)` puts in the place of the original.

    Args:
        original: The bound mechanism of the variable.
        value: A number, a tensor with one value a row, a function, or a mechanism.
        variables: All variables, for the parents of another mechanism.
        held: Whether the value is the factual one, kept on purpose.

    Raises:
        ValueError: If the value does not fit the variable.
    """
    if isinstance(value, Mechanism):
        return _rebind(original, value, variables).to(original.observed.device)
    if callable(value) and not isinstance(value, Tensor):
        return Apply(original, value)
    return SetTo(original, value, held)


def _rebind(
    original: Mechanism, mechanism: Mechanism, variables: Mapping[str, Variable]
) -> Mechanism:
    if mechanism.name and mechanism.variable != original.variable:
        raise ValueError(
            f"{original.name}: the new mechanism is for {mechanism.variable}, "
            f"expected {original.variable}"
        )
    stated = tuple(mechanism.parents) if mechanism.name else mechanism.arguments
    names = [name for name in original.parents if name in variables] if stated is None else stated
    unknown = [name for name in names if name not in variables]
    if unknown:
        raise ValueError(f"do({original.name}=mechanism): {spell_unknown(unknown, variables)}")
    if mechanism.name:
        return mechanism
    return mechanism.bind(original.name, original.variable, {k: variables[k] for k in names})
