"""Exact probabilities of models whose variables are all discrete, by enumeration.

    P(x) = prod_k P(x_k | pa_k),        P(a | b) = sum_{x: a, b} P(x) / sum_{x: b} P(x)

Under `do` the same holds with the mechanisms that it puts in (truncated factorisation), so
`probability(model.do(...), ...)` is an interventional probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung3.data.variables import Discrete, Variable
from rung3.scm.floating import in_own_precision
from rung3.scm.scm import SCM

__all__ = ["joint", "probability"]

MOST_CELLS = 2**24
"""Most combinations of values that are enumerated."""


@in_own_precision
def joint(model: SCM) -> Tensor:
    """Compute `P(x)` of every combination of values, in double.

    Args:
        model: A model whose variables are all discrete.

    Returns:
        Probabilities, one axis a variable, in the order of `model.graph.nodes`.

    Raises:
        ValueError: If a variable is not discrete, or there are too many combinations.

    Example:
        >>> from rung3 import worlds
        >>> joint(worlds.kidney_stones()).shape
        torch.Size([2, 2, 2])
    """
    sizes = shape_of(model.variables)
    cells = torch.ones(sizes, device=model.device).nonzero()
    with torch.no_grad():
        densities = model.log_prob(dict(zip(model.graph.nodes, cells.unbind(1), strict=True)))
    return densities.double().exp().reshape(sizes)


def probability(
    model: SCM, event: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> float:
    """Compute `P(event | given)`.

    Args:
        model: A model whose variables are all discrete.
        event: A value, or a list of values, for each of some variables.
        given: The same, for what is conditioned on.

    Raises:
        ValueError: If a name is unknown, a value is not in its support, or `given` is impossible.

    Example:
        >>> from rung3 import worlds
        >>> round(probability(worlds.hospital(), {"admitted": 1}), 4)
        0.138
    """
    known = dict(given or {})
    model.graph.names([*event, *known])
    table = _restrict(joint(model), model, known)
    total = float(table.sum())
    if total == 0:
        raise ValueError(f"given: {known} has probability zero in this model")
    return float(_restrict(table, model, event).sum()) / total


def shape_of(variables: Mapping[str, Variable]) -> tuple[int, ...]:
    """Give the shape of a table of all combinations: the number of values of each variable.

    Raises:
        ValueError: If a variable is not discrete, or there are too many combinations.
    """
    sizes = []
    for name, variable in variables.items():
        if not isinstance(variable, Discrete):
            raise ValueError(f"{name}: is {variable}; only discrete variables can be enumerated")
        sizes.append(variable.classes)
    if (cells := torch.Size(sizes).numel()) > MOST_CELLS:
        raise ValueError(f"{cells:,} combinations of {list(variables)} are too many to enumerate")
    return tuple(sizes)


def _restrict(table: Tensor, model: SCM, event: Mapping[str, Any]) -> Tensor:
    """Return the table with zeros where the event does not hold."""
    for name, values in event.items():
        codes = model.variables[name].validate(name, values).long().reshape(-1)
        axis = model.graph.nodes.index(name)
        indicator = torch.zeros(table.shape[axis], dtype=table.dtype, device=table.device)
        indicator[codes] = 1
        table = table * indicator.reshape(-1, *[1] * (table.ndim - axis - 1))
    return table
