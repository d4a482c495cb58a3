"""Direct, indirect and total effects of a query on an outcome, and the arrows that carry each.

The causal paths that avoid the mediator carry the direct effect, those through it the indirect
one; see `rung3.effects.mediation`. With the latents of an image's own mechanism as mediator, all
paths carry both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rung3.effects import Mediation, mediate
from rung3.effects.formulas import LATENT
from rung3.explorer.query import PageState
from rung3.explorer.session import Session
from rung3.graph import CausalGraph

__all__ = ["Split", "edges_by_path", "mediators", "split"]

Edge = tuple[str, str]


@dataclass(frozen=True)
class Split:
    """Effects of a query on an outcome.

    Attributes:
        effects: The effects; the first axis is that of the draws, if there are several.
        through: The mediator.
        direct: Arrows that carry the direct effect.
        indirect: Arrows that carry the indirect effect.
    """

    effects: Mediation
    through: str
    direct: list[Edge]
    indirect: list[Edge]

    @property
    def total(self) -> list[Edge]:
        """Arrows that carry the total effect."""
        return list(dict.fromkeys([*self.direct, *self.indirect]))


def mediators(session: Session, query: PageState, outcome: str, k: int = 0) -> list[str]:
    """Return what an effect on an outcome can be split by, the latents of its mechanism last."""
    opened = session.models[k]
    graph = opened.model.graph.do(*query.do)
    after = set(graph.descendants(list(query.do))) - set(query.do) - set(query.hold)
    between = [n for n in graph.order if n in after & set(graph.ancestors(outcome)) - {outcome}]
    latent = opened.model.mechanisms[outcome].has_latent_mediator
    return between + ([LATENT] if latent and outcome in after else [])


def split(session: Session, query: PageState, outcome: str, through: str, k: int = 0) -> Split:
    """Split the effect of a query of the third rung on an outcome.

    Args:
        session: Models and rows.
        query: The query; variables that it holds cut the paths through them.
        outcome: Name of the outcome.
        through: One of `mediators`.
        k: Which model.

    Raises:
        ValueError: If the query is of another rung, sets nothing, or there is no such mediator.
    """
    session.check(query)
    if query.rung != "imagining" or not query.do:
        raise ValueError("effects need one row: choose 'imagine' and set a variable")
    if outcome not in session.variables:
        raise ValueError(f"outcome: {outcome!r}; the variables are {list(session.variables)}")
    known = mediators(session, query, outcome, k)
    if through not in known:
        raise ValueError(f"through: {through!r}; {outcome} can be reached through {known}")
    row, values = session.factual(query), session.settings(query)
    held = {name: row[name] for name in query.hold if name not in query.do}
    model = session.models[k].model
    with session.lock, torch.no_grad():
        effects = mediate(
            model.do(held) if held else model, row, values, outcome, through,
            particles=query.draws, seed=query.seed,
        )  # fmt: skip
    graph = model.graph.do(*query.do, *held)
    indirect, direct = edges_by_path(graph, list(query.do), outcome, through)
    return Split(effects, through, direct, indirect)


def edges_by_path(
    graph: CausalGraph, causes: list[str], outcome: str, through: str
) -> tuple[list[Edge], list[Edge]]:
    """Return the arrows of the causal paths through a mediator, and those of the other paths.

    The paths are not listed, because there can be exponentially many.
    """
    if through == LATENT:
        edges = _between(graph, causes, outcome)
        return edges, edges
    along = {*_between(graph, causes, through), *_between(graph, [through], outcome)}
    into = [edge for edge in graph.edges if through in edge]
    past = _between(graph.without_edges(into), causes, outcome)
    reached = through in graph.descendants(causes) and outcome in graph.descendants(through)
    return [edge for edge in graph.edges if reached and edge in along], past


def _between(graph: CausalGraph, causes: list[str], outcome: str) -> list[Edge]:
    """Return the arrows of the causal paths from any of the causes to the outcome."""
    below = {*causes, *graph.descendants(causes)}
    above = {outcome, *graph.ancestors(outcome)}
    return [(a, b) for a, b in graph.edges if a in below and b in above and b not in causes]
