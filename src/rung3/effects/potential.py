"""Potential outcomes as numbers: formulas computed under one and the same exogenous noise.

Every distinct formula is computed once: worlds that agree on a variable share its value. What a
cause may change is recomputed in the factual world too, by the same code on as many rows, so that
effects of a null intervention are differences of equal numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from rung3.data.rows import Noise, Values, as_rows, map_noise, noise_parts
from rung3.data.seeding import Seed, base_seed, stream
from rung3.effects.formulas import LATENT, NONE, Formula, Formulas
from rung3.mechanisms.autoencoder import LatentMediator
from rung3.mechanisms.base import Mechanism, Parents, one_tensor
from rung3.scm import propagation
from rung3.scm.identifiability import require_mechanisms
from rung3.scm.parts import in_parts

__all__ = ["Drawn", "Imagined", "Potentials"]


class Potentials(ABC):
    """Values of formulas under one noise.

    Args:
        formulas: Where the formulas come from.
        n: Number of rows.
        particles: Number K of draws of the noise for each; they are computed as K n rows.
        seed: Of the draws.
    """

    def __init__(self, formulas: Formulas, n: int, particles: int, seed: Seed) -> None:
        self.formulas, self.n, self.particles = formulas, n, particles
        self.base = base_seed(seed, "effects")
        self._values: dict[Formula, Any] = {}
        self._noise: dict[str, Noise] = {}

    @abstractmethod
    def noise_of(self, name: str) -> Noise:
        """Return the noise of a variable, `(K n, ...)`."""

    @abstractmethod
    def observed(self, name: str) -> Tensor:
        """Return the observed value of a variable, `(n, *shape)`."""

    def value(self, formula: Formula) -> Any:
        """Return the value of a formula, `(K n, *shape)`; of latents, by their names."""
        if formula not in self._values:
            self._values[formula] = self._compute(formula)
        return self._values[formula]

    def _compute(self, formula: Formula) -> Any:
        name, mechanism = formula.name, formula.mechanism
        if mechanism is None:
            return self._fill(name, self.observed(name))
        parents = {parent.name: self.value(parent) for parent in formula.parents}
        noise = self._noise_for(mechanism, parents) if mechanism.wants_noise else {}
        if name != self.formulas.owner(name):
            return in_parts(mechanism, cast(LatentMediator, mechanism).latents, noise, parents)
        final = name == self.formulas.outcome
        if name == self.formulas.latent:
            parts = {**parents.pop(LATENT), **self._observation(mechanism, noise, final)}
            return in_parts(mechanism, cast(LatentMediator, mechanism).outcome, parts, parents)
        if not final:
            return self._fill(name, in_parts(mechanism, mechanism.predict, noise, parents))
        return in_parts(mechanism, mechanism.mean, noise, parents)

    def _observation(self, mechanism: Mechanism, noise: Noise, final: bool) -> dict[str, Tensor]:
        """Return the noise of observation; none of an outcome, of which the mean is taken."""
        keys = () if final else mechanism.observation_noise
        return {key: noise_parts(noise)[key] for key in keys}

    def _noise_for(self, mechanism: Mechanism, parents: Parents) -> Noise:
        """Return a mechanism's noise: the variable's, or redrawn where it was replaced."""
        name = mechanism.name
        if name not in self._noise:
            self._noise[name] = self.noise_of(name)
        original = self.formulas.model.mechanisms[name]
        if mechanism.takes(original):
            return self._noise[name]
        generator = stream(base_seed(self.base, "anew"), name, self.formulas.model.device)
        rows = self.particles * self.n
        return mechanism.renew(self._noise[name], original, parents, rows, generator)

    def _fill(self, name: str, value: Tensor) -> Tensor:
        """Repeat one value for all, or one a row, for every row and particle."""
        rows = self.particles * self.n
        if len(value) == self.n:
            value = value.expand(self.particles, *value.shape).flatten(0, 1)
        if len(value) not in (1, rows):
            raise ValueError(f"{name}: {len(value)} values for {rows} rows")
        return value.expand(rows, *value.shape[1:]).contiguous()


class Imagined(Potentials):
    """Under noise abducted from rows, of the variables that the formulas need and of no others.

    Args:
        formulas: Where the formulas come from.
        queried: Those that will be computed.
        values: Rows, a value of every variable.
        particles: Number K of draws of the noise; `None` for one.
        seed: Of the draws.
    """

    def __init__(
        self,
        formulas: Formulas,
        queried: Sequence[Formula],
        values: Values,
        particles: int | None,
        seed: Seed,
    ) -> None:
        model = formulas.model
        self.rows = as_rows(values, model.variables, model.device)
        super().__init__(formulas, self.rows.n, particles or 1, seed)
        for side in formulas.sides:
            propagation.check_lengths(side, self.n)
        wanted = formulas.noises(queried)
        require_mechanisms(model, wanted)
        self._abducted = model.abduct_only(self.rows, wanted, particles, self.base)

    def noise_of(self, name: str) -> Noise:
        noise = self._abducted[name]
        if self._abducted.particles is None:
            return noise
        return map_noise(lambda tensor: tensor.flatten(0, 1), noise)

    def shaped(self, value: Tensor) -> Tensor:
        """Shape a value `(K n, *shape)` like the rows: with or without particles and batch axis."""
        value = value.unflatten(0, (self.particles, self.n))
        value = value if self.rows.batched else value.squeeze(1)
        return value.squeeze(0) if self._abducted.particles is None else value

    def observed(self, name: str) -> Tensor:
        if name in self._abducted:  # a hidden cause, as far as the rows tell
            return one_tensor(self.noise_of(name), name)
        return self.rows.batch[name]


class Drawn(Potentials):
    """Under noise drawn from its prior, the same in all worlds.

    Args:
        formulas: Where the formulas come from.
        queried: Those that will be computed.
        n: Number of rows.
        seed: Of the draws.
    """

    def __init__(self, formulas: Formulas, queried: Sequence[Formula], n: int, seed: Seed) -> None:
        super().__init__(formulas, n, 1, seed)
        require_mechanisms(formulas.model, formulas.noises(queried), abducted=False)

    def noise_of(self, name: str) -> Noise:
        model = self.formulas.model
        mechanism = model.mechanisms[name]
        parents = {p: self.value(self.formulas.of(p, NONE)) for p in mechanism.parents}
        return mechanism.sample_noise(self.n, parents, stream(self.base, name, model.device))

    def observed(self, name: str) -> Tensor:
        model = self.formulas.model
        return model.confounding.sample(self.n, self.base, model.device)[name]
