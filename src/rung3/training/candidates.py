"""The mechanisms that `choose` tries for a variable, the simplest first."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rung3.data.rows import Rows
from rung3.data.variables import Categorical, Continuous, Discrete, Image, Variable
from rung3.mechanisms import (
    AdditiveNoise,
    AtBounds,
    Flow,
    GumbelMax,
    InverseCDF,
    Mechanism,
    default_mechanism,
)
from rung3.mechanisms.networks.encoding import ParentEncoder

__all__ = ["candidates", "suited"]

TERMS = 100
"""Terms of a curve that is tried, at most."""

TREES = 200
"""Trees of a sum of trees."""

BOUND = 5
"""Rows at a bound of the support that make it a value of its own."""


def candidates(variable: Variable, parents: Mapping[str, Variable]) -> list[list[Mechanism]]:
    """Return what is tried for a variable: kinds, the simplest first, and some of each kind.

    Numbers: additive noise about a line, a parabola, a cubic, a network; then noise whose spread
    depends on the parents; about a sum of trees; then noise whose shape depends on the parents.
    Categories: logistic, then networks.

    Example:
        >>> from rung3 import Continuous
        >>> candidates(Categorical(3), {"age": Continuous()})
        [[GumbelMax(hidden=()), GumbelMax()]]
    """
    if not parents or isinstance(variable, Image):
        return [[default_mechanism(variable)]]
    if isinstance(variable, Categorical) and type(default_mechanism(variable)) is GumbelMax:
        return [[GumbelMax(hidden=()), GumbelMax()]]
    if isinstance(variable, Discrete):
        return [[InverseCDF(hidden=()), InverseCDF()]]
    circular = isinstance(variable, Continuous) and variable.circular
    if circular or any(isinstance(kind, Image) for kind in parents.values()):
        return [[Flow(splines=0), Flow()]]
    width = ParentEncoder(parents).width
    curves = [AdditiveNoise(degree=k) for k in (2, 3) if math.comb(width + k, k) <= TERMS]
    return [
        [AdditiveNoise(degree=1), *curves, AdditiveNoise()],
        [AdditiveNoise(spread=True)],
        [AdditiveNoise(trees=TREES)],
        [Flow()],
    ]


def suited(mechanism: Mechanism, rows: Rows) -> list[list[Mechanism]]:
    """Return what is tried for a variable, given how often it lies at a bound."""
    v, kinds = mechanism.variable, candidates(mechanism.variable, mechanism.parents)
    if not isinstance(v, Continuous) or v.shape or v.circular:
        return kinds
    at_bound = (rows[mechanism.name] <= v.lower) | (rows[mechanism.name] >= v.upper)
    if int(at_bound.sum()) < BOUND:
        return kinds

    def at_bounds(one: Mechanism) -> AtBounds:
        line = isinstance(one, AdditiveNoise) and one.degree == 1
        return AtBounds(one, hidden=()) if line else AtBounds(one)

    return [[at_bounds(one) for one in kind] for kind in kinds]
