"""A graph put to the test: are the independencies that it implies there in the data?

Each statement of the basis (see `rung3.graph.implications`) is tested, and the p-values corrected
for their number m. With p_1 <= ... <= p_m in order,

    Holm          max over j <= i of (m - j + 1) p_j        keeps the chance of any false rejection
    Bonferroni    m p_i                                     the same, with less power
    BH            min over j >= i of m p_j / j              the expected share of false rejections

A statement that is rejected speaks against the graph: an arrow is missing between the two, or some
other is wrong. That none is rejected does not prove the graph: those of its equivalence class imply
the same, and with more arrows it would imply less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from rung3.data.printed import Printed
from rung3.data.rows import Values
from rung3.graph.given import as_graph
from rung3.graph.independence import Column, Dependence, column, residual_test
from rung3.graph.local_markov import Independence, implications
from rung3.graph.mixed_graph import MixedGraph

__all__ = ["Correction", "Falsification", "Finding", "falsify"]

Correction: TypeAlias = Literal["holm", "bonferroni", "bh", "none"]
Test: TypeAlias = Callable[[Column, Column, Sequence[Column]], Dependence]


@dataclass(frozen=True)
class Finding:
    """One statement, the result of its test, and the p-value corrected for the number of tests."""

    independence: Independence
    result: Dependence
    p: float
    rejected: bool

    def __str__(self) -> str:
        mark = "rejected" if self.rejected else ""
        result = self.result
        return (
            f"{self.independence}: {result.name} {result.statistic:.3g}, n = {result.n}, "
            f"p = {result.p:.3g}, corrected {self.p:.3g} {mark}"
        ).rstrip()


@dataclass(frozen=True)
class Falsification(Printed):
    """The independencies that a graph implies, and which of them the data reject.

    Attributes:
        findings: One for each statement that was tested, the least p-value first.
        skipped: Statements on columns with several numbers a row, such as images.
        level: Chance of error that a corrected p-value is compared with.
        correction: How p-values were corrected.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[Independence, ...]
    level: float
    correction: Correction

    @property
    def rejected(self) -> tuple[Finding, ...]:
        """The findings that speak against the graph."""
        return tuple(one for one in self.findings if one.rejected)

    def __str__(self) -> str:
        count = (
            f"{len(self.rejected)} of {len(self.findings)} implied independencies are rejected "
            f"at {self.level:.3g} ({self.correction})"
        )
        lines = [
            count
            if self.findings
            else "the graph implies no independence that these data can test",
            *(f"  {one}" for one in self.findings),
            *(f"  {one}: not tested, it has several numbers a row" for one in self.skipped),
        ]
        return "\n".join(lines)


def falsify(
    graph: Any,
    data: Values,
    *,
    discrete: Iterable[str] | None = None,
    correction: Correction = "holm",
    level: float = 0.05,
    test: Test = residual_test,
) -> Falsification:
    """Test the independencies that a graph implies against data.

    Args:
        graph: The graph.
        data: A column for each of its variables: a pandas frame, rows of a model, or any mapping to
            arrays `(n,)` of numbers or categories, NaN where missing. Other columns are left alone.
        discrete: The variables that are categories; if not given, those that hold no numbers, and
            those that hold whole numbers with at most 20 distinct values.
        correction: For the number of tests: `holm`, `bonferroni`, `bh` or `none`.
        level: Chance of error.
        test: Of two columns given others; see `rung3.graph.independence`.

    Raises:
        ValueError: If a column is missing, columns differ in length, there are too few rows, or the
            correction or the level is none.

    >>> from rung3.graph import CausalGraph
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=500)
    >>> data = {"a": a, "b": (b := a + rng.normal(size=500)), "c": b + rng.normal(size=500)}
    >>> [len(falsify(CausalGraph(text), data).rejected) for text in ("a -> b -> c", "a -> b <- c")]
    [0, 1]
    """
    if correction not in get_args(Correction):
        raise ValueError(
            f"correction: expected one of {', '.join(get_args(Correction))}, got {correction!r}."
        )
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}.")
    graph = as_graph(graph)
    columns = _columns(graph, data, None if discrete is None else graph.names(discrete))
    tested: dict[Independence, Dependence] = {}
    skipped = []
    for one in implications(graph):
        x, y, *given = (columns[name] for name in (one.x, one.y, *one.given))
        if x is None or y is None or None in given:
            skipped.append(one)
            continue
        try:
            tested[one] = test(x, y, [c for c in given if c is not None])
        except ValueError as error:
            raise ValueError(f"{one}: {error}.") from None
    corrected = correct([result.p for result in tested.values()], correction)
    findings = [
        Finding(one, result, p, p <= level)
        for (one, result), p in zip(tested.items(), corrected, strict=True)
    ]
    findings.sort(key=lambda one: one.result.p)
    return Falsification(tuple(findings), tuple(skipped), level, correction)


def correct(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Correct p-values for their number, in the same order.

    >>> correct([0.01, 0.04, 0.03], "holm"), correct([0.01, 0.04, 0.03], "bh")
    ([0.03, 0.06, 0.06], [0.03, 0.04, 0.04])
    """
    p = np.array(p_values, dtype=np.float64)
    m = len(p)
    order = p.argsort()
    ranked = p[order]
    if correction == "holm":
        ranked = np.maximum.accumulate(ranked * np.arange(m, 0, -1))
    elif correction == "bh":
        ranked = np.minimum.accumulate((ranked * m / np.arange(1, m + 1))[::-1])[::-1]
    elif correction == "bonferroni":
        ranked = ranked * m
    p[order] = ranked.clip(max=1)
    return [float(value) for value in p]


def _columns(
    graph: MixedGraph, data: Values, discrete: frozenset[str] | None
) -> dict[str, Column | None]:
    """Return the column of each variable; `None` where it has several numbers a row."""
    lacking = [name for name in graph.nodes if name not in data]
    if lacking:
        raise ValueError(
            f"the data have no column {lacking[0]!r}, which the graph has; "
            f"their columns are {list(data)}."
        )
    columns = {
        name: column(data[name], None if discrete is None else name in discrete)
        for name in graph.nodes
    }
    lengths = {name: len(data[name]) for name in graph.nodes}
    odd = [name for name, n in lengths.items() if n != lengths[graph.nodes[0]]]
    if odd:
        raise ValueError(
            f"columns differ in length: {graph.nodes[0]} has {lengths[graph.nodes[0]]} rows, "
            f"{odd[0]} has {lengths[odd[0]]}."
        )
    return columns
