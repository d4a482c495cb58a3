"""The formula of identification, estimated from rows, beside a model with hidden causes.

`rung3.scm.districts.confounding` lets a hidden cause act on numbers by Gaussian noise with constant
loadings: the size of its influence depends on nothing. Data may say otherwise (`y := m + 2 h m +
u`), and then an effect that is identified, and so could be estimated without such a form, comes out
wrong. What is needed of the back-door and the front-door formula are regressions alone,

    E[y | do(x)] = sum_z E[y | x, z] P(z),
    E[y | do(x)] = sum_m P(m | x) sum_x' E[y | x', m] P(x'),

here polynomials of the third degree (of many columns the second); their error is a bootstrap's. The
two are compared in the difference between x at its median and at other quantiles.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from rung3.data.rows import Rows
from rung3.data.variables import Categorical, Continuous, Variable
from rung3.graph.identification.query import CausalQuery
from rung3.scm.identifiability import identify

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Beside", "beside", "warn_of_formulas"]

Array: TypeAlias = npt.NDArray[np.float64]

QUANTILES = (0.5, 0.1, 0.3, 0.7, 0.9)
"""Quantiles of the cause between which effects are compared: the first with the others."""

ROWS = 5_000
"""Rows of a regression, at most."""

LEAST = 100
"""Rows that a comparison needs."""

RESAMPLES = 50
"""Bootstrap resamples."""

DRAWS = 10_000
"""Draws of the model."""

ERRORS = 4.0
"""Standard errors by which answers that disagree are apart, at least; and"""

DEVIATION = 0.03
"""share of the outcome's standard deviation; and"""

EFFECT = 0.15
"""share of the effect: what a regression's form may miss."""


@dataclass(frozen=True)
class Beside:
    """An effect by a model, and by the formula that identifies it.

    Attributes:
        cause: What is set, from its median to another quantile: where the two are farthest apart.
        outcome: Whose mean moves.
        method: Of identification: `back-door` or `front-door`.
        levels: The two values.
        by_model: How far it moves by the model; and
        by_formula: by the formula, from rows; with its
        error: standard error.
        deviation: Of the outcome.
    """

    cause: str
    outcome: str
    method: str
    levels: tuple[float, float]
    by_model: float
    by_formula: float
    error: float
    deviation: float

    @property
    def agree(self) -> bool:
        """Whether the two are as near as chance, and the regressions' form, allow."""
        apart = abs(self.by_model - self.by_formula)
        least = max(DEVIATION * self.deviation, EFFECT * abs(self.by_formula))
        return apart <= max(ERRORS * self.error, least)

    def __str__(self) -> str:
        low, high = self.levels
        return (
            f"{self.outcome} moves by {self.by_model:.3g} from do({self.cause}={low:.3g}) to "
            f"do({self.cause}={high:.3g}) by the model, and by {self.by_formula:.3g} +- "
            f"{self.error:.2g} by the {self.method} formula that identifies it"
        )


@torch.no_grad()
def beside(model: SCM, rows: Mapping[str, torch.Tensor]) -> Iterator[Beside]:
    """Estimate identified effects on numbers that Gaussian hidden causes join, each in two ways.

    Args:
        model: The model, fitted.
        rows: Rows `(n, ...)`; those that lack a value of the formula are left out.

    Yields:
        One comparison for each cause, a number, of each such number.
    """
    graph = model.graph
    joined = [d for d in model.confounding.districts(model.mechanisms) if d.gaussian]
    members = graph.in_order({name for district in joined for name in district.names})
    for outcome in members:
        for cause in graph.in_order(graph.ancestors(outcome)):
            kind = model.variables[cause]
            identified = identify(graph, CausalQuery((outcome,), (cause,)))
            if not isinstance(kind, Continuous) or kind.shape or kind.circular:
                continue
            columns = _columns(rows, (cause, outcome, *identified.through), model.variables)
            if identified.method not in ("back-door", "front-door") or columns is None:
                continue
            levels = np.quantile(columns[cause][:, 0], QUANTILES)
            deviation = float(columns[outcome].std())
            if np.unique(levels).size < len(levels) or deviation == 0:
                continue
            estimate = _back_door if identified.method == "back-door" else _front_door
            through = identified.through
            curve, error = _bootstrapped(estimate, columns, cause, outcome, through, levels)
            means = []
            for level in levels.tolist():
                acted = model.do({cause: level})
                acted.unidentified = "allow"  # the outcome is identified, if not all others are
                means.append(acted.sample(DRAWS, seed=0)[outcome].double().mean().item())
            by_model = np.array(means[1:]) - means[0]
            worst = int(np.argmax(np.abs(by_model - curve) - ERRORS * error))
            at = (float(levels[0]), float(levels[1 + worst]))
            a, b, c = (float(part[worst]) for part in (by_model, curve, error))
            yield Beside(cause, outcome, identified.method, at, a, b, c, deviation)


def warn_of_formulas(model: SCM, rows: Rows) -> None:
    """Warn where a model and a formula disagree."""
    apart = [str(one) for one in beside(model, rows) if not one.agree]
    if apart:
        joined = next(
            k for k, v in model.confounding.variables.items() if isinstance(v, Continuous)
        )
        warnings.warn(
            f"{'; '.join(apart)}. The model lets hidden causes act on numbers by Gaussian noise of "
            "constant loadings, which these rows contradict, or it has learned too little: believe "
            f"the formula; or train longer, or give latent classes: variables={{{joined!r}: "
            "Categorical(8)}",
            stacklevel=3,
        )


def _columns(
    rows: Mapping[str, torch.Tensor], names: Iterable[str], kinds: Mapping[str, Variable]
) -> dict[str, Array] | None:
    """Return columns of each variable, `(n, width)`, in complete rows; `None` if they make none."""
    columns: dict[str, Array] = {}
    for name in names:
        kind = kinds[name]
        if name not in rows or len(kind.shape) > 1:
            return None
        value = rows[name].double()
        columns[name] = value.reshape(len(value), -1).cpu().numpy()
    whole = ~np.isnan(np.concatenate(list(columns.values()), 1)).any(1)
    if whole.sum() < LEAST:
        return None
    at = np.flatnonzero(whole)
    at = np.random.default_rng(0).permutation(at)[:ROWS]
    for name, column in columns.items():
        kind, column = kinds[name], column[at]
        if isinstance(kind, Categorical):
            column = np.eye(kind.classes)[column[:, 0].astype(int)][:, 1:]
        columns[name] = column
    return columns


def _bootstrapped(
    estimate: Callable[[Array, Array, Array, Array], Array],
    columns: Mapping[str, Array],
    cause: str,
    outcome: str,
    through: tuple[str, ...],
    levels: Array,
) -> tuple[Array, Array]:
    """Return differences of the mean outcome from that at the first level, and their errors."""
    chance, n = np.random.default_rng(0), len(columns[cause])
    differences = []
    for draw in range(1 + RESAMPLES):
        at = chance.integers(n, size=n) if draw else np.arange(n)
        x, y = columns[cause][at], columns[outcome][at][:, 0]
        z = np.concatenate([np.empty((n, 0)), *(columns[name][at] for name in through)], 1)
        units = np.concatenate([x, z], 1)
        middle, spread = units.mean(0), units.std(0)
        table = (units - middle) / np.where(spread > 0, spread, 1)
        curve = estimate(table[:, :1], y, table[:, 1:], (levels - middle[0]) / spread[0])
        differences.append(curve[1:] - curve[0])
    return differences[0], np.std(differences[1:], axis=0, ddof=1)


def _back_door(x: Array, y: Array, z: Array, levels: Array) -> Array:
    terms = _terms(1 + z.shape[1])
    fitted = _regress(_powers(x, z, terms), y)
    return np.array([_powers(np.full_like(x, at), z, terms).mean(0) @ fitted for at in levels])


def _front_door(x: Array, y: Array, m: Array, levels: Array) -> Array:
    """Fit `g(m) = sum_x' E[y | x', m] P(x')` first, of which `E[g(m) | x]` is the answer."""
    terms, alone = _terms(1 + m.shape[1]), _terms(1)
    fitted = _regress(_powers(x, m, terms), y)
    of_x = [tuple(k for k in term if k == 0) for term in terms]  # a term is a product of both
    of_m = [tuple(k for k in term if k != 0) for term in terms]
    g = _powers(x, m, of_m) @ (_powers(x, m, of_x).mean(0) * fitted)
    of_levels = _regress(_powers(x, m, alone), g)
    return _powers(levels[:, None], m[: len(levels)], alone) @ of_levels


def _terms(width: int) -> list[tuple[int, ...]]:
    """Return the columns that each term of a polynomial multiplies."""
    degrees = range(4 if width <= 4 else 3)
    return [t for degree in degrees for t in combinations_with_replacement(range(width), degree)]


def _powers(x: Array, z: Array, terms: Sequence[tuple[int, ...]]) -> Array:
    table = np.concatenate([x, z], 1)
    return np.stack([table[:, list(term)].prod(1) for term in terms], 1)


def _regress(design: Array, y: Array) -> Array:
    return np.asarray(np.linalg.lstsq(design, y, rcond=1e-8)[0])
