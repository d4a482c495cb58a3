"""How a change reaches an outcome, and by which arrows: direct, indirect and total effect.

The direct effect comes along the causal paths that avoid the mediator, the indirect one along
those through it; see `rung3.effects.mediation`. Through the latents of an image's own mechanism,
all paths carry both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rung3.effects import Mediation, mediate
from rung3.effects.formulas import LATENT
from rung3.explorer.query import PageState
from rung3.explorer.session import Session
from rung3.graph import CausalGraph

__all__ = ["Split", "mediators", "split"]

Edge = tuple[str, str]


@dataclass(frozen=True)
class Split:
    """Effects of a query on an outcome.

    Attributes:
        effects: The maps; with draws they have them as first axis.
        through: The mediator.
        direct: Arrows that the direct effect comes along.
        indirect: Arrows that the indirect one comes along.
    """

    effects: Mediation
    through: str
    direct: list[Edge]
    indirect: list[Edge]

    @property
    def total(self) -> list[Edge]:
        """Arrows that the total effect comes along."""
        return list(dict.fromkeys([*self.direct, *self.indirect]))


def mediators(session: Session, query: PageState, outcome: str, k: int = 0) -> list[str]:
    """What the effect on an outcome can be split by, the latents of its mechanism last."""
    opened = session.models[k]
    graph = opened.model.graph.do(*query.do)
    after = set(graph.descendants(list(query.do))) - set(query.do) - set(query.hold)
    between = [n for n in graph.order if n in after & set(graph.ancestors(outcome)) - {outcome}]
    latent = opened.model.mechanisms[outcome].has_latent_mediator
    return between + ([LATENT] if latent and outcome in after else [])


def split(session: Session, query: PageState, outcome: str, through: str, k: int = 0) -> Split:
    """Split the effect of a query of the third rung on an outcome.

    Args:
        session: Whose models and rows.
        query: What is set. Held variables cut the paths through them.
        outcome: Name of the outcome.
        through: One of `mediators`.
        k: Which model.

    Raises:
        ValueError: If the query is of another rung, sets nothing, or there is no such mediator.
    """
    session.check(query)
    if query.rung != "imagining" or not query.do:
        raise ValueError("effects are of one row that is imagined anew: set a variable first")
    if outcome not in session.variables:
        raise ValueError(f"outcome: {outcome!r}; the variables are {list(session.variables)}")
    known = mediators(session, query, outcome, k)
    if through not in known:
        raise ValueError(f"through: {through!r}; {outcome} can be reached through {known}")
    row, values = session.factual(query), session.settings(query)
    kept = {name: row[name] for name in query.hold if name not in query.do}
    model = session.models[k].model
    with session.lock, torch.no_grad():
        effects = mediate(
            model.do(kept) if kept else model, row, values, outcome, through,
            particles=query.draws, seed=query.seed,
        )  # fmt: skip
    graph = model.graph.do(*query.do, *kept)
    along, past = _edges(graph, list(query.do), outcome, through)
    return Split(effects, through, past, along)


def _edges(
    graph: CausalGraph, causes: list[str], outcome: str, through: str
) -> tuple[list[Edge], list[Edge]]:
    """Arrows of the causal paths through the mediator, and of the others.

    The paths are not listed, as there can be exponentially many.
    """
    if through == LATENT:
        every = _between(graph, causes, outcome)
        return every, every
    along = {*_between(graph, causes, through), *_between(graph, [through], outcome)}
    into = [edge for edge in graph.edges if through in edge]
    past = _between(graph.without_edges(into), causes, outcome)
    reached = through in graph.descendants(causes) and outcome in graph.descendants(through)
    return [edge for edge in graph.edges if reached and edge in along], past


def _between(graph: CausalGraph, causes: list[str], outcome: str) -> list[Edge]:
    """Arrows of the causal paths from any of the causes to the outcome."""
    below = {*causes, *graph.descendants(causes)}
    above = {outcome, *graph.ancestors(outcome)}
    return [(a, b) for a, b in graph.edges if a in below and b in above and b not in causes]
