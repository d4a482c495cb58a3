"""Effects: differences of potential outcomes, under one and the same exogenous noise.

With the factual cause x, the intervened one x~, and a mediator M (lecture, Figure 30):

    direct   = Y(x~, M(x))  - Y(x, M(x))
    indirect = Y(x,  M(x~)) - Y(x, M(x))
    total    = Y(x~, M(x~)) - Y(x, M(x))

Outcomes are decoder means for images. All four potential outcomes, and the mediators in them, are
computed by the same code from the same noise, so every effect of a null intervention is exactly
zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rung3.rows import Exogenous
from rung3.scm import SCM
from rung3.seeding import Seed, base_seed

__all__ = ["Average", "Mediation", "average", "mediate"]


@dataclass(frozen=True)
class Mediation:
    """Direct, indirect and total effect on an outcome, each `(n, *shape)` or `(K, n, *shape)`.

    Attributes:
        direct: Effect of the cause with the mediators held at their factual values.
        indirect: Effect of the mediators' response with the cause held at its factual value.
        total: Effect of both.
        outcome: Name of the outcome, whose unit the effects have.
    """

    direct: Tensor
    indirect: Tensor
    total: Tensor
    outcome: str

    @property
    def interaction(self) -> Tensor:
        """What the total effect has beyond the sum of the direct and the indirect one."""
        return self.total - self.direct - self.indirect


def mediate(
    model: SCM,
    values: Mapping[str, Any],
    do: Mapping[str, Any],
    outcome: str,
    through: str | Iterable[str],
    *,
    particles: int | None = None,
    seed: Seed = None,
) -> Mediation:
    """Split the effect of an intervention on each row into direct and indirect.

    Args:
        model: The model; its mechanisms answer for every potential outcome.
        values: Rows, a value of every variable.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        through: Name of the mediator, or several (then taken together).
        particles: Number K of draws of the noise.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Returns:
        The effects, in the outcome's unit.

    Raises:
        ValueError: If a mediator is unknown, is the outcome, or is not downstream of the cause.

    Example:
        >>> from rung3 import worlds
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))
        >>> rows = {"x": 0.0, "m": 0.0, "y": 0.0}
        >>> effect = mediate(model, rows, do={"x": 1.0}, outcome="y", through="m")
        >>> effect.direct, effect.indirect, effect.total
        (tensor(3.), tensor(10.), tensor(13.))
    """
    mediators = [through] if isinstance(through, str) else list(through)
    _check(model, do, outcome, mediators)
    noise = model.abduct(values, particles, seed)
    flat = noise.flat()
    cause = list(do)
    factual: Mapping[str, Tensor] = flat.factual or {}
    functions = any(callable(value) for value in do.values())
    natural = model.predict(Exogenous(flat, n=flat.n)) if functions else factual
    unset = {name: (natural if callable(do[name]) else factual)[name] for name in cause}
    before = model.do(unset).predict(flat)
    after = model.do(_tile(model, do, noise)).predict(flat)

    def potential(x: Mapping[str, Tensor], m: Mapping[str, Tensor]) -> Tensor:
        chosen = {name: x[name] for name in cause} | {name: m[name] for name in mediators}
        return model.do(chosen).predict(flat, mean=[outcome])[outcome]

    base = potential(before, before)
    return Mediation(
        direct=_shape(potential(after, before) - base, noise),
        indirect=_shape(potential(before, after) - base, noise),
        total=_shape(potential(after, after) - base, noise),
        outcome=outcome,
    )


def _check(model: SCM, do: Mapping[str, Any], outcome: str, mediators: list[str]) -> None:
    downstream = model.graph.descendants(list(do))
    model.graph.names([outcome, *mediators])
    model.do(do)  # refuses what does not fit, before any work starts
    for name in mediators:
        if name == outcome or name in do:
            raise ValueError(f"through: {name!r} is the outcome or the cause, not a mediator")
        if name not in downstream:
            raise ValueError(
                f"through: {name!r} is not downstream of {list(do)}; "
                f"its descendants are {sorted(downstream)}"
            )


def _tile(model: SCM, do: Mapping[str, Any], noise: Exogenous) -> dict[str, Any]:
    """Interventions with one value a row, repeated for the particles as rows."""
    tiled = dict(do)
    for name, value in do.items():
        if noise.particles is not None and not callable(value):
            valid = model.variables[name].validate(name, value)
            if valid.ndim > len(model.variables[name].shape):
                tiled[name] = valid.repeat(noise.particles, *[1] * (valid.ndim - 1))
    return tiled


def _shape(effect: Tensor, noise: Exogenous) -> Tensor:
    batched = noise.factual is not None and noise.factual.batched
    if noise.particles is None:
        return effect
    split = effect.reshape(noise.particles, noise.n, *effect.shape[1:])
    return split if batched else split.squeeze(1)


@dataclass(frozen=True)
class Average:
    """An average effect and its Monte Carlo interval, in the outcome's unit.

    Attributes:
        effect: Mean difference, of the outcome's shape.
        low: Lower end of the interval.
        high: Upper end.
        level: Nominal coverage of the interval.
        n: Number of pairs it was averaged over.
    """

    effect: Tensor
    low: Tensor
    high: Tensor
    level: float
    n: int


def average(
    model: SCM,
    do: Mapping[str, Any],
    outcome: str,
    *,
    versus: Mapping[str, Any] | None = None,
    n: int = 10_000,
    level: float = 0.95,
    seed: Seed = None,
) -> Average:
    """Average effect of an intervention, `E[Y | do] - E[Y | versus]`, with paired noise.

    Both worlds are drawn with the same exogenous noise, so their difference is far less variable
    than either. The interval is for the Monte Carlo error alone, not for that of learning.

    Args:
        model: The model.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        versus: What to compare with: another intervention; none if not given.
        n: Number of pairs.
        level: Nominal coverage of the interval.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Raises:
        ValueError: If the level is not between 0 and 1, n is less than 2, or a name is unknown.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), y=Equation("3*x + u"))
        >>> round(average(model, do={"x": 1.0}, versus={"x": 0.0}, outcome="y").effect.item(), 4)
        3.0
    """
    from scipy import stats

    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    if n < 2:
        raise ValueError(f"n: expected at least 2 pairs, for an interval, got {n}")
    model.graph.names([outcome])
    base = base_seed(seed)
    treated, control = model.do(do), model.do(versus)
    drawn = [world.sample(n, seed=base)[outcome].double() for world in (treated, control)]
    difference = drawn[0] - drawn[1]
    mean = difference.mean(0)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * difference.std(0) / n**0.5
    return Average(mean, mean - half, mean + half, level, n)
