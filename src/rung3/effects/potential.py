"""Potential outcomes as numbers: formulas computed under one and the same exogenous noise.

Every distinct formula is computed once: worlds that agree on a variable share its value. What a
cause may change is recomputed in the factual world too, by the same code on as many rows, so that
effects of a null intervention are differences of equal numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rung3 import propagation
from rung3.effects.formulas import LATENT, NONE, Formula, Formulas
from rung3.identification import require_mechanisms
from rung3.mechanisms.base import one_tensor
from rung3.rows import Noise, as_rows, map_noise
from rung3.seeding import Seed, base_seed, stream

__all__ = ["Drawn", "Imagined", "Potentials"]

NUMBERS = 2**21
"""Numbers of an outcome decoded at once, about: more rows or particles take no more memory."""


class Potentials(ABC):
    """Values of formulas under one noise.

    Args:
        formulas: Where the formulas come from.
        n: Number of rows.
        particles: Number K of draws of the noise for each; they are computed as K n rows.
    """

    def __init__(self, formulas: Formulas, n: int, particles: int = 1) -> None:
        self.formulas, self.n, self.particles = formulas, n, particles
        self._values: dict[Formula, Any] = {}
        self._noise: dict[str, Noise] = {}

    @abstractmethod
    def noise_of(self, name: str) -> Noise:
        """The noise of a variable, `(K n, ...)`."""

    @abstractmethod
    def observed(self, name: str) -> Tensor:
        """What a variable was, `(n, *shape)`."""

    def value(self, formula: Formula) -> Any:
        """The value of a formula, `(K n, *shape)`; of latents, by their names."""
        if formula not in self._values:
            self._values[formula] = self._compute(formula)
        return self._values[formula]

    def _compute(self, formula: Formula) -> Any:
        name, mechanism = formula.name, formula.mechanism
        if mechanism is None:
            return self._fill(name, self.observed(name))
        parents = {parent.name: self.value(parent) for parent in formula.parents}
        noise = self._own(self.formulas.owner(name)) if mechanism.wants_noise else {}
        if name != self.formulas.owner(name):
            return self._in_parts(mechanism.latents, noise, parents)
        if name != self.formulas.outcome:
            return self._fill(name, mechanism.predict(noise, parents))
        if self.formulas.latent:
            return self._in_parts(mechanism.outcome, parents.pop(LATENT), parents)
        return self._in_parts(mechanism.mean, noise, parents)

    def _own(self, name: str) -> Noise:
        if name not in self._noise:
            self._noise[name] = self.noise_of(name)
        return self._noise[name]

    def _fill(self, name: str, value: Tensor) -> Tensor:
        """One value for all, one a row, or one a row and particle, as the last."""
        rows = self.particles * self.n
        if len(value) == self.n:
            value = value.expand(self.particles, *value.shape).flatten(0, 1)
        if len(value) not in (1, rows):
            raise ValueError(f"{name}: {len(value)} values for {rows} rows")
        return value.expand(rows, *value.shape[1:]).contiguous()

    def _in_parts(self, compute: Any, own: Noise, parents: Mapping[str, Tensor]) -> Any:
        """`compute(own, parents)`, some rows at a time."""
        rows = self.particles * self.n
        shape = self.formulas.model.variables[self.formulas.outcome].shape
        size = max(1, NUMBERS // torch.Size(shape).numel())
        parts = []
        for start in range(0, rows, size):
            at = slice(start, start + size)
            some = {name: value[at] for name, value in parents.items()}
            parts.append(compute(map_noise(lambda t: t[at], own), some))  # noqa: B023
        if len(parts) == 1:
            return parts[0]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


class Imagined(Potentials):
    """Under noise abducted from rows, of the variables that the formulas need and of no others.

    Args:
        formulas: Where the formulas come from.
        asked: Those that will be computed.
        values: Rows, a value of every variable.
        particles: Number K of draws of the noise; `None` for one.
        seed: Of the draws.
    """

    def __init__(
        self,
        formulas: Formulas,
        asked: Sequence[Formula],
        values: Mapping[str, Any],
        particles: int | None,
        seed: Seed,
    ) -> None:
        model = formulas.model
        self.rows = as_rows(values, model.variables, model.device)
        super().__init__(formulas, self.rows.n, particles or 1)
        for side in formulas.sides:
            propagation.check_lengths(side, self.n)
        wanted = formulas.noises(asked)
        require_mechanisms(model, wanted)
        self._abducted = model._abduct(
            self.rows, particles, base_seed(seed, "effects"), wanted
        )

    def noise_of(self, name: str) -> Noise:
        noise = self._abducted[name]
        if self._abducted.particles is None:
            return noise
        return map_noise(lambda tensor: tensor.flatten(0, 1), noise)

    def shaped(self, value: Tensor) -> Tensor:
        """A value `(K n, *shape)` as the rows came: with or without particles, and a batch axis."""
        value = value.unflatten(0, (self.particles, self.n))
        value = value if self.rows.batched else value.squeeze(1)
        return value.squeeze(0) if self._abducted.particles is None else value

    def observed(self, name: str) -> Tensor:
        if name in self._abducted:  # a hidden cause, as far as the rows tell
            return one_tensor(self.noise_of(name), name)
        return propagation.unsqueeze(self.rows, name)


class Drawn(Potentials):
    """Under noise drawn from its prior, the same as `SCM.sample` has under the same seed.

    Args:
        formulas: Where the formulas come from.
        asked: Those that will be computed.
        n: Number of rows.
        seed: Of the draws.
    """

    def __init__(self, formulas: Formulas, asked: Sequence[Formula], n: int, seed: Seed) -> None:
        super().__init__(formulas, n)
        require_mechanisms(formulas.model, formulas.noises(asked), abducted=False)
        self._base = base_seed(seed, "effects")

    def noise_of(self, name: str) -> Noise:
        model = self.formulas.model
        mechanism = model.mechanisms[name]
        parents = {p: self.value(self.formulas.of(p, NONE)) for p in mechanism.parents}
        return mechanism.sample_noise(self.n, parents, stream(self._base, name, model.device))

    def observed(self, name: str) -> Tensor:
        model = self.formulas.model
        return model.confounding.sample(self.n, self._base, model.device)[name]
