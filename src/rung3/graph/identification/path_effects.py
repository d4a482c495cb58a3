r"""Formulas of mediation: what a treatment does along some paths of the graph, and no others.

Along a set of paths P the outcome is a nested counterfactual: each variable on the way takes its
parents as they would be, the treatment at its new value on the paths in P and at its old one on all
others. With a mediator M,

    P(y[x=1, m[x=0]])        on the paths that avoid M: the natural direct effect, less P(y[x=0]),
    P(y[x=0, m[x=1]])        on those through M: the natural indirect one.

A *recanting witness* would have to have changed and not to have changed at once; in a *recanting
district* two variables that hidden causes join need a changed and an unchanged cause. Then there is
no formula, whatever the data (Avin, Shpitser and Pearl, IJCAI 2005; Shpitser, Cognitive Science
2013). `rung3.effects.path_specific` computes such effects from a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import replace
from itertools import pairwise
from typing import Any

from rung3.graph.causal_graph import CausalGraph
from rung3.graph.given import as_graph
from rung3.graph.identification.counterfactuals import Estimand, identify_counterfactual
from rung3.graph.identification.events import CounterfactualQuery, Event, Setting, World
from rung3.graph.identification.factorisation import TwoValues
from rung3.graph.identification.sources import Source
from rung3.graph.paths import Path, causal_paths
from rung3.graph.text import Names

__all__ = ["identify_path_effect", "identify_treated"]

Nodes = tuple[str, ...]


def identify_path_effect(
    graph: Any,
    treatment: str,
    outcome: str,
    *,
    through: Names | None = None,
    avoiding: Names | None = None,
    along: str | Path | Iterable[str | Path] | None = None,
    treated: str | int = 1,
    control: str | int = 0,
    sources: Iterable[Source] | None = None,
) -> Estimand:
    """Say whether the outcome is identified when a treatment changes on some paths only.

    Args:
        graph: The graph, or what makes one.
        treatment: X.
        outcome: Y.
        through: Change X on the paths through these mediators: the natural indirect effect.
        avoiding: Change X on the paths that avoid these: the natural direct effect.
        along: Change X on these paths, each as text or as `CausalGraph.causal_paths` gives it.
        treated: The value of X on these paths.
        control: Its value on all others.
        sources: What data there are; the rows as they are, if not given.

    Returns:
        The formula of Y's distribution, or why there is none. The effect is the difference of its
        mean from that of `P(y[x=control])`.

    Raises:
        ValueError: If the graph lacks a name, a path is not one of the graph, or none or several of
            `through`, `avoiding` and `along` are given.

    >>> print(identify_path_effect("x -> m -> y; x -> y", "x", "y", avoiding="m"))
    P(y[x=1, m[x=0]]) is identified
      = Σ_m P(m | x=0) P(y | x=1, m)
    >>> print(identify_path_effect("x -> w -> m -> y; w -> y", "x", "y", through="m"))
    P(y[w[x=0], m[x=1]]) is not identified
      w is a recanting witness: w is needed as w[x=0] and as w[x=1], and one noise is behind both:
      no data, experiments included, show the two together
    """
    whole = as_graph(graph)
    whole.disjoint(treatment=[treatment], outcome=[outcome])
    if sum(one is not None for one in (through, avoiding, along)) != 1:
        raise ValueError("expected one of through=, avoiding= and along=.")
    ways = [path.nodes for path in causal_paths(whole, treatment, outcome)]
    if along is None:
        mediators = whole.names(through if through is not None else avoiding or ())
        meets = through is not None
        active = {way for way in ways if bool(mediators.intersection(way[1:-1])) == meets}
    else:
        active = {_on(ways, path) for path in ([along] if isinstance(along, str | Path) else along)}
    values = {True: str(treated), False: str(control)}
    below = whole.do(treatment).descendants(treatment)
    world = _nested(whole, treatment, outcome, active, values, below)
    answer = identify_counterfactual(
        whole, CounterfactualQuery((Event(outcome, world),)), sources=sources
    )
    if answer.conflict is None:
        return answer
    return replace(answer, reason=f"{_recanting(answer.conflict)}: {answer.reason}")


def identify_treated(
    graph: Any,
    treatment: str,
    outcome: str,
    *,
    treated: str | int = 1,
    control: str | int = 0,
    experiments: Iterable[Names] = (),
) -> Estimand:
    """Say whether the effect on the treated is identified: what they would have been untreated.

    Args:
        graph: The graph, or what makes one.
        treatment: X.
        outcome: Y.
        treated: The value of X that those asked about have.
        control: The value that they would have had instead.
        experiments: Which variables were set in experiments, beside the rows as they are.

    Returns:
        The formula of `P(y[x=control] | x=treated)`, or why there is none. The effect is the mean
        outcome of the treated, less its mean.

    Raises:
        ValueError: If the graph lacks a name.

    >>> print(identify_treated("x -> m -> y; x <-> y", "x", "y"))
    P(y[x=0] | x=1) is identified
      = Σ_m P(y | x=1, m) P(m | x=0)
    """
    whole = as_graph(graph)
    whole.disjoint(treatment=[treatment], outcome=[outcome])
    imagined = Event(outcome, World(((treatment, str(control)),)))
    seen = Event(treatment, value=str(treated))
    query = CounterfactualQuery((imagined,), (seen,))
    return identify_counterfactual(whole, query, experiments=experiments)


def _on(ways: list[Nodes], path: str | Path) -> Nodes:
    """Return the names on a path, if it is one of these."""
    nodes = path.nodes if isinstance(path, Path) else CausalGraph(path).order
    broken = isinstance(path, str) and list(CausalGraph(path).edges) != list(pairwise(nodes))
    if nodes not in ways or broken:
        known = ", ".join(" -> ".join(way) for way in ways) or "none"
        raise ValueError(f"along: {path} is not a causal path from treatment to outcome: {known}.")
    return nodes


def _nested(
    graph: CausalGraph,
    treatment: str,
    name: str,
    active: Set[Nodes],
    values: dict[bool, str],
    below: Set[str],
) -> World:
    """Return the world that a variable is in: its parents, the treatment changed on some paths.

    Args:
        graph: The graph.
        treatment: X.
        name: The variable.
        active: The paths on which X is changed, as what is left of each up to the variable.
        values: X where it is changed, and where not.
        below: The effects of X.
    """
    ends = {way for way in active if way[-1] == name}
    if not ends or len(ends) == _count(graph, treatment, name):
        return World(((treatment, values[bool(ends)]),))
    settings: list[tuple[str, Setting]] = []
    for parent in graph.parents(name):
        if parent == treatment:
            settings.append((parent, values[(treatment, name) in ends]))
        elif parent in below:
            left = {way[:-1] for way in ends if way[-2] == parent}
            inner = _nested(graph, treatment, parent, left, values, below)
            settings.append((parent, inner))
    return World(tuple(settings))


def _count(graph: CausalGraph, treatment: str, name: str) -> int:
    """Return how many causal paths lead from a treatment to a variable."""
    return sum(1 for _ in causal_paths(graph, treatment, name))


def _recanting(conflict: TwoValues) -> str:
    """Name the recanting witness, or the recanting district."""
    if conflict.copied:
        return f"{conflict.variable} is a recanting witness"
    members = ", ".join(dict.fromkeys(copy.variable for copy in conflict.part))
    return f"{{{members}}} is a recanting district"
