"""What is costly and always the same, kept in files: rendered truths, and trained oracles.

A file's name is the hash of everything that its content depends on, so a file is right or is not
found: the world (its name, mechanisms, tensors, and the source of their modules), the rows with
their noise, and the intervention; or the rows and settings that oracles were trained with. Worlds
with Python functions for equations are not cached, as nothing tells when a function has changed.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from rung3.data.files import digest, read_tensors, write_tensors
from rung3.data.rows import Rows

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["Cache", "Truths", "user_cache"]

T = TypeVar("T")


def user_cache() -> Cache:
    """The user's cache: `RUNG3_CACHE`, or `rung3` in `XDG_CACHE_HOME`, or in `~/.cache`."""
    beside = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rung3"
    return Cache(os.environ.get("RUNG3_CACHE") or beside)


class Cache:
    """A folder of files that are named by a hash; it may be removed at any time.

    Args:
        folder: The folder; made when something is kept.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, kind: str, parts: Iterable[str]) -> Path:
        """The file of these parts."""
        text = "\n".join([version("rung3"), kind, *parts])
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self.folder / kind / f"{name}.safetensors"

    def find(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """What a file holds; none if it is not there, or, with a warning, if it is damaged."""
        try:
            return read(path) if path.is_file() else None
        except (ValueError, OSError) as error:
            warnings.warn(f"the cache is made anew: {error}", stacklevel=2)
            return None

    def keep(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write a file; with a warning, if that cannot be done."""
        try:
            write(path)
        except OSError as error:
            warnings.warn(f"nothing is kept in the cache {self.folder}: {error}", stacklevel=2)


class Truths:
    """True counterfactuals of one world, from a cache where they are there.

    Args:
        cache: The cache; `None` for none.
        world: The world.

    Attributes:
        found: Rows that were answered from the cache.
    """

    def __init__(self, cache: Cache | None, world: SCM) -> None:
        self.world = world
        self.cache = cache if _told_by_its_source(world) else None
        self.found = 0
        self._world = _fingerprint(world) if self.cache else []

    def ask(
        self, rows: Rows, do: Mapping[str, Any], hold: Collection[str], ask: Callable[[], Rows]
    ) -> Rows:
        """What would have been, by name; asked, and kept, if it is not in the cache."""
        if self.cache is None or not all(isinstance(v, Tensor | int | float) for v in do.values()):
            return ask()
        path = self.cache.path("truths", [*self._world, *_question(rows, do, hold)])
        known = self.cache.find(path, _read)
        if known is not None:
            self.found += rows.n
            return Rows(known)
        found = ask()
        self.cache.keep(path, lambda draft: _write(draft, found))
        return found


def _told_by_its_source(world: SCM) -> bool:
    """Whether every mechanism can be written down: none is a Python function."""
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


def _question(rows: Rows, do: Mapping[str, Any], hold: Collection[str]) -> list[str]:
    targets = {name: torch.as_tensor(value) for name, value in do.items()}
    noise: dict[str, Tensor] = {}
    for name, part in (rows.noise or {}).items():
        parts = {"": part} if isinstance(part, Tensor) else part
        noise |= {f"{name}.{key}": value for key, value in parts.items()}
    return [digest(dict(rows)), digest(noise), digest(targets), " ".join(sorted(hold))]


def _write(path: Path, rows: Rows) -> None:
    """Images of whole grey levels as bytes, which are a quarter as long."""
    tensors = {}
    for name, value in rows.items():
        levels = (value * 255).round()
        whole = value.dtype == torch.float32 and value.ndim == 4
        whole = whole and torch.equal(levels.clamp(0, 255) / 255, value)
        tensors[name] = levels.byte() if whole else value
    write_tensors(path, tensors, "truths")


def _read(path: Path) -> dict[str, Tensor]:
    tensors, _ = read_tensors(path, "truths")
    return {k: t.float() / 255 if t.dtype == torch.uint8 else t for k, t in tensors.items()}
