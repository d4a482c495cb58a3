r"""Formulas over the observational distribution: what identification gives.

    formula := P(a | b) | sum_a formula | formula formula ... | formula / formula

They are written with summed variables renamed where the same variable is also free, as in the
front-door formula `sum_m P(m | x) sum_x' P(y | m, x') P(x')`, and evaluated on a table of
probabilities. Of a variable that is both seen and set, `x'` is the value that was seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rung3.graph.text import quote

__all__ = ["Formula", "Probability", "Product", "Ratio", "Sum", "evaluate"]


@dataclass(frozen=True)
class Probability:
    """`P(of | given)`."""

    of: tuple[str, ...]
    given: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _spell(self)


@dataclass(frozen=True)
class Sum:
    """A formula summed over variables."""

    over: tuple[str, ...]
    of: Formula

    def __str__(self) -> str:
        return _spell(self)


@dataclass(frozen=True)
class Product:
    """A product of formulas; of none, it is one."""

    factors: tuple[Formula, ...]

    def __str__(self) -> str:
        return _spell(self)


@dataclass(frozen=True)
class Ratio:
    """A formula over another."""

    top: Formula
    bottom: Formula

    def __str__(self) -> str:
        return _spell(self)


Formula: TypeAlias = Probability | Sum | Product | Ratio


def variables(formula: Formula) -> frozenset[str]:
    """Return the variables that a formula depends on: those not summed over."""
    match formula:
        case Probability(of, given):
            return frozenset((*of, *given))
        case Sum(over, inner):
            return variables(inner).difference(over)
        case Product(factors):
            return frozenset[str]().union(*map(variables, factors))
        case Ratio(top, bottom):
            return variables(top) | variables(bottom)


def rename(formula: Formula, names: Mapping[str, str]) -> Formula:
    """Rename some of the variables that a formula depends on."""

    def named(of: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in of)

    match formula:
        case Probability(of, given):
            return Probability(named(of), named(given))
        case Sum(over, inner):
            free = {name: to for name, to in names.items() if name not in over}
            return Sum(over, rename(inner, free))
        case Product(factors):
            return Product(tuple(rename(factor, names) for factor in factors))
        case Ratio(top, bottom):
            return Ratio(rename(top, names), rename(bottom, names))


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
                case Probability(of, given) if name in of:
                    others = tuple(other for other in of if other != name)
                    simpler: list[Formula] = [Probability(others, given)] if others else []
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


def evaluate(
    formula: Formula, joint: npt.ArrayLike, names: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Evaluate a formula on a table of probabilities.

    Args:
        formula: The formula.
        joint: `P(names)`, with one axis a variable, in the order of the names.
        names: The variables.

    Returns:
        An array with the same axes, and one more for each variable that the formula has primed, in
        the order of the names. The axes of variables that it does not depend on have length 1. NaN
        where the table has no row to tell the answer by (positivity).

    Raises:
        ValueError: If the formula has a variable that is none of the names.

    >>> joint = np.array([[0.3, 0.1], [0.2, 0.4]])
    >>> evaluate(Probability(("y",), ("x",)), joint, ["x", "y"])[0].round(2)
    array([0.75, 0.25])
    """
    table = np.asarray(joint, dtype=np.float64)
    source = {name: at for at, name in enumerate(names)}
    source |= {f"{name}'": at for name, at in source.items()}
    axis = {name: at for at, name in enumerate(source)}
    free = variables(formula)
    if unknown := [name for name in free if name not in axis]:
        raise ValueError(f"the table lacks {unknown[0]!r}; its variables are {list(names)}.")

    def margin(of: Collection[str]) -> npt.NDArray[np.float64]:
        axes = [source[name] for name in of]
        part = table.sum(tuple(at for at in range(table.ndim) if at not in axes))
        part = part.transpose(np.argsort(np.argsort(axes)).tolist())  # in the order of `of`
        part = part.transpose(np.argsort([axis[name] for name in of]).tolist())
        shape = np.ones(len(axis), dtype=int)
        shape[sorted(axis[name] for name in of)] = part.shape
        return np.asarray(part.reshape(shape))

    def value(one: Formula) -> npt.NDArray[np.float64]:
        match one:
            case Probability(of, given):
                return _divide(margin((*of, *given)), margin(given))
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

    wanted = [*names, *(f"{name}'" for name in names if f"{name}'" in free)]
    return value(formula).squeeze(tuple(axis[name] for name in axis if name not in wanted))


def _divide(
    top: npt.NDArray[np.float64], bottom: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    top, bottom = np.broadcast_arrays(top, bottom)
    unknown = np.full(top.shape, np.nan)
    return np.asarray(np.divide(top, bottom, out=unknown, where=bottom > 0))


def _spell(formula: Formula, shown: dict[str, str] | None = None) -> str:
    """Write a formula as text; `shown` are the names as they are written in this place."""
    named = {name: _shown(name) for name in variables(formula)} if shown is None else shown
    match formula:
        case Probability(of, given):
            parts = [", ".join(named[name] for name in names) for names in (of, given) if names]
            return f"P({' | '.join(parts)})"
        case Sum(over, inner):
            bound = dict(named)
            for name in over:
                bound[name] = _shown(name)
                while bound[name] in named.values():
                    bound[name] += "'"
            bounds = [bound[name] for name in over]
            under = bounds[0] if len(bounds) == 1 else f"{{{', '.join(bounds)}}}"
            return f"\N{GREEK CAPITAL LETTER SIGMA}_{under} {_spell(inner, bound)}"
        case Product(factors):
            ordered = sorted(factors, key=lambda factor: isinstance(factor, Sum))
            return "1" if not factors else " ".join(
                f"[{_spell(factor, named)}]"
                if isinstance(factor, Sum) and factor is not ordered[-1]
                else _spell(factor, named)
                for factor in ordered
            )  # fmt: skip
        case Ratio(top, bottom):
            return f"[{_spell(top, named)}] / [{_spell(bottom, named)}]"


def _shown(name: str) -> str:
    """Write a name, its primes outside of quotes."""
    bare = name.rstrip("'")
    return quote(bare) + name[len(bare) :] if bare else quote(name)
