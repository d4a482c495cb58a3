r"""Formulas over the distributions that data show: what identification gives.

    formula := P(a | do(c), b) | sum_a formula | formula formula ... | formula / formula | 0

`P(a | b)` is of the rows as they are, `P(a | do(c), b)` of an experiment, `P_s(a | b)` of another
population s.

They are written with summed variables renamed where the same variable is also free, as in the
front-door formula `sum_m P(m | x) sum_x' P(y | m, x') P(x')`, and evaluated on a table of
probabilities. Of a variable that is both seen and set, `x'` is the value that was seen; further
values of it have more primes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from rung3.graph.text import quote

__all__ = ["ZERO", "Formula", "Probability", "Product", "Ratio", "Regime", "Sum", "evaluate"]


class Regime(NamedTuple):
    """Where a table of probabilities is from: a population, and the variables that were set in it.

    Attributes:
        population: Its name; empty for the population that is asked about.
        do: The variables that an experiment set.
    """

    population: str = ""
    do: frozenset[str] = frozenset()


OBSERVED = Regime()
"""The rows as they are, of the population that is asked about."""


@dataclass(frozen=True)
class Probability:
    """`P(of | do(do), given)`, in a population."""

    of: tuple[str, ...]
    given: tuple[str, ...] = ()
    do: tuple[str, ...] = ()
    population: str = ""

    def __str__(self) -> str:
        return spell(self)


@dataclass(frozen=True)
class Sum:
    """A formula summed over variables."""

    over: tuple[str, ...]
    of: Formula

    def __str__(self) -> str:
        return spell(self)


@dataclass(frozen=True)
class Product:
    """A product of formulas; of none, it is one."""

    factors: tuple[Formula, ...]

    def __str__(self) -> str:
        return spell(self)


@dataclass(frozen=True)
class Zero:
    """The probability of what cannot be."""

    def __str__(self) -> str:
        return spell(self)


ZERO = Zero()


@dataclass(frozen=True)
class Ratio:
    """A formula over another."""

    top: Formula
    bottom: Formula

    def __str__(self) -> str:
        return spell(self)


Formula: TypeAlias = Probability | Sum | Product | Ratio | Zero


def variables(formula: Formula) -> frozenset[str]:
    """Return the variables that a formula depends on: those not summed over."""
    match formula:
        case Probability(of, given, do):
            return frozenset((*of, *given, *do))
        case Sum(over, inner):
            return variables(inner).difference(over)
        case Product(factors):
            return frozenset[str]().union(*map(variables, factors))
        case Ratio(top, bottom):
            return variables(top) | variables(bottom)
        case Zero():
            return frozenset()


def mentioned(formula: Formula) -> list[str]:
    """Return every variable that a formula mentions once, summed over or not."""
    match formula:
        case Probability(of, given, do):
            names = [*of, *given, *do]
        case Sum(over, inner):
            names = [*over, *mentioned(inner)]
        case Product(factors):
            names = [name for factor in factors for name in mentioned(factor)]
        case Ratio(top, bottom):
            names = [*mentioned(top), *mentioned(bottom)]
        case Zero():
            names = []
    return list(dict.fromkeys(names))


def rename(formula: Formula, names: Mapping[str, str]) -> Formula:
    """Rename some of the variables that a formula depends on."""

    def named(of: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in of)

    match formula:
        case Probability(of, given, do, population):
            return Probability(named(of), named(given), named(do), population)
        case Sum(over, inner):
            free = {name: to for name, to in names.items() if name not in over}
            return Sum(over, rename(inner, free))
        case Product(factors):
            return Product(tuple(rename(factor, names) for factor in factors))
        case Ratio(top, bottom):
            return Ratio(rename(top, names), rename(bottom, names))
        case Zero():
            return formula


def told_by(formula: Formula, do: tuple[str, ...], population: str) -> Formula:
    """Take the probabilities of a formula from an experiment, in some population."""
    match formula:
        case Probability(of, given):
            return Probability(of, tuple(name for name in given if name not in do), do, population)
        case Sum(over, inner):
            return Sum(over, told_by(inner, do, population))
        case Product(factors):
            return Product(tuple(told_by(factor, do, population) for factor in factors))
        case Ratio(top, bottom):
            return Ratio(told_by(top, do, population), told_by(bottom, do, population))
        case Zero():
            return formula


def product(factors: Iterable[Formula]) -> Formula:
    """Multiply formulas into one flat product; a single factor is itself."""
    flat = [inner for factor in factors for inner in _factors(factor)]
    return flat[0] if len(flat) == 1 else Product(tuple(flat))


def _factors(formula: Formula) -> list[Formula]:
    return list(formula.factors) if isinstance(formula, Product) else [formula]


def sum_out(formula: Formula, over: Iterable[str]) -> Formula:
    """Sum a formula over variables, and simplify it where that is easy.

    A variable that one probability alone is of drops out of it; factors that do not depend on what
    is summed over stay outside of the sum.

    >>> a, b = Probability(("a",)), Probability(("b",), ("a",))
    >>> print(sum_out(Product((a, b)), ["b"]), "|", sum_out(Product((a, b)), ["a"]))
    P(a) | Σ_a P(a) P(b | a)
    """
    rest = dict.fromkeys(name for name in over if name in variables(formula))
    factors = _factors(formula)
    changed = True
    while changed:
        changed = False
        for name in list(rest):
            within = [at for at, factor in enumerate(factors) if name in variables(factor)]
            if len(within) != 1:
                continue
            match factors[within[0]]:
                case Probability(of, given, do, population) if name in of:
                    others = tuple(other for other in of if other != name)
                    rest_of = Probability(others, given, do, population)
                    simpler: list[Formula] = [rest_of] if others else []
                case Sum(inner_over, inner):
                    simpler = _factors(sum_out(inner, (*inner_over, name)))
                case _:
                    continue
            factors[within[0] : within[0] + 1] = simpler
            del rest[name]
            changed = True
    inside = [factor for factor in factors if variables(factor) & rest.keys()]
    outside = [factor for factor in factors if not variables(factor) & rest.keys()]
    return product([*outside, Sum(tuple(rest), product(inside))] if rest else outside)


def ratio(top: Formula, bottom: Formula) -> Formula:
    """Divide one formula by another, without the factors that they have in common.

    >>> a, b = Probability(("a",)), Probability(("b",), ("a",))
    >>> print(ratio(Product((a, b)), a))
    P(b | a)
    """
    above, below = _factors(top), _factors(bottom)
    for factor in list(below):
        if factor in above:
            above.remove(factor)
            below.remove(factor)
    return Ratio(product(above), product(below)) if below else product(above)


def symbols_of(formula: Formula, names: Sequence[str]) -> tuple[str, ...]:
    """Return what the axes of `evaluate` stand for: the names, then primed symbols."""
    primed = [name for name in variables(formula) if name not in names]
    rank = {name: at for at, name in enumerate(names)}
    return (*names, *sorted(primed, key=lambda name: (rank[name.rstrip("'")], len(name))))


def evaluate(
    formula: Formula,
    joint: npt.ArrayLike | Mapping[Regime, npt.ArrayLike],
    names: Sequence[str],
) -> npt.NDArray[np.float64]:
    """Evaluate a formula on a table of probabilities.

    Args:
        formula: The formula.
        joint: `P(names)`, with one axis a variable, in the order of the names; or several such
            tables, by where they are from. That of an experiment has, for each value of what it
            set, the probabilities of the others.
        names: The variables.

    Returns:
        An array with the same axes, and one more for each symbol that the formula has primed, in
        the order of the names. The axes of variables that it does not depend on have length 1. NaN
        where the table has no row to tell the answer by (positivity).

    Raises:
        ValueError: If the formula has a variable that is none of the names, or needs a table that
            is not given.

    >>> joint = np.array([[0.3, 0.1], [0.2, 0.4]])
    >>> evaluate(Probability(("y",), ("x",)), joint, ["x", "y"])[0].round(2)
    array([0.75, 0.25])
    """
    given = joint if isinstance(joint, Mapping) else {OBSERVED: joint}
    tables = {regime: np.asarray(table, dtype=np.float64) for regime, table in given.items()}
    source = _sources(formula, names)
    axis = {name: at for at, name in enumerate(source)}

    def margin(regime: Regime, of: Collection[str]) -> npt.NDArray[np.float64]:
        table, axes = tables[regime], [source[name] for name in of]
        part = table.sum(tuple(at for at in range(table.ndim) if at not in axes))
        part = part.transpose(np.argsort(np.argsort(axes)).tolist())  # in the order of `of`
        part = part.transpose(np.argsort([axis[name] for name in of]).tolist())
        shape = np.ones(len(axis), dtype=int)
        shape[sorted(axis[name] for name in of)] = part.shape
        return np.asarray(part.reshape(shape))

    def value(one: Formula) -> npt.NDArray[np.float64]:
        match one:
            case Probability(of, given, do, population):
                regime = Regime(population, frozenset(name.rstrip("'") for name in do))
                if regime not in tables:
                    raise ValueError(f"{one}: there is no table of {_describe(regime)}.")
                return _divide(margin(regime, (*of, *given, *do)), margin(regime, (*given, *do)))
            case Sum(over, inner):
                return np.asarray(
                    value(inner).sum(tuple(axis[name] for name in over), keepdims=True)
                )
            case Product(factors):
                result = np.ones([1] * len(axis))
                for factor in map(value, factors):
                    zero = (result == 0) | (factor == 0)  # also where the other is not known
                    result = np.where(zero, 0.0, result * factor)
                return result
            case Ratio(top, bottom):
                return _divide(value(top), value(bottom))
            case Zero():
                return np.zeros([1] * len(axis))

    wanted = symbols_of(formula, names)
    return value(formula).squeeze(tuple(axis[name] for name in axis if name not in wanted))


def _sources(formula: Formula, names: Sequence[str]) -> dict[str, int]:
    """Return the axis of the table that each name and each primed symbol is read from."""
    source = {name: at for at, name in enumerate(names)}
    primed = sorted(name for name in _mentioned(formula) if name not in source)
    if unknown := [name for name in primed if name.rstrip("'") not in source]:
        raise ValueError(f"the table lacks {unknown[0]!r}; its variables are {list(names)}.")
    primed.sort(key=lambda name: (source[name.rstrip("'")], len(name)))
    return source | {name: source[name.rstrip("'")] for name in primed}


def _mentioned(formula: Formula) -> frozenset[str]:
    """Return all symbols of a formula, those summed over included."""
    match formula:
        case Sum(over, inner):
            return _mentioned(inner).union(over)
        case Product(factors):
            return frozenset[str]().union(*map(_mentioned, factors))
        case Ratio(top, bottom):
            return _mentioned(top) | _mentioned(bottom)
        case _:
            return variables(formula)


def _describe(regime: Regime) -> str:
    """Say where a table is from."""
    rows = f"the population {regime.population!r}" if regime.population else "this population"
    set_to = f" under do({', '.join(sorted(regime.do))})" if regime.do else " as it is"
    return rows + set_to


def _divide(
    top: npt.NDArray[np.float64], bottom: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    top, bottom = np.broadcast_arrays(top, bottom)
    unknown = np.full(top.shape, np.nan)
    return np.asarray(np.divide(top, bottom, out=unknown, where=bottom > 0))


def spell(formula: Formula, shown: dict[str, str] | None = None) -> str:
    """Write a formula as text; `shown` are the names as they are written in this place."""
    named = {name: _shown(name) for name in variables(formula)} | (shown or {})
    match formula:
        case Probability(of, given, do, population):
            known = [f"do({', '.join(named[name] for name in do)})"] if do else []
            known += [named[name] for name in given]
            parts = [", ".join(names) for names in ([named[name] for name in of], known) if names]
            return f"P{f'_{population}' if population else ''}({' | '.join(parts)})"
        case Sum(over, inner):
            bound = dict(named)
            for name in over:
                bound[name] = _shown(name)
                while bound[name] in named.values():
                    bound[name] += "'"
            bounds = [bound[name] for name in over]
            under = bounds[0] if len(bounds) == 1 else f"{{{', '.join(bounds)}}}"
            return f"\N{GREEK CAPITAL LETTER SIGMA}_{under} {spell(inner, bound)}"
        case Product(factors):
            ordered = sorted(factors, key=lambda factor: isinstance(factor, Sum))
            return "1" if not factors else " ".join(
                f"[{spell(factor, named)}]"
                if isinstance(factor, Sum) and factor is not ordered[-1]
                else spell(factor, named)
                for factor in ordered
            )  # fmt: skip
        case Ratio(top, bottom):
            return f"[{spell(top, named)}] / [{spell(bottom, named)}]"
        case Zero():
            return "0"


def _shown(name: str) -> str:
    """Write a name, its primes outside of quotes."""
    bare = name.rstrip("'")
    return quote(bare) + name[len(bare) :] if bare else quote(name)
