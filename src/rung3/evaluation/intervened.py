"""One row under every intervention, as in the lecture's Figures 32 and 33.

A column is an intervention, the null one the last, and the bands show

    counterfactual    x~ = mean over K draws of f(pa~, u), u ~ P(u | x, pa)
    direct effect     x~ - x
    uncertainty       standard deviation over the K draws
    truth             x*, where the world is known

All causes below what is set follow it, as the graph says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.abductions import Abductions
from rung3.data.display import spell
from rung3.data.distances import distance, unit
from rung3.data.pictures import (
    ACCENT,
    DIVERGING,
    GAP,
    MARGIN,
    SEQUENTIAL,
    SPREAD_END,
    Sheet,
    by_channel,
    cell_size,
    line,
    planar,
    shade,
    show,
    signed,
)
from rung3.data.rows import Rows, spell_unknown
from rung3.data.variables import Continuous, Discrete, Image, Variable
from rung3.evaluation.measures.axioms import answer
from rung3.scm.scm import SCM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Column", "Intervened", "interventions"]

CELL = 1.1
"""Inches of an image's longer side."""

LABELS = 1.05
"""Inches for what stands beside the bands, and beside the colour bars."""

HEAD = 6.5
"""Points of the letters above columns and beside bands."""

NULL = "null"
"""What the column of no change is called."""


@dataclass(frozen=True)
class Column:
    """One intervention on one row.

    Attributes:
        title: What was set, and the values that follow.
        draws: Counterfactual images, `(K, C, H, W)`.
        truth: The true one, `(C, H, W)`, if known.
        error: Distance of the mean from the truth, in the image's unit; if known.
    """

    title: str
    draws: Tensor
    truth: Tensor | None
    error: float | None


@dataclass(frozen=True)
class Intervened:
    """Rows under every intervention.

    Attributes:
        heads: By row, its own values.
        factual: The images, `(n, C, H, W)`.
        columns: By row, its interventions.
        error: What errors are measured in.
    """

    heads: tuple[str, ...]
    factual: Tensor
    columns: tuple[tuple[Column, ...], ...]
    error: str

    def figure(self) -> Figure:
        """Draw the rows below each other.

        Returns:
            A matplotlib figure; `figure.savefig(path)` writes it.
        """
        across, down = cell_size(self.factual.shape[1:], CELL)
        bands = 3 + (self.columns[0][0].truth is not None)
        titles = [column.title for columns in self.columns for column in columns]
        lines = max(title.count("\n") for title in (*titles, *self.heads)) + 2
        top = lines * line(HEAD)
        block = top + bands * (down + GAP) + 3 * line(HEAD)
        count = len(self.columns[0])
        width = LABELS + (count + 1) * (across + GAP) + LABELS
        sheet = Sheet(width, MARGIN + len(self.columns) * block, paper="white")
        for row, columns in enumerate(self.columns):
            place = _Block(sheet, MARGIN + row * block + top, across, down)
            place.draw(self.heads[row], self.factual[row], columns, self.error)
        return sheet.figure


@dataclass(frozen=True)
class _Block:
    """Where one row's pictures lie.

    Args:
        sheet: The sheet.
        top: Upper edge of the first band, inches.
        across: Width of a picture, inches.
        down: Height of a picture, inches.
    """

    sheet: Sheet
    top: float
    across: float
    down: float

    def draw(self, head: str, factual: Tensor, columns: Sequence[Column], error: str) -> None:
        """Draw the factual image, then the interventions."""
        self._head(0, head)
        show(self._cell(0, 0), factual)
        names = ["counterfactual", "direct effect", "uncertainty", "truth"]
        for band, name in enumerate(names[: 3 + (columns[0].truth is not None)]):
            middle = self.top + band * (self.down + GAP) + self.down / 2
            self.sheet.text(LABELS - GAP, middle, name, HEAD, ha="right", va="center")
        for number, column in enumerate(columns, start=1):
            self._head(number, column.title)
            mean = column.draws.mean(0)
            spread = planar(column.draws.std(0, correction=0)).mean(0)
            show(self._cell(number, 0), mean)
            self._map(number, 1, signed(by_channel(planar(mean - factual))))
            self._map(number, 2, shade(spread, SEQUENTIAL, 0, SPREAD_END))
            if column.truth is not None:
                show(self._cell(number, 3), column.truth)
            if column.error is not None:
                below = self.top + 4 * (self.down + GAP)
                text = f"error {column.error:.2f}\n{error}"
                self.sheet.text(self._left(number), below, text, HEAD, va="top")
        self._bars(len(columns) + 1)

    def _bars(self, number: int) -> None:
        x, step = self._left(number) + GAP, self.down + GAP
        height = 0.7 * self.down
        low = self.top + step + 0.25 * self.down
        self.sheet.bar(x, low, height, "", DIVERGING, -1.0, 1.0)
        self.sheet.bar(x, low + step, height, "", SEQUENTIAL, 0.0, SPREAD_END, extend="max")

    def _left(self, number: int) -> float:
        return LABELS + number * (self.across + GAP)

    def _head(self, number: int, text: str) -> None:
        middle = self._left(number) + self.across / 2
        colour = ACCENT if number else self.sheet.ink
        self.sheet.text(middle, self.top - GAP, text, HEAD, ha="center", color=colour)

    def _cell(self, number: int, band: int) -> Any:
        place = self._left(number), self.top + band * (self.down + GAP)
        return self.sheet.axes(*place, self.across, self.down)

    def _map(self, number: int, band: int, colours: Tensor) -> None:
        axes = self._cell(number, band)
        axes.imshow(colours.numpy(), aspect="auto")
        axes.set_axis_off()


@torch.no_grad()
def interventions(
    model: SCM,
    rows: Rows,
    *,
    do: Mapping[str, Any] | None = None,
    truth: SCM | None = None,
    shown: Sequence[int] = (0,),
    particles: int = 8,
    seed: int = 0,
) -> Intervened:
    """Ask for an image under every intervention on one cause, and under none.

    Args:
        model: The model.
        rows: A batch of rows.
        do: What causes are set to, by name; if not given, every cause of the image, to another
            category, or to the other end of its range in the rows.
        truth: The world, if known.
        shown: Which of the rows are asked about.
        particles: Draws K of the noise.
        seed: Of the draws.

    Raises:
        ValueError: If there is no image with causes, what is set is none of them, or there is no
            such row.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.chest(16)
        >>> asked = interventions(world, world.sample(3, seed=0), truth=world, particles=2)
        >>> [column.title.splitlines()[0] for column in asked.columns[0]]
        ['do(age)', 'do(disease)', 'do(sex)', 'do(race)', 'null']
    """
    image = _image(model)
    causes = [name for name in model.graph.order if name in model.graph.ancestors(image)]
    causes = [name for name in causes if not model.variables[name].shape]
    if unknown := [name for name in do or {} if name not in causes]:
        raise ValueError(f"do: no scalar cause of {image}: {spell_unknown(unknown, causes)}")
    if beyond := [k for k in shown if not 0 <= k < rows.n]:
        raise ValueError(f"shown: {beyond}; the rows are 0 to {rows.n - 1}")
    columns = []
    for number in shown:
        row = rows[number : number + 1]
        row.abductions = Abductions()
        targets = do or {k: _other(model.variables[k], row[k], rows[k]) for k in causes}
        settings = [
            *({name: target} for name, target in targets.items()),
            {causes[0]: row[causes[0]]},
        ]
        columns.append(
            tuple(
                _column(model, row, image, one, truth, particles, seed, null=k == len(targets))
                for k, one in enumerate(settings)
            )
        )
    heads = tuple("factual\n" + _values(model, rows[k : k + 1], causes) for k in shown)
    pictures = rows[image][torch.tensor(list(shown))].float().cpu()
    return Intervened(heads, pictures, tuple(columns), unit(model.variables[image]))


def _column(
    model: SCM,
    row: Rows,
    image: str,
    do: Mapping[str, Any],
    truth: SCM | None,
    particles: int,
    seed: int,
    *,
    null: bool,
) -> Column:
    """Ask for one intervention on one row."""
    imagined = model.counterfactual(row, do, particles=particles, seed=seed)
    draws = imagined[image][:, 0].clamp(0, 1).float().cpu()
    true = error = None
    if truth is not None:
        true = answer(truth, row, do, seed=seed)[image].float().cpu()
        error = float(distance(model.variables[image], draws.mean(0, keepdim=True), true))
    (name,) = do
    below = [k for k in model.graph.descendants([name]) if not model.variables[k].shape]
    moved = [] if null else [name, *(k for k in model.graph.order if k in below)]
    now = Rows({k: imagined[k][0] for k in moved})
    title = NULL if null else f"do({name})\n" + _values(model, now, moved)
    return Column(title, draws, None if true is None else true[0], error)


def _image(model: SCM) -> str:
    images = [k for k, v in model.variables.items() if isinstance(v, Image)]
    images = [k for k in images if model.graph.parents(k)]
    if not images:
        raise ValueError("model: expected an image with causes, and there is none")
    return images[0]


def _other(variable: Variable, value: Tensor, seen: Tensor) -> Tensor:
    """Return the next category, or the end of the rows' range that lies farther away."""
    if isinstance(variable, Discrete):
        return (value + 1) % variable.classes
    assert isinstance(variable, Continuous)
    low, high = torch.quantile(seen.double(), torch.tensor([0.01, 0.99]).double()).to(value)
    return torch.where(value - low > high - value, low, high)


def _values(model: SCM, row: Rows, names: Sequence[str]) -> str:
    return "\n".join(f"{k} {spell(model.variables[k], row[k][0])}" for k in names)
