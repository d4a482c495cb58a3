"""Sets of causes that keep a row's own noise: how probable is it then to be as unusual?

    v(S) = log P(t(X) >= t(x) | U_S = u_S)

for `rung3.effects.attribution.anomaly`, with S a set of players: the causes whose noise is
kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations

import torch
from torch import Generator, Tensor

from rung3.data.rows import Noise, Rows, map_noise
from rung3.data.seeding import stream
from rung3.data.variables import Discrete, Image, Variable
from rung3.effects.attribution.forward import predict, prior
from rung3.effects.attribution.shapley import MAX_EXACT, shapley
from rung3.effects.attribution.tails import log_tails, moved
from rung3.effects.noise import choose_noise
from rung3.scm.scm import SCM

__all__ = ["BLOCKS", "CHUNK_NUMBERS", "Coalitions"]

BLOCKS = 10
"""Blocks of draws, each left out once, for the standard error of a share (jackknife)."""

MIN_EXTREME = 10
"""Extreme draws that a probability needs, so that its relative error is at most a third."""

LEVEL_DRAWS = 500
"""Draws at each level, where fewer than `MIN_EXTREME` are extreme."""

CENTRE_DRAWS = 200_000
"""Draws of the outcome for its median: far out, an error of the median weighs like the row's."""

CHUNK_NUMBERS = 2**20
"""Numbers of a variable held at once: 8 MB in double."""


class Coalitions:
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
        self.prior = prior(self.mechanisms, ancestors, draws, base, model.device)
        kind = model.variables[outcome]
        self.rate = score or _rareness(self._drawn(), kind)
        self.continuous = not isinstance(kind, Discrete)
        rows = Rows({name: batch[name] for name in model.variables})
        abducted = model.abduct(rows, particles=draws, seed=base)
        self.abducted = {k: abducted[k] for k in self.players}
        self.flat = {
            True: {k: map_noise(lambda t: t.flatten(0, 1), self.abducted[k]) for k in self.players},
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
        """Draw the outcome, for its median or the shares of its categories."""
        mechanisms, names = self.mechanisms, self.ancestors
        if any(isinstance(mechanisms[name].variable, Image) for name in names):
            return predict(mechanisms, names, self.prior)[self.outcome]
        count = max(self.draws, CENTRE_DRAWS)
        noise = prior(mechanisms, names, count, self.base, self.model.device)
        return predict(mechanisms, names, noise)[self.outcome]

    def _spread(self, draws: Tensor) -> Tensor:
        """Repeat draws of the prior for every row."""
        return draws.unsqueeze(1).expand(-1, self.n, *draws.shape[1:]).flatten(0, 1)

    def _predicted(
        self, team: frozenset[str], known: Mapping[str, Tensor], stale: set[str]
    ) -> dict[str, Tensor]:
        """Predict the stale variables, with the noise of a team its own."""
        values = dict(known)
        for name in (name for name in self.ancestors if name in stale):
            mechanism = self.mechanisms[name]
            noise = self.flat[name in team][name] if mechanism.wants_noise else {}
            parents = {parent: values[parent] for parent in mechanism.parents}
            value = mechanism.predict(noise, parents)
            values[name] = value.expand(self.draws * self.n, *value.shape[1:])
        return values

    def extreme(self, team: frozenset[str]) -> Tensor:
        """Return which draws are as extreme as the row, `(draws, n)`, if a team keeps its noise."""
        if len(team) == len(self.players):
            return torch.ones(self.draws, self.n, dtype=torch.bool, device=self.reached.device)
        changed = team ^ self.team
        stale = set[str]().union(*(self.below[name] for name in changed))
        self.values, self.team = self._predicted(team, self.values, stale), team
        scores = self.rate(self.values[self.outcome]).double().reshape(self.draws, self.n)
        return scores >= self.reached

    def value(self, team: frozenset[str]) -> Tensor:
        """Return `log P(as extreme | noise of the team)`, then without each block of draws."""
        if team not in self.tails:
            extreme = self.extreme(team)
            self.bounded |= extreme.sum(0) < MIN_EXTREME
            self.tails[team] = _log_shares(extreme)
        return self.tails[team]

    def shapley(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the Shapley values of the rows, and their standard errors, `(n,)` each."""
        if self.continuous and len(self.players) <= MAX_EXACT:
            self._reach_tails()
        shares, errors = shapley(self.players[::-1], self.value, self.base)
        return (
            {k: shares[k][0] for k in self.players},
            {k: _jackknife(shares[k], errors[k]) for k in self.players},
        )

    def _reach_tails(self) -> None:
        """Find by levels what few draws reach, for all sets of players together."""
        rare = {}
        for size in range(len(self.players) + 1):
            for team in map(frozenset, combinations(self.players[::-1], size)):
                extreme = self.extreme(team)
                rare[team] = extreme.sum(0) < MIN_EXTREME
                self.tails[team] = _log_shares(extreme)
        cases = [
            (team, row) for team, mask in rare.items() for row in mask.nonzero()[:, 0].tolist()
        ]
        generator = stream(self.base, "tails", self.reached.device)
        width = max(self.values[name][0].numel() for name in self.ancestors)
        chunk = max(1, CHUNK_NUMBERS // (LEVEL_DRAWS * width))
        for start in range(0, len(cases), chunk):
            some = cases[start : start + chunk]
            log_p, error, bound = self._log_tails(some, generator)
            # The jackknife of these values without each block gives back the error by levels.
            apart = torch.randn(
                BLOCKS, len(some), generator=generator, device=log_p.device, dtype=torch.float64
            ) * (error * BLOCKS**0.5 / (BLOCKS - 1))
            values = torch.cat([log_p[None], log_p + apart])
            for at, (team, row) in enumerate(some):
                self.tails[team][:, row] = values[:, at]
                self.bounded[row] |= bound[at]

    def _log_tails(
        self, cases: list[tuple[frozenset[str], int]], generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return `log P` of each case, its standard error, and whether it is a bound only."""
        device = self.reached.device
        rows = torch.tensor([row for _, row in cases], device=device)[:, None]
        members = {k: torch.tensor([k in t for t, _ in cases], device=device) for k in self.players}
        shape = (len(cases), LEVEL_DRAWS)

        def choice() -> Tensor:
            return torch.randint(self.draws, shape, generator=generator, device=device)

        def abducted(k: str, at: Tensor) -> Noise:
            return map_noise(lambda t: t[at, rows], self.abducted[k])

        def rate(state: Mapping[str, Noise]) -> Tensor:
            noise = {k: map_noise(lambda t: t.flatten(0, 1), part) for k, part in state.items()}
            score = self.rate(predict(self.mechanisms, self.ancestors, noise)[self.outcome])
            return score.double().reshape(shape).nan_to_num(-math.inf, math.inf, -math.inf)

        def step(state: dict[str, Noise], size: Tensor) -> dict[str, Noise]:
            renewed = torch.rand(shape, generator=generator, device=device) < size
            at = choice()
            return {
                k: choose_noise(
                    members[k],
                    choose_noise(renewed, abducted(k, at), part),
                    moved(self.mechanisms[k], part, self.prior[k], size, generator),
                )
                for k, part in state.items()
            }

        at = choice()
        state = {
            k: choose_noise(members[k], abducted(k, at), map_noise(lambda t: t[at], self.prior[k]))
            for k in self.players
        }
        return log_tails(state, rate, step, self.reached[rows[:, 0]], generator)


def _rareness(drawn: Tensor, kind: Variable) -> Callable[[Tensor], Tensor]:
    """Return the default measure of how unusual a value is."""
    if not isinstance(kind, Discrete):
        middle = drawn.median()
        return lambda value: (value - middle).abs()
    counts = torch.bincount(drawn.long(), minlength=kind.classes).double()
    rare = -(counts.clamp_min(0.5) / len(drawn)).log()  # half a draw: rarer than any that was seen
    return lambda value: rare[value.long()]


def _log_shares(extreme: Tensor) -> Tensor:
    """Return the log-share of extreme draws, then without each block, `(1 + BLOCKS, n)`."""
    blocks = extreme.tensor_split(BLOCKS)
    counts = torch.stack([block.sum(0) for block in blocks]).double()
    sizes = torch.tensor([[len(block)] for block in blocks]).to(counts)
    rest, others = counts.sum(0) - counts, sizes.sum(0) - sizes
    counted = torch.cat([counts.sum(0)[None], rest])
    return ((1 + counted) / (1 + torch.cat([sizes.sum(0)[None], others]))).log()


def _jackknife(values: Tensor, order_error: Tensor) -> Tensor:
    """Return standard errors of the first values, from those without each block."""
    apart = values[1:] - values[1:].mean(0)
    return ((BLOCKS - 1) / BLOCKS * apart.square().sum(0) + order_error[0] ** 2).sqrt()
