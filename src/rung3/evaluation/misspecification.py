"""Stress: what a wrong graph, or wrong labels, do to a model's scores.

Every arrow of the graph is dropped in turn, and turned round where that makes no cycle; and the
values of a variable are handed, in a share of training rows, to the wrong rows (a permutation, so
that the variable's own distribution stays). The model is fitted again to each, and asked the same:

    change = score under the perturbation - score without it.

A score that does not change is not a sign of a right graph: some arrows cannot be told from data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch

from rung3.data.rows import Rows, spell_unknown
from rung3.data.seeding import Seed, base_seed, stream
from rung3.graph import CausalGraph

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Scored", "changes", "mislabelled", "misdrawn"]

Scored: TypeAlias = Mapping[str, float]
"""Scores by name, such as skill and effectiveness under one intervention."""


def misdrawn(graph: CausalGraph) -> dict[str, CausalGraph]:
    """Return graphs with one arrow wrong, by what is wrong with them.

    Example:
        >>> list(misdrawn(CausalGraph("a -> b -> c; a -> c")))
        ['without a -> b', 'b -> a', 'without a -> c', 'without b -> c', 'c -> b']
    """
    graphs = {}
    for cause, effect in graph.edges:
        without = graph.without_edges([(cause, effect)])
        graphs[f"without {cause} -> {effect}"] = without
        if effect not in without.descendants(cause):
            edges = [*without.edges, (effect, cause)]
            turned = CausalGraph.of(graph.nodes, edges, graph.bidirected)
            graphs[f"{effect} -> {cause}"] = turned
    return graphs


def mislabelled(rows: Rows, name: str, share: float, seed: Seed = None) -> Rows:
    """Return rows some of which have the value of another row: wrong labels.

    Args:
        rows: Training rows.
        name: The variable whose values are permuted among those rows.
        share: Share of rows, chosen at random, from 0 to 1.
        seed: Of the choice and the permutation.

    Returns:
        The rows, without the noise that they may have carried: it is no longer theirs.

    Raises:
        ValueError: If the name is unknown, or the share is not between 0 and 1.

    Example:
        >>> rows = Rows({"x": torch.arange(100)})
        >>> int((mislabelled(rows, "x", 0.2, seed=0)["x"] != rows["x"]).sum())
        20
    """
    if name not in rows:
        raise ValueError(f"labels: {spell_unknown([name], dict.fromkeys(rows))}")
    if not 0 <= share <= 1:
        raise ValueError(f"labels: expected a share between 0 and 1, got {share}")
    generator = stream(base_seed(seed), f"labels/{name}")
    chosen = torch.randperm(rows.n, generator=generator)[: round(share * rows.n)]
    values = rows[name].clone()
    values[chosen] = values[chosen.roll(1)]
    return Rows({**rows, name: values})


def changes(
    fit: Callable[[CausalGraph, Rows], SCM],
    ask: Callable[[SCM], Scored],
    graph: CausalGraph,
    rows: Rows,
    *,
    labels: Mapping[str, float] | None = None,
    graphs: Mapping[str, CausalGraph] | None = None,
    seed: Seed = None,
) -> dict[str, dict[str, float] | str]:
    """Measure how scores change when the model is fitted with a wrong graph, or to wrong labels.

    Args:
        fit: Makes a model of a graph and fits it to rows.
        ask: Scores a model.
        graph: The right graph, or the one to be stressed.
        rows: Training rows.
        labels: By variable, the share of rows with wrong values; none if not given.
        graphs: Wrong graphs, by what is wrong with them; `misdrawn(graph)` if not given.
        seed: Of the wrong labels.

    Returns:
        By perturbation and score, the change; or the words of a model that refused.

    Example:
        >>> from rung3 import SCM, worlds
        >>> world = worlds.lecture()
        >>> edges = lambda model: {"arrows": float(len(model.graph.edges))}
        >>> changes(lambda g, rows: SCM(g), edges, world.graph, world.sample(9, seed=0))
        {'without x1 -> x2': {'arrows': -1.0}, 'x2 -> x1': {'arrows': 0.0}}
    """
    base = base_seed(seed)
    right = ask(fit(graph, rows))
    wrong = {k: (g, rows) for k, g in (misdrawn(graph) if graphs is None else graphs).items()}
    for name, share in (labels or {}).items():
        label = f"{share:.0%} of {name} wrong"
        wrong[label] = (graph, mislabelled(rows, name, share, base))
    by_perturbation: dict[str, dict[str, float] | str] = {}
    for label, (drawn, given) in wrong.items():
        try:
            scores = ask(fit(drawn, given))
        except ValueError as refused:
            by_perturbation[label] = str(refused)
            continue
        by_perturbation[label] = {name: scores[name] - score for name, score in right.items()}
    return by_perturbation
