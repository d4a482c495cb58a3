"""Whether the spread of counterfactuals can be trusted: how often it holds the truth.

Where the world is known, so is the true counterfactual x*. If the model's draws x~_k are from the
right posterior, x* is as good as one more of them: its rank among them is uniform, and with ties
broken at random (`u ~ U(0, 1)`)

    v = (#{x~_k < x*} + u (1 + #{x~_k = x*})) / (K + 1)  ~  U(0, 1),

so that the interval between the quantiles (1 - p)/2 and (1 + p)/2 holds it with probability p,
exactly, for any K. More seldom: the model is overconfident.

Source: Dawid 1984 (probability integral transform); Hamill 2001 (ranks in ensembles).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from rung3.effects.averages import Average
from rung3.effects.clouds import Clouds
from rung3.scm import SCM
from rung3.seeding import Seed, base_seed, stream
from rung3.variables import Image, Variable

__all__ = ["Coverage", "coverage"]


@dataclass(frozen=True)
class Coverage:
    """How often intervals of a model's particles hold the true counterfactual.

    Attributes:
        shares: By nominal level p, the share of intervals that hold the truth (of a row's pixels,
            averaged over rows), with its own 95 % interval over rows.
        certain: Share of all pixels or numbers left out: those in which all particles and the truth
            agree, so that there is nothing to be unsure of.
        outcome: Name of the outcome.
        particles: Number K of particles.
    """

    shares: Mapping[float, Average]
    certain: float
    outcome: str
    particles: int

    def __str__(self) -> str:
        lines = [f"{level:.0%} intervals hold the truth in {s}" for level, s in self.shares.items()]
        return "\n".join(lines)


def coverage(
    model: SCM,
    truth: SCM,
    values: Mapping[str, Any],
    do: Mapping[str, Any],
    outcome: str,
    *,
    particles: int = 99,
    levels: Iterable[float] = (0.5, 0.9),
    seed: Seed = None,
) -> Coverage:
    """How often the true counterfactual lies within the model's intervals.

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
    from rung3.evaluation.truth import true_counterfactual

    wanted = list(levels)
    wrong = [level for level in wanted if not 0 < level < 1]
    if wrong:
        raise ValueError(f"levels: expected numbers between 0 and 1, got {wrong[0]}")
    base = base_seed(seed)
    clouds = Clouds(model, values, do, outcome, particles, 1.0, base)
    ties = stream(base, "ties", model.device)
    found, open_ = [], []
    for rows, asked, draws in clouds:
        true = true_counterfactual(truth, rows, asked, model.device)
        if isinstance(true, str):
            raise ValueError(f"truth: {true}")
        rank, uncertain = _ranks(clouds.variable, draws, true[outcome], ties)
        found.append(rank)
        open_.append(uncertain)
    n = clouds.rows.n
    v, uncertain = torch.cat(found).reshape(n, -1), torch.cat(open_).reshape(n, -1)
    left = uncertain.any(1)
    shares = {
        level: Average.of(_mean((2 * v - 1).abs() <= level, uncertain)[left])
        for level in wanted
        if left.any()
    }
    return Coverage(shares, 1 - float(uncertain.double().mean()), outcome, particles)


def _ranks(
    variable: Variable, draws: Iterator[Tensor], true: Tensor, ties: Generator
) -> tuple[Tensor, Tensor]:
    """The truth's rank v among the draws, and where there is any doubt, both `(n, *shape)`."""
    target = _whole(variable, true)
    below, equal = torch.zeros_like(true), torch.zeros_like(true)
    count = 0
    for some in draws:
        drawn = _whole(variable, some)
        below += (drawn < target).sum(0)
        equal += (drawn == target).sum(0)
        count += len(some)
    u = torch.rand(true.shape, generator=ties, device=true.device)
    return (below + u * (1 + equal)) / (count + 1), equal < count


def _whole(variable: Variable, value: Tensor) -> Tensor:
    """Pixels as whole grey levels, so that equal ones compare equal."""
    if isinstance(variable, Image) and variable.bits is not None:
        value = (value * (2**variable.bits - 1)).round()
    return value


def _mean(hits: Tensor, where: Tensor) -> Tensor:
    """The share of hits in each row, `(n,)`, of those places that count."""
    share: Tensor = (hits & where).sum(1).double() / where.sum(1)
    return share
