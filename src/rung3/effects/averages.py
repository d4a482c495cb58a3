"""Averages of effects, each with its interval.

Of n differences between two worlds that share their noise, `d_i = Y_i(do) - Y_i(versus)`, with mean
d, standard error `s = std(d_i) / sqrt(n)` and skewness `g`, the interval of `E[d]` ends at

    d - s h(q),  d - s h(-q),    q = t_{(1 + level) / 2, n - 1},    a = g / (3 sqrt(n)),
    h(q) = (cbrt(1 + 3 a (q - a/2)) - 1) / a,    h(q) = q for a = 0.

On a circle a difference is the shorter way round. Noise that both worlds have drops out of the
differences, so they vary far less than either outcome.
The plain t interval (a = 0) of skewed effects covers too rarely, and both do if the differences are
of yes and no: these have the interval of `rung3.effects.score`. These intervals are for the drawing
of rows; of a fitted model, they are widened to hold the learning (`rung3.effects.learning`).

Source: Hall 1992, *On the removal of skewness by transformation* (J. R. Statist. Soc. B 54).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Discrete
from rung3.effects.estimate import AVERAGE, Estimate
from rung3.effects.formulas import check_outcome
from rung3.effects.learning import refits as refits_of
from rung3.effects.learning import widened
from rung3.effects.score import score_interval
from rung3.effects.sums import Sums
from rung3.scm import propagation
from rung3.scm.floating import in_own_precision
from rung3.scm.identifiability import require_identified
from rung3.scm.scm import SCM

__all__ = ["average", "average_of", "average_of_sums", "check_sample", "controlled"]


def average_of(
    differences: Tensor, level: float = 0.95, *, numbers: bool = False, learned: bool = False
) -> Estimate[Tensor]:
    """Estimate the average of differences `(n, *shape)`, one for each of n independent rows.

    Differences that all are -1, 0 or 1 (or that multiple of one number) count as those of yes
    and no; truth values as shares.

    Args:
        differences: One a row, in the outcome's unit.
        level: Nominal coverage of the interval.
        numbers: Whether the outcome is a number: if all differences are equal, they are exact.
        learned: Whether the differences are of a model that was fitted.

    Returns:
        The average and its interval, of the outcome's shape.

    Raises:
        ValueError: If the level is not between 0 and 1, or there are fewer than two rows.

    Example:
        >>> import torch
        >>> print(average_of(torch.tensor([1.0, 2.0, 3.0])))
        2.000 [-0.484, 4.484]
        >>> print(average_of(torch.tensor([1.0, 1.0, 4.0])))  # skewed
        2.00 [-0.92, 16.13]
    """
    check_sample(len(differences) if differences.ndim else 0, level)
    signed = differences.dtype != torch.bool
    return average_of_sums(Sums.of(differences), level, numbers, learned, signed)


def average_of_sums(
    sums: Sums, level: float, numbers: bool, learned: bool, signed: bool = True
) -> Estimate[Tensor]:
    """Estimate the average of differences by their sums; see `average_of`.

    Args:
        sums: Of the differences.
        level: Nominal coverage of the interval.
        numbers: Whether the outcome is a number.
        learned: Whether the differences are of a model that was fitted.
        signed: Whether any could have been below 0.
    """
    check_sample(sums.n, level)
    (low, high), same = _t_interval(sums, level), sums.low == sums.high
    unit = torch.where(same & (sums.unit == 0), 1.0, sums.unit)
    counted = sums.counted & (~same | ((unit == 1) & (not numbers)))
    if counted.any():
        ends = score_interval(sums.rose, sums.fell, sums.n, level, signed)
        low, high = (
            torch.where(counted, unit * share, end)
            for share, end in zip(ends, (low, high), strict=True)
        )
    return Estimate(sums.mean, low, high, sums.n, level, learned=learned, form=AVERAGE)


def _t_interval(sums: Sums, level: float) -> tuple[Tensor, Tensor]:
    """Return the ends of the t interval of a mean, corrected for skewness."""
    from scipy.special import stdtrit

    n = sums.n
    error = (sums.squares / (n - 1)).sqrt() / n**0.5
    q, a = float(stdtrit(n - 1, (1 + level) / 2)), _skewness(sums) / (3 * n**0.5)
    return sums.mean - error * _h(q, a), sums.mean - error * _h(-q, a)


@in_own_precision
def average(
    model: SCM,
    do: Mapping[str, Any],
    outcome: str,
    *,
    versus: Mapping[str, Any] | None = None,
    n: int = 10_000,
    level: float = 0.95,
    refits: int | None = None,
    seed: Seed = None,
) -> Estimate[Tensor]:
    """Estimate the average effect `E[Y | do] - E[Y | versus]` with paired noise.

    Only the outcome and its causes are drawn.

    Args:
        model: The model.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        versus: What to compare with: another intervention; none if not given.
        n: Number of pairs.
        level: Nominal coverage of the interval.
        refits: Number of fits to resampled rows, by which the interval of a fitted model holds the
            learning; if not given, 30 where that takes a moment (see `rung3.effects.refits`).
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: If the level is not between 0 and 1, n is less than 2, a name is unknown,
            the outcome is a category without order, or hidden causes leave the effect unidentified.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), y=Equation("3*x + u"))
        >>> round(average(model, do={"x": 1.0}, versus={"x": 0.0}, outcome="y").effect.item(), 4)
        3.0
    """
    check_sample(n, level)
    check_outcome(model, outcome)
    worlds, base = (model.do(do), model.do(versus)), base_seed(seed, "effects")
    for world in worlds:
        require_identified(world, [outcome])
    variable = model.variables[outcome]

    def differences(model: SCM) -> Tensor:
        worlds = model.do(do), model.do(versus)
        treated, control = (_draw(world, outcome, n, base).double() for world in worlds)
        return variable.difference(treated, control)

    exact = not isinstance(variable, Discrete)
    estimate = average_of(differences(model), level, numbers=exact, learned=bool(model.fitted))
    used = {outcome, *model.graph.ancestors(outcome)}
    needed = used - (set(do) & set(versus or {}))
    fitted_again = refits_of(model, refits, names=model.graph.in_order(needed), seed=base)
    return widened(estimate, [differences(one).mean(0) for one in fitted_again], model)


def controlled(
    model: SCM,
    do: Mapping[str, Any],
    outcome: str,
    at: Mapping[str, Any],
    *,
    versus: Mapping[str, Any] | None = None,
    n: int = 10_000,
    level: float = 0.95,
    refits: int | None = None,
    seed: Seed = None,
) -> Estimate[Tensor]:
    """Estimate a controlled direct effect: other variables are set in both worlds.

        CDE(m) = E[Y | do(x~, m)] - E[Y | do(x, m)]

    Args:
        model: The model.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        at: What the mediators are set to, as `SCM.do` takes it.
        versus: What to compare with: another intervention; none if not given.
        n: Number of pairs.
        level: Nominal coverage of the interval.
        refits: As of `average`.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: As `average`; or if a variable is both set and a mediator.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), m=Equation("x + u"), y=Equation("x*m + u"))
        >>> direct = controlled(model, {"x": 1.0}, "y", at={"m": 5.0}, versus={"x": 0.0}, seed=0)
        >>> round(direct.effect.item(), 4)
        5.0
    """
    both = [name for name in at if name in do or name in (versus or {})]
    if both:
        raise ValueError(f"at: {both[0]!r} is a cause that is set, not a mediator")
    sides: list[dict[str, Any]] = [{**one, **at} for one in (do, versus or {})]
    options: dict[str, Any] = {"n": n, "level": level, "refits": refits, "seed": seed}
    return average(model, sides[0], outcome, versus=sides[1], **options)


def _draw(world: SCM, outcome: str, n: int, base: int) -> Tensor:
    """Draw the outcome in n rows of a world, `(n, *shape)`."""
    needed = {outcome, *world.graph.ancestors(outcome)}
    return propagation.generate(world, n, base, only=needed)[0][outcome]


def _skewness(sums: Sums) -> Tensor:
    """Return the skewness of values; 0 where all are alike."""
    spread = (sums.squares / sums.n).sqrt()
    skewness: Tensor = (sums.cubes / sums.n) / torch.where(spread > 0, spread, torch.inf) ** 3
    return skewness


def _h(q: float, a: Tensor) -> Tensor:
    """Return the quantile q of a mean's t statistic, for data of skewness `3 a sqrt(n)`."""
    cube = 1 + 3 * a * (q - a / 2)
    root = cube.sign() * cube.abs() ** (1 / 3)
    return torch.where(a.abs() < 1e-6, q, (root - 1) / a)


def check_sample(n: Any, level: float) -> None:
    """Check that an interval can be made of n rows at this level.

    Raises:
        ValueError: If n is not a whole number of at least 2, or the level not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise ValueError(f"n: expected a whole number of at least 2 rows, for an interval, got {n}")
