"""An outcome and its causes, drawn forward from noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rung3.data.rows import Noise, noise_parts, spell_unknown
from rung3.data.seeding import stream
from rung3.mechanisms.base import Mechanism
from rung3.scm.scm import SCM

__all__ = ["lineage", "predict", "prior"]


def lineage(model: SCM, outcome: str) -> list[str]:
    """Return the outcome and its causes, causes first."""
    if outcome not in model.variables:
        raise ValueError(f"outcome: {spell_unknown([outcome], model.variables)}")
    if model.variables[outcome].shape:
        raise ValueError(f"{outcome}: expected one number a row, and it is an array")
    if model.confounding.members:
        raise ValueError("attribution: hidden causes join variables, whose noise is not their own")
    wanted = {outcome, *model.graph.ancestors(outcome)}
    return [name for name in model.graph.order if name in wanted]


def prior(
    mechanisms: Mapping[str, Mechanism], names: list[str], n: int, base: int, device: torch.device
) -> dict[str, Noise]:
    """Draw noise `(n, ...)`, the same for mechanisms of one family under one seed."""
    values: dict[str, Tensor] = {}
    noise: dict[str, Noise] = {}
    for name in names:
        mechanism = mechanisms[name]
        parents = {parent: values[parent] for parent in mechanism.parents}
        noise[name] = mechanism.sample_noise(n, parents, stream(base, name, device))
        value = mechanism.predict(noise[name], parents)
        values[name] = value.expand(n, *value.shape[1:])
    return noise


def predict(
    mechanisms: Mapping[str, Mechanism], names: list[str], noise: Mapping[str, Noise]
) -> dict[str, Tensor]:
    """Predict variables `(n, ...)` that have all their causes among the names."""
    n = next(len(t) for part in noise.values() for t in noise_parts(part).values())
    values: dict[str, Tensor] = {}
    for name in names:
        parents = {parent: values[parent] for parent in mechanisms[name].parents}
        value = mechanisms[name].predict(noise.get(name, {}), parents)
        values[name] = value.expand(n, *value.shape[1:])
    return values
