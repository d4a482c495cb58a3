"""The lecture's Figure 31: rows of images, a column an intervention, and how each change got there.

Under every counterfactual stand its direct, indirect and total effect (see
`rung3.effects.mediation`), all of them on one scale with zero in its middle; and, where a world is
known, what would really have been.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.rows import Rows, as_rows
from rung3.data.seeding import base_seed
from rung3.data.variables import Continuous, Discrete, Image, Variable
from rung3.effects.formulas import LATENT
from rung3.effects.mediation import Mediation, mediate
from rung3.scm.scm import SCM
from rung3.scm.truth import true_counterfactual

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Column", "Grid", "grid"]


@dataclass(frozen=True)
class Column:
    """One intervention on all rows.

    Attributes:
        label: What is shown above it.
        imagined: The rows' counterfactuals, with a leading axis K if there are particles.
        effect: Its effects on the image.
        through: The mediators that it acts through; none if it acts directly alone.
        true: What would really have been; none if no world is given, or it does not know.
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
        from rung3.data.distances import unit

        return unit(self.image)

    def scalars(self, values: Rows, row: int) -> Iterator[tuple[str, str]]:
        """Names and values, in words, of the image's parents in one row; means over particles."""
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
        """`1 - E |x~ - x*| / E |x - x*|` over these rows, x* the truth, in words."""
        from rung3.data.distances import distance

        if column.true is None:
            return "not known"
        true = column.true[self.outcome]
        found = column.imagined[self.outcome]
        few = found if column.imagined.particles else found[None]
        error = sum(float(distance(self.image, one, true).mean()) for one in few) / len(few)
        nothing = float(distance(self.image, self.rows[self.outcome], true).mean())
        return f"{1 - error / nothing:.3f}" if nothing else "not known"

    def table(self) -> list[tuple[str, ...]]:
        """Of each column: what it acts through, mean absolute effects over rows and pixels, skill.

        Skill is left out where no truth is known.
        """
        from rung3.data.distances import scale

        lines = []
        for column in self.columns:
            found = column.effect
            parts = (found.direct, found.indirect, found.total, found.interaction)
            sizes = [f"{scale(self.image) * float(part.abs().mean()):.2f}" for part in parts]
            sizes += [self.skill(column)] if self.known else []
            lines.append((column.label, ", ".join(column.through) or "nothing", *sizes))
        return lines

    def figure(self, scale: float | None = None) -> Figure:
        """The picture; see `rung3.effects.drawing`."""
        from rung3.effects.drawing import draw

        return draw(self, scale)


def grid(
    model: SCM,
    rows: Mapping[str, Any],
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
        truth: The world that the rows come from, for what would really have been.
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
        columns = _usual(model, image, known if typical is None else typical)
    if not columns:
        raise ValueError(f"{image}: nothing to set: no scalar causes it")
    wanted = _mediators(model, image, columns.values(), through)
    with torch.no_grad():
        made = [
            _column(model, known, label, do, image, wanted, truth, particles, seed)
            for label, do in columns.items()
        ]
    names = tuple(labels) if labels is not None else tuple(f"row {k}" for k in range(known.n))
    return Grid(model, image, known, names, tuple(made))


def spell(variable: Variable, value: Tensor) -> str:
    """A scalar, or the mean (of categories the mode) of several draws, in words."""
    value = value.reshape(-1)
    if bool(variable.is_missing(value).any()):
        return "missing"
    if isinstance(variable, Discrete):
        return variable.label(int(value.mode().values))
    return f"{float(value.float().mean()):.3g}"


def _image(model: SCM, outcome: str | None) -> str:
    """The image that is looked at."""
    from rung3.scm.query import outcomes

    name = outcomes(model)[0] if outcome is None else outcome
    model.graph.names([name])
    if not isinstance(model.variables[name], Image):
        raise ValueError(
            f"outcome: {name} is {model.variables[name]}, and the picture is of images; "
            "effects.mediate gives effects on numbers"
        )
    return name


def _usual(model: SCM, image: str, rows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Two values of each scalar cause: its 5 % and 95 % quantile, or two of its categories."""
    found = {}
    for name in model.graph.order:
        variable = model.variables[name]
        if name not in model.graph.ancestors(image) or variable.shape:
            continue
        values = variable.validate(name, rows[name])
        if isinstance(variable, Continuous):
            present = values[~variable.is_missing(values)][:100_000].double()
            if not len(present):
                raise ValueError(f"{name}: missing in every row; say what it shall be set to")
            ends = torch.quantile(present, torch.tensor([0.05, 0.95]).double())
            chosen = torch.tensor([float(f"{end:.3g}") for end in ends.tolist()])
        else:
            assert isinstance(variable, Discrete)
            chosen = variable.codes([variable.classes // 3, (2 * variable.classes) // 3])
        for value in chosen:
            found[f"do({name}={spell(variable, value)})"] = {name: value}
    return found


def _mediators(
    model: SCM,
    image: str,
    asked: Iterable[Mapping[str, Any]],
    through: str | Iterable[str] | None,
) -> list[str]:
    """The mediators of any column."""
    if through is None:
        if model.mechanisms[image].has_latent_mediator:
            return [LATENT]
        below = {name for do in asked for name in model.graph.descendants(list(do))}
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
    own = [m for m in through if m in below or (m == LATENT and LATENT not in model.graph)]
    effect = mediate(model, rows, do, image, own, particles=particles, seed=seed)
    paired = base_seed(seed, "effects")  # under the noise that the effects are of
    imagined = model.counterfactual(rows, do, particles=particles, seed=paired)
    true = None if truth is None else true_counterfactual(truth, rows, do, model.device)
    known = true if isinstance(true, Rows) else None
    return Column(label, imagined, effect, tuple(own), known)
