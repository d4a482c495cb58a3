"""Scores of rows, gathered batch by batch under a path, and summed up once all are there.

Nothing is averaged over batches: a mean and its interval are over rows, whatever the batch size.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor

from rung3.evaluation import tensors
from rung3.evaluation.bootstrap import Bootstrap

__all__ = ["Path", "Scores"]

Path: TypeAlias = tuple[str, ...]


class Scores:
    """One score a row under each path, such as `("composition", "image", "kept", "10")`.

    Example:
        >>> scores = Scores()
        >>> scores.add(("error",), torch.tensor([1.0, 2.0]), "px")
        >>> scores.add(("error",), torch.tensor([6.0]), "px")
        >>> scores.summary(Bootstrap(3, 0))
        {'error': {'mean': 3.0, 'low': None, 'high': None, 'unit': 'px'}}
    """

    def __init__(self) -> None:
        self._parts: dict[Path, list[Tensor]] = {}
        self._units: dict[Path, str] = {}

    def add(self, path: Path, values: Tensor, unit: str) -> None:
        """Add the scores of a batch, `(n,)`."""
        self._parts.setdefault(path, []).append(values.detach().float().cpu())
        self._units[path] = unit

    def discard(self, unwanted: Callable[[Path], bool]) -> None:
        """Forget the paths for which this is true."""
        self._parts = {path: part for path, part in self._parts.items() if not unwanted(path)}

    def __iter__(self) -> Iterator[Path]:
        return iter(self._parts)

    def __getitem__(self, path: Path) -> Tensor:
        return torch.cat(self._parts[path])

    def summary(self, bootstrap: Bootstrap) -> dict[str, Any]:
        """Means with intervals and units, as nested dicts along the paths."""
        nested: dict[str, Any] = {}
        for path in self:
            put(nested, path, bootstrap.mean(self[path]) | {"unit": self._units[path]})
        return nested

    def unit(self, path: Path) -> str:
        """The unit of a path's scores."""
        return self._units[path]

    def save(self, file: pathlib.Path) -> None:
        """Write every row's scores, `(n,)` a path, and their units."""
        tensors.write(file, {path: self[path] for path in self}, [[p, self.unit(p)] for p in self])

    @classmethod
    def load(cls, file: pathlib.Path) -> Self:
        """What `save` wrote, in the same order.

        Raises:
            ValueError: If the file is damaged.
        """
        found, units = tensors.read(file)
        scores = cls()
        for path, unit in units:
            scores.add(tuple(path), found[tuple(path)], unit)
        return scores


def put(nested: dict[str, Any], path: Path, value: Any) -> None:
    """Set a value in nested dicts, made as needed."""
    for key in path[:-1]:
        nested = nested.setdefault(key, {})
    nested[path[-1]] = value
