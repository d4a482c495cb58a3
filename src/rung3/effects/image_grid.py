"""The lecture's Figure 31: rows of images, a column an intervention, and how each change got there.

Under every counterfactual stand its direct, indirect and total effect (see
`rung3.effects.mediation`), all of them on one scale with zero in its middle; and, where a world is
known, the true counterfactual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.display import spell
from rung3.data.distances import distance, unit
from rung3.data.distances import scale as grey_levels
from rung3.data.pictures import (
    CELL,
    DIVERGING,
    GAP,
    INK,
    MARGIN,
    PALE,
    SEQUENTIAL,
    ZERO,
    Sheet,
    by_channel,
    cell_size,
    line,
    planar,
    show,
)
from rung3.data.rows import Rows, Values, as_rows
from rung3.data.seeding import base_seed
from rung3.data.variables import Continuous, Discrete, Image
from rung3.effects.formulas import LATENT
from rung3.effects.mediation import Mediation, mediate
from rung3.scm.scm import SCM
from rung3.scm.truth import true_counterfactual

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Column", "Grid", "grid", "usual_settings"]

HEAD = 7.0
"""Points of the letters above columns and beside bands."""

CAPTION = 5.5
"""Points of the letters above an image."""

BARS = 0.95
"""Inches that the colour bars and their titles take at the right."""

BAR = 1.6
"""Inches that a colour bar is high."""

NEAR = 0.05
"""How far rounding may move a quantile, as a share of the distance of the two that are set."""

SPREAD = "spread (s.d.)"
"""Name of the band of standard deviations over draws."""


@dataclass(frozen=True)
class Column:
    """One intervention on all rows.

    Attributes:
        label: What is shown above it.
        imagined: The rows' counterfactuals, with a leading axis K if there are particles.
        effect: Its effects on the image.
        through: The mediators that it acts through; none if it acts directly alone.
        true: The true counterfactuals; `None` if no world is given, or it does not know them.
    """

    label: str
    imagined: Rows
    effect: Mediation
    through: tuple[str, ...]
    true: Rows | None = None


@dataclass(frozen=True)
class Grid:
    """Rows of images under several interventions.

    Attributes:
        model: The model that answered.
        outcome: The image.
        rows: The rows as they were.
        labels: A name of each row.
        columns: The interventions.
    """

    model: SCM
    outcome: str
    rows: Rows
    labels: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def image(self) -> Image:
        """The image as a variable."""
        variable = self.model.variables[self.outcome]
        assert isinstance(variable, Image)
        return variable

    @property
    def unit(self) -> str:
        """The unit of effects on it."""
        return unit(self.image)

    def scalars(self, values: Rows, row: int) -> Iterator[tuple[str, str]]:
        """Yield the image's parents in one row, by name, as text; means over particles."""
        for name in self.model.graph.parents(self.outcome):
            variable = self.model.variables[name]
            if not variable.shape:
                at = row if values.particles is None else (slice(None), row)
                yield name, spell(variable, values[name][at])

    @property
    def known(self) -> bool:
        """Whether the truth of any column is known."""
        return any(column.true is not None for column in self.columns)

    def skill(self, column: Column) -> str:
        """Return `1 - E |x~ - x*| / E |x - x*|` over these rows as text, x* being the truth."""
        if column.true is None:
            return "not known"
        true = column.true[self.outcome]
        imagined = column.imagined[self.outcome]
        draws = imagined if column.imagined.particles else imagined[None]
        error = sum(float(distance(self.image, one, true).mean()) for one in draws) / len(draws)
        nothing = float(distance(self.image, self.rows[self.outcome], true).mean())
        return f"{1 - error / nothing:.3f}" if nothing else "not known"

    def table(self) -> list[tuple[str, ...]]:
        """Return by column its mediators, mean absolute effects over rows and pixels, and skill.

        Skill is left out where no truth is known.
        """
        lines = []
        for column in self.columns:
            effect = column.effect
            parts = (effect.direct, effect.indirect, effect.total, effect.interaction)
            sizes = [f"{grey_levels(self.image) * float(part.abs().mean()):.2f}" for part in parts]
            sizes += [self.skill(column)] if self.known else []
            lines.append((column.label, ", ".join(column.through) or "nothing", *sizes))
        return lines

    def figure(self, scale: float | None = None) -> Figure:
        """Draw each row's counterfactuals and, below them, the truth and the effects.

        Args:
            scale: Effect at the end of the colours, in grey levels (of real-valued images, as a
                share of their range); the image's whole range, if not given. What is beyond gets
                the colour of the end.

        Returns:
            A matplotlib figure; `figure.savefig(path)` writes it.

        Raises:
            ValueError: If the scale is not positive.
        """
        levels = grey_levels(self.image)
        end = levels if scale is None else scale
        if not end > 0:
            raise ValueError(f"scale: expected a positive number, got {end}")
        return _Drawing(self, levels, end).sheet.figure


def grid(
    model: SCM,
    rows: Values,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    outcome: str | None = None,
    through: str | Iterable[str] | None = None,
    labels: Sequence[str] | None = None,
    typical: Mapping[str, Any] | None = None,
    truth: SCM | None = None,
    particles: int | None = None,
    seed: int = 0,
) -> Grid:
    """Ask for the effects of several interventions on the image in each of a few rows.

    Args:
        model: The model.
        rows: A batch of rows.
        columns: By label, interventions as `SCM.do` takes them. If not given, every scalar cause
            of the image is set to two values: to what is low and high in `typical`, or to two
            categories.
        outcome: Name of the image; the first that has causes, if not given.
        through: Mediators; in a column those of them count that are downstream of what it sets. If
            not given: the latents of the image's mechanism where its parents cause them, else
            every variable between the causes that are set and the image.
        labels: A name of each row.
        typical: Rows that show which values are usual; those of the picture, if not given.
        truth: The world that the rows come from, for the true counterfactuals.
        particles: Number K of draws of the noise; their means and their spread are shown.
        seed: Of the draws.

    Raises:
        ValueError: If there is no such image, row or mediator, or nothing to set.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.digits()
        >>> found = grid(world, world.sample(2, seed=0), {"thick": {"thickness": 5.0}})
        >>> found.columns[0].through, found.columns[0].effect.indirect.shape
        (('intensity',), torch.Size([2, 1, 32, 32]))
    """
    known = as_rows(rows, model.variables, model.device)
    if not known.batched:
        raise ValueError("rows: expected a batch of rows, got a single one")
    image = _image(model, outcome)
    if columns is None:
        columns = usual_settings(model, image, known if typical is None else typical)
    if not columns:
        raise ValueError(f"{image}: nothing to set: no scalar causes it")
    wanted = _mediators(model, image, columns.values(), through)
    with torch.no_grad():
        answers = [
            _column(model, known, label, do, image, wanted, truth, particles, seed)
            for label, do in columns.items()
        ]
    names = tuple(labels) if labels is not None else tuple(f"row {k}" for k in range(known.n))
    return Grid(model, image, known, names, tuple(answers))


def _image(model: SCM, outcome: str | None) -> str:
    """Return the image's name, once it is known to be one."""
    from rung3.scm.query import outcomes

    name = outcomes(model)[0] if outcome is None else outcome
    model.graph.names([name])
    if not isinstance(model.variables[name], Image):
        raise ValueError(
            f"outcome: {name} is {model.variables[name]}, and the picture is of images; "
            "effects.mediate gives effects on numbers"
        )
    return name


def usual_settings(model: SCM, image: str, rows: Values) -> dict[str, dict[str, Any]]:
    """Set each scalar cause to its 5 % and 95 % quantile, or to two of its categories.

    A quantile has three digits where that is near enough, and is a value of a row otherwise.
    """
    settings = {}
    for name in model.graph.order:
        variable = model.variables[name]
        if name not in model.graph.ancestors(image) or variable.shape:
            continue
        values = variable.validate(name, rows[name])
        if isinstance(variable, Continuous):
            present = values[~variable.is_missing(values)][:100_000].double()
            if not len(present):
                raise ValueError(f"{name}: missing in every row; give the values to set it to")
            chosen = _usual_ends(present, variable.whole).to(torch.get_default_dtype())
        else:
            assert isinstance(variable, Discrete)
            chosen = variable.codes([variable.classes // 3, (2 * variable.classes) // 3])
        texts = [spell(variable, value) for value in chosen]
        if texts[0] == texts[1]:
            texts = [spell(variable, value, full=True) for value in chosen]
        for text, value in zip(texts, chosen, strict=True):
            settings[f"do({name}={text})"] = {name: value}
    return settings


def _usual_ends(values: Tensor, whole: bool) -> Tensor:
    """Return the 5 % and 95 % quantile of values, in few digits."""
    places = torch.tensor([0.05, 0.95]).double()
    ends = torch.quantile(values, places)
    held = torch.quantile(values, places, interpolation="nearest")
    short = torch.tensor([float(f"{end:.3g}") for end in ends.tolist()]).double()
    usual = (short >= values.min()) & (short <= values.max())
    near = (short - ends).abs() <= NEAR * (ends[1] - ends[0])
    fits = usual & near & ((short == short.round()) | (not whole))
    return torch.where(fits, short, held)


def _mediators(
    model: SCM,
    image: str,
    interventions: Iterable[Mapping[str, Any]],
    through: str | Iterable[str] | None,
) -> list[str]:
    """Return the mediators of any column."""
    if through is None:
        if model.mechanisms[image].has_latent_mediator:
            return [LATENT]
        below = {name for do in interventions for name in model.graph.descendants(list(do))}
        return [name for name in model.graph.order if name in below & model.graph.ancestors(image)]
    wanted = [through] if isinstance(through, str) else list(through)
    model.graph.names(name for name in wanted if name != LATENT or LATENT in model.graph)
    return wanted


def _column(
    model: SCM,
    rows: Rows,
    label: str,
    do: Mapping[str, Any],
    image: str,
    through: list[str],
    truth: SCM | None,
    particles: int | None,
    seed: int,
) -> Column:
    below = model.graph.descendants(list(do)) - set(do)
    mediators = [m for m in through if m in below or (m == LATENT and LATENT not in model.graph)]
    effect = mediate(model, rows, do, image, mediators, particles=particles, seed=seed)
    paired = base_seed(seed, "effects")  # under the noise that the effects are of
    imagined = model.counterfactual(rows, do, particles=particles, seed=paired)
    true = None if truth is None else true_counterfactual(truth, rows, do, model.device)
    known = true if isinstance(true, Rows) else None
    return Column(label, imagined, effect, tuple(mediators), known)


class _Drawing:
    """The picture of a grid, and where its cells are.

    Args:
        grid: What is drawn.
        levels: Grey levels of the image's range.
        end: Effect at the end of the colours, in grey levels.
    """

    def __init__(self, grid: Grid, levels: float, end: float) -> None:
        self.grid, self.levels, self.end = grid, levels, end
        spread = grid.columns[0].imagined.particles is not None
        self.bands = [
            *(["truth"] if grid.known else []),
            *("direct", "indirect", "total"),
            *([SPREAD] if spread else []),
        ]
        self.cell = cell_size(grid.image.shape, CELL)
        lines = sum(1 for _ in grid.scalars(grid.rows, 0))
        self.captions = lines * line(CAPTION) + line(HEAD)
        self.block = self.captions + (1 + len(self.bands)) * (self.cell[1] + GAP) + 2 * GAP
        heads = max(_head(column).count("\n") for column in grid.columns) + 1
        self.top = MARGIN + heads * line(HEAD) + GAP
        across = (1 + len(grid.columns)) * (self.cell[0] + GAP)
        down = self.top + grid.rows.n * self.block + MARGIN
        self.sheet = Sheet(2 * MARGIN + across + BARS, down, paper="white")
        self._heads()
        for row, label in enumerate(grid.labels):
            self._row(row, label)
        self._bar(0, "effect", DIVERGING, -end)
        if spread:
            self._bar(1, SPREAD, SEQUENTIAL, 0.0)

    def _heads(self) -> None:
        for k, head in enumerate(["factual", *map(_head, self.grid.columns)]):
            centre = self._corner(0, 0, k)[0] + self.cell[0] / 2
            self.sheet.text(centre, self.top - GAP, head, HEAD, ha="center")

    def _row(self, row: int, label: str) -> None:
        """Draw the factual image, the names of the bands, and the columns of one row."""
        show(self._axes(row, 0, 0), self.grid.rows[self.grid.outcome][row])
        self._caption(row, 0, self.grid.rows, bold=label)
        for band, name in enumerate(self.bands, 1):
            x, y = self._corner(row, band, 0)
            wide, tall = self.cell
            self.sheet.text(x + 0.95 * wide, y + tall / 2, name, HEAD, ha="right", va="center")
        for k, column in enumerate(self.grid.columns, 1):
            self._column(row, k, column)

    def _column(self, row: int, k: int, column: Column) -> None:
        """Draw a counterfactual, the truth where it is known, and the effects."""
        images = column.imagined[self.grid.outcome]
        draws = images if column.imagined.particles else images[None]
        show(self._axes(row, 0, k), draws[:, row].mean(0))
        self._caption(row, k, column.imagined)
        for band, name in enumerate(self.bands, 1):
            axes = self._axes(row, band, k)
            if name == "truth":
                self._truth(axes, row, column)
            elif name == "indirect" and not column.through:
                self._blank(axes, "no mediator")
            elif name == SPREAD:
                self._map(axes, planar(draws[:, row].std(0)).mean(0), SEQUENTIAL, 0.0)
            else:
                effect: Tensor = getattr(column.effect, name)
                mean = effect if column.effect.particles is None else effect.mean(0)
                self._map(axes, by_channel(planar(mean[row])), DIVERGING, -self.end)

    def _truth(self, axes: Axes, row: int, column: Column) -> None:
        """Draw the true counterfactual."""
        if column.true is None:
            self._blank(axes, "not known")
        else:
            show(axes, column.true[self.grid.outcome][row])

    def _blank(self, axes: Axes, reason: str) -> None:
        """Leave a cell empty, and say why."""
        _frame(axes)
        axes.set_facecolor(ZERO)
        axes.text(0.5, 0.5, reason, ha="center", va="center", fontsize=CAPTION, color=INK)

    def _map(self, axes: Axes, values: Tensor, colours: str, low: float) -> None:
        """Draw a map `(H, W)` of shares of the image's range, in grey levels."""
        _frame(axes)
        shown = (self.levels * values).numpy(force=True)
        axes.imshow(shown, cmap=colours, vmin=low, vmax=self.end, interpolation="nearest")

    def _caption(self, row: int, column: int, values: Any, bold: str = "") -> None:
        """Write the image's causes above it."""
        lines = [f"{name} {value}" for name, value in self.grid.scalars(values, row)]
        x, y = self._corner(row, 0, column)
        self.sheet.text(x, y - 0.02, "\n".join(lines), CAPTION)
        self.sheet.text(x, y - 0.02 - len(lines) * line(CAPTION), bold, HEAD, weight="bold")

    def _corner(self, row: int, band: int, column: int) -> tuple[float, float]:
        """Return the upper left corner of the cell of a band of a row, in a column."""
        wide, tall = self.cell
        down = self.top + row * self.block + self.captions + band * (tall + GAP)
        return MARGIN + column * (wide + GAP), down

    def _axes(self, row: int, band: int, column: int) -> Axes:
        return self.sheet.axes(*self._corner(row, band, column), *self.cell)

    def _bar(self, place: int, name: str, colours: str, low: float) -> None:
        """Draw a colour bar at the right, with its unit."""
        x = self.sheet.width - MARGIN - BARS + 0.15
        y = self.top + self.captions + place * (BAR + 0.6)
        extend = "neither" if self.end >= self.levels else "both" if low else "max"
        title = f"{name},\n{self.grid.unit}"
        self.sheet.bar(x, y, BAR, title, colours, low, self.end, extend)
        if place == 0:
            self.sheet.text(x, y + BAR + GAP, "the same scale\nin every map", CAPTION, va="top")


def _frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=PALE, linewidth=0.5)


def _head(column: Column) -> str:
    """Return a column's label, broken where it is long."""
    parts = [part.strip().replace("=", " = ") for part in column.label.split(";")]
    if len(parts) == 1 and len(parts[0]) > 16:
        return parts[0].replace(" = ", "\n= ")
    return ";\n".join(parts)
