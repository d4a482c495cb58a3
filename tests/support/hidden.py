"""Random worlds with hidden common causes: their response functions are drawn at random."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch

from rung3 import SCM, Binary, Categorical, CausalGraph
from rung3.data.variables import Variable
from rung3.mechanisms import InverseCDF, Mechanism


def responses(parents: int, values: int = 2) -> torch.Tensor:
    """All functions of so many binary parents, `(R, 2, ..., 2)`."""
    table = torch.tensor(list(itertools.product(range(values), repeat=2**parents)))
    return table.reshape(-1, *[2] * parents)


def random_world(
    text: str, seed: int, q: Mapping[str, torch.Tensor] | None = None, alpha: float = 0.5
) -> SCM:
    """A world of binary variables for a graph, each district's response functions in a node `u...`.

    Args:
        text: A graph; every district must be at most a pair.
        seed: Of the distributions.
        q: Distributions of the response functions of some districts, by the node's name.
        alpha: Of the Dirichlet distributions; small for worlds close to the bounds.
    """
    graph = CausalGraph(text)
    generator = torch.Generator().manual_seed(seed)
    edges = list(graph.edges)
    kinds: dict[str, Variable] = {}
    mechanisms: dict[str, Mechanism] = {}
    values: dict[str, torch.Tensor] = {}
    for district in graph.districts:
        tables = [responses(len(graph.parents(name))) for name in district]
        sizes = [len(table) for table in tables]
        hidden = "u_" + "_".join(district)
        total = int(torch.tensor(sizes).prod())
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            weights = torch.distributions.Dirichlet(torch.full((total,), alpha)).sample()
        weights = (q or {}).get(hidden, weights.double() / weights.double().sum())
        kinds[hidden], mechanisms[hidden] = Categorical(total), InverseCDF(table=weights)
        types = torch.cartesian_prod(*[torch.arange(s) for s in sizes]).reshape(total, -1)
        for k, name in enumerate(district):
            edges.append((hidden, name))
            kinds[name] = Binary()
            values[name] = tables[k][types[:, k]]  # (total, 2, ..., 2)
    causal = CausalGraph(edges)
    for name in graph.nodes:
        source = [next(p for p in causal.parents(name) if p.startswith("u_")), *graph.parents(name)]
        axes = [source.index(p) for p in causal.parents(name)]
        value = values[name].permute(axes)
        mechanisms[name] = InverseCDF(table=torch.stack([1.0 - value, 1.0 * value], -1))
    return SCM(causal, kinds, mechanisms)
