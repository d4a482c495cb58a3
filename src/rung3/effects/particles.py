"""Counterfactuals particle by particle, in a memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Rows, Values, as_rows, map_noise
from rung3.data.seeding import Seed, base_seed, stream
from rung3.effects.formulas import check_outcome
from rung3.scm.query import query
from rung3.scm.scm import SCM

__all__ = ["Clouds"]

CHUNK_PARTICLES = 8
"""Draws of the noise at once, so that memory does not grow with their number."""

CHUNK_NUMBERS = 2**17
"""Numbers of an outcome in the rows of one batch: 128 images of 32 x 32."""


class Clouds:
    """The counterfactuals of rows, some rows and some draws of their noise at a time.

    Args:
        model: The model.
        values: Rows, a value of every variable.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the variable that is looked at.
        particles: Number K of draws, at least 2.
        temperature: Factor on the noise of observation.
        seed: Of the draws.

    Raises:
        ValueError: If there are fewer than two draws, a name is unknown, or rows do not fit.
    """

    def __init__(
        self,
        model: SCM,
        values: Values,
        do: Mapping[str, Any],
        outcome: str,
        particles: int,
        temperature: float,
        seed: Seed,
    ) -> None:
        check_outcome(model, outcome)
        if isinstance(particles, bool) or not isinstance(particles, int) or particles < 2:
            raise ValueError(f"particles: expected a whole number of at least 2, got {particles!r}")
        self.model, self.outcome, self.particles = model, outcome, particles
        self.variable = model.variables[outcome]
        given = as_rows(values, model.variables, model.device)
        self.batched, self.rows = given.batched, _batched(given)
        self._query = query(model, self.rows.n, self.rows.n, "do", dict(do))
        self._temperature, self._base = temperature, base_seed(seed, "clouds")

    def __iter__(self) -> Iterator[tuple[Rows, Mapping[str, Any], Iterator[Tensor]]]:
        """Give some rows, the intervention on them, and their outcomes `(k, n, *shape)` in turn."""
        size = max(1, CHUNK_NUMBERS // torch.Size(self.variable.shape).numel())
        for start in range(0, self.rows.n, size):
            at = slice(start, start + size)
            rows, do = self.rows[at], self._query.at(at, self.model.device)
            yield rows, do, self._draws(rows, do, start)

    def _draws(self, rows: Rows, do: Mapping[str, Any], start: int) -> Iterator[Tensor]:
        for first in range(0, self.particles, CHUNK_PARTICLES):
            answer = self.model.counterfactual(
                rows,
                do,
                particles=min(CHUNK_PARTICLES, self.particles - first),
                seed=stream(self._base, f"row {start}, particle {first}"),
                temperature=self._temperature,
            )
            yield answer[self.outcome]


def _batched(rows: Rows) -> Rows:
    """Return the same rows with a batch axis."""
    if rows.batched:
        return rows
    noise = {k: map_noise(lambda t: t[None], part) for k, part in (rows.noise or {}).items()}
    values = {name: value[None] for name, value in rows.items()}
    return Rows(values, noise=noise or None, world=rows.world)
