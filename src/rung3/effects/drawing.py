"""Draws a grid of effects, on one scale with zero in its middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from rung3.cli.picture import by_channel, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rung3.effects.grid import Column, Grid

__all__ = ["draw"]

CELL, GAP, MARGIN, LINE, BARS = 0.85, 0.05, 0.12, 0.1, 0.95
"""Inches: an image's longer side, between cells, around all, a line of text, and of the bars."""

INK, PALE, ZERO = "#333333", "#c8c8c8", "#f7f7f7"

SIGNED, SPREAD = "RdBu_r", "viridis"
"""Colours that all kinds of colour vision can order: blue, white, red; and dark to bright."""


def draw(grid: Grid, scale: float | None = None) -> Figure:
    """A picture of a grid: of each row its counterfactuals and, below, the truth and effects.

    Args:
        grid: What `rung3.effects.grid` found.
        scale: Effect at the end of the colours, in grey levels (of real-valued images, as a share
            of their range); the image's whole range, if not given. What is beyond gets the end's.

    Returns:
        A matplotlib figure; `figure.savefig(path)` writes it.

    Raises:
        ValueError: If the scale is not positive.
    """
    from rung3.data.distances import scale as levels

    most = levels(grid.image) if scale is None else scale
    if not most > 0:
        raise ValueError(f"scale: expected a positive number, got {most}")
    return _Drawing(grid, levels(grid.image), most).figure


class _Drawing:
    """The figure, and where its cells are.

    Args:
        grid: What is drawn.
        levels: Grey levels of the image's range.
        most: Effect at the end of the colours, in grey levels.
    """

    def __init__(self, grid: Grid, levels: float, most: float) -> None:
        from matplotlib.figure import Figure

        self.grid, self.levels, self.most = grid, levels, most
        spread = grid.columns[0].imagined.particles is not None
        self.bands = [
            *(["truth"] if grid.known else []),
            *("direct", "indirect", "total"),
            *(["spread (s.d.)"] if spread else []),
        ]
        height, width = grid.image.shape[1:]
        self.cell = CELL * width / max(height, width), CELL * height / max(height, width)
        self.lines = sum(1 for _ in grid.scalars(grid.rows, 0)) + 1
        self.block = self.lines * LINE + (1 + len(self.bands)) * (self.cell[1] + GAP) + 2 * GAP
        heads = max(_head(column).count("\n") for column in grid.columns) + 1
        self.top = MARGIN + 1.5 * heads * LINE
        across = (1 + len(grid.columns)) * (self.cell[0] + GAP)
        self.size = 2 * MARGIN + across + BARS, self.top + grid.rows.n * self.block + MARGIN
        self.figure: Figure = Figure(figsize=self.size, dpi=150, facecolor="white")
        self._fill()

    def _fill(self) -> None:
        for row, label in enumerate(self.grid.labels):
            axes = self._axes(row, 0, 0)
            show(axes, self.grid.rows[self.grid.outcome][row])
            self._caption(axes, row, self.grid.rows, bold=label)
            for band, name in enumerate(self.bands, 1):
                blank = self._axes(row, band, 0)
                blank.set_axis_off()
                blank.text(0.95, 0.5, name, ha="right", va="center", fontsize=7, color=INK)
            for k, column in enumerate(self.grid.columns, 1):
                self._column(row, k, column)
        for k, column in enumerate(self.grid.columns, 1):
            x = MARGIN + k * (self.cell[0] + GAP) + self.cell[0] / 2
            self._text(x, self.top, _head(column), 7)
        self._text(MARGIN + self.cell[0] / 2, self.top, "factual", 7)
        self._bar(0, SIGNED, -self.most, "effect")
        if "spread (s.d.)" in self.bands:
            self._bar(1, SPREAD, 0, "spread (s.d.)")

    def _column(self, row: int, k: int, column: Column) -> None:
        """A counterfactual, the truth where it is known, and the effects."""
        draws = column.imagined[self.grid.outcome]
        few = draws if column.imagined.particles else draws[None]
        axes = self._axes(row, 0, k)
        show(axes, few[:, row].mean(0))
        self._caption(axes, row, column.imagined)
        found = column.effect
        for band, name in enumerate(self.bands, 1):
            axes = self._axes(row, band, k)
            if name == "truth":
                self._truth(axes, row, column)
            elif name == "indirect" and not column.through:
                self._blank(axes, "no mediator")
            elif name.startswith("spread"):
                self._map(axes, few[:, row].std(0), SPREAD, 0)
            else:
                effect: Tensor = getattr(found, name)
                mean = effect if found.particles is None else effect.mean(0)
                self._map(axes, mean[row], SIGNED, -self.most)

    def _truth(self, axes: Axes, row: int, column: Column) -> None:
        """What would really have been."""
        if column.true is None:
            self._blank(axes, "not known")
        else:
            show(axes, column.true[self.grid.outcome][row])

    def _blank(self, axes: Axes, word: str) -> None:
        """An empty cell, and why."""
        self._frame(axes)
        axes.set_facecolor(ZERO)
        axes.text(0.5, 0.5, word, ha="center", va="center", fontsize=6, color="#999999")

    def _frame(self, axes: Axes) -> None:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=PALE, linewidth=0.5)

    def _map(self, axes: Axes, values: Tensor, colours: str, least: float) -> None:
        """A map of grey levels: channels side by side, or of a spread their mean."""
        self._frame(axes)
        shown = (self.levels * (by_channel(values) if least else values.mean(0))).numpy(force=True)
        axes.imshow(shown, cmap=colours, vmin=least, vmax=self.most, interpolation="nearest")

    def _caption(self, axes: Axes, row: int, values: Any, bold: str = "") -> None:
        """The image's causes, above it."""
        lines = [f"{name} {value}" for name, value in self.grid.scalars(values, row)]
        axes.text(
            0, 1.03, "\n".join(lines), fontsize=5.2, color=INK, va="bottom", linespacing=1.15,
            transform=axes.transAxes,
        )  # fmt: skip
        above = 1.03 + (len(lines) * 1.15 * 5.2 / 72 + 0.02) / self.cell[1]
        axes.text(
            0, above, bold, fontsize=6.5, color=INK, va="bottom", weight="bold",
            transform=axes.transAxes,
        )  # fmt: skip

    def _axes(self, row: int, band: int, column: int) -> Axes:
        """The cell of a band of a row, in a column."""
        wide, tall = self.cell
        down = self.top + row * self.block + self.lines * LINE + band * (tall + GAP) + tall
        x, y = MARGIN + column * (wide + GAP), self.size[1] - down
        return self._at(x, y, wide, tall)

    def _at(self, x: float, y: float, wide: float, tall: float) -> Axes:
        across, down = self.size
        return self.figure.add_axes((x / across, y / down, wide / across, tall / down))

    def _text(self, x: float, down: float, text: str, size: float, **style: Any) -> None:
        at = x / self.size[0], 1 - (down - GAP) / self.size[1]
        self.figure.text(*at, text, ha="center", va="bottom", fontsize=size, color=INK, **style)

    def _bar(self, place: int, colours: str, least: float, name: str) -> None:
        """A colour bar at the right, with its unit."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        tall = 1.6
        y = self.size[1] - self.top - self.lines * LINE - (place + 1) * tall - place * 0.6
        axes = self._at(self.size[0] - MARGIN - BARS + 0.15, y, 0.12, tall)
        drawn = ScalarMappable(Normalize(least, self.most), colours)
        cut = "neither" if self.most >= self.levels else "both" if least else "max"
        bar = self.figure.colorbar(drawn, cax=axes, extend=cut)
        ticks = [least, 0, self.most] if least else [0, self.most]
        signs = [f"{tick:+g}" if least and tick else f"{tick:g}" for tick in ticks]
        bar.set_ticks(ticks, labels=signs)
        bar.ax.tick_params(labelsize=6.5, colors=INK, length=2)
        bar.outline.set_visible(False)
        axes.set_title(f"{name},\n{self.grid.unit}", fontsize=6.5, color=INK, loc="left")
        if place == 0:
            axes.text(
                0, -0.05, "the same scale\nin every map", fontsize=5.5, color=INK, va="top",
                transform=axes.transAxes,
            )  # fmt: skip


def _head(column: Column) -> str:
    """A column's label, broken where it is long."""
    parts = [part.strip().replace("=", " = ") for part in column.label.split(";")]
    if len(parts) == 1 and len(parts[0]) > 16:
        return parts[0].replace(" = ", "\n= ")
    return ";\n".join(parts)
