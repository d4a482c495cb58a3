r"""Exact bounds on a discrete counterfactual of one row.

In a row of a model without hidden common causes, X_k took the value x under its parents pa. What it
would have been under pa~ depends on how its noise ties the two, and data tell only the margins
`p = P(X_k | pa)` and `p~ = P(X_k | pa~)`. So

    q_j = P(X_k under pa~ is j | it was x under pa),     0 <= q_j <= p~_j / p_x,    sum_j q_j = 1,

and every such q is possible (a coupling of the two margins; Frechet 1951). If `pa~ = pa` it is x
again. Noises are independent, so the probability of an event in the other world is a sum of
products of these q along the graph, and its extremes are found from the last variable to the first:
the best q gives the values that are worth most as much as it may.

The bounds always hold. They are sharp where only the outcome is recomputed, along a chain, and
wherever a variable's parents tell all that was recomputed before it. For a binary cause and
outcome they are those of Tian and Pearl 2000 on the probability of necessity or sufficiency. They
are for each row by itself: rows do not all reach their ends at once, and a mean over rows can still
be identified.

Source: Frechet 1951; Tian and Pearl 2000, Annals of Mathematics and Artificial Intelligence 28.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import as_rows
from rung3.data.variables import Discrete
from rung3.mechanisms.base import Mechanism, Parents
from rung3.scm.floating import in_own_precision
from rung3.scm.interventions import SetTo
from rung3.scm.scm import SCM

__all__ = ["row_bounds"]

MAX_WAYS = 2**16
"""Combinations of values in the other world, at most: each costs one pass over the rows."""


@in_own_precision
@torch.no_grad()
def row_bounds(
    model: SCM, rows: Mapping[str, Any], do: Mapping[str, Any], outcome: str, event: Any
) -> tuple[Tensor, Tensor]:
    """Bound `P(outcome in event)` in each row's other world.

    Args:
        model: A model; of its mechanisms only the conditional probabilities are used.
        rows: A value of every variable, `(n,)` each.
        do: A value, or one a row, for each variable that is set.
        outcome: The variable that is looked at.
        event: Its value, or a list of values.

    Returns:
        Both probabilities, `(n,)` each, in double.

    Raises:
        ValueError: If a variable between is not discrete or has hidden common causes, something is
            set to a function, a row has probability zero, or there are too many ways to go.

    Example:
        >>> from rung3 import worlds
        >>> failed = {"interested": [0], "studied": [0], "passed": [0]}
        >>> row_bounds(worlds.exam(), failed, {"studied": 1}, "passed", event=1)
        (tensor([0.4286], dtype=torch.float64), tensor([0.8571], dtype=torch.float64))
    """
    given = as_rows(rows, model.variables, model.device)
    factual = dict(given.batch)
    if lacking := [name for name in model.variables if name not in factual]:
        raise ValueError(f"{lacking[0]}: not given; every variable of the rows is needed")
    model.graph.names([outcome])
    acted = model.do(do)
    path = _path(model, acted, list(do), outcome)
    world = factual | _settings(acted, list(do), given.n)
    wanted = model.variables[outcome].validate(outcome, event).reshape(-1).to(model.device)
    mechanisms = acted.mechanisms
    return _extremes([mechanisms[name] for name in path], factual, world, outcome, wanted)


def _settings(acted: SCM, names: list[str], n: int) -> dict[str, Tensor]:
    """Return what each variable is set to, `(n,)`."""
    settings = {}
    for name in names:
        mechanism = acted.mechanisms[name]
        if not isinstance(mechanism, SetTo):
            raise ValueError(f"do: {name} must be set to a value, not to a function or mechanism")
        settings[name] = mechanism.value.expand(n)
    return settings


def _path(model: SCM, acted: SCM, causes: list[str], outcome: str) -> list[str]:
    """Return the variables recomputed on the way to the outcome, if they can be enumerated."""
    below, above = acted.graph.descendants(causes), acted.graph.ancestors(outcome) | {outcome}
    path = [name for name in acted.graph.order if name in below & above]
    ways = 1
    for name in path:
        variable = model.variables[name]
        if not isinstance(variable, Discrete) or model.confounding.members:
            raise ValueError(f"{name}: is {variable}; expected discrete, without hidden causes")
        ways *= variable.classes
    if ways > MAX_WAYS:
        raise ValueError(f"{ways:,} ways through {path} are too many to enumerate")
    return path


def _extremes(
    path: Sequence[Mechanism], factual: Parents, world: Parents, outcome: str, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest probability, given what is known of the other world."""
    if not path:
        hit = (world[outcome][:, None] == wanted).any(1).double()
        return hit, hit
    mechanism, rest = path[0], path[1:]
    variable, value = mechanism.variable, factual[mechanism.name]
    assert isinstance(variable, Discrete)
    ends = []
    for code in range(variable.classes):
        further = {**world, mechanism.name: torch.full_like(value, code)}
        ends.append(_extremes(rest, factual, further, outcome, wanted))
    least, greatest = (torch.stack(end, 1) for end in zip(*ends, strict=True))
    caps = _caps(mechanism, factual, world, variable.classes)
    return -_best(-least, caps), _best(greatest, caps)


def _caps(mechanism: Mechanism, factual: Parents, world: Parents, classes: int) -> Tensor:
    """Return the upper limits of `q`, `(n, classes)`."""
    name, n = mechanism.name, len(factual[mechanism.name])
    value = factual[name].long()
    before = _probabilities(mechanism, factual, n, classes).gather(1, value[:, None])
    if (impossible := before[:, 0] <= 0).any():
        row = int(impossible.nonzero()[0])
        raise ValueError(
            f"{name}: a row's value has probability zero under its parents, first in row {row}: "
            f"{int(value[row])}"
        )
    caps = _probabilities(mechanism, world, n, classes) / before
    same = torch.ones(n, dtype=torch.bool, device=caps.device)
    for parent in mechanism.parents:
        same &= (factual[parent] == world[parent]).reshape(n, -1).all(1)
    itself = torch.nn.functional.one_hot(value, classes).to(caps)
    return torch.where(same[:, None], itself, caps)


def _probabilities(mechanism: Mechanism, values: Parents, n: int, classes: int) -> Tensor:
    """Return `P(x | pa)` of every x, `(n, classes)`, in double."""
    parents = {name: values[name].repeat_interleave(classes, 0) for name in mechanism.parents}
    codes = torch.arange(classes, device=mechanism.observed.device).repeat(n)
    log_prob = mechanism.log_prob(codes.to(mechanism.variable.dtype), parents)
    return log_prob.double().exp().reshape(n, classes)


def _best(worth: Tensor, caps: Tensor) -> Tensor:
    """Return `max_q sum_j q_j worth_j` with `0 <= q <= caps` and `sum q = 1`, `(n,)`."""
    # A linear objective over a box and a simplex: fill the values that are worth most, in turn.
    worth, order = worth.sort(1, descending=True)
    filled = caps.gather(1, order).cumsum(1).clamp_max(1)
    filled[:, -1] = 1  # the caps sum to at least one, but for rounding
    return (worth * filled.diff(dim=1, prepend=torch.zeros_like(filled[:, :1]))).sum(1)
