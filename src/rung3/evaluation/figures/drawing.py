"""Draws several models' answers on one page: side by side, or below each other if they are wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rung3.cli.picture import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rung3.evaluation.figures.strips import Comparison, Panel

__all__ = ["draw"]

CELL, GAP, LINE, MARGIN = 0.56, 0.04, 0.13, 0.15
"""Inches: an image's longer side, between images, a line of text, and around all."""

LEFT = 0.95
"""Inches for what stands beside the rows."""

WIDE = 9
"""Columns from which on panels stand below each other."""

INK, PALE, ACCENT = "#333333", "#8a8f95", "#b5314a"


def draw(found: Comparison) -> Figure:
    """The picture of a comparison.

    Returns:
        A matplotlib figure; `figure.savefig(path)` writes it.
    """
    return _Page(found).figure


class _Page:
    """The figure, and where everything lies on it, in inches from its upper left corner.

    Args:
        found: What is drawn.
    """

    def __init__(self, found: Comparison) -> None:
        from matplotlib.figure import Figure

        self.found = found
        columns, rows, _, height, width = found.panels[0].images.shape
        self.cell = CELL * width / max(height, width), CELL * height / max(height, width)
        self.lines = max(head.count("\n") for head in found.heads) + 1
        self.top = (self.lines + 1.8) * LINE
        scored = any(e is not None for panel in found.panels for e in panel.errors)
        self.bottom = 2.4 * LINE if scored else 0.6 * LINE
        wide = columns * (self.cell[0] + GAP)
        tall = self.top + rows * (self.cell[1] + GAP) + self.bottom
        across = 1 if columns >= WIDE else len(found.panels)
        self.places = [
            (MARGIN + LEFT + k % across * (wide + 3 * MARGIN), 2.2 * LINE + k // across * tall)
            for k in range(len(found.panels))
        ]
        right = MARGIN + LEFT + across * wide + (across - 1) * 3 * MARGIN
        down = 2.2 * LINE + -(-len(found.panels) // across) * tall
        self.size = right + MARGIN, down + MARGIN / 2
        self.figure: Figure = Figure(figsize=self.size, dpi=150, facecolor="white")
        self._text(MARGIN, 1.4 * LINE, found.title, 8.5, weight="bold")
        for k, panel in enumerate(found.panels):
            self._panel(panel, *self.places[k], first=k % across == 0)

    def _panel(self, panel: Panel, x: float, y: float, first: bool) -> None:
        """One model's answers, their left edge at x and their upper edge at y."""
        wide, tall = self.cell[0] + GAP, self.cell[1] + GAP
        self._text(x, y + LINE, panel.title, 8, weight="bold", color=ACCENT, va="baseline")
        for k, head in enumerate(self.found.heads):
            centre = x + k * wide + self.cell[0] / 2
            self._text(centre, y + self.top - GAP, head, 6.5, ha="center")
        for row, label in enumerate(self.found.labels):
            middle = y + self.top + row * tall + self.cell[1] / 2
            if first:
                self._text(x - 2 * GAP, middle, label, 6, ha="right", va="center")
            for k in range(len(self.found.heads)):
                axes = self._axes(x + k * wide, y + self.top + row * tall)
                show(axes, panel.images[k, row])
        below = y + self.top + len(self.found.labels) * tall
        for k, error in enumerate(panel.errors):
            if error is not None:
                centre = x + k * wide + self.cell[0] / 2
                self._text(centre, below, _short(error), 6.5, ha="center", va="top")
        if first and any(error is not None for error in panel.errors):
            self._text(x - 2 * GAP, below, self.found.error, 6, ha="right", va="top", color=PALE)
        if panel.note:
            after = x + 0.075 * len(panel.title) + 0.2
            self._text(after, y + LINE, panel.note, 6.5, color=PALE, va="baseline")

    def _axes(self, x: float, y: float) -> Any:
        across, down = self.size
        wide, tall = self.cell
        return self.figure.add_axes((x / across, 1 - (y + tall) / down, wide / across, tall / down))

    def _text(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        given: dict[str, Any] = {"va": "bottom", "color": INK, "linespacing": 1.15} | style
        self.figure.text(x / self.size[0], 1 - y / self.size[1], text, fontsize=size, **given)


def _short(error: float) -> str:
    return "0" if error == 0 else f"{error:.2g}" if error < 10 else f"{error:.0f}"
