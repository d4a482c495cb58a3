"""`widen`: make draws of an image's abducted noise hold the truth as often as they should.

The posterior of an autoencoder's latents says how uncertain they are if the decoder is right. It
knows nothing of the decoder's own errors, so its draws lie too close together, and an interval
between them holds the true counterfactual too seldom. In a world whose truth is known that can be
counted. Here the posterior's deviations are multiplied by one factor, at most up to the prior's,
and the factor is sought at which central intervals of the draws hold the truth at their nominal
rate, averaged over the interventions. Coverage rises with the factor, so bisection finds it.

It concerns several draws alone: a single answer is from the posterior as it is. Choose the factor
on validation rows, and count on others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from rung3.data.rows import Rows, as_rows
from rung3.data.seeding import Seed, base_seed
from rung3.effects.interval_coverage import coverage
from rung3.evaluation.plan import plan
from rung3.mechanisms.autoencoder import Autoencoder
from rung3.scm.query import Query

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["widen"]

WIDEST = 64.0
"""Greatest factor: few posteriors are wider than the prior then."""

STEPS = 6
"""Bisections of the factor's logarithm: it is found to within 7 %."""


def widen(
    model: SCM,
    rows: Mapping[str, Any],
    truth: SCM,
    interventions: Mapping[str, Any] | Iterable[str] | None = None,
    *,
    level: float = 0.9,
    particles: int = 19,
    seed: Seed = 0,
) -> dict[str, float]:
    """Widen the posteriors of a model's autoencoders, in place, until their draws hold the truth.

    Args:
        model: The fitted model.
        rows: Validation rows, some hundreds.
        truth: The world, which knows the counterfactuals of these rows.
        interventions: As `evaluate` takes them; every cause by default.
        level: Nominal level of the intervals, between 0 and 1.
        particles: Draws of each row.
        seed: Of the targets and the draws.

    Returns:
        The factors, by image; each mechanism keeps its own as `widening`, and is saved with it.

    Warns:
        UserWarning: If even the greatest factor is too small.

    Raises:
        ValueError: If no mechanism is an autoencoder whose image an intervention changes, the level
            is not between 0 and 1, or the world does not know an answer.
    """
    given = rows if isinstance(rows, Rows) else as_rows(rows, model.variables, model.device)
    base = base_seed(seed, "widen")
    queries = plan(model, given, given.n, interventions, base)
    factors: dict[str, float] = {}
    for name, mechanism in model.mechanisms.items():
        related = [query for query in queries if name in query.affected(model)]
        if not isinstance(mechanism, Autoencoder) or not related:
            continue
        options = {"particles": particles, "levels": [level], "seed": base}
        covers = partial(_share, model, truth, given, related, mechanism, options)
        mechanism.widening = factors[name] = _least(covers, level)
        if factors[name] == WIDEST:
            warnings.warn(
                f"{name}: even {WIDEST:g} times as wide, its draws hold the truth less often than "
                f"{level:.0%}; the decoder is wrong in a way that no latents explain",
                stacklevel=2,
            )
    if not factors:
        raise ValueError(
            "widen: the interventions change no image of a VAE or HVAE, whose posterior could be "
            "widened"
        )
    return factors


def _share(
    model: SCM,
    truth: SCM,
    rows: Rows,
    queries: list[Query],
    mechanism: Autoencoder,
    options: dict[str, Any],
    factor: float,
) -> float:
    """Return how often draws hold the truth under a factor, averaged over the interventions."""
    mechanism.widening = factor
    coverages = [
        coverage(model, truth, rows, query.at(slice(None), model.device), mechanism.name, **options)
        for query in queries
    ]
    shares = [cast(Tensor, share.value) for each in coverages for share in each.shares.values()]
    return mean(map(float, shares)) if shares else 1.0  # none: nothing is uncertain


def _least(covers: Callable[[float], float], level: float) -> float:
    """Return the least factor at which so many are covered, to within a bisection; or the most."""
    if covers(1.0) >= level:
        return 1.0
    if covers(WIDEST) < level:
        return WIDEST
    low, high = 1.0, WIDEST
    for _ in range(STEPS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if covers(middle) >= level else (middle, high)
    return high
