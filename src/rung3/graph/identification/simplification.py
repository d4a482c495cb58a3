r"""Shorter formulas of the same value.

    P(a | b, c) P(b | c) = P(a, b | c),    P(a, b | c) / P(b | c) = P(a | b, c)

The shorter text is kept: a product that is neither summed nor divided stays in its factors.
"""

from __future__ import annotations

from collections.abc import Sequence

from rung3.graph.identification.estimand import (
    Formula,
    Probability,
    Product,
    Ratio,
    Sum,
    product,
    ratio,
    sum_out,
    variables,
)

__all__ = ["simplified"]


def simplified(formula: Formula) -> Formula:
    """Return a formula of the same value that is not longer.

    >>> z, x, y = Probability(("z",)), Probability(("x",), ("z",)), Probability(("y",), ("z", "d"))
    >>> print(simplified(Ratio(Sum(("z",), Product((z, x, y))), Sum(("z",), Product((z, x))))))
    Σ_z P(z | x) P(y | z, d)
    """
    return min(formula, _merged(formula), key=lambda one: len(str(one)))


def _merged(formula: Formula) -> Formula:
    match formula:
        case Sum(over, inner):
            return sum_out(_merged(inner), over)
        case Product(factors):
            return product(_chained([_merged(factor) for factor in factors]))
        case Ratio(top, bottom):
            return _divided(_merged(top), _merged(bottom))
        case _:
            return formula


def _chained(factors: Sequence[Formula]) -> list[Formula]:
    """Merge `P(a | b, c) P(b | c)`, as long as there is such a pair."""
    for first in factors:
        for then in factors:
            if (
                isinstance(first, Probability)
                and isinstance(then, Probability)
                and (first.do, first.population) == (then.do, then.population)
                and {*then.given} == {*first.of, *first.given}
            ):
                both = Probability((*first.of, *then.of), first.given, first.do, first.population)
                rest = [one for one in factors if one is not first and one is not then]
                return _chained([both, *rest])
    return list(factors)


def _divided(top: Formula, bottom: Formula) -> Formula:
    """Divide, where a probability of the top takes the bottom in."""
    whole = ratio(top, bottom)
    if isinstance(whole, Ratio) and isinstance(whole.bottom, Probability):
        return _given(whole.top, whole.bottom) or whole
    return whole


def _given(formula: Formula, known: Probability) -> Formula | None:
    """Return a formula over `P(b | c)`, if one of its probabilities is `P(a, b | c)`."""
    match formula:
        case Probability(of, given, do, population):
            left = tuple(name for name in of if name not in known.of)
            fits = {*known.of} <= {*of} and {*given} == {*known.given} and left
            if fits and (do, population) == (known.do, known.population):
                return Probability(left, (*given, *known.of), do, population)
        case Product(factors):
            for at, factor in enumerate(factors):
                if (inner := _given(factor, known)) is not None:
                    return product([*factors[:at], inner, *factors[at + 1 :]])
        case Sum(over, summed) if variables(known).isdisjoint(over):
            if (inner := _given(summed, known)) is not None:
                return Sum(over, inner)
    return None
