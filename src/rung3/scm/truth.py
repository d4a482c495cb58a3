"""The true counterfactuals of a world, computed once and kept in a cache.

A file of the cache is named by the world (its name, mechanisms, tensors, and the source of their
modules), the rows with their noise, and the intervention. Worlds with Python functions for
equations are not cached: nothing tells when a function has changed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rung3.data.cache import Cache
from rung3.data.files import digest, read_tensors, write_tensors
from rung3.data.rows import Rows, noise_parts
from rung3.data.seeding import base_seed
from rung3.mechanisms.base import Mechanism
from rung3.scm.scm import SCM

__all__ = ["Truths", "true_counterfactual"]


def true_counterfactual(
    truth: SCM,
    rows: Rows,
    do: Mapping[str, Any],
    device: torch.device,
    hold: Collection[str] = (),
    truths: Truths | None = None,
) -> Rows | str:
    """Return the true counterfactual of a world, or why it is not known.

    Args:
        truth: The world.
        rows: Rows that carry the world's noise, or from which it can be abducted.
        do: The intervention.
        device: Device of the answer.
        hold: Variables kept at their factual values.
        truths: Where answers of this world may have been kept.

    Returns:
        The rows, or the world's message where it refuses.
    """
    there = truth.device
    moved = {k: v.to(there) if isinstance(v, Tensor | Mechanism) else v for k, v in do.items()}
    factual = rows.to(there)

    def ask() -> Rows:  # under a seed of its own: a model that draws alike must not seem right
        return truth.counterfactual(factual, moved, hold=hold, seed=base_seed(0, "truth"))

    try:
        answer = ask() if truths is None else truths.ask(factual, moved, hold, ask)
        return answer.to(device)
    except ValueError as refused:
        return str(refused)


class Truths:
    """True counterfactuals of one world, from a cache where they are there.

    Args:
        cache: The cache; `None` for none.
        world: The world.
    """

    def __init__(self, cache: Cache | None, world: SCM) -> None:
        self.world = world
        self.cache = cache if _is_described(world) else None
        self._world = _fingerprint(world) if self.cache else []

    def ask(
        self, rows: Rows, do: Mapping[str, Any], hold: Collection[str], ask: Callable[[], Rows]
    ) -> Rows:
        """Return the true counterfactual from the cache, or ask the world and cache the answer.

        Args:
            rows: The factual rows.
            do: The intervention.
            hold: Variables kept at their factual values.
            ask: Gives the answer, if it is not in the cache.
        """
        if self.cache is None or not all(isinstance(v, Tensor | int | float) for v in do.values()):
            return ask()
        path = self.cache.path("truths", [*self._world, *_query_parts(rows, do, hold)])
        known = self.cache.find(path, _read)
        if known is not None:
            return Rows(known)
        answer = ask()
        self.cache.keep(path, lambda draft: _write(draft, answer))
        return answer


def _is_described(world: SCM) -> bool:
    """Say whether every mechanism can be written down: none is a Python function."""
    try:
        for mechanism in world.mechanisms.values():
            mechanism.config()
    except ValueError:
        return False
    return True


def _fingerprint(world: SCM) -> list[str]:
    modules = {type(mechanism).__module__ for mechanism in world.mechanisms.values()}
    sources = "".join(inspect.getsource(sys.modules[name]) for name in sorted(modules))
    tensors = dict(world.named_parameters()) | dict(world.named_buffers())
    return [str(world.world), str(world), digest(tensors), sources]


def _query_parts(rows: Rows, do: Mapping[str, Any], hold: Collection[str]) -> list[str]:
    targets = {name: torch.as_tensor(value) for name, value in do.items()}
    noise: dict[str, Tensor] = {}
    for name, part in (rows.noise or {}).items():
        noise |= {f"{name}.{key}": value for key, value in noise_parts(part).items()}
    return [digest(dict(rows)), digest(noise), digest(targets), " ".join(sorted(hold))]


def _write(path: Path, rows: Rows) -> None:
    """Write images of whole grey levels as bytes, which are a quarter as long."""
    tensors = {}
    for name, value in rows.items():
        levels = (value * 255).round()
        whole = value.dtype == torch.float32 and value.ndim >= 4
        whole = whole and torch.equal(levels.clamp(0, 255) / 255, value)
        tensors[name] = levels.byte() if whole else value
    write_tensors(path, tensors, "truths")


def _read(path: Path) -> dict[str, Tensor]:
    tensors, _ = read_tensors(path, "truths")
    return {k: t.float() / 255 if t.dtype == torch.uint8 else t for k, t in tensors.items()}
