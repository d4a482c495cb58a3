"""Coverage: how often the spread of counterfactuals holds the truth.

Where the world is known, so is the true counterfactual. If the model's draws are from the right
posterior, it is as good as one more of them: see `rung3.data.ranks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Values
from rung3.data.seeding import Seed, base_seed, stream
from rung3.effects.averages import average_of
from rung3.effects.estimate import Estimate
from rung3.effects.particles import Clouds
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM
from rung3.scm.truth import true_counterfactual

__all__ = ["Coverage", "coverage"]


@dataclass(frozen=True)
class Coverage:
    """The share of intervals of a model's particles that hold the true counterfactual.

    Attributes:
        shares: By nominal level p, the share of intervals that hold the truth (among the pixels of
            a row, averaged over rows), with its own 95 % interval over rows.
        certain: Share of all pixels or numbers left out, because all particles and the truth agree
            there and nothing is uncertain.
        outcome: Name of the outcome.
        particles: Number K of particles.
    """

    shares: Mapping[float, Estimate[Tensor]]
    certain: float
    outcome: str
    particles: int

    def __str__(self) -> str:
        lines = [f"{level:.0%} intervals hold the truth in {s}" for level, s in self.shares.items()]
        return "\n".join(lines)


@in_own_precision
def coverage(
    model: SCM,
    truth: SCM,
    values: Values,
    do: Mapping[str, Any],
    outcome: str,
    *,
    particles: int = 99,
    levels: Iterable[float] = (0.5, 0.9),
    seed: Seed = None,
) -> Coverage:
    """Count how often the true counterfactual lies within the model's intervals.

    Args:
        model: The model.
        truth: The world.
        values: A batch of rows that carry the world's noise, as `truth.sample` gives them, or from
            which the world can abduct it.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the variable that is looked at.
        particles: Number K of draws.
        levels: Nominal levels p of the intervals, between 0 and 1.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: If there are fewer than two particles or rows, a level is not between 0 and 1,
            the outcome is a category without order, or the world does not know the answer.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> world = SCM(x=Equation("u"), y=Equation("x + u"), world="line")
        >>> rows = world.sample(50, seed=0)
        >>> coverage(world, world, rows, {"x": 1.0}, "y", seed=0).certain
        1.0
    """
    from rung3.data.ranks import covered, ranks

    wanted = list(levels)
    wrong = [level for level in wanted if not 0 < level < 1]
    if wrong:
        raise ValueError(f"levels: expected numbers between 0 and 1, got {wrong[0]}")
    base = base_seed(seed, "coverage")
    clouds = Clouds(model, values, do, outcome, particles, 1.0, base)
    ties = stream(base, "ties", model.device)
    places, open_ = [], []
    for rows, action, draws in clouds:
        true = true_counterfactual(truth, rows, action, model.device)
        if isinstance(true, str):
            raise ValueError(f"truth: {true}")
        rank, uncertain = ranks(clouds.variable, draws, true[outcome], ties)
        places.append(rank)
        open_.append(uncertain)
    n = clouds.rows.n
    v, uncertain = torch.cat(places).reshape(n, -1), torch.cat(open_).reshape(n, -1)
    left = uncertain.any(1)
    shares = {
        level: average_of(covered(v, uncertain, level)[left]) for level in wanted if left.any()
    }
    return Coverage(shares, 1 - float(uncertain.double().mean()), outcome, particles)
