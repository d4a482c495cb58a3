"""Attribution: which cause made a row unusual, and which changed mechanism moved an average.

`unusual`. With a score t of how unusual an outcome is, a row's outlier score and its sharing among
the exogenous noises of what causes the outcome are (Budhathoki et al. 2022, *Causal structure-based
root cause analysis of outliers*, ICML)

    s(x) = -log P(t(X) >= t(x)),    v(S) = log P(t(X) >= t(x) | U_S = u_S),

so that the Shapley values of v sum to s(x): noise is what is *new* at a variable, and a variable
that only handed on what came from above is not blamed.

`shift`. With two models of one graph, one of before and one of after, and `v(S) = E[Y]` where the
mechanisms in S are those of after, the Shapley values of v sum to the change of the average
(Budhathoki et al. 2021, *Why did the distribution change?*, AISTATS). Noise is paired throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Generator, Tensor

from rung3.floating import in_own_precision
from rung3.mechanisms.base import Mechanism
from rung3.rows import Noise, Rows, map_noise, spell_unknown
from rung3.scm import SCM
from rung3.seeding import Seed, base_seed, stream
from rung3.shapley import EXACT, shapley
from rung3.tails import log_tails, moved
from rung3.variables import Discrete, Image, Variable

__all__ = ["Attribution", "Shift", "shift", "unusual"]

BLOCKS = 10
"""Of draws, each left out once, for the error of a share (jackknife)."""

FEW, SPLIT = 10, 500
"""Extreme draws that tell a probability; draws at each level where there are fewer."""

CENTRE = 200_000
"""Draws of the outcome that its median, or the shares of its categories, are taken from."""

HELD = 2**20
"""Draws of a variable that are held at once."""


@dataclass(frozen=True)
class Attribution:
    """Why rows are unusual.

    Attributes:
        outcome: Name of the outcome.
        scores: Outlier score of each row, `(n,)`, in nats: `-log P(as unusual, or more)`.
        shares: What the noise of each variable adds to it, `(n,)`; they sum to the scores.
        errors: Their standard errors, `(n,)`, of the draws (and of random orders, of many causes).
        bounded: Mask `(n,)` of the rows of which some probability is too small to be told: it is
            then taken for the least that the draws can tell, and so the scores and the shares are
            bounds, farther from zero in truth, and their errors do not hold.
    """

    outcome: str
    scores: Tensor
    shares: Mapping[str, Tensor]
    errors: Mapping[str, Tensor]
    bounded: Tensor

    def first(self, row: int = 0) -> str:
        """The variable whose noise explains most of a row."""
        return max(self.shares, key=lambda name: float(self.shares[name][row]))

    def __str__(self) -> str:
        lines = []
        for row in range(min(5, len(self.scores))):
            score = float(self.scores[row])
            few = " (AT LEAST: too rare for the draws, so that these are bounds)"
            few = few if self.bounded[row] else ""
            lines.append(f"row {row}: {self.outcome} is one in {math.exp(score):.3g}{few}, for")
            ranked = sorted(self.shares, key=lambda name: -float(self.shares[name][row]))
            for name in ranked:
                part, error = float(self.shares[name][row]), float(self.errors[name][row])
                lines.append(f"    {name}: {part:.2f} +- {error:.2f} of {score:.2f} nats")
        return "\n".join(lines)


@in_own_precision
@torch.no_grad()
def unusual(
    model: SCM,
    rows: Mapping[str, Any],
    outcome: str,
    *,
    score: Callable[[Tensor], Tensor] | None = None,
    draws: int = 5_000,
    seed: Seed = 0,
) -> Attribution:
    """Share among the causes of an outcome how unusual it is.

    Probabilities are shares of draws. Those of fewer than 10 draws are found by levels, for numbers
    and up to 8 causes (see `rung3.tails`); otherwise the answer says that it is a bound.

    Args:
        model: The model.
        rows: The rows in question, complete.
        outcome: Name of the outcome.
        score: From values `(m,)` to how unusual they are, `(m,)`; by default the distance to the
            median, or for categories how rare they are.
        draws: Draws of the noise.
        seed: Of the draws.

    Raises:
        ValueError: If the outcome is unknown or no scalar, hidden causes join variables, or there
            are too few draws.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), y=Equation("x + u"))
        >>> found = unusual(model, {"x": [4.0, 0.0], "y": [4.0, 4.0]}, "y")
        >>> found.first(0), found.first(1)
        ('x', 'y')
    """
    ancestors = _ancestors(model, outcome)
    if draws < 10 * BLOCKS:
        raise ValueError(f"draws={draws} must be at least {10 * BLOCKS}")
    base = base_seed(seed, "attribution")
    given = model._rows(rows)
    batch = dict(given) if given.batched else {k: v.unsqueeze(0) for k, v in given.items()}
    parts = []
    n, most = len(batch[outcome]), max(1, HELD // draws)
    for start in range(0, n, most):
        some = {name: value[start : start + most] for name, value in batch.items()}
        parts.append(_Unusual(model, some, outcome, ancestors, score, draws, base).shared())
    return Attribution(
        outcome,
        torch.cat([part.scores for part in parts]),
        {k: torch.cat([part.shares[k] for part in parts]) for k in parts[0].shares},
        {k: torch.cat([part.errors[k] for part in parts]) for k in parts[0].errors},
        torch.cat([part.bounded for part in parts]),
    )


class _Unusual:
    """Rows whose outcome is unusual: v(S) of all of them at once, `(1 + BLOCKS, n)`.

    Draws lie in `(draws, n, ...)`, flattened. From one set of players to the next only what
    descends from those who differ is predicted again.
    """

    def __init__(
        self,
        model: SCM,
        batch: Mapping[str, Tensor],
        outcome: str,
        ancestors: list[str],
        score: Callable[[Tensor], Tensor] | None,
        draws: int,
        base: int,
    ) -> None:
        self.model, self.outcome, self.ancestors = model, outcome, ancestors
        self.draws, self.n, self.base = draws, len(batch[outcome]), base
        self.mechanisms = model.mechanisms
        self.players = [name for name in ancestors if self.mechanisms[name].wants_noise]
        self.prior = _prior(self.mechanisms, ancestors, draws, base, model.device)
        kind = model.variables[outcome]
        self.rate = score or _rareness(self._drawn(), kind)
        self.continuous = not isinstance(kind, Discrete)
        rows = Rows({name: batch[name] for name in model.variables})
        abducted = model.abduct(rows, particles=draws, seed=base)
        self.own = {k: abducted[k] for k in self.players}
        self.flat = {
            True: {k: map_noise(lambda t: t.flatten(0, 1), self.own[k]) for k in self.players},
            False: {k: map_noise(self._spread, self.prior[k]) for k in self.players},
        }
        reached = self.rate(batch[outcome]).double()
        self.reached = reached - 1e-5 * reached.abs() - 1e-6
        self.below = {k: {k, *model.graph.descendants(k)} for k in self.players}
        self.team: frozenset[str] = frozenset()
        self.values = self._predicted(self.team, {}, set(ancestors))
        self.bounded = torch.zeros(self.n, dtype=torch.bool, device=model.device)
        self.tails: dict[frozenset[str], Tensor] = {}

    def _drawn(self) -> Tensor:
        """Draws of the outcome. A median needs many: far out, its error weighs like the row's."""
        mechanisms, names = self.mechanisms, self.ancestors
        if any(isinstance(mechanisms[name].variable, Image) for name in names):
            return _predict(mechanisms, names, self.prior)[self.outcome]
        many = max(self.draws, CENTRE)
        noise = _prior(mechanisms, names, many, self.base, self.model.device)
        return _predict(mechanisms, names, noise)[self.outcome]

    def _spread(self, draws: Tensor) -> Tensor:
        """Draws of the prior, the same for every row."""
        return draws.unsqueeze(1).expand(-1, self.n, *draws.shape[1:]).flatten(0, 1)

    def _predicted(
        self, team: frozenset[str], known: Mapping[str, Tensor], again: set[str]
    ) -> dict[str, Tensor]:
        values = dict(known)
        for name in (name for name in self.ancestors if name in again):
            mechanism = self.mechanisms[name]
            noise = self.flat[name in team][name] if mechanism.wants_noise else {}
            parents = {parent: values[parent] for parent in mechanism.parents}
            value = mechanism.predict(noise, parents)
            values[name] = value.expand(self.draws * self.n, *value.shape[1:])
        return values

    def extreme(self, team: frozenset[str]) -> Tensor:
        """Which draws are as extreme as the row, `(draws, n)`, with the noise of a team its own."""
        if len(team) == len(self.players):
            return torch.ones(self.draws, self.n, dtype=torch.bool, device=self.reached.device)
        changed = team ^ self.team
        again = set[str]().union(*(self.below[name] for name in changed))
        self.values, self.team = self._predicted(team, self.values, again), team
        told = self.rate(self.values[self.outcome]).double().reshape(self.draws, self.n)
        return told >= self.reached

    def value(self, team: frozenset[str]) -> Tensor:
        """`log P(as extreme | noise of the team)`, then without each block of draws."""
        if team not in self.tails:
            extreme = self.extreme(team)
            self.bounded |= extreme.sum(0) < FEW
            self.tails[team] = _log_shares(extreme)
        return self.tails[team]

    def shared(self) -> Attribution:
        """The Shapley values."""
        if self.continuous and len(self.players) <= EXACT:
            self._reach_tails()
        shares, errors = shapley(self.players[::-1], self.value, self.base)
        return Attribution(
            self.outcome,
            -self.value(frozenset())[0],
            {k: shares[k][0] for k in self.players},
            {k: _jackknife(shares[k], errors[k]) for k in self.players},
            self.bounded,
        )

    def _reach_tails(self) -> None:
        """Find by levels what few draws reach, for all sets of players together."""
        few = {}
        for size in range(len(self.players) + 1):
            for team in map(frozenset, combinations(self.players[::-1], size)):
                extreme = self.extreme(team)
                few[team] = extreme.sum(0) < FEW
                self.tails[team] = _log_shares(extreme)
        cases = [(team, row) for team, mask in few.items() for row in mask.nonzero()[:, 0].tolist()]
        generator = stream(self.base, "tails", self.reached.device)
        for start in range(0, len(cases), HELD // SPLIT):
            some = cases[start : start + HELD // SPLIT]
            log_p, error, bound = self._log_tails(some, generator)
            # Values without each block, apart by as much as makes the jackknife give the error.
            apart = torch.randn(
                BLOCKS, len(some), generator=generator, device=log_p.device, dtype=torch.float64
            ) * (error * BLOCKS**0.5 / (BLOCKS - 1))
            found = torch.cat([log_p[None], log_p + apart])
            for at, (team, row) in enumerate(some):
                self.tails[team][:, row] = found[:, at]
                self.bounded[row] |= bound[at]

    def _log_tails(
        self, cases: list[tuple[frozenset[str], int]], generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = self.reached.device
        rows = torch.tensor([row for _, row in cases], device=device)
        mine = {k: torch.tensor([k in t for t, _ in cases], device=device) for k in self.players}
        shape = (len(cases), SPLIT)

        def rate(state: Mapping[str, Noise]) -> Tensor:
            noise = {k: map_noise(lambda t: t.flatten(0, 1), part) for k, part in state.items()}
            told = self.rate(_predict(self.mechanisms, self.ancestors, noise)[self.outcome])
            return told.double().reshape(shape).nan_to_num(-math.inf)

        at = torch.randint(self.draws, shape, generator=generator, device=device)
        state = {
            k: _choose(
                mine[k],
                map_noise(lambda t: t[at, rows[:, None]], self.own[k]),
                map_noise(lambda t: t[at], self.prior[k]),
            )
            for k in self.players
        }

        def step(state: dict[str, Noise], size: Tensor) -> dict[str, Noise]:
            again = torch.rand(shape, generator=generator, device=device) < size
            at = torch.randint(self.draws, shape, generator=generator, device=device)

            def redrawn(part: Noise, k: str) -> Noise:
                fresh = map_noise(lambda t: t[at, rows[:, None]], self.own[k])
                return _choose(again, fresh, part)

            return {
                k: _choose(
                    mine[k],
                    redrawn(part, k),
                    moved(self.mechanisms[k], part, self.prior[k], size, generator),
                )
                for k, part in state.items()
            }

        return log_tails(state, rate, step, self.reached[rows], generator)


def _choose(mask: Tensor, yes: Noise, no: Noise) -> Noise:
    """One noise or another, `(cases, N, ...)`, by a mask `(cases,)` or `(cases, N)`."""
    if isinstance(yes, Tensor) and isinstance(no, Tensor):
        return torch.where(mask.reshape(*mask.shape, *[1] * (yes.ndim - mask.ndim)), yes, no)
    assert not isinstance(yes, Tensor)
    assert not isinstance(no, Tensor)
    return {
        key: torch.where(mask.reshape(*mask.shape, *[1] * (part.ndim - mask.ndim)), part, no[key])
        for key, part in yes.items()
    }


@dataclass(frozen=True)
class Shift:
    """Why an average changed.

    Attributes:
        outcome: Name of the outcome.
        before: Its average under the first model; and
        after: under the second.
        shares: What each mechanism's change adds to the difference; they sum to it.
        errors: Their standard errors, of the draws alone: how well the models fit is not in them.
    """

    outcome: str
    before: float
    after: float
    shares: Mapping[str, float]
    errors: Mapping[str, float]

    def __str__(self) -> str:
        change = self.after - self.before
        lines = [f"average {self.outcome}: {self.before:.4g} -> {self.after:.4g} ({change:+.4g})"]
        ranked = sorted(self.shares, key=lambda name: -abs(self.shares[name]))
        lines += [f"    {k}: {self.shares[k]:+.4g} +- {self.errors[k]:.2g}" for k in ranked]
        return "\n".join(lines)


@in_own_precision
@torch.no_grad()
def shift(
    before: SCM,
    after: SCM,
    outcome: str,
    *,
    only: Iterable[str] | None = None,
    draws: int = 20_000,
    seed: Seed = 0,
) -> Shift:
    """Share the change of an outcome's average among the mechanisms that changed.

    Args:
        before: A model fitted on the first data set.
        after: One of the same graph, fitted on the second.
        outcome: Name of the outcome: a number, or a category of two (its share).
        only: The mechanisms that changed, as `rung3.tasks.changes` tells; all others are taken from
            `before`. All of what causes the outcome if not given.
        draws: Draws of the noise.
        seed: Of the draws.

    Raises:
        ValueError: If the graphs differ, a name is unknown, the outcome is no scalar, or hidden
            causes join variables.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> before = SCM(x=Equation("u"), y=Equation("2*x + u"))
        >>> after = SCM(x=Equation("u + 1"), y=Equation("2*x + u + 3"))
        >>> found = shift(before, after, "y")
        >>> round(found.shares["x"], 3), round(found.shares["y"], 3)
        (2.0, 3.0)
    """
    ancestors = _ancestors(before, outcome)
    if set(before.graph.edges) != set(after.graph.edges) or before.variables != after.variables:
        raise ValueError(
            f"the models differ: {before.graph} and {after.graph}; fit one graph twice"
        )
    if isinstance(kind := before.variables[outcome], Discrete) and kind.classes > 2:
        raise ValueError(f"{outcome}: {kind} has no average; give a number, or yes and no")
    named = ancestors if only is None else list(only)
    if unknown := [name for name in named if name not in before.variables]:
        raise ValueError(f"only: {spell_unknown(unknown, before.variables)}")
    players = [name for name in ancestors if name in named]
    base = base_seed(seed, "attribution")
    old, new = before.mechanisms, after.mechanisms

    def value(team: frozenset[str]) -> Tensor:
        mixed = {k: new[k] if k in team else old[k] for k in ancestors}
        noise = _prior(mixed, ancestors, draws, base, before.device)
        return _predict(mixed, ancestors, noise)[outcome].double()

    shares, errors = shapley(players, value, base)
    ends = value(frozenset()), value(frozenset(players))
    return Shift(
        outcome,
        float(ends[0].mean()),
        float(ends[1].mean()),
        {k: float(v.mean()) for k, v in shares.items()},
        {k: float((v.var() / draws + errors[k].mean() ** 2).sqrt()) for k, v in shares.items()},
    )


def _ancestors(model: SCM, outcome: str) -> list[str]:
    """The outcome and what causes it, causes first."""
    if outcome not in model.variables:
        raise ValueError(f"outcome: {spell_unknown([outcome], model.variables)}")
    if model.variables[outcome].shape:
        raise ValueError(f"{outcome}: expected one number a row, and it is an array")
    if model.confounding.members:
        raise ValueError("attribution: hidden causes join variables, whose noise is not their own")
    wanted = {outcome, *model.graph.ancestors(outcome)}
    return [name for name in model.graph.order if name in wanted]


def _prior(
    mechanisms: Mapping[str, Mechanism], names: list[str], n: int, base: int, device: torch.device
) -> dict[str, Noise]:
    """Noise `(n, ...)`, the same for mechanisms of one family under one seed."""
    values: dict[str, Tensor] = {}
    noise: dict[str, Noise] = {}
    for name in names:
        mechanism = mechanisms[name]
        parents = {parent: values[parent] for parent in mechanism.parents}
        noise[name] = mechanism.sample_noise(n, parents, stream(base, name, device))
        value = mechanism.predict(noise[name], parents)
        values[name] = value.expand(n, *value.shape[1:])
    return noise


def _predict(
    mechanisms: Mapping[str, Mechanism], names: list[str], noise: Mapping[str, Noise]
) -> dict[str, Tensor]:
    """Values `(n, ...)` of variables that have all their causes among the names."""
    n = next(len(t) for part in noise.values() for t in _tensors(part))
    values: dict[str, Tensor] = {}
    for name in names:
        parents = {parent: values[parent] for parent in mechanisms[name].parents}
        value = mechanisms[name].predict(noise.get(name, {}), parents)
        values[name] = value.expand(n, *value.shape[1:])
    return values


def _tensors(noise: Noise) -> list[Tensor]:
    return [noise] if isinstance(noise, Tensor) else list(noise.values())


def _rareness(drawn: Tensor, kind: Variable) -> Callable[[Tensor], Tensor]:
    """How unusual values are, by default."""
    if not isinstance(kind, Discrete):
        middle = drawn.median()
        return lambda value: (value - middle).abs()
    counts = torch.bincount(drawn.long(), minlength=kind.classes).double()
    rare = -(counts.clamp_min(0.5) / len(drawn)).log()  # half a draw: rarer than any that was seen
    return lambda value: rare[value.long()]


def _log_shares(extreme: Tensor) -> Tensor:
    """Log-share of draws as extreme `(draws, n)`, then without each block; `(1 + BLOCKS, n)`."""
    blocks = extreme.tensor_split(BLOCKS)
    counts = torch.stack([block.sum(0) for block in blocks]).double()
    sizes = torch.tensor([[len(block)] for block in blocks]).to(counts)
    rest, others = counts.sum(0) - counts, sizes.sum(0) - sizes
    found = torch.cat([counts.sum(0)[None], rest])
    return ((1 + found) / (1 + torch.cat([sizes.sum(0)[None], others]))).log()


def _jackknife(values: Tensor, order_error: Tensor) -> Tensor:
    """Standard errors of the first values, from those without each block."""
    apart = values[1:] - values[1:].mean(0)
    return ((BLOCKS - 1) / BLOCKS * apart.square().sum(0) + order_error[0] ** 2).sqrt()
