r"""Effects by instruments: what moves the treatment, and reaches the outcome through it alone.

With instruments Z and what they are instruments given, W, after W is regressed out of Y, T and Z,

    b = (T' P T)^-1 T' P Y,        P = Z (Z' Z)^-1 Z'        (two-stage least squares).

One binary instrument without W gives the ratio of Wald, `(E[Y | 1] - E[Y | 0]) / (E[T | 1] -
E[T | 0])`. If effects are linear and alike in all rows, b is the effect; if they differ, and the
instrument moves no row against its direction (monotony), it is the average over those that it
moves (LATE: Imbens and Angrist, Econometrica 1994), weighted by how far.

The interval of one instrument is that of Anderson and Rubin (Ann. Math. Statist. 1949): the b for
which Y - b T does not depend on Z, by a test that is robust to unequal variances. It holds whatever
the strength of the instrument, and may be unbounded. Of several instruments it is Student's where
the robust first-stage F is at least 10, and Anderson and Rubin's else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rung3.effects.tables.answer import Answer
from rung3.effects.tables.influence import Influence
from rung3.effects.tables.m_estimation import regress
from rung3.effects.tables.sample import Sample, independent, numbers

__all__ = ["STRONG", "instrumental_effect", "interval_of", "strength_of"]

STRONG = 10.0
"""First-stage F of strong instruments (Staiger and Stock, Econometrica 1997)."""

SEARCHED = 2_001
"""Values of the effect at which the test of several instruments is evaluated."""


def instrumental_effect(
    sample: Sample,
    instruments: Sequence[str],
    given: Sequence[str],
    difference: float,
    level: float,
) -> Answer:
    """Estimate the effect of so many units of treatment by two-stage least squares.

    Args:
        sample: The rows.
        instruments: Z.
        given: W.
        difference: Units of treatment.
        level: Nominal coverage of the interval of Anderson and Rubin.

    Raises:
        ValueError: If an instrument is constant given W, or the treatment is.
    """
    t, y, w = sample.rows[sample.treatment].double(), sample.y, sample.weights
    others = independent([*(sample.design(given).unbind(1) if given else [])], sample.n)
    columns = [
        c for name in instruments for c in numbers(name, sample.rows[name], sample.kinds[name])
    ]
    both = independent([*others.unbind(1), *columns], sample.n)
    z = both[:, others.shape[1] :]
    if not z.shape[1]:
        among = f" given {list(given)}" if given else ""
        raise ValueError(
            f"{', '.join(instruments)}: constant{among}, so that it moves nothing; expected an "
            f"instrument that moves {sample.treatment}: name another, or leave instrument= out"
        )
    first, reduced = (regress(both, column, w, counts=sample.counts) for column in (t, y))
    pi_t, pi_y = (model.beta[-z.shape[1] :] for model in (first, reduced))
    scores = torch.cat([one.scores[:, -z.shape[1] :] for one in (reduced, first)], 1)
    freedom, counts = sample.total - both.shape[1], sample.counts
    stacked = Influence(torch.cat([pi_y, pi_t]), scores, freedom, sample.clusters, counts=counts)
    left = _residual(z, others, w)
    weight = (left * w[:, None]).T @ left / sample.n
    slope, influence = _two_stage(y, t, left, others, pi_y, pi_t, weight, w, sample.total)
    estimate = Influence(slope[None], influence[:, None], freedom, sample.clusters, counts=counts)
    strength = strength_of(stacked, len(pi_t))
    interval, notes = interval_of(stacked, estimate, len(pi_t), strength, level)
    moved = sorted(difference * end for end in interval) if interval else None
    return Answer(
        estimate.then(lambda v: difference * v),
        interval=None if moved is None else (moved[0], moved[1]),
        strength=strength,
        notes=notes,
    )


def _residual(columns: Tensor, others: Tensor, w: Tensor) -> Tensor:
    root = w.sqrt()[:, None]
    solution: Tensor = torch.linalg.lstsq(others * root, columns * root, driver="gelsd").solution
    return columns - others @ solution


def _two_stage(
    y: Tensor,
    t: Tensor,
    z: Tensor,
    others: Tensor,
    pi_y: Tensor,
    pi_t: Tensor,
    weight: Tensor,
    w: Tensor,
    total: int,
) -> tuple[Tensor, Tensor]:
    """Return the slope, and its influence, robust to unequal variances, `(n,)`."""
    slope = (pi_t @ weight @ pi_y) / (pi_t @ weight @ pi_t)
    residual = _residual((y - slope * t)[:, None], others, w)[:, 0]
    hat = z @ pi_t
    inflate = (total / (total - others.shape[1] - 1)) ** 0.5
    return slope, inflate * w * hat * residual / (w * hat.square()).mean()


def strength_of(stacked: Influence, count: int) -> float:
    """Return the robust F statistic of the instruments in the first stage."""
    first = stacked.then(lambda v: v[count:])
    solved = torch.linalg.solve(first.covariance, first.values)
    return float(first.values @ solved) / count


def interval_of(
    stacked: Influence, estimate: Influence, count: int, strength: float, level: float
) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return the ends of the interval, unless it is Student's, and what must be said of it.

    Args:
        stacked: Coefficients of the instruments, for the outcome and for the treatment.
        estimate: The slope.
        count: Number of instruments.
        strength: Their first-stage F.
        level: Nominal coverage.
    """
    from scipy.stats import f

    weak = strength < STRONG
    notes = [] if not weak else [
        f"the instrument is weak: its first-stage F is {strength:.1f}, below {STRONG:.0f}; the "
        "interval is Anderson and Rubin's, which holds nonetheless"
    ]  # fmt: skip
    if count > 1 and not weak:
        return None, ()
    critical = count * float(f.ppf(level, count, stacked.t_freedom))
    if count == 1:
        low, high, hole = _one(stacked, critical)
    else:
        low, high, hole = _several(stacked, estimate, count, critical)
    if hole is not None:
        notes.append(
            f"the data only rule out effects of a unit from {hole[0]:.4g} to {hole[1]:.4g}"
        )
    return (low, high), tuple(notes)


def _one(stacked: Influence, critical: float) -> tuple[float, float, tuple[float, float] | None]:
    """Solve `(p_y - b p_t)^2 <= c Var(p_y - b p_t)` for b: a quadratic."""
    (p_y, p_t), v = stacked.values.tolist(), (critical * stacked.covariance).tolist()
    a, b, c = p_t**2 - v[1][1], -2 * (p_y * p_t - v[0][1]), p_y**2 - v[0][0]
    root = b * b - 4 * a * c
    if a > 0:
        ends = sorted((-b + sign * math.sqrt(max(root, 0.0))) / (2 * a) for sign in (-1, 1))
        return ends[0], ends[1], None
    if root <= 0:
        return -math.inf, math.inf, None
    ends = sorted((-b + sign * math.sqrt(root)) / (2 * a) for sign in (-1, 1))
    return -math.inf, math.inf, (ends[0], ends[1])


def _several(
    stacked: Influence, estimate: Influence, count: int, critical: float
) -> tuple[float, float, None]:
    """Evaluate the test over the real line, mapped to an interval; return the hull."""
    middle, scale = float(estimate.values[0]), 3 * float(estimate.errors[0])
    grid = middle + scale * np.tan(np.linspace(-math.pi / 2, math.pi / 2, SEARCHED)[1:-1])
    p_y, p_t = stacked.values.numpy().reshape(2, count)
    v = stacked.covariance.numpy().reshape(2, count, 2, count)
    accepted = []
    for b in grid:
        left = p_y - b * p_t
        cross = v[0, :, 1]
        spread = v[0, :, 0] - b * (cross + cross.T) + b * b * v[1, :, 1]
        accepted.append(left @ np.linalg.solve(spread, left) <= critical)
    inside = np.flatnonzero(accepted)
    if not len(inside):
        return middle, middle, None
    low = -math.inf if inside[0] == 0 else float(grid[inside[0]])
    high = math.inf if inside[-1] == len(grid) - 1 else float(grid[inside[-1]])
    return low, high, None
