r"""Which mechanisms changed between two environments?

With E telling which data set a row is from, the mechanism of X is the same in both exactly if

    X is independent of E given Pa(X),

whatever the parents' distributions do. For functions f_j of X, and w_k of its parents, products of
residuals then have mean zero,

    R = (E - E^[E | pa]) (f_j(X) - E^[f_j(X) | pa]) w_k(pa),

also where only one of the two regressions is right (the generalised covariance measure: Shah and
Peters 2020, Annals of Statistics 48:1514-1538; with weights: Scheidegger et al. 2022, JMLR 23). The
statistic is that of `rung3.graph.association`, which all tests of independence here share,

    T = (sum R)' C^-1 (sum R),

chi-squared of rank(C) degrees as n grows. Where all parents are discrete, C and, where few rows
decide, p come from exchanging rows within strata; elsewhere `C = sum R R'`.

The f_j are `cos(pi j F(x))`, with F the distribution function of both data sets together (smooth
tests of Neyman: a change of any kind moves some of them), or the indicators of categories. Images
are summarised by their mean, spread, sharpness and principal components. Regressions are exact by
strata where all parents are discrete, and ridge regressions on random Fourier features elsewhere,
their penalty chosen by generalised cross-validation. P-values are corrected for the number of
mechanisms by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.columns import gaps, read, say_gaps
from rung3.data.features import features, summary
from rung3.data.printed import Printed
from rung3.data.rows import Rows, Values
from rung3.data.seeding import Seed, base_seed, stream
from rung3.data.variables import Discrete, Image, Variable
from rung3.graph import CausalGraph
from rung3.graph.association import association
from rung3.graph.falsification import correct
from rung3.graph.given import as_graph
from rung3.mechanisms.networks.encoding import ParentEncoder, Standardise

__all__ = ["Change", "changes"]

FOURIER = 100
"""Random Fourier features of a regression."""

WEIGHTS = 4
"""Columns of the parents that products of residuals are weighted by, at most."""

MIN_ROWS = 20
"""Rows that a test needs."""

ROUNDING = 1e-9
"""Largest entry of residuals that are zero but for rounding; functions lie in [-1, 1]."""

ROWS_A_PRODUCT = 20
"""Rows for each product of residuals; with fewer, weights are left out."""


@dataclass(frozen=True)
class Change(Printed):
    """The result of a test whether a mechanism differs between two data sets.

    Attributes:
        variable: Name of the variable.
        mechanism: Its mechanism, such as `P(y | x)`.
        statistic: T, divided by its degrees of freedom: about 1 if nothing changed.
        p: Its p-value.
        adjusted: The p-value corrected for the number of mechanisms (Holm).
        changed: Whether the corrected p-value is at most the level.
        gaps: How many rows of both data sets were left out, for a gap in a column of the graph.
    """

    variable: str
    mechanism: str
    statistic: float
    p: float
    adjusted: float
    changed: bool
    gaps: int = 0

    def __str__(self) -> str:
        verdict = "changed" if self.changed else "no change seen"
        line = f"{self.mechanism}: {verdict} (T = {self.statistic:.2f}, p = {self.adjusted:.3g})"
        return line + say_gaps(self.gaps)


def changes(
    source: Values,
    target: Values,
    graph: Any,
    *,
    variables: Mapping[str, Variable] | None = None,
    level: float = 0.05,
    most: int = 5_000,
    seed: Seed = 0,
) -> list[Change]:
    """Test every mechanism of a graph for a change between two data sets.

    Args:
        source: Rows of one environment: a mapping from name to values, a data frame, or rows.
        target: Rows of the other.
        graph: The causal graph; variables that hidden causes join are tested given their parents
            alone, where a change of one may show in the other.
        variables: What the columns are; read off both data sets' values where not given.
        level: Chance of any false alarm, if nothing changed.
        most: Rows of each data set that are used, at most.
        seed: Seed of the random features, and of the choice of rows.

    Returns:
        One result for each variable, in the graph's order.

    Raises:
        ValueError: If a data set lacks a variable of the graph, its values do not fit, or there are
            too few rows.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> moved = world.do(x1=lambda x1: x1 + 1)
        >>> before, after = world.sample(500, seed=0), moved.sample(500, seed=1)
        >>> for change in changes(before, after, world.graph):
        ...     print(change.variable, change.changed)
        x1 True
        x2 False
    """
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    graph = as_graph(graph)
    rows, kinds = _together(source, target, graph, variables or {})
    base = base_seed(seed)
    joint, environment = _joined(rows, most, base)
    tests = {}
    for name in graph.nodes:
        functions = features(joint[name], kinds[name])
        parents = {parent: kinds[parent] for parent in graph.parents(name)}
        tests[name] = _test(name, environment, functions, joint, parents, base)
    adjusted = dict(zip(tests, correct([p for _, p in tests.values()], "holm"), strict=True))
    left_out = gaps(source, graph.nodes) + gaps(target, graph.nodes)
    return [
        Change(
            name,
            _spell(graph, name),
            statistic,
            p,
            adjusted[name],
            adjusted[name] <= level,
            left_out,
        )
        for name, (statistic, p) in tests.items()
    ]


def _together(
    source: Values,
    target: Values,
    graph: CausalGraph,
    variables: Mapping[str, Variable],
) -> tuple[tuple[Rows, Rows], dict[str, Variable]]:
    """Read both data sets with the same variables, with the categories that occur in either."""
    kinds: dict[str, Variable] = dict(variables)
    for table in (source, target):
        _, read_off = read(table, variables, graph.nodes)
        for name, kind in read_off.items():
            before = kinds.get(name)
            if isinstance(before, Discrete) and isinstance(kind, Discrete):
                kinds[name] = max(before, kind, key=lambda k: k.classes)
            else:
                kinds.setdefault(name, kind)
    names = list(graph.nodes)
    return (read(source, kinds, names)[0], read(target, kinds, names)[0]), {
        k: kinds[k] for k in names
    }


def _joined(rows: tuple[Rows, Rows], most: int, seed: int) -> tuple[Rows, Tensor]:
    """Join rows of both data sets, at most so many of each, and tell which each row is from."""
    parts = [part[_some(part.n, most, seed, k)] for k, part in enumerate(rows)]
    joint = Rows({name: torch.cat([part[name] for part in parts]) for name in rows[0]})
    environment = torch.cat([torch.full((part.n,), k).double() for k, part in enumerate(parts)])
    return joint, environment


def _test(
    name: str,
    environment: Tensor,
    functions: Tensor,
    rows: Rows,
    parents: Mapping[str, Variable],
    seed: int,
) -> tuple[float, float]:
    """Return T, divided by its degrees of freedom, and its p-value."""
    n, width = functions.shape
    both = torch.cat([environment[:, None], functions], 1)
    strata = _strata(rows, parents)
    residuals, weights = _regress(both, rows, parents, strata, seed)
    allowed = max(1, n // (ROWS_A_PRODUCT * width))
    weighted = (residuals[:, 1:, None] * weights[:, None, :allowed]).flatten(1)
    if n < (least := max(MIN_ROWS, 2 * weighted.shape[1])):
        raise ValueError(f"{name}: {n} rows are too few to test its mechanism; expected {least}")
    a, b = (_nonzero(columns).numpy() for columns in (residuals[:, :1], weighted))
    products = a * b
    if strata is None:
        t, freedom, p = association(a, b, np.zeros(n, dtype=np.int64), products.T @ products)
    else:
        t, freedom, p = association(a, b, strata.numpy())
    return t / max(freedom, 1), p


def _strata(rows: Rows, parents: Mapping[str, Variable]) -> Tensor | None:
    """Return the combination of the parents' values in each row; `None` if not all are discrete."""
    if not all(isinstance(kind, Discrete) for kind in parents.values()):
        return None
    codes = [rows[name].long() for name in parents] or [torch.zeros(rows.n, dtype=torch.long)]
    strata: Tensor = torch.stack(codes, 1).unique(dim=0, return_inverse=True)[1]
    return strata


def _nonzero(columns: Tensor) -> Tensor:
    """Return columns, with zeros for those that are zero but for rounding."""
    return torch.where(columns.abs().amax(0) > ROUNDING, columns, 0.0)


def _regress(
    outcome: Tensor,
    rows: Rows,
    parents: Mapping[str, Variable],
    strata: Tensor | None,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return residuals `(n, d)` of outcomes on parents, and functions `(n, w)` of the parents."""
    n = len(outcome)
    one = torch.ones(n, 1, dtype=torch.float64)
    encoded = _encode(rows, parents) if parents else one[:, :0]
    weights = torch.cat([one, encoded[:, :WEIGHTS]], 1)
    if strata is not None:
        size = strata.bincount()
        sums = torch.zeros(len(size), outcome.shape[1], dtype=torch.float64)
        means = sums.index_add(0, strata, outcome) / size[:, None]
        return outcome - means[strata], weights
    generator = stream(seed, "features")
    width = encoded.shape[1]
    pairs = torch.randint(n, (2, 1000), generator=generator)
    distance = (encoded[pairs[0]] - encoded[pairs[1]]).norm(dim=1).median().clamp_min(1e-6)
    turns = torch.randn(width, FOURIER, generator=generator, dtype=torch.float64) / distance
    starts = torch.rand(FOURIER, generator=generator, dtype=torch.float64) * 2 * math.pi
    features = torch.cat([encoded, (encoded @ (2 * turns) + starts).cos()], 1)
    return _ridge(features, outcome), weights


def _ridge(features: Tensor, outcome: Tensor) -> Tensor:
    """Return residuals of ridge regressions with penalties by generalised cross-validation."""
    n = len(features)
    centred = outcome - outcome.mean(0)
    u, s, _ = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    projected = u.T @ centred
    best = torch.full((outcome.shape[1],), torch.inf, dtype=torch.float64)
    residual = centred
    for penalty in n * 10.0 ** torch.arange(-6.0, 1.1, 0.5).double():
        shrunk = s.square() / (s.square() + penalty)
        rest = centred - u @ (shrunk[:, None] * projected)
        freedom = 1 - (1 + shrunk.sum()) / n
        score = rest.square().mean(0) / freedom**2
        residual = torch.where(score < best, rest / freedom.sqrt(), residual)
        best = torch.minimum(best, score)
    return residual


def _encode(rows: Rows, parents: Mapping[str, Variable]) -> Tensor:
    """Encode parents as standardised features `(n, width)`; images by their summaries."""
    parts = []
    for name, kind in parents.items():
        if isinstance(kind, Image):
            parts.append(summary(rows[name]))
        else:
            encoder = ParentEncoder({name: kind}).double()
            encoder.calibrate(rows)
            parts.append(encoder(rows, rows.n).double())
    features = torch.cat(parts, 1)
    scale = Standardise((features.shape[1],)).double()
    scale.calibrate(features)
    standard: Tensor = scale(features)
    return standard.detach()


def _some(n: int, most: int, seed: int, which: int) -> Tensor:
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=stream(seed, f"rows {which}"))[:most]


def _spell(graph: CausalGraph, name: str) -> str:
    parents = graph.parents(name)
    return f"P({name} | {', '.join(parents)})" if parents else f"P({name})"
