r"""Mechanisms that agree on rungs one and two, and differ on rung three.

Two mechanisms `x := f(pa, u)` with one conditional distribution `p(x | pa)` agree on all that can
be seen or done. What would have been depends on how the noise behind the values under pa is tied to
that under pa~, and there they may differ:

| mechanism | alternatives |
|---|---|
| `GumbelMax` | `InverseCDF` with the same probabilities, as it is and with its noise reversed |
| `InverseCDF` | `GumbelMax` with the same probabilities; its own noise reversed |
| `Flow`, `VAE`, `HVAE`, `Equation` | its own noise reversed |

*Reversed* noise is `u~ = F^-1(1 - F(u))`, wherever the parents are not the factual ones: a number
at rank q among those with the factual parents is at rank 1 - q among those with the others.
Reversing it everywhere would change nothing, as `f(pa, -u)` is abducted by `-u`.

Sources: Oberst and Sontag 2019 (arXiv 1905.05824); Pawlowski et al. 2020 (arXiv 2006.06485).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise
from rung3.effects.noise import choose_noise
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise

__all__ = ["FactualNoise", "Reversed", "alternatives"]

WHOLE = "noise"
"""Part of a packed noise that is one tensor."""

PARENT = "parent "
"""Prefix of the parts of a packed noise that are parents' values."""


def alternatives(mechanism: Mechanism) -> dict[str, Mechanism]:
    """Return bound mechanisms of the same `p(x | pa)` and other counterfactuals, by what they do.

    There is none for a mechanism whose noise rung3 cannot reverse.

    Example:
        >>> from rung3 import Categorical
        >>> from rung3.mechanisms import GumbelMax
        >>> list(alternatives(GumbelMax().bind("ward", Categorical(3), {})))
        ['InverseCDF', 'InverseCDF, noise reversed']
    """
    others: dict[str, Mechanism] = {}
    for other in mechanism.alternatives():
        kind = type(other).__name__
        others[kind] = other
        if _reversible(other):
            others[f"{kind}, noise reversed"] = Reversed(other)
    return others | ({"noise reversed": Reversed(mechanism)} if _reversible(mechanism) else {})


class Reversed(Mechanism):
    """A mechanism whose noise is reversed wherever the parents are not the factual ones.

    A null intervention changes nothing, and samples, under `do` too, are the mechanism's own. For
    every row there is one such function of parents and noise.

    Args:
        mechanism: The bound mechanism.

    Raises:
        ValueError: If its noise cannot be reversed.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> other = world.do(x2=Reversed(world.mechanisms["x2"]))
        >>> other.counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})["x2"]  # u = -2, so 15 + 2
        tensor(17.)
    """

    abduction: ClassVar[Abduction] = "posterior"
    assumption: str = "ranks reversed under other parents, not known from data"

    def __init__(self, mechanism: Mechanism) -> None:
        super().__init__()
        if not _reversible(mechanism):
            raise ValueError(f"{mechanism.name}: the noise of {mechanism} cannot be reversed")
        self.mechanism = mechanism
        self.name, self.variable, self.parents = (
            mechanism.name,
            mechanism.variable,
            mechanism.parents,
        )
        self.register_buffer("observed", mechanism.observed, persistent=False)

    def build(self) -> None:
        """Do nothing: the mechanism within is bound already."""

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        noise = self.mechanism.sample_noise(n, parents, generator)
        return FactualNoise(noise, {name: parents[name] for name in self.parents}).packed()

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        if isinstance(noise, Tensor):
            raise ValueError(f"{self.name}: expected the noise that abduct gives")
        factual = FactualNoise.unpacked(noise)
        moved = factual.moved(parents)
        reversed_ = self._reversed(factual.noise)
        return self.mechanism.predict(choose_noise(moved, reversed_, factual.noise), parents)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        noise = self.mechanism.abduct(value, parents, particles, generator)
        before = repeat_noise({name: parents[name] for name in self.parents}, particles)
        assert isinstance(before, dict)
        return FactualNoise(noise, before).packed()

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return self.mechanism.log_prob(value, parents)

    def _reversed(self, noise: Noise) -> Noise:
        """Return `F^-1(1 - F(u))`; noise of observation stays."""
        if isinstance(noise, dict):
            observed = self.mechanism.observation_noise
            return {name: u if name in observed else self._turn(u) for name, u in noise.items()}
        return self._turn(noise)

    def _turn(self, part: Tensor) -> Tensor:
        """Return `F^-1(1 - F(u))` of one part of the noise."""
        turned = self.mechanism.reverse(part)
        assert turned is not None
        return turned


@dataclass(frozen=True)
class FactualNoise:
    """A mechanism's noise, and the values of the parents that it was drawn or abducted under.

    Attributes:
        noise: The noise, `(n, ...)`.
        parents: The parents' values, `(n, ...)` each.
    """

    noise: Noise
    parents: Parents

    def packed(self) -> dict[str, Tensor]:
        """Return both as one noise of several parts, as a mechanism gives it."""
        parts = {WHOLE: self.noise} if isinstance(self.noise, Tensor) else self.noise
        return {**parts, **{PARENT + name: value for name, value in self.parents.items()}}

    @classmethod
    def unpacked(cls, packed: Mapping[str, Tensor]) -> Self:
        """Return what `packed` made one noise of."""
        parts = {name: part for name, part in packed.items() if not name.startswith(PARENT)}
        parents = {
            name.removeprefix(PARENT): value
            for name, value in packed.items()
            if name.startswith(PARENT)
        }
        return cls(parts.get(WHOLE, parts), parents)

    def moved(self, parents: Parents) -> Tensor:
        """Return in which rows any parent has another value now, `(n,)`."""
        parts = [self.noise] if isinstance(self.noise, Tensor) else list(self.noise.values())
        moved = torch.zeros(len(parts[0]), dtype=torch.bool, device=parts[0].device)
        for name, value in self.parents.items():
            moved |= (value != parents[name]).reshape(len(moved), -1).any(1)
        return moved


def _reversible(mechanism: Mechanism) -> bool:
    """Tell whether a mechanism knows the noise at the opposite rank."""
    return mechanism.wants_noise and mechanism.reverse(torch.zeros(1)) is not None
