r"""Worlds with a hidden common cause h, one for each thing that can be known about an effect.

| case | graph without h | effect of x on y |
|---|---|---|
| back door | `z -> x -> y; z <-> y` | identified: adjust for z |
| front door | `x -> m -> y; x <-> y` | identified: by way of m |
| instrument | `z -> x -> y; x <-> y` | bounded (of numbers: identified if linear) |
| bow-arc | `x -> y; x <-> y` | bounded |

h is a variable of the world, so the truth under `do` is known; a model gets the others.
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import torch
from torch import Tensor

from rung3.data.variables import Binary, Categorical, Variable
from rung3.graph import CausalGraph
from rung3.mechanisms import Equation, InverseCDF, Mechanism
from rung3.scm.scm import SCM

__all__ = ["CASES", "hidden_cause"]

Case = Literal["back door", "front door", "instrument", "bow-arc"]

CASES: dict[Case, str] = {
    "back door": "z -> x -> y; z <-> y",
    "front door": "x -> m -> y; x <-> y",
    "instrument": "z -> x -> y; x <-> y",
    "bow-arc": "x -> y; x <-> y",
}
"""Graph of each case without h."""

SLOPES = {"z": 0.8, "x": 1.5, "m": 1.5}
"""Slope of each cause in a linear world."""

RATES = {"h": 0.25, "z": 0.35, "x": 0.3, "m": 0.3}
"""Rise of P(1) with each cause, a unit, in a binary world."""


def hidden_cause(case: Case, numbers: bool = False) -> SCM:
    """Build a world with a hidden common cause, binary or linear and Gaussian.

    Args:
        case: `"back door"`, `"front door"`, `"instrument"` or `"bow-arc"`.
        numbers: Whether the variables are numbers; else binary, and h has three values.

    Returns:
        The world; `CASES[case]` is the graph of its variables without `h`.

    Raises:
        ValueError: If there is no such case.

    Example:
        >>> from rung3.effects.bounds import bounds
        >>> from rung3.scm.enumeration import probability
        >>> world = hidden_cause("front door")
        >>> round(probability(world.do(x=1), {"y": 1}), 3)
        0.47
        >>> print(bounds(world, CausalGraph(CASES["front door"]), {"y": 1}, do={"x": 1}))
        0.470
    """
    if case not in CASES:
        raise ValueError(f"case: expected one of {list(CASES)}, got {case!r}")
    seen = CausalGraph(CASES[case])
    joined = seen.bidirected[0]
    mechanisms: dict[str, Mechanism] = {}
    if numbers:
        mechanisms["h"] = Equation("u")
        for name in seen.nodes:
            terms = [f"{SLOPES[p]}*{p}" for p in seen.parents(name)]
            terms += [f"{-1.2 if name == 'y' else 1.0}*h"] if name in joined else []
            mechanisms[name] = Equation(" + ".join([*terms, "0.6*u"]))
        return SCM(mechanisms=mechanisms, world=f"hidden cause ({case}, numbers)")
    graph = CausalGraph([*(("h", name) for name in joined), *seen.edges])
    kinds: dict[str, Variable] = {"h": Categorical(3)} | dict.fromkeys(seen.nodes, Binary())
    mechanisms["h"] = InverseCDF(table=[0.3, 0.4, 0.3])
    for name in seen.nodes:
        mechanisms[name] = InverseCDF(table=_table(graph.parents(name)))
    return SCM(graph, kinds, mechanisms, world=f"hidden cause ({case})")


def _table(parents: tuple[str, ...]) -> Tensor:
    """Tabulate `P(1) = 0.1 + sum of rates`, nested by the parents in the graph's order."""
    sizes = [3 if p == "h" else 2 for p in parents]
    table = torch.zeros(*sizes, 2)
    for values in product(*(range(size) for size in sizes)):
        rate = 0.1 + sum(RATES[p] * v for p, v in zip(parents, values, strict=True))
        table[values] = torch.tensor([1 - rate, rate])
    return table
