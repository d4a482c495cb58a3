"""Learning the same again, from resampled rows: what intervals that hold the learning rest on.

Of n rows, n are drawn with replacement, and every mechanism is fitted to them as it was to the
rows (the bootstrap: Efron 1979). The mechanisms stay those that were chosen. Of very many rows m
are drawn; answers then deviate by `sqrt(n / m)` too much, which is mended by a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch

from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.data.variables import Image
from rung3.mechanisms import Mechanism
from rung3.scm.scm import SCM

__all__ = ["Relearn", "is_solved", "relearning"]

MOST_ROWS = 20_000
"""Rows that are drawn, at most: enough for any mechanism that is solved."""


Learn = Callable[[SCM, list[str], Rows, int], None]
"""Fits mechanisms of a model, by name, to rows under a seed."""


def relearning(model: SCM, rows: Rows, learn: Learn, quick: bool = True) -> Relearn | None:
    """Return how a fitted model can learn again; `None` of images, or where hidden causes join.

    Args:
        model: The model.
        rows: The rows that it learned from.
        learn: How it did.
        quick: Whether that takes a moment, where all mechanisms are solved.
    """
    images = any(isinstance(kind, Image) for kind in model.variables.values())
    if images or model.confounding.members:
        return None
    fresh = {name: mechanism.clone() for name, mechanism in model.mechanisms.items()}
    return Relearn(model, SCM(model.graph, model.variables, fresh), rows, learn, quick)


@dataclass(frozen=True)
class Relearn:
    """Fits a model's mechanisms again.

    Attributes:
        model: The model.
        blank: The same, with nothing learned.
        rows: The rows that it learned from.
        learn: How it did.
        quick: Whether that takes a moment, where all mechanisms are solved.
        learned: Mechanisms that were learned again, by seed and name: they are asked for often.
    """

    model: SCM
    blank: SCM
    rows: Rows
    learn: Learn
    quick: bool = True
    learned: dict[tuple[int, str], Mechanism] = field(default_factory=dict)

    @property
    def cheap(self) -> bool:
        """Whether every mechanism is solved, and none is trained."""
        return self.quick and all(map(is_solved, self.blank.mechanisms.values()))

    @property
    def scale(self) -> float:
        """What deviations of answers are multiplied by."""
        return float(min(1.0, (self._count / self.rows.n) ** 0.5))

    @property
    def _count(self) -> int:
        return min(self.rows.n, MOST_ROWS)

    def __call__(self, seed: int, names: Iterable[str] | None = None) -> SCM:
        """Return a model whose mechanisms were fitted to resampled rows.

        Args:
            seed: Of the rows.
            names: Variables whose mechanisms are; all if not given.
        """
        wanted = list(self.model.variables if names is None else names)
        if lacking := [name for name in wanted if (seed, name) not in self.learned]:
            drawn = torch.randint(self.rows.n, (self._count,), generator=stream(seed, "relearn"))
            self._learn(seed, lacking, self.rows[drawn])
        return self.model.exchange({name: self.learned[seed, name] for name in wanted})

    def _learn(self, seed: int, names: list[str], rows: Rows) -> None:
        clones = {name: one.clone() for name, one in self.blank.mechanisms.items()}
        model = SCM(self.model.graph, self.model.variables, clones)
        self.learn(model, names, rows, seed)
        model.to(self.model.device, self.model.dtype)
        self.learned.update({(seed, name): model.mechanisms[name] for name in names})


def is_solved(mechanism: Mechanism) -> bool:
    """Return whether a mechanism is solved, or known, rather than trained."""
    return mechanism.closed_form or not any(True for _ in mechanism.parameters())
