"""Draws from `p(x | e)` where the evidence is rare: tempered, and moved by Metropolis-Hastings.

Draws of the prior reach the posterior by small steps of a temperature, 0 = b_0 < ... < b_T = 1, of

    p_b(x) ~ prod_k p(x_k | pa_k) * prod_{k in e} p(e_k | pa_k)^b.

Each step is as long as leaves a quarter of the draws effective; they are weighted and resampled,
and then moved under `p_b`, all numbers together by a random walk of the draws' own covariance, each
category to another one, until they have forgotten where they were (Del Moral, Doucet and Jasra
2006, *Sequential Monte Carlo samplers*, JRSS B 68:411).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from rung3.data.variables import Continuous, Discrete
from rung3.mechanisms.base import Mechanism
from rung3.scm.interventions import Intervention

__all__ = ["Tempered", "can_be_tempered"]

MOST_STEPS = 200
"""Most temperatures."""

MOST_MOVES = 10
"""Most moves at each temperature but the last."""

MOST_LAST_MOVES = 40
"""Most moves at the last temperature."""

EFFECTIVE = 0.25
"""Share of the draws that stay effective in a step."""

FORGOTTEN = 0.1
"""Correlation with where draws were, below which they count as new."""

ACCEPTED = 0.3
"""Share of a random walk's moves that should be accepted."""


def can_be_tempered(mechanisms: Mapping[str, Mechanism]) -> bool:
    """Say whether unknown variables have densities, and are numbers or categories."""
    return all(
        not mechanism.wants_noise
        or (
            isinstance(mechanism.variable, Continuous | Discrete)
            and mechanism.abduction != "approximate"
            and not isinstance(mechanism, Intervention)
        )
        for mechanism in mechanisms.values()
    )


class Tempered:
    """Draws under a temperature.

    Args:
        unknown: Mechanisms of what is drawn, causes before effects.
        evidence: Mechanisms of the evidence, which have them as parents.
        values: Draws of the prior, and the evidence repeated, `(m, ...)`.
        generator: Source of the moves.

    Attributes:
        values: The draws; those that follow from others are recomputed.
        prior: `sum log p(x_k | pa_k)` of what is unknown, `(m,)`, in double; and
        likelihood: `sum log p(e_k | pa_k)` of the evidence.
        lineage: Which draw of the prior each one comes from, `(m,)`.
    """

    def __init__(
        self,
        unknown: Mapping[str, Mechanism],
        evidence: Mapping[str, Mechanism],
        values: Mapping[str, Tensor],
        generator: Generator,
    ) -> None:
        self.unknown, self.evidence, self.values = unknown, evidence, dict(values)
        self.generator = generator
        free = {k: mechanism.variable for k, mechanism in unknown.items() if mechanism.wants_noise}
        self.numbers = [k for k, kind in free.items() if isinstance(kind, Continuous)]
        self.categories = {k: v.classes for k, v in free.items() if isinstance(v, Discrete)}
        self.walk = 1.0
        self.lineage = torch.arange(len(next(iter(values.values()))), device=generator.device)
        self.prior, self.likelihood = self._log_probs(self.values)

    @torch.no_grad()
    def run(self) -> float:
        """Move the draws from the prior to the posterior.

        Returns:
            The effective sample size: draws that the last moves made new; or, if that is more
            (modes far apart, between which nothing moves), draws of the prior that have offspring.
        """
        b = 0.0
        for _ in range(MOST_STEPS):
            step = self._step(1 - b)
            b = 1.0 if step >= 1 - b else b + step
            weights = _weights(self.likelihood, step)
            self._take(torch.multinomial(weights, len(weights), True, generator=self.generator))
            left = self._move(b, MOST_MOVES if b < 1 else MOST_LAST_MOVES)
            if b == 1:
                return max(len(weights) * (1 - left), _effective(self.lineage.bincount().double()))
        return 1.0

    def _step(self, most: float) -> float:
        """Find the longest step of the temperature that leaves enough of the draws effective."""
        least = EFFECTIVE * len(self.likelihood)
        if _effective(_weights(self.likelihood, most)) >= least:
            return most
        low, high = -80.0, math.log(most)
        for _ in range(60):
            middle = (low + high) / 2
            enough = _effective(_weights(self.likelihood, math.exp(middle))) >= least
            low, high = (middle, high) if enough else (low, middle)
        return math.exp(low)

    def _take(self, at: Tensor) -> None:
        self.values = {k: value[at] for k, value in self.values.items()}
        self.prior, self.likelihood = self.prior[at], self.likelihood[at]
        self.lineage = self.lineage[at]

    def _move(self, b: float, most: int) -> float:
        """Move until draws have forgotten where they were; give the correlation that is left."""
        start = self._flat()
        root = _root(start[:, : start.shape[1] - sum(self.categories.values())])
        left = 1.0
        for _ in range(most):
            if self.numbers:
                self._walk(root, b)
            for name, classes in self.categories.items():
                self._flip(name, classes, b)
            left = _correlation(start, self._flat())
            if left < FORGOTTEN:
                break
        return left

    def _walk(self, root: Tensor, b: float) -> None:
        m, d = len(self.likelihood), len(root)
        length = 2.38 / d**0.5 * self.walk
        steps = length * self._normal(m, d) @ root.T
        proposed, at = dict(self.values), 0
        inside = torch.ones(m, dtype=torch.bool, device=steps.device)
        for name in self.numbers:
            kind, value = self.unknown[name].variable, self.values[name]
            assert isinstance(kind, Continuous)
            width = value[0].numel()
            moved = value + steps[:, at : at + width].reshape(value.shape).to(value)
            moved, at = kind.wrap(moved), at + width
            within = ((moved >= kind.lower) & (moved <= kind.upper)).reshape(m, -1).all(1)
            inside &= within
            shape = (m, *[1] * (value.ndim - 1))
            proposed[name] = torch.where(within.reshape(shape), moved, value)
        share = self._accept(proposed, inside, b)
        self.walk = min(10.0, self.walk * math.exp(share - ACCEPTED))

    def _flip(self, name: str, classes: int, b: float) -> None:
        old = self.values[name]
        other = torch.randint(1, classes, old.shape, generator=self.generator, device=old.device)
        moved = ((old.long() + other) % classes).to(old)
        self._accept({**self.values, name: moved}, torch.ones_like(old, dtype=torch.bool), b)

    def _accept(self, proposed: dict[str, Tensor], inside: Tensor, b: float) -> float:
        """Accept by Metropolis's rule; give the share that was accepted."""
        prior, likelihood = self._log_probs(proposed)
        u = torch.rand(len(prior), generator=self.generator, device=prior.device)
        gain = prior - self.prior + b * (likelihood - self.likelihood)
        accepted = inside & (u.log() < gain)  # where it is NaN or -inf, it stays
        for name, value in self.values.items():
            mask = accepted.reshape(-1, *[1] * (value.ndim - 1))
            self.values[name] = torch.where(mask, proposed[name], value)
        self.prior = torch.where(accepted, prior, self.prior)
        self.likelihood = torch.where(accepted, likelihood, self.likelihood)
        return float(accepted.double().mean())

    def _log_probs(self, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the prior and the likelihood, `(m,)`, and the values that follow from others."""
        m = len(next(iter(values.values())))
        sums = []
        for mechanisms in (self.unknown, self.evidence):
            total = torch.zeros(m, dtype=torch.float64, device=self.generator.device)
            for name, mechanism in mechanisms.items():
                parents = {parent: values[parent] for parent in mechanism.parents}
                if mechanisms is self.unknown and not mechanism.wants_noise:
                    values[name] = mechanism.predict({}, parents).expand_as(values[name])
                    continue
                total = total + mechanism.log_prob(values[name], parents).double()
            sums.append(total.nan_to_num(-math.inf, posinf=math.inf, neginf=-math.inf))
        return sums[0], sums[1]

    def _flat(self) -> Tensor:
        """Lay out all that moves as columns, `(m, d)`, numbers first; categories by indicators."""
        m = len(self.likelihood)
        columns = [self.values[name].double().reshape(m, -1) for name in self.numbers]
        columns += [
            torch.nn.functional.one_hot(self.values[name].long(), classes).double()
            for name, classes in self.categories.items()
        ]
        return torch.cat(columns, 1)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(
            shape, generator=self.generator, dtype=torch.float64, device=self.generator.device
        )


def _weights(likelihood: Tensor, power: float) -> Tensor:
    best = likelihood.max()
    if best.isneginf():  # no draw is possible yet: none is better than another
        return torch.ones_like(likelihood)
    return (power * (likelihood - best)).exp()


def _effective(weights: Tensor) -> float:
    return float(weights.sum() ** 2 / weights.square().sum())


def _root(draws: Tensor) -> Tensor:
    """Take a root of the covariance of draws `(m, d)`."""
    apart = draws - draws.mean(0)
    scale, vectors = torch.linalg.eigh(apart.T @ apart / len(draws))
    root: Tensor = vectors * scale.clamp_min(0).sqrt()
    return root


def _correlation(start: Tensor, now: Tensor) -> float:
    """Find the greatest of the columns' correlations, `(m, d)` each."""
    a, b = start - start.mean(0), now - now.mean(0)
    spread = (a.square().mean(0) * b.square().mean(0)).sqrt()
    correlations = (a * b).mean(0)[spread > 0] / spread[spread > 0]
    return min(1.0, max(0.0, float(correlations.max()))) if len(correlations) else 0.0
