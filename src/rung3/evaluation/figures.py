"""The axioms as pictures: several models asked the same of the same rows, side by side.

    composition      x, f_0(x), f_0(f_0(x)), ...                    (lecture, Figure 35)
    effectiveness    f(x; do(k := v)) for every v, all else held    (Figure 36)
    reversibility    x, there, back, there, back, ...               (Figure 37)

with `f_0` a null intervention. Every column's mean error over the rows stands beneath it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.display import spell
from rung3.data.distances import distance, unit
from rung3.data.pictures import ACCENT, GAP, INK, MARGIN, Sheet, cell_size, line, show
from rung3.data.rows import Rows, spell_unknown
from rung3.data.seeding import Seed, chain
from rung3.data.variables import Continuous, Discrete, Image, Variable
from rung3.evaluation.measures.axioms import answer
from rung3.scm.scm import SCM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "Panel", "composition", "effectiveness", "reversibility"]

Reader = Callable[[Tensor], Tensor]
"""Values of a variable `(n,)`, read off images `(n, C, H, W)`."""

STEPS = 6
"""Values that a number is set to."""

CELL = 0.56
"""Inches of an image's longer side: a comparison has many columns."""

LABELS = 0.95
"""Inches for what stands beside the rows."""

WIDE = 9
"""Columns from which on panels stand below each other."""

TITLE = 8.5
"""Points of the letters of titles."""

HEAD = 6.5
"""Points of the letters above columns, of errors, and of notes."""

LABEL = 6.0
"""Points of the letters beside rows."""


@dataclass(frozen=True)
class Panel:
    """One model's answers.

    Attributes:
        title: Its name.
        note: A remark, written below its name.
        images: The rows shown, by column: `(columns, rows, C, H, W)`, or of volumes
            `(columns, rows, C, D, H, W)`.
        errors: Mean error of each column, over all rows; `None` where there is none.
    """

    title: str
    note: str
    images: Tensor
    errors: tuple[float | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Several models' answers to the same questions.

    Attributes:
        title: What is shown.
        heads: What stands above each column.
        labels: What stands beside each row.
        error: What the errors are, with their unit.
        panels: The models.
    """

    title: str
    heads: tuple[str, ...]
    labels: tuple[str, ...]
    error: str
    panels: tuple[Panel, ...]

    def figure(self) -> Figure:
        """Draw the models side by side, or below each other if they are wide.

        Returns:
            A matplotlib figure; `figure.savefig(path)` writes it.
        """
        return _Drawing(self).sheet.figure


def composition(
    models: Mapping[str, SCM],
    rows: Rows,
    *,
    shown: Sequence[int] = range(4),
    times: Sequence[int] = (1, 2, 5, 10, 20),
    temperature: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """Repeat null interventions: does the image stay what it was (lecture, Figure 35)?

    Args:
        models: Models of the same variables, by name.
        rows: A batch of rows; errors are means over all of them.
        shown: Which of them are drawn.
        times: After how many null interventions to look.
        temperature: Factor on a VAE's noise of observation: with 1 it would be handed the image
            back, pixel by pixel, so 0 is what tells models apart.
        seed: Of the abductions.

    Raises:
        ValueError: If models differ in their image or its causes, or there is no such row.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.colour("digit-hue")
        >>> found = composition({"truth": world}, world.sample(3, seed=0), shown=[0], times=[1, 3])
        >>> found.heads, found.panels[0].errors
        (('factual', '1', '3'), (None, 0.0, 0.0))
    """
    question = _Question(models, rows, shown)
    null = {name: rows[name] for name in question.causes}
    panels = question.repeat([null], times, temperature, seed, "composition")
    heads = ("factual", *map(str, times))
    return question.comparison("null interventions, one after another", heads, panels, "drift")


def effectiveness(
    models: Mapping[str, SCM],
    rows: Rows,
    change: str | None = None,
    *,
    truth: SCM | None = None,
    readers: Mapping[str, Reader] | None = None,
    shown: Sequence[int] = range(4),
    temperature: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """Set one cause and hold the others: does it alone change (lecture, Figure 36)?

    Args:
        models: Models of the same variables, by name.
        rows: A batch of rows; errors are means over all of them.
        change: The cause of the image that is set: to each of its categories, or to values over its
            range. The first, if not given.
        truth: The world, if known: it has a panel of its own, and errors are distances from it.
        readers: Functions that read causes off images: each panel notes how far the causes are
            from the values that were set.
        shown: Which rows are drawn.
        temperature: Factor on a VAE's noise of observation.
        seed: Of the abductions.

    Raises:
        ValueError: If models differ in their image or its causes, `change` is not a scalar cause of
            it, or there is no such row.
    """
    question = _Question(models, rows, shown)
    name = question.cause(change)
    variable = question.variables[name]
    values = _values(variable, rows[name])
    answering = {"truth": truth, **models} if truth is not None else dict(models)
    true: list[Rows] = []
    panels = []
    for title, model in answering.items():
        seen: list[Rows] = []
        for value in values:
            do = {k: rows[k] for k in question.causes} | {name: value.expand(rows.n)}
            seen.append(question.answer(model, rows, do, temperature, seed))
        if model is truth:
            true = seen
        deviations = [question.error(one, best) for one, best in zip(seen, true, strict=False)]
        errors: list[float | None] = [
            None,
            *(deviations if model is not truth and true else [None] * len(values)),
        ]
        note = question.read(seen, readers or {})
        panels.append(question.panel(title, note, [rows, *seen], errors))
    heads = ("factual", *(spell(variable, value) for value in values))
    others = [k for k in question.causes if k != name]
    held = f", {' and '.join(others)} held" if others else ""
    return question.comparison(f"do({name}){held}", heads, panels, "error")


def reversibility(
    models: Mapping[str, SCM],
    rows: Rows,
    change: str | None = None,
    *,
    shown: Sequence[int] = range(4),
    times: Sequence[int] = (1, 2, 5),
    temperature: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """Set a cause to another value and back, over and over (lecture, Figure 37).

    Args:
        models: Models of the same variables, by name.
        rows: A batch of rows; errors are means over all of them.
        change: The cause of the image that is set, the others held: to the category half of all
            categories on, to the other side of its circle, or to its mirror image in its range. The
            first, if not given.
        shown: Which rows are drawn.
        times: After how many times there and back to look.
        temperature: Factor on a VAE's noise of observation.
        seed: Of the abductions.

    Raises:
        ValueError: As `effectiveness`.
    """
    question = _Question(models, rows, shown)
    name = question.cause(change)
    factual = {k: rows[k] for k in question.causes}
    opposite = factual | {name: _opposite(question.variables[name], rows[name])}
    panels = question.repeat([opposite, factual], times, temperature, seed, "reversibility")
    heads = ("factual", *(f"{way}\n{m}" for m in times for way in ("there", "back")))
    return question.comparison(f"do({name}) there and back", heads, panels, "drift")


class _Question:
    """The question that all models are asked: one image, its causes, and rows.

    Args:
        models: The models.
        rows: The rows.
        shown: Which of them are drawn.
    """

    def __init__(self, models: Mapping[str, SCM], rows: Rows, shown: Sequence[int]) -> None:
        if not models:
            raise ValueError("models: expected at least one")
        first = next(iter(models.values()))
        images = [k for k, v in first.variables.items() if isinstance(v, Image)]
        images = [k for k in images if first.graph.parents(k)]
        if not images:
            raise ValueError("models: expected an image with causes, and there is none")
        self.image, self.variables = images[0], first.variables
        self.causes = [k for k in first.graph.parents(self.image) if not self.variables[k].shape]
        for title, model in models.items():
            if {*self.causes, self.image} - set(model.variables):
                raise ValueError(
                    f"{title}: its variables are {list(model.variables)}; expected those of the "
                    f"first model, {list(self.variables)}"
                )
        beyond = [k for k in shown if not 0 <= k < rows.n]
        if beyond or not shown:
            raise ValueError(f"shown: {beyond or 'none'}; the rows are 0 to {rows.n - 1}")
        self.models, self.rows, self.shown = models, rows, torch.tensor(list(shown))

    def cause(self, name: str | None) -> str:
        """Return the cause that is set."""
        if name is None:
            return self.causes[0]
        if name not in self.causes:
            known = dict.fromkeys(self.causes)
            raise ValueError(f"no scalar cause of {self.image}: {spell_unknown([name], known)}")
        return name

    @torch.no_grad()
    def answer(
        self, model: SCM, rows: Rows, do: Mapping[str, Any], temperature: float, seed: Seed
    ) -> Rows:
        """Return a model's counterfactual, as rows that can be asked about in turn."""
        return answer(model, rows, do, temperature, seed)

    def repeat(
        self,
        steps: Sequence[Mapping[str, Any]],
        times: Sequence[int],
        temperature: float,
        seed: Seed,
        purpose: str,
    ) -> list[Panel]:
        """Answer interventions one after another, over and over; errors are from the start."""
        panels = []
        for title, model in self.models.items():
            now, seen = self.rows, [self.rows]
            errors: list[float | None] = [None]
            links = chain(seed, purpose)
            for m in range(1, max(times) + 1):
                path = []
                for do in steps:
                    now = self.answer(model, now, do, temperature, links)
                    path.append(now)
                if m in times:
                    seen += path
                    errors += [*[None] * (len(steps) - 1), self.error(now, self.rows)]
            panels.append(self.panel(title, "", seen, errors))
        return panels

    def error(self, answers: Rows, expected: Rows) -> float:
        """Return the mean error of the image over all rows."""
        variable = self.variables[self.image]
        return float(distance(variable, answers[self.image], expected[self.image]).mean())

    def read(self, answers: Sequence[Rows], readers: Mapping[str, Reader]) -> str:
        """Return as text how far what is read off the answers is from what was set."""
        lines = []
        for name in (name for name in self.causes if name in readers):
            variable, read = self.variables[name], readers[name]
            off = [distance(variable, read(rows[self.image]), rows[name]) for rows in answers]
            mean = float(torch.cat(off).mean())
            if isinstance(variable, Discrete):
                lines.append(f"{name} right in {1 - mean:.0%}")
            else:
                lines.append(f"{name} off by {mean:.2g} {variable.unit}".rstrip())
        return ", ".join(lines)

    def panel(
        self, title: str, note: str, seen: Sequence[Rows], errors: Sequence[float | None]
    ) -> Panel:
        """Return one model's panel."""
        images = torch.stack([rows[self.image][self.shown].float().cpu() for rows in seen])
        return Panel(title, note, images, tuple(errors))

    def comparison(
        self, title: str, heads: tuple[str, ...], panels: list[Panel], error: str
    ) -> Comparison:
        """Return the comparison of all panels."""
        rows = self.rows[self.shown]
        labels = [
            "\n".join(f"{k} {spell(self.variables[k], rows[k][row])}" for k in self.causes)
            for row in range(rows.n)
        ]
        measured = f"mean {error},\n{unit(self.variables[self.image])}"
        return Comparison(title, heads, tuple(labels), measured, tuple(panels))


def _values(variable: Variable, seen: Tensor) -> Tensor:
    """Return every category, or numbers over the circle, or from the 5 % to the 95 % quantile."""
    if isinstance(variable, Discrete):
        return torch.arange(variable.classes)[:12]
    assert isinstance(variable, Continuous)
    if variable.circular:
        return torch.linspace(variable.lower, variable.upper, STEPS + 1)[:-1]
    low, high = torch.quantile(seen.double(), torch.tensor([0.05, 0.95]).double()).tolist()
    return torch.linspace(low, high, STEPS)


def _opposite(variable: Variable, value: Tensor) -> Tensor:
    """Return another value for each row, as far away as possible."""
    if isinstance(variable, Discrete):
        return (value + variable.classes // 2) % variable.classes
    assert isinstance(variable, Continuous)
    if variable.circular:
        return variable.wrap(value + (variable.upper - variable.lower) / 2)
    return value.amin() + value.amax() - value


class _Drawing:
    """The picture of a comparison, and where everything lies on it.

    Args:
        comparison: What is drawn.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        panels = comparison.panels
        columns, rows, *shape = panels[0].images.shape
        self.cell = cell_size(shape, CELL)
        self.step = self.cell[0] + GAP, self.cell[1] + GAP
        lines = max(head.count("\n") for head in comparison.heads) + 1
        self.noted = any(panel.note for panel in panels)
        self.top = line(TITLE) + (lines + 1 + self.noted) * line(HEAD)
        self.scored = any(error is not None for panel in panels for error in panel.errors)
        bottom = 2.5 * line(HEAD) if self.scored else GAP
        wide = columns * self.step[0]
        tall = self.top + rows * self.step[1] + bottom
        across = 1 if columns >= WIDE else len(panels)
        left, head = MARGIN + LABELS, 2 * line(TITLE)
        right = left + across * wide + (across - 1) * 3 * MARGIN
        down = head + -(-len(panels) // across) * tall
        self.sheet = Sheet(right + MARGIN, down + MARGIN / 2, paper="white")
        self.sheet.text(MARGIN, 1.3 * line(TITLE), comparison.title, TITLE, weight="bold")
        for k, panel in enumerate(panels):
            row, column = divmod(k, across)
            place = left + column * (wide + 3 * MARGIN), head + row * tall
            self._panel(panel, *place, first=column == 0)

    def _panel(self, panel: Panel, x: float, y: float, first: bool) -> None:
        """Draw one model's answers, their left edge at x and their upper edge at y."""
        text, top = self.sheet.text, y + self.top
        title = y + line(TITLE)
        text(x, title, panel.title, TITLE, weight="bold", color=ACCENT, va="baseline")
        if panel.note:
            text(x, title + 1.2 * line(HEAD), panel.note, HEAD, color=INK, va="baseline")
        for k, head in enumerate(self.comparison.heads):
            text(self._centre(x, k), top - GAP, head, HEAD, ha="center")
        for row, label in enumerate(self.comparison.labels):
            if first:
                middle = top + row * self.step[1] + self.cell[1] / 2
                text(x - 2 * GAP, middle, label, LABEL, ha="right", va="center")
            for k in range(len(self.comparison.heads)):
                place = x + k * self.step[0], top + row * self.step[1]
                show(self.sheet.axes(*place, *self.cell), panel.images[k, row])
        below = top + len(self.comparison.labels) * self.step[1]
        for k, error in enumerate(panel.errors):
            if error is not None:
                text(self._centre(x, k), below, _short(error), HEAD, ha="center", va="top")
        if first and self.scored:
            text(x - 2 * GAP, below, self.comparison.error, LABEL, ha="right", va="top", color=INK)

    def _centre(self, x: float, column: int) -> float:
        """Return the middle of a column of a panel whose left edge is at x."""
        return x + column * self.step[0] + self.cell[0] / 2


def _short(error: float) -> str:
    return "0" if error == 0 else f"{error:.2g}" if error < 10 else f"{error:.0f}"
