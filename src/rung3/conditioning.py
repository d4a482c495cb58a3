"""Conditioning on evidence: `p(x | e)` for `SCM.sample(given=)`.

Where everything upstream of the evidence is given as well, forward sampling is exact. Otherwise
everything upstream of the evidence is drawn forward with the evidence clamped, each draw is
weighted by `prod_{k in e} p(e_k | pa_k)`, and rows are resampled in proportion (likelihood
weighting; Fung and Chang 1990). How far that can be trusted is the effective sample size
`(sum w)^2 / sum w^2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung3 import propagation
from rung3.seeding import seeded, stream

if TYPE_CHECKING:
    from rung3.scm import SCM

__all__ = ["condition"]

PROPOSALS = 10_000


def condition(
    model: SCM, evidence: Mapping[str, Tensor], n: int, base: int
) -> tuple[dict[str, Tensor], float | None]:
    """Values `(n, ...)` of the evidence and all upstream of it, given the evidence.

    Args:
        model: The model.
        evidence: One value a variable.
        n: Number of rows.
        base: The seed.

    Returns:
        The values, and the effective sample size if they were found by weighting.

    Raises:
        ValueError: If the evidence has probability zero.
    """
    for name, value in evidence.items():
        if model.variables[name].is_missing(value.unsqueeze(0)).any():
            raise ValueError(f"given: {name} is NaN; leave out what is not known")
    upstream = set(model.graph.ancestors(list(evidence))) | set(evidence)
    heard = {p for name in upstream for p in model.mechanisms[name].parents}
    upstream |= heard & model.confounding.members.keys()
    if upstream == set(evidence):
        if evidence:
            _weights(model, evidence, _clamp(evidence, 1), base)  # refuses what cannot be
        return _clamp(evidence, n), None
    m = max(PROPOSALS, 10 * n)
    values, _ = propagation.generate(model, m, base, _clamp(evidence, m), upstream)
    weights = _weights(model, evidence, values, base)
    generator = stream(base, "resampling", model.device)
    chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
    size = float(weights.sum() ** 2 / weights.square().sum())
    return {name: values[name][chosen] for name in upstream}, size


def _clamp(evidence: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    return {name: value.expand(n, *value.shape) for name, value in evidence.items()}


def _weights(
    model: SCM, evidence: Mapping[str, Tensor], values: Mapping[str, Tensor], base: int
) -> Tensor:
    """`prod p(e_k | pa_k)` of each draw, up to a factor, `(m,)`."""
    total = torch.zeros((), device=model.device)
    with torch.no_grad(), seeded(base, "weights", model.device):  # a bound may be a random one
        for name in evidence:
            mechanism = model.mechanisms[name]
            parents = {parent: values[parent] for parent in mechanism.parents}
            total = total + mechanism.log_prob(values[name], parents)
    if not (total > -torch.inf).any():
        raise ValueError(
            f"given: the evidence on {list(evidence)} has probability zero in this model"
        )
    return (total - total.max()).exp().double()
