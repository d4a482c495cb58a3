"""The noise that a model abducts from many rows, some at a time, variable by variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from rung3.data.rows import Noise, Rows, map_noise
from rung3.data.seeding import Seed, base_seed, stream
from rung3.scm.floating import in_own_precision

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Abducted", "abducted"]

Abducted: TypeAlias = Noise | str
"""Noise `(n, ...)`, or the words of a mechanism that refused to abduct it."""

AT_ONCE = 256


@in_own_precision
@torch.no_grad()
def abducted(model: SCM, rows: Rows, seed: Seed = None) -> dict[str, Abducted]:
    """Return the abducted noise of rows by variable, on the CPU; noise that rows carry is ignored.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> rows = world.sample(3, seed=0)
        >>> torch.equal(abducted(world, rows)["x1"], rows["x1"] - 1)
        True
    """
    base, bare = base_seed(seed), Rows(dict(rows)).to(model.device)
    noises: dict[str, Abducted] = {}
    for name in model.mechanisms:
        parts: list[Noise] = []
        try:
            for start in range(0, rows.n, AT_ONCE):
                part = bare[start : start + AT_ONCE]
                noise = model.abduct_only(part, {name}, seed=stream(base, f"{name} {start}"))
                parts.append(map_noise(Tensor.cpu, noise[name]))
        except ValueError as refused:
            noises[name] = str(refused)
        else:
            noises[name] = _joined(parts)
    return noises


def _joined(parts: list[Noise]) -> Noise:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    dicts = [part for part in parts if isinstance(part, dict)]
    return {name: torch.cat([part[name] for part in dicts]) for name in first}
