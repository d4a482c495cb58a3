"""`Spline` and `Chain`: zuko's rational-quadratic spline and its composition, quicker of few rows.

    Durkan et al. 2019, *Neural spline flows* (arXiv 1906.04032)

Of one row, zuko's look-up of knots and its wrappers take most of the time of a query. Knots are
`(features, K + 1)`, the same for all rows, or `(n, features, K + 1)`. Those of one number that no
longer change are a table of a row for each bin. The numbers are zuko's, bit for bit.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Transform
from zuko.transforms import ComposedTransform, MonotonicRQSTransform

__all__ = ["Chain", "Spline"]


class Chain(ComposedTransform):  # type: ignore[misc]
    """Transforms one after the other, whose inverses are made once."""

    inv = Transform.inv

    @cached_property
    def _backwards(self) -> list[Transform]:
        return [transform.inv for transform in reversed(self.transforms)]

    def _inverse(self, y: Tensor) -> Tensor:
        for transform in self._backwards:
            y = transform(y)
        return y


class Spline(MonotonicRQSTransform):  # type: ignore[misc]
    """A monotone spline within a box, the identity outside of it; arguments are those of zuko."""

    def bin(self, k: Tensor) -> tuple[Any, ...]:
        """Return which values lie inside, and their bins: two knots, two slopes, the mean slope.

        Args:
            k: Numbers of the bins, `(n, features)`; -1 and K are beyond the box.
        """
        inside, k = (k >= 0) & (k < self.bins), k % self.bins
        ends = torch.stack((k, k + 1), -1)
        (x0, x1), (y0, y1), (d0, d1) = (
            knots.expand(*k.shape, -1).gather(-1, ends).unbind(-1)
            for knots in (self.horizontal, self.vertical, self.derivatives)
        )
        return inside, x0, x1, y0, y1, d0, d1, (y1 - y0) / (x1 - x0)

    def _call(self, x: Tensor) -> Tensor:
        if self.table is None or x.dtype != self.table.dtype:
            return cast(Tensor, super()._call(x))
        inside, x0, y0, d0, slope, width, height, bend = self._located(self.horizontal, x)[:8]
        z = inside * (x - x0) / width
        rest = 1 - z
        y = y0 + height * (slope * z**2 + d0 * z * rest) / (slope + bend * z * rest)
        return torch.where(inside > 0, y, x)

    def _inverse(self, y: Tensor) -> Tensor:
        if self.table is None or y.dtype != self.table.dtype:
            return cast(Tensor, super()._inverse(y))
        inside, x0, y0, _, slope, width, _, bend, first, second = self._located(self.vertical, y)
        above = inside * (y - y0)
        bent = above * bend
        a, b, c = first + bent, second - bent, -slope * above
        z = 2 * c / (-b - (b**2 - 4 * a * c).sqrt())
        return torch.where(inside > 0, x0 + z * width, y)

    def _located(self, knots: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Return the columns of the table for values."""
        rows = torch.searchsorted(knots[0], value.contiguous())
        return self.table[rows].unbind(-1)  # type: ignore[index]

    @cached_property
    def table(self) -> Tensor | None:
        """What a call needs of each bin, where bins are one number's and stay, `(K + 2, 10)`.

        Rows are of bins -1 to K, of which the first and the last are beyond the box. Columns are
        whether the bin is inside, the knots and slope where it begins, its mean slope, width and
        height, and what follows from them.
        """
        knots = self.horizontal, self.vertical, self.derivatives
        if any(part.requires_grad or part.shape[:-1] != (1,) for part in knots):
            return None
        x, y, d = (part[0] for part in knots)
        place = torch.arange(-1, self.bins + 1, device=x.device)
        width, height, d0 = x.diff(), y.diff(), d[:-1]
        slope = height / width
        columns = (x[:-1], y[:-1], d0, slope, width, height, d0 + d[1:] - 2 * slope,
                   height * (slope - d0), height * d0)  # fmt: skip
        inside = ((place >= 0) & (place < self.bins)).to(x)
        return torch.cat([inside[:, None], torch.stack(columns, -1)[place % self.bins]], 1)
