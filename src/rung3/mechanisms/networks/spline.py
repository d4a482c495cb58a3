"""`Spline`: zuko's rational-quadratic spline, with a quicker look-up of the knots about a value.

    Durkan et al. 2019, *Neural spline flows* (arXiv 1906.04032)

Of one row, zuko's look-up takes most of the time of a query. Knots are `(features, K + 1)`, the
same for all rows, or `(n, features, K + 1)`. Those of one number that no longer change are a table
of a row for each bin.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from zuko.transforms import MonotonicRQSTransform

__all__ = ["Spline"]


class Spline(MonotonicRQSTransform):  # type: ignore[misc]
    """A monotone spline within a box, the identity outside of it; arguments are those of zuko."""

    def bin(self, k: Tensor) -> tuple[Any, ...]:
        """Return which values lie inside, and their bins: two knots, two slopes, the mean slope.

        Args:
            k: Numbers of the bins, `(n, features)`; -1 and K are beyond the box.
        """
        inside, k = (k >= 0) & (k < self.bins), k % self.bins
        if self.table is not None:
            return inside, *self.table[k].unbind(-1)
        ends = torch.stack((k, k + 1), -1)
        (x0, x1), (y0, y1), (d0, d1) = (
            knots.expand(*k.shape, -1).gather(-1, ends).unbind(-1)
            for knots in (self.horizontal, self.vertical, self.derivatives)
        )
        return inside, x0, x1, y0, y1, d0, d1, (y1 - y0) / (x1 - x0)

    @cached_property
    def table(self) -> Tensor | None:
        """What `bin` returns of each bin, `(K, 7)`, where bins are one number's and stay."""
        knots = self.horizontal, self.vertical, self.derivatives
        if any(part.requires_grad or part.shape[:-1] != (1,) for part in knots):
            return None
        x, y, d = (part[0] for part in knots)
        slope = y.diff() / x.diff()
        return torch.stack((x[:-1], x[1:], y[:-1], y[1:], d[:-1], d[1:], slope), -1)
