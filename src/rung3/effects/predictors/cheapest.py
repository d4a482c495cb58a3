r"""The cheapest intervention after which a goal is reached: recourse, and what flips a decision.

    min cost(c)   such that   P(goal | row, do(X_S := c)) >= p,     S any few actionable variables.

The noise of the row is abducted once, K particles of it, and everything downstream follows the
graph, so that what is changed changes its effects too (Karimi, Schoelkopf and Valera 2021,
*Algorithmic recourse: from counterfactual explanations to interventions*, FAccT). The cost is the
sum, over what is set, of its distance from the factual value times a price a unit.

Values on a grid are tried from cheap to expensive, for each set S, until the goal is reached; those
of numbers are then refined `REFINEMENTS` times around the best. Of categories that is the optimum.
Of numbers a cheaper stretch may be missed that is narrower than the grid.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import Exogenous, Rows, Values, map_noise, spell_unknown
from rung3.data.seeding import Seed, base_seed
from rung3.data.variables import Categorical, Continuous, Discrete, Image
from rung3.effects.averages import average_of
from rung3.effects.estimate import Estimate
from rung3.effects.predictors.predictor import Predictor
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["Action", "Goal", "Price", "cheapest", "recourse"]

GRID = 21
"""Values of a number that are tried at once: a twentieth of its range apart."""

REFINEMENTS = 4
"""Times that the grid is refined, each tenfold: to a 200,000th of the range."""

MOST = 2**14
"""Combinations of values of one set of variables, at most; with more the grid gets coarser."""

AT_ONCE = 4096
"""Rows that are predicted at once, of numbers; of images a 64th."""

ROWS = 1000
"""Rows of the model that show which values are usual, if none are given."""

Goal = Callable[[Mapping[str, Tensor]], Tensor]
"""A function from values `(n, ...)` to a mask `(n,)`."""

Price = float | Callable[[Tensor, Tensor], Tensor]
"""The cost of a unit; or a function of the factual value and of new ones `(n,)`."""

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class Action(Printed):
    """An intervention on one row, and what comes of it.

    Attributes:
        do: What is set, and to what; empty if the goal is reached as things are.
        before: The factual values of these variables.
        cost: The cost.
        probability: Of the goal after it, over particles drawn anew: not those that it was chosen
            by, on which it is too high; so it may lie a little below what was asked for.
        rows: The counterfactual rows, one a particle.
        text: What is changed, in words.
    """

    do: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    cost: float
    probability: Estimate[Tensor]
    rows: Rows
    text: str

    def __str__(self) -> str:
        reached = f"probability {float(self.probability.effect):.2f}"
        return f"{self.text or 'nothing needs to change'}: cost {self.cost:.3g}, {reached}"


@in_own_precision
@torch.no_grad()
def recourse(
    model: SCM,
    row: Values,
    outcome: str,
    event: Any,
    actionable: Sequence[str],
    *,
    predictor: Callable[..., Any] | None = None,
    inputs: str | Sequence[str] | None = None,
    decide: Callable[[Tensor], Any] | None = None,
    probability: float = 0.9,
    cost: Mapping[str, Price] | None = None,
    monotone: Mapping[str, Direction] | None = None,
    at_most: int = 2,
    particles: int = 100,
    typical: Values | None = None,
    seed: Seed = None,
) -> Action:
    """Find the cheapest intervention by which a row reaches an outcome.

    Args:
        model: The model.
        row: The row, a value of every variable.
        outcome: Name of the outcome.
        event: Its value that is wanted; or a function of its values `(n,)` that gives a mask, such
            as `lambda income: income > 30`. Of a predictor, the class that it is to decide for.
        actionable: Variables that may be set.
        predictor: A predictor of the outcome, as `with_predictor` takes it, whose decision counts;
            if not given, the outcome itself does.
        inputs: The variables that the predictor reads.
        decide: From its outputs to decisions.
        probability: The least probability of the outcome after the intervention, over the noise
            that the row leaves open.
        cost: Price of a unit of each variable, or a function `(old, new)`; if not given, that of a
            number is 1 a standard deviation of usual rows, of a level 1 a step, of another category
            1.
        monotone: Variables that may only go `"up"` or only `"down"`.
        at_most: Number of variables that are set at once.
        particles: Number of draws of the noise.
        typical: Rows that show which values are usual; if not given, rows of the model. No value
            beyond them, or beyond those seen in training, is tried.
        seed: Of the draws.

    Returns:
        The intervention, its cost, and the rows that come of it.

    Raises:
        ValueError: If a name is unknown, a variable cannot be set or causes nothing of the outcome,
            a price or a probability is out of range, or no such intervention reaches the outcome.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(debt=Equation("5 + u"), rating=Equation("20 - 2*debt + u"))
        >>> row = {"debt": 6.0, "rating": 7.5}
        >>> print(recourse(model, row, "rating", lambda r: r >= 9.5, ["debt"], cost={"debt": 1.0},
        ...     seed=0))
        debt 6 -> 5: cost 1, probability 1.00
    """
    model.graph.names([outcome])
    base = base_seed(seed, "recourse")
    if predictor is None:
        goal = _event_goal(model, outcome, event)
        ends: tuple[str, ...] = (outcome,)
    else:
        wanted = None if callable(event) and not isinstance(event, Tensor) else event
        wrapped = Predictor.of(
            model, predictor, inputs=inputs, outcome=outcome, event=wanted, decide=decide
        )
        wrapped.check(model.read(row).batch)
        goal, ends = _decision_goal(wrapped, event), wrapped.inputs
    usual = model.sample(ROWS, seed=base) if typical is None else model.read(typical)
    action, best = cheapest(
        model,
        row,
        goal,
        ends,
        actionable,
        usual,
        probability=probability,
        cost=cost or {},
        monotone=monotone or {},
        at_most=at_most,
        particles=particles,
        seed=base,
    )
    if action is None:
        raise ValueError(
            f"no intervention on up to {at_most} of {list(actionable)} within usual values reaches "
            f"{outcome} with probability {probability:g}; the best reaches {best:.2f}; allow more "
            "variables (actionable=, at_most=), other directions, or a lower probability"
        )
    return action


def cheapest(
    model: SCM,
    row: Values,
    goal: Goal,
    ends: Sequence[str],
    actionable: Sequence[str],
    typical: Mapping[str, Tensor],
    *,
    probability: float,
    cost: Mapping[str, Price],
    monotone: Mapping[str, Direction],
    at_most: int,
    particles: int,
    seed: int,
) -> tuple[Action | None, float]:
    """Return the cheapest intervention, or none, and the greatest probability that was met.

    Args:
        model: The model.
        row: The row.
        goal: What is to be reached.
        ends: The variables that the goal looks at.
        actionable: As of `recourse`.
        typical: Rows that show which values are usual.
        probability: As of `recourse`.
        cost: As of `recourse`.
        monotone: As of `recourse`.
        at_most: As of `recourse`.
        particles: As of `recourse`.
        seed: Of the draws.
    """
    _check(model, ends, actionable, cost, monotone, probability, at_most)
    factual = model.read(row).batch
    model.check_given(factual)
    if factual.n != 1:
        raise ValueError(f"row: expected one row, got {factual.n}")
    search = _Search(model, factual, goal, probability, particles, actionable, seed)
    axes = {
        name: _Axis.of(model, name, factual, typical, cost.get(name), monotone.get(name))
        for name in actionable
    }
    best: tuple[float, dict[str, Tensor]] | None = None
    if search.shares({}, 1)[0] >= probability:
        best = 0.0, {}
    for size in range(1, min(at_most, len(axes)) + 1) if best is None else ():
        for names in itertools.combinations(axes, size):
            best = search.over({name: axes[name] for name in names}, best)
    most = float(search.best)
    if best is None:
        return None, most
    # On the particles that chose it, an intervention looks better than it is.
    search.draw(base_seed(seed, "probability"))
    return search.action(best[1], axes), most


@dataclass(frozen=True)
class _Axis:
    """The values that a variable may be set to, and what they cost.

    Attributes:
        name: The variable.
        old: Its factual value.
        low: Least value.
        high: Greatest value.
        codes: Values of a category; `None` of a number.
        whole: Whether it is a whole number.
        price: The cost, of values `(n,)`.
    """

    name: str
    old: Tensor
    low: float
    high: float
    codes: Tensor | None
    whole: bool
    price: Callable[[Tensor], Tensor]

    @classmethod
    def of(
        cls,
        model: SCM,
        name: str,
        factual: Rows,
        typical: Mapping[str, Tensor],
        price: Price | None,
        direction: Direction | None,
    ) -> _Axis:
        """Read off which values are usual, and what a unit costs."""
        variable, old = model.variables[name], factual[name][0]
        values = typical[name][~variable.is_missing(typical[name])].double()
        if isinstance(variable, Discrete):
            low, high = 0.0, variable.classes - 1.0
        else:
            observed = model.mechanisms[name].observed.double()
            seen = torch.cat([values, observed[observed.isfinite()]])
            low, high = float(seen.min()), float(seen.max())
        low = float(old) if direction == "up" else low
        high = float(old) if direction == "down" else high
        codes = torch.arange(int(low), int(high) + 1) if isinstance(variable, Discrete) else None
        spread = float(values.std()) if len(values) > 1 else 0.0
        unit = 1.0 if codes is not None else 1 / max(spread, 1e-12)
        nominal = isinstance(variable, Categorical)

        def cost(new: Tensor) -> Tensor:
            if callable(price):
                return torch.as_tensor(price(old, new)).double().expand(len(new))
            away = variable.difference(new.double(), old.double()).abs()
            away = (away > 0).double() if nominal else away
            return (unit if price is None else price) * away

        whole = isinstance(variable, Continuous) and variable.whole
        return cls(name, old, low, high, codes, whole, cost)

    def grid(self, count: int, centre: Tensor | None = None, step: float = 0.0) -> Tensor:
        """Return the values to try: all, or those near a centre; the factual one is left out."""
        if self.codes is not None:
            return self.codes[self.codes != self.old.cpu()]
        if self.high <= self.low:
            return torch.empty(0).double()
        low, high = self.low, self.high
        if centre is not None:
            low, high = max(low, float(centre) - step), min(high, float(centre) + step)
        values = torch.linspace(low, high, count).double()
        return values.round().unique() if self.whole else values

    def step(self, count: int) -> float:
        """Return the distance of two values of the grid."""
        return (self.high - self.low) / (count - 1)


class _Search:
    """Interventions on one row, under noise that was abducted once."""

    def __init__(
        self,
        model: SCM,
        row: Rows,
        goal: Goal,
        probability: float,
        particles: int,
        actionable: Sequence[str],
        seed: int,
    ) -> None:
        self.model, self.row, self.goal, self.probability = model, row, goal, probability
        below = model.graph.descendants(actionable)
        mechanisms = [model.mechanisms[name] for name in below]
        certain = all(one.abduction == "exact" for one in mechanisms)
        self.particles = 1 if certain else particles
        self.draw(seed)
        images = any(isinstance(kind, Image) for kind in model.variables.values())
        self.size = max(1, AT_ONCE // (64 if images else 1) // self.particles)
        self.best = 0.0

    def draw(self, seed: int) -> None:
        """Draw the particles of the row's noise."""
        self.noise = self.model.abduct(self.row, particles=self.particles, seed=seed)

    def rows(self, do: Mapping[str, Tensor], n: int) -> Rows:
        """Return the rows of n interventions, K a piece."""
        k = self.particles
        noise = {
            name: map_noise(lambda t: t[:, 0].repeat(n, *[1] * (t.ndim - 2)), part)
            for name, part in self.noise.items()
        }
        exogenous = Exogenous(
            noise,
            n=n * k,
            factual=self.row.repeat(n * k),
            mechanisms=self.noise.mechanisms,
            kinds=self.noise.kinds,
            seed=self.noise.seed,
        )
        values = {name: value.repeat_interleave(k, 0) for name, value in do.items()}
        return self.model.do(values).predict(exogenous)

    def shares(self, do: Mapping[str, Tensor], n: int) -> Tensor:
        """Return the probability of the goal after each of n interventions, `(n,)`."""
        share = self.goal(self.rows(do, n)).double().reshape(n, self.particles).mean(1)
        self.best = max(self.best, float(share.max()))
        return share

    def over(
        self, axes: Mapping[str, _Axis], best: tuple[float, dict[str, Tensor]] | None
    ) -> tuple[float, dict[str, Tensor]] | None:
        """Return the cheapest intervention on all of some variables, if it is below the best."""
        count = _count(axes)
        candidate = self._first(axes, {name: axis.grid(count) for name, axis in axes.items()}, best)
        numbers = [name for name, axis in axes.items() if axis.codes is None]
        steps = {name: axes[name].step(count) for name in numbers}
        for _ in range(REFINEMENTS if numbers and candidate is not best else 0):
            assert candidate is not None
            centre = candidate[1]
            grids = {name: centre[name][None] for name in axes}
            grids |= {k: axes[k].grid(count, centre[k], steps[k]) for k in numbers}
            candidate = self._first(axes, grids, candidate)
            steps = {name: 2 * step / (count - 1) for name, step in steps.items()}
        return candidate

    def _first(
        self,
        axes: Mapping[str, _Axis],
        grids: Mapping[str, Tensor],
        best: tuple[float, dict[str, Tensor]] | None,
    ) -> tuple[float, dict[str, Tensor]] | None:
        """Return the cheapest combination of values that reaches the goal, if below the best."""
        if not all(len(grid) for grid in grids.values()):
            return best
        # Places, and not values: numbers and codes have no type in common.
        places = (torch.arange(len(grid), device=grid.device) for grid in grids.values())
        columns = [column.flatten() for column in torch.meshgrid(*places, indexing="ij")]
        values = {name: grids[name][at] for name, at in zip(grids, columns, strict=True)}
        cost = torch.stack([axes[name].price(value) for name, value in values.items()]).sum(0)
        order = cost.argsort(stable=True)
        if best is not None:
            order = order[cost[order] < best[0]]
        for at in order.split(self.size) if len(order) else ():
            some = {name: value[at] for name, value in values.items()}
            reached = self.shares(some, len(at)) >= self.probability
            if reached.any():
                first = int(at[int(reached.double().argmax())])
                return float(cost[first]), {name: value[first] for name, value in values.items()}
        return best

    def action(self, do: Mapping[str, Tensor], axes: Mapping[str, _Axis]) -> Action:
        """Return an intervention with what comes of it."""
        rows = self.rows({name: value[None] for name, value in do.items()}, 1)
        hit = self.goal(rows)
        hits = hit if len(hit) > 1 else hit.repeat(2)
        share = average_of(hits, numbers=len(hit) == 1)
        if len(hit) == 1:
            share = Estimate(share.effect, share.effect, share.effect, 1)
        kinds = self.model.variables
        changes = [
            f"{name} {_spell(kinds[name], axes[name].old)} -> {_spell(kinds[name], value)}"
            for name, value in do.items()
        ]
        return Action(
            do=do,
            before={name: axes[name].old for name in do},
            cost=sum(float(axes[name].price(value[None])) for name, value in do.items()),
            probability=share,
            rows=rows,
            text=", ".join(changes),
        )


def _count(axes: Mapping[str, _Axis]) -> int:
    """Return how many values of each number are tried, so that all together are not too many."""
    numbers = sum(axis.codes is None for axis in axes.values())
    sizes = [len(axis.codes) for axis in axes.values() if axis.codes is not None]
    if not numbers:
        return 0
    count = min(GRID, int((MOST / math.prod(sizes)) ** (1 / numbers)))
    if count < 3:
        raise ValueError(
            f"{', '.join(axes)}: too many combinations of values; lower at_most, or name fewer "
            "variables"
        )
    return count


def _spell(variable: Any, value: Tensor) -> str:
    return variable.label(int(value)) if isinstance(variable, Discrete) else f"{float(value):.4g}"


def _check(
    model: SCM,
    ends: Sequence[str],
    actionable: Sequence[str],
    cost: Mapping[str, Price],
    monotone: Mapping[str, Direction],
    probability: float,
    at_most: int,
) -> None:
    """Refuse what cannot be done, before anything is computed."""
    if unknown := [name for name in actionable if name not in model.variables]:
        raise ValueError(f"actionable: {spell_unknown(unknown, model.variables)}")
    if not actionable:
        raise ValueError("actionable: empty; name the variables that may be set")
    for name in actionable:
        kind = model.variables[name]
        if kind.shape or not isinstance(kind, Discrete | Continuous):
            raise ValueError(f"actionable: {name} is {kind}; expected a number or a category")
    causes = set(ends) | model.graph.ancestors(ends)
    if idle := [name for name in actionable if name not in causes]:
        raise ValueError(
            f"actionable: {idle[0]} causes nothing of {', '.join(ends)}; the causes are "
            f"{list(model.graph.in_order(causes))}"
        )
    for what, names in (("cost", cost), ("monotone", monotone)):
        if strange := [name for name in names if name not in actionable]:
            raise ValueError(f"{what}: {strange[0]} is not among actionable={list(actionable)}")
    for name, price in cost.items():
        if not callable(price) and not 0 < price < math.inf:
            raise ValueError(f"cost: a unit of {name} must cost more than 0, got {price}")
    for name, direction in monotone.items():
        if direction not in ("up", "down"):
            raise ValueError(f"monotone: {name} may go 'up' or 'down', got {direction!r}")
        if isinstance(model.variables[name], Categorical):
            raise ValueError(f"monotone: {name} has no order; declare it Ordinal")
    if not 0 < probability <= 1:
        raise ValueError(f"probability: expected a number above 0 and up to 1, got {probability}")
    if isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 1:
        raise ValueError(f"at_most: expected a whole number of at least 1, got {at_most!r}")


def _event_goal(model: SCM, outcome: str, event: Any) -> Goal:
    """Return the goal that an outcome has a value, or meets a condition."""
    kind = model.variables[outcome]
    if callable(event) and not isinstance(event, Tensor):

        def meets(values: Mapping[str, Tensor]) -> Tensor:
            mask = torch.as_tensor(event(values[outcome]))
            if mask.shape != values[outcome].shape[:1]:
                raise ValueError(f"event: expected one truth value a row, got {tuple(mask.shape)}")
            return mask.bool()

        return meets
    if not isinstance(kind, Discrete):
        raise ValueError(
            f"event: {outcome} is {kind}; give a condition, such as "
            f"event=lambda {outcome}: {outcome} > {event!r}"
        )
    code = kind.validate(outcome, event)
    return lambda values: values[outcome] == code.to(values[outcome].device)


def _decision_goal(predictor: Predictor, event: Any) -> Goal:
    """Return the goal that a predictor decides for a class, or that its score meets a condition."""
    if callable(event) and not isinstance(event, Tensor):
        return lambda values: torch.as_tensor(event(predictor.score(values))).bool()
    return lambda values: predictor.decisions(values) == predictor.event
