"""Cells of the joint of some variables: categories as they are, numbers in intervals.

An interval has as many of the rows as any other; what is set later falls into the same intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Discrete, Variable

__all__ = ["Cells", "Levels"]


class Levels:
    """The levels of one variable: its categories, or intervals between edges.

    Args:
        variable: The variable, a scalar.
        edges: Where one interval of a number ends and the next begins, rising.

    Attributes:
        count: Number of levels.
    """

    def __init__(self, variable: Variable, edges: Tensor) -> None:
        self.edges = None if isinstance(variable, Discrete) else edges
        self.count = variable.classes if isinstance(variable, Discrete) else len(edges) + 1

    @classmethod
    def of_rows(cls, variable: Variable, values: Tensor, bins: int) -> Levels:
        """Make intervals, `bins` at most, that have as many of these values `(n,)` each.

        Of a value that many rows share they have more; none is empty.
        """
        places = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
        values = values.double()
        above = values[values > values.min()]
        if not len(above):
            return cls(variable, above)
        # An edge at the least value would have nothing below it.
        return cls(variable, values.quantile(places).clamp_min(above.min()).unique())

    @classmethod
    def around(cls, variable: Variable, points: Tensor) -> Levels:
        """Make an interval around each of these points, rising."""
        return cls(variable, points.double().unfold(0, 2, 1).mean(1))

    @property
    def width(self) -> float:
        """Mean width of the intervals that have two edges; 0 where there is none."""
        if self.edges is None or len(self.edges) < 2:
            return 0.0
        return float(self.edges[-1] - self.edges[0]) / (len(self.edges) - 1)

    def of(self, values: Tensor) -> Tensor:
        """Return the level of each value, `(n,)`."""
        if self.edges is None:
            return values.long()
        return torch.bucketize(values.double(), self.edges, right=True)


class Cells:
    """Cells of several variables together, numbered in the order of their levels.

    Args:
        levels: The levels of each variable, by name.
    """

    def __init__(self, levels: Mapping[str, Levels]) -> None:
        self.levels = dict(levels)

    @property
    def count(self) -> int:
        """Number of cells; one if there are no variables."""
        count = 1
        for levels in self.levels.values():
            count *= levels.count
        return count

    def of(self, rows: Rows) -> Tensor:
        """Return the number of each row's cell, `(n,)`."""
        number = torch.zeros(rows.n, dtype=torch.int64)
        for name, levels in self.levels.items():
            number = number * levels.count + levels.of(rows[name])
        return number

    def number(self, codes: Sequence[int]) -> int:
        """Return the number of the cell with these levels."""
        number = 0
        for code, levels in zip(codes, self.levels.values(), strict=True):
            number = number * levels.count + code
        return number
