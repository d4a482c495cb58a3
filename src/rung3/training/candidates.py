"""The mechanisms that `choose` tries for a variable, the simplest first."""

from __future__ import annotations

from collections.abc import Mapping

from rung3 import mechanisms
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Image, Variable
from rung3.mechanisms import AdditiveNoise, AtBounds, Mechanism, default_mechanism

__all__ = ["candidates", "suited"]

FAMILIES = sorted(
    (
        family
        for family in (getattr(mechanisms, name) for name in mechanisms.__all__)
        if isinstance(family, type) and issubclass(family, Mechanism)
    ),
    key=lambda family: family.flexibility,
)
"""All families of mechanisms, the least flexible first; most name no candidates."""

BOUND_ROWS = 5
"""Rows at a bound from where on it is a value of its own: fewer may be there by chance."""


def candidates(variable: Variable, parents: Mapping[str, Variable]) -> list[list[Mechanism]]:
    """Return what is tried for a variable: groups of mechanisms, the simplest first.

    Each family names its own (`Mechanism.candidates`). Numbers: additive noise about a line, a
    parabola, a cubic, a network; then noise whose spread depends on the parents; about a sum of
    trees; then noise whose shape depends on the parents. Whole numbers from 0: counts, Poisson or
    negative binomial. Times: lifetimes. Categories: logistic, counts where all parents are
    discrete, networks.

    Example:
        >>> from rung3 import Categorical, Continuous
        >>> candidates(Categorical(3), {"age": Continuous()})
        [[GumbelMax(hidden=()), GumbelMax()]]
    """
    if not parents or isinstance(variable, Image):
        return [[default_mechanism(variable)]]
    return [group for family in FAMILIES for group in family.candidates(variable, parents)]


def suited(mechanism: Mechanism, rows: Rows) -> list[list[Mechanism]]:
    """Return what is tried for a variable, given how often it lies at a bound."""
    v, kinds = mechanism.variable, candidates(mechanism.variable, mechanism.parents)
    if not isinstance(v, Continuous) or v.shape or v.circular or v.whole or v.censored:
        return kinds
    at_bound = (rows[mechanism.name] <= v.lower) | (rows[mechanism.name] >= v.upper)
    if int(at_bound.sum()) < BOUND_ROWS:
        return kinds

    def at_bounds(one: Mechanism) -> AtBounds:
        line = isinstance(one, AdditiveNoise) and one.degree == 1
        return AtBounds(one, hidden=()) if line else AtBounds(one)

    return [[at_bounds(one) for one in kind] for kind in kinds]
