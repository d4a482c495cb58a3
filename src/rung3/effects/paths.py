"""Path-specific effects: what an intervention does along some paths of the graph, and no others.

    effect(P) = Y[P] - Y[{}]

where `Y[P]` has every cause at its intervened value on the paths in P and at its factual one on all
others (see `rung3.effects.formulas`). A *recanting witness* is a variable that a change reaches by
one path, and that passes it on along some paths but not along others: it would have to have changed
and not to have changed at once. In a *recanting district* two variables, joined by hidden causes,
need this of a cause of both. No data, experiments included, can tell such an effect; it is refused.

Sources: Avin, Shpitser and Pearl 2005, *Identifiability of path-specific effects* (IJCAI); Shpitser
2013, *Counterfactual graphical models for longitudinal mediation analysis with unobserved
confounding* (Cognitive Science 37).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, TypeAlias

from torch import Tensor

from rung3.data.rows import Values
from rung3.data.seeding import Seed
from rung3.effects.formulas import LATENT, NONE, Along, Formulas
from rung3.effects.potential import Imagined
from rung3.graph import CausalGraph
from rung3.graph.paths import Path
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["path_specific"]

SHOWN_PATHS = 10
"""Paths that an error names; there may be exponentially many."""

Nodes: TypeAlias = tuple[str, ...]


@in_own_precision
def path_specific(
    model: SCM,
    values: Values,
    do: Mapping[str, Any],
    outcome: str,
    paths: Iterable[str | Sequence[str] | Path],
    *,
    versus: Mapping[str, Any] | None = None,
    recanting: bool = False,
    particles: int | None = None,
    seed: Seed = None,
) -> Tensor:
    """Compute the effect on each row along some directed paths, and along these alone.

    Args:
        model: The model; its mechanisms answer for every potential outcome.
        values: Rows, a value of every variable.
        do: The intervention, as `SCM.do` takes it.
        outcome: Name of the outcome.
        paths: Paths from a cause to the outcome: text such as `"x -> m -> y"`, names in order, or
            what `CausalGraph.causal_paths` gives. They may pass through `latent`, the latents of
            the outcome's mechanism, where its parents cause them.
        versus: What the intervention is compared with; the rows as they are, if not given.
        recanting: Answer even if there is a recanting witness or district, on the word of the
            model's functions alone.
        particles: Number K of draws of the noise.
        seed: An int, a `torch.Generator`, or `None` to follow torch's own.

    Returns:
        The effect, in the outcome's unit, `(n, *shape)`; with particles `(K, n, *shape)`.

    Raises:
        ValueError: If a path is not one of the graph from a cause to the outcome, or there is a
            recanting witness or district; the message explains it.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))
        >>> path_specific(model, {"x": 0.0, "m": 0.0, "y": 0.0}, {"x": 1.0}, "y", ["x -> m -> y"])
        tensor(10.)
    """
    wanted = [_nodes(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    latent = (
        outcome if any(LATENT in path for path in wanted) and LATENT not in model.graph else None
    )
    formulas = Formulas(model, do, versus, outcome, latent=latent)
    graph = formulas.graph.do(*formulas.causes)
    for path in wanted:
        _check(path, graph, formulas.causes, outcome)
    if not recanting:
        _refuse_witness(wanted, graph, outcome)
    pair = [formulas(route) for route in (Along(frozenset(wanted)), NONE)]
    if not recanting and (district := formulas.recanting(pair)):
        raise ValueError(f"{district[0]}. Answer on the model's word alone with recanting=True")
    worlds = Imagined(formulas, pair, values, particles, seed)
    active, base = map(worlds.value, pair)
    return worlds.shaped(model.variables[outcome].difference(active, base))


def _nodes(path: str | Sequence[str] | Path) -> Nodes:
    """Return the names on a path, in order."""
    if isinstance(path, Path):
        return path.nodes
    if not isinstance(path, str):
        return tuple(path)
    graph = CausalGraph(path)
    if graph.bidirected or list(graph.edges) != list(pairwise(graph.order)):
        raise ValueError(f"paths: {path!r} is not one directed path, such as 'x -> m -> y'")
    return graph.order


def _check(path: Nodes, graph: CausalGraph, causes: frozenset[str], outcome: str) -> None:
    """Refuse what is not a path from a cause to the outcome that no other intervention cuts."""
    graph.names(path)
    broken = [pair for pair in pairwise(path) if pair not in graph.edges]
    if len(path) < 2 or path[0] not in causes or path[-1] != outcome or broken:
        ways = (p for cause in sorted(causes) for p in graph.causal_paths(cause, outcome))
        known = [str(p) for p in islice(ways, SHOWN_PATHS)]
        more = " and more" if next(ways, None) else ""
        raise ValueError(
            f"paths: {_spell(path)!r} is not a causal path from {' or '.join(sorted(causes))} to "
            f"{outcome} after the intervention; there are {known}{more}"
        )


def _refuse_witness(paths: list[Nodes], graph: CausalGraph, outcome: str) -> None:
    """Refuse paths that make a variable a recanting witness."""
    wanted = set(paths)
    for path in paths:
        for k in range(1, len(path) - 1):
            ways = (p.nodes for p in graph.causal_paths(path[k], outcome))
            lost = next((way for way in ways if path[:k] + way not in wanted), None)
            if lost is not None:
                raise ValueError(
                    f"paths: {path[k]!r} is a recanting witness: the change comes to it by "
                    f"{_spell(path[: k + 1])}, is to continue by {_spell(path[k:])} and not by "
                    f"{_spell(lost)}, so it would have to have changed and not to have changed at "
                    "once; no data can tell such an effect (Avin, Shpitser and Pearl 2005). Ask "
                    f"for {_spell(path[:k] + lost)} as well, or answer on the model's word alone "
                    "with recanting=True"
                )


def _spell(path: Sequence[str]) -> str:
    return " -> ".join(path)
