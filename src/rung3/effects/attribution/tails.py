"""Probabilities of tails that few draws reach: by levels, each a share of the one before.

    P(t >= t*) = P(t >= t_1) P(t >= t_2 | t >= t_1) ... P(t >= t* | t >= t_m),

where a share `KEPT` of the draws beyond t_{j-1} exceeds t_j. Draws beyond a level are
copied, and moved by steps that leave the prior of the noise as it is and stay beyond it (Au and
Beck 2001, *Estimation of small failure probabilities by subset simulation*). Of m levels and N
draws the logarithm has, draws of one level being correlated, an error of about

    sqrt(m (1 - KEPT) / (KEPT N) * 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise, map_noise, noise_parts
from rung3.effects.noise import choose_noise
from rung3.mechanisms.additive.mechanism import AdditiveNoise
from rung3.mechanisms.base import Mechanism
from rung3.mechanisms.equation import Equation
from rung3.mechanisms.flow import Flow

__all__ = ["log_tails", "moved"]

KEPT = 0.2
"""Share of draws beyond the next level: near the best trade of levels against draws (Au, Beck)."""

MOVES = 4
"""Steps of each draw between two levels, so that copies of one draw part."""

MAX_LEVELS = 400
"""Levels at most: they reach probabilities of 1e-279, near the smallest number in double."""

TARGET_ACCEPTANCE = 0.3
"""Share of accepted steps that the size of steps is adapted to."""

QUARTILES = (0.25, 0.5, 0.75)
"""Quantiles of the prior that the length of steps is scaled by."""

STRETCHED = 0.5
"""Share of steps that multiply the distance from the median; the others add to it."""

CORRELATED = 3.0
"""Factor on the variance of each level, as its draws are not independent."""

State: TypeAlias = dict[str, Noise]
Rate: TypeAlias = Callable[[State], Tensor]
Step: TypeAlias = Callable[[State, Tensor], State]


def log_tails(
    state: State,
    rate: Rate,
    step: Step,
    wanted: Tensor,
    generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate `log P(t >= t*)` of several cases at once.

    Args:
        state: Noise of each case, drawn from its prior: tensors `(cases, N, ...)` by name.
        rate: Function from noise to t, `(cases, N)`.
        step: Function that moves the noise by steps of sizes `(cases, 1)` and keeps its prior.
        wanted: t* of each case, `(cases,)`.
        generator: Source of the random choice of copies.

    Returns:
        The logarithms, `(cases,)`; their standard errors; and which of them are upper bounds only,
        because no move reached the next level.
    """
    t = rate(state)
    cases, n = t.shape
    log_p = torch.zeros(cases, dtype=torch.float64, device=t.device)
    variance, bound = torch.zeros_like(log_p), torch.zeros_like(log_p, dtype=torch.bool)
    level = torch.full_like(t[:, 0], -math.inf)
    size = torch.full_like(t[:, :1], 0.5)
    open_ = torch.ones_like(bound)
    for _ in range(MAX_LEVELS):
        beyond = torch.where(t > level[:, None], t, math.inf)
        least = beyond.amin(1)  # a level must rise, also among ties
        raised = torch.maximum(t.quantile(1 - KEPT, dim=1), least)
        raised = torch.minimum(raised, wanted)
        share = (t >= raised[:, None]).double().mean(1)
        stuck = open_ & ((share == 0) | ~(t > level[:, None]).any(1))
        log_p = torch.where(stuck, log_p - math.log(n), log_p)
        bound, open_ = bound | stuck, open_ & ~stuck
        log_p = torch.where(open_, log_p + share.log(), log_p)
        more = CORRELATED * (1 - share) / (share * n)
        variance = torch.where(open_, variance + more, variance)
        level = torch.where(open_, raised, level)
        open_ = open_ & (raised < wanted)
        if not open_.any():
            return log_p, variance.sqrt(), bound
        weights = (t >= level[:, None]).double() + 1e-12
        copied = torch.multinomial(weights, n, replacement=True, generator=generator)
        state, t = _copied(state, copied), t.gather(1, copied)
        state, t, size = _parted(state, t, size, level, rate, step)
    return log_p, variance.sqrt(), bound | open_


def _copied(state: State, at: Tensor) -> State:
    """Return the draws at `(cases, N)` of each case."""
    rows = torch.arange(len(at), device=at.device)[:, None]
    return {k: map_noise(lambda u: u[rows, at], part) for k, part in state.items()}


def _parted(
    state: State, t: Tensor, size: Tensor, level: Tensor, rate: Rate, step: Step
) -> tuple[State, Tensor, Tensor]:
    """Move draws within their level, so that copies part, and adapt the size of the steps."""
    for _ in range(MOVES):
        proposed = step(state, size)
        proposed_t = rate(proposed)
        accepted = (proposed_t >= level[:, None]) & (proposed_t != t)
        state = {k: choose_noise(accepted, proposed[k], part) for k, part in state.items()}
        t = torch.where(accepted, proposed_t, t)
        acceptance = accepted.to(size).mean(1, keepdim=True)
        size = (size * (acceptance - TARGET_ACCEPTANCE).exp()).clamp(1e-3, 1e3)
    return state, t, size


def moved(
    mechanism: Mechanism, noise: Noise, prior: Noise, size: Tensor, generator: Generator
) -> Noise:
    """Move noise `(cases, N, ...)` so that its prior stays.

    By a random walk that adds and that multiplies, accepted by Metropolis's rule, where the noise
    has a density that is known; else redrawn, in a share of `size`.

    Args:
        mechanism: The mechanism whose noise it is.
        noise: The noise, `(cases, N, ...)`.
        prior: Draws of its prior, `(draws, ...)`.
        size: Size of the steps, `(cases, 1)`.
        generator: Source of the random steps.
    """
    density = _density(mechanism)
    if density is None or not isinstance(noise, Tensor) or not isinstance(prior, Tensor):
        first, drawn = (next(iter(noise_parts(part).values())) for part in (noise, prior))
        shape, device = first.shape[:2], size.device
        at = torch.randint(len(drawn), shape, generator=generator, device=device)
        redrawn = torch.rand(shape, generator=generator, device=device) < size
        return choose_noise(redrawn, map_noise(lambda t: t[at], prior), noise)
    size = size.reshape(-1, 1, *[1] * (noise.ndim - 2))
    low, middle, high = prior.double().flatten().quantile(prior.new_tensor(QUARTILES).double())
    walk = torch.randn(noise.shape, generator=generator, device=noise.device, dtype=torch.float64)
    away = noise.double() - middle
    stretched = size.clamp_max(1) * walk  # far out in a long tail, only this goes far enough
    stretch = torch.rand(noise.shape, generator=generator, device=noise.device) < STRETCHED
    further = torch.where(stretch, away * stretched.exp(), away + size * (high - low) * walk)
    proposal = (middle + further).to(noise)
    gain = density(proposal) - density(noise) + torch.where(stretch, stretched, 0.0)
    chance = torch.rand(gain.shape, generator=generator, device=noise.device)
    return torch.where(chance.log() < gain, proposal, noise)


def _density(mechanism: Mechanism) -> Callable[[Tensor], Tensor] | None:
    """Return the log-density of every entry of a mechanism's noise; `None` if it is not known."""
    if isinstance(mechanism, Flow | AdditiveNoise):
        return lambda u: -0.5 * u.double().square()
    if not isinstance(mechanism, Equation) or mechanism._distribution.event_shape:
        return None
    distribution = mechanism._distribution
    support: Any = distribution.support
    if support.is_discrete:
        return None

    def density(u: Tensor) -> Tensor:
        wide = u.double()
        possible = support.check(wide)
        inside = torch.where(possible, wide, distribution.sample().double())
        return torch.where(possible, distribution.log_prob(inside).double(), -math.inf)

    return density
