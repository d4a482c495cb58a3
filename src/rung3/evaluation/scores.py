"""Scores of rows, gathered batch by batch under a path, and summed up once all are there.

Nothing is averaged over batches: a mean and its interval are over rows, whatever the batch size. A
score that is not finite makes its mean undefined, and says so; the others are not touched.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor

from rung3.data.files import packed, read_tensors
from rung3.evaluation.bootstrap import Bootstrap, nothing

__all__ = ["Path", "Scores"]

Path: TypeAlias = tuple[str, ...]

CAPACITY = 1024
"""Scores that a column has room for at first."""


class _Column:
    """Numbers of which more come: in one tensor that doubles.

    A small tensor a batch, kept between large ones that are freed, leaves holes in memory that none
    of those fits again: gigabytes of them for 10,000 rows.
    """

    def __init__(self) -> None:
        self.room = torch.empty(CAPACITY, dtype=torch.float32)
        self.n = 0

    def extend(self, values: Tensor) -> None:
        """Add numbers, `(m,)`."""
        end = self.n + len(values)
        if end > len(self.room):
            self.room = torch.cat([self.room[: self.n], self.room.new_empty(2 * end - self.n)])
        self.room[self.n : end] = values
        self.n = end


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
        self._parts: dict[Path, _Column] = {}
        self._units: dict[Path, str] = {}
        self._refused: dict[Path, str] = {}
        self._partial: set[Path] = set()

    def add(self, path: Path, values: Tensor, unit: str, *, partial: bool = False) -> None:
        """Add the scores of a batch, unless the path was refused.

        Args:
            path: The path.
            values: One score a row, `(n,)`.
            unit: Their unit.
            partial: Whether NaN stands for rows that have no such score, and are left out.
        """
        if path not in self._refused:
            self._parts.setdefault(path, _Column()).extend(values.detach())
            self._units[path] = unit
            if partial:
                self._partial.add(path)

    def refuse(self, path: Path, reason: str) -> None:
        """Forget the scores of a path, take no more of them, and keep the reason."""
        self._refused.setdefault(path, reason)
        self._parts.pop(path, None)

    def discard(self, unwanted: Callable[[Path], bool]) -> None:
        """Forget the paths for which this is true."""
        self._parts = {path: part for path, part in self._parts.items() if not unwanted(path)}

    def unit(self, path: Path) -> str:
        """Return the unit of a path's scores."""
        return self._units[path]

    def __iter__(self) -> Iterator[Path]:
        return iter(self._parts)

    def __getitem__(self, path: Path) -> Tensor:
        column = self._parts[path]
        return column.room[: column.n].clone()

    def averaged(self, others: Sequence[Scores]) -> tuple[Scores, dict[Path, list[float]]]:
        """Average rows over itself and others that asked the same; return each one's mean too.

        What is refused in one of them is refused; what is in this one alone stays as it is.
        """
        all_scores, mean = [self, *others], Scores()
        for scores in all_scores:
            mean._refused = scores._refused | mean._refused
        means = {}
        for path in self:
            values = torch.stack([scores[path] for scores in all_scores if path in scores._parts])
            partial = path in self._partial
            average = values.nanmean(0) if partial else values.mean(0)
            mean.add(path, average, self._units[path], partial=partial)
            if len(values) > 1 and path not in mean._refused:
                means[path] = values.double().nanmean(1).tolist()
        return mean, means

    def summary(self, bootstrap: Bootstrap) -> dict[str, Any]:
        """Return means with intervals and units, as nested dicts along the paths."""
        nested: dict[str, Any] = {}
        for path in self:
            values = self[path]
            mean = bootstrap.of(len(values)).mean(values, partial=path in self._partial)
            put(nested, path, {**mean, "unit": self._units[path]})
        for path, reason in self._refused.items():
            put(nested, path, nothing(reason))
        return nested

    def packed(self) -> bytes:
        """Return every row's scores, `(n,)` a path, and their units, as a safetensors file."""
        scores = {json.dumps(path): self[path] for path in self}
        return packed(scores, "scores", [[path, self.unit(path)] for path in self])

    @classmethod
    def load(cls, file: pathlib.Path) -> Self:
        """Read a file of `packed`, in the same order.

        Raises:
            ValueError: If the file is damaged.
        """
        tensors, units = read_tensors(file, "scores")
        scores = cls()
        for path, unit in units:
            scores.add(tuple(path), tensors[json.dumps(path)], unit)
        return scores


def put(nested: dict[str, Any], path: Path, value: Any) -> None:
    """Set a value in nested dicts, made as needed."""
    for key in path[:-1]:
        nested = nested.setdefault(key, {})
    nested[path[-1]] = value
