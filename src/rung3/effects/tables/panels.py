"""One plain panel, as the figures of an effect share it: it reads on a light and on a dark page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rung3.data.pictures import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["legend", "panel"]

WIDTH = 5.2
"""Inches."""

LINE = 0.32
"""Inches of a line with a name."""


def panel(across: str, up: str = "", *, height: float = 3.0, lines: int = 0) -> tuple[Figure, Axes]:
    """Return a figure with one panel.

    Args:
        across: Label of the horizontal axis.
        up: Label of the vertical axis.
        height: Inches.
        lines: Number of named lines, which the height then follows from.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 0.8 + LINE * lines if lines else height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(colors=INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.set_xlabel(across, color=INK, fontsize=9)
    axes.set_ylabel(up, color=INK, fontsize=9)
    if lines:
        axes.set_ylim(-0.6, lines - 0.4)
    return figure, axes


def legend(axes: Axes) -> None:
    """Add a legend."""
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
