"""Names beside the points of a plot, each at the corner where it is least in the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["label"]

SIZE = 7.5
"""Of the letters, in points."""

AWAY = 6
"""Points between a name and its point."""


class Box(NamedTuple):
    """Centre and half sides of what is in the way, in pixels."""

    x: float
    y: float
    wide: float
    high: float

    def overlap(self, other: Box) -> float:
        """Area that two boxes share."""
        across = self.wide + other.wide - abs(self.x - other.x)
        up = self.high + other.high - abs(self.y - other.y)
        return max(0.0, across) * max(0.0, up)


def label(
    axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]], ink: str
) -> None:
    """Write each name beside its point, once limits and layout of the axes stand.

    Args:
        axes: The axes.
        names: A name for each point.
        points: In data coordinates.
        ink: Colour of the names.
    """
    pixel = axes.figure.dpi / 72
    frame = axes.get_window_extent()
    side = AWAY * pixel
    taken = [Box(x, y, side, side) for x, y in axes.transData.transform(points)]
    for name, point, own in zip(names, points, list(taken), strict=True):
        wide, high = 0.3 * SIZE * len(name) * pixel, 0.6 * SIZE * pixel
        corners = {
            (right, up): Box(own.x + right * (own.wide + wide), own.y + up * own.high, wide, high)
            for right in (1, -1)
            for up in (1, -1)
        }
        cost = {
            corner: _outside(box, frame.x0, frame.x1) + sum(map(box.overlap, taken))
            for corner, box in corners.items()
        }
        right, up = min(cost, key=lambda corner: cost[corner])
        taken.append(corners[right, up])
        axes.annotate(
            name, point, (right * AWAY, up * AWAY), textcoords="offset points", fontsize=SIZE,
            color=ink, ha="left" if right > 0 else "right", va="center",
        )  # fmt: skip


def _outside(box: Box, left: float, right: float) -> float:
    """Area of a box that lies beyond the left or the right."""
    return max(0.0, box.x + box.wide - right, left - box.x + box.wide) * box.high
