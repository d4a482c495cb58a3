"""Counterfactual queries of random models whose noise is enumerated, and tables of experiments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
from graphs import Tables, Values

from rung3.graph import CounterfactualQuery, Source
from rung3.graph.identification.events import Event, World


def values_in(model: Tables, world: World) -> Values:
    """Each variable's value in a world, for every value of the noise."""
    values: Values = {}
    for name in model.graph.order:
        causes = [values[cause] for cause in model.graph.parents(name)]
        causes += [column for pair, column in model.hidden.items() if name in pair]
        values[name] = model.functions[name][(*causes, model.private[name])]
        if name in world:
            setting = world[name]
            if isinstance(setting, World):
                values[name] = values_in(model, setting)[name]
            else:
                values[name] = np.full_like(values[name], int(str(setting)))
    return values


def holds(model: Tables, events: Iterable[Event]) -> np.ndarray[Any, Any]:
    """Where in the noise all events hold."""
    where = np.ones_like(model.chance, dtype=bool)
    for event in events:
        where &= values_in(model, event.world)[event.variable] == int(str(event.value))
    return where


def truth(model: Tables, query: CounterfactualQuery) -> float:
    """The query's probability; NaN where what was seen has none."""
    seen = holds(model, query.given)
    chance = model.chance[seen].sum()
    both = model.chance[seen & holds(model, query.outcome)].sum()
    return float(both / chance) if chance else np.nan


def experiment(model: Tables, do: Sequence[str]) -> np.ndarray[Any, Any]:
    """The table of an experiment: for each value of what it sets, the probabilities of all."""
    names = model.graph.nodes
    whole = np.zeros([2] * len(names))
    for at in product((0, 1), repeat=len(do)):
        values = model.values(dict(zip(do, at, strict=True)))
        whole += model.table([values[name] for name in names])
    return whole


def experiments(model: Tables) -> dict[Source, np.ndarray[Any, Any]]:
    """The tables of all experiments, that of none included."""
    names = model.graph.nodes
    sets = [one for size in range(len(names)) for one in combinations(names, size)]
    return {Source(do=one): experiment(model, one) for one in sets}
