"""`Measure`: one thing that an evaluation measures, as one object beside its formula.

The runner asks a model and calls the functions of every measure that is wanted, in the order of
`rung3.evaluation.measures.registry`; the report, the comparison and the protocol read names,
titles, notes and directions off the same objects.

Scores of rows are kept under paths whose first name is that of a `Section`. A score that cannot be
had (the model answers NaN, a reader refuses) is flagged with the reason, and the rest continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Generator, Tensor

from rung3.data.distances import unit
from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.data.variables import Image
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.table import Table, leaves, table_of_means, table_of_numbers
from rung3.evaluation.outside import OutsideMaps
from rung3.evaluation.scores import Path, Scores
from rung3.scm.query import Query
from rung3.training.oracles.oracles import Oracles

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = [
    "AVERAGED",
    "FACTUAL",
    "KEPT",
    "LATENT",
    "MODEL",
    "MODES",
    "NOTHING",
    "OBSERVED",
    "SCALED",
    "TRUTH",
    "UNGUIDED",
    "Answers",
    "Baseline",
    "Examination",
    "Line",
    "Measure",
    "Reader",
    "Section",
    "Reading",
    "Readings",
    "features_of",
    "read_images",
    "mode_of",
    "or_why",
]

Reader: TypeAlias = Callable[[Tensor], Tensor]
"""Values of a parent `(n,)`, measured on images `(n, C, H, W)`."""

Baseline: TypeAlias = Callable[[Tensor, Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""An image `(n, C, H, W)` from the factual image, its parents, and their counterfactual values."""

KEPT = "kept"
"""Mode of answers whose noise of observation (a VAE's eps) is kept as abducted."""

LATENT = "latent"
"""Mode of answers that are predicted from z alone."""

SCALED = "eps x "
"""Start of the other modes: the noise of observation times a factor, which follows."""

AVERAGED = "averaged"
"""Mode of the mean of the answers to several draws of the noise."""

FACTUAL = "factual"
"""Stands for an intervention, where a score is of the real test images: its floor."""

OBSERVED = "observed"
"""Stands for a mode, where a score is of the real test images."""

TRUTH = "truth"
"""Stands for a mode, where a score is of the true counterfactual."""

NOTHING = "doing nothing"
"""The baseline that answers with the factual row."""

MODEL = "model"
"""Whose log-density it is, where it is not the world's."""

UNGUIDED = "unguided"
"""Mode of answers without the guidance that a mechanism has by itself."""

MODES = {
    KEPT: "noise kept",
    LATENT: "from z alone",
    AVERAGED: "mean of draws",
    UNGUIDED: "without guidance",
}
"""How modes are called in tables."""


class Reading(NamedTuple):
    """The values that an oracle reads in images.

    Attributes:
        value: The variable's value, `(n, *shape)`, in its unit.
        features: The inputs of its last layer, `(n, d)`.
    """

    value: Tensor
    features: Tensor


Readings: TypeAlias = Mapping[tuple[str, str], Reading]
"""What each oracle reads, by image and variable."""


@dataclass
class Answers:
    """One intervention on a batch of rows, and the answers to it.

    Attributes:
        query: The intervention.
        at: The place of these rows among all that are asked.
        do: Its values for these rows.
        rows: The factual rows.
        known: Whether these rows are compared with the truth, and read by measurement.
        true: The true counterfactuals, of all these rows or of none.
        by_mode: The model's answers, by mode.
        draws: Answers to draws of the noise, with a leading axis, where a measure needs them.
        readings: What the oracles read in the images, by mode, and in the factual ones.
    """

    query: Query
    at: slice
    do: Mapping[str, Any]
    rows: Rows
    known: bool
    true: Rows | None
    by_mode: dict[str, Rows] = field(default_factory=dict)
    draws: Rows | None = None
    readings: dict[str, Readings] = field(default_factory=dict)


@dataclass
class Examination:
    """A model under examination with one seed: what every measure may use, and the scores.

    Attributes:
        model: The model.
        truth: The world, if known.
        oracles: Oracles by (image, parent).
        readers: Functions that measure a parent on images.
        baselines: Functions that give an image without a model.
        measures: The measures that are asked for.
        composition: Numbers of null interventions after which to look.
        reversibility: Numbers of cycles after which to look.
        particles: Draws of the noise, where more than one is needed.
        outcomes: The images that have causes; without any, every variable that has.
        modes: Factors on the noise of observation, by the mode's name.
        batch_size: Rows at once.
        reference: Real rows that are not asked, and what the oracles read in them.
        peers: Models of other seeds that should agree with it.
        seed: Of everything random.
        first: Whether it is the examination of the first seed.
        generator: Of the abductions.
        ties: Of ranks between equal values.
        scores: Scores of rows.
        untouched: By intervention, the variables that it does not change.
        collected: What measures of sets collect over batches, by path.
        outside: By intervention and image, maps of the change where nothing should change.
    """

    model: SCM
    truth: SCM | None
    oracles: Oracles
    readers: Mapping[str, Reader]
    baselines: Mapping[str, Baseline]
    measures: Sequence[Measure]
    composition: Sequence[int]
    reversibility: Sequence[int]
    particles: int
    outcomes: Sequence[str]
    modes: Mapping[str, float]
    batch_size: int
    reference: tuple[Rows, Readings] | None
    peers: Sequence[SCM]
    seed: int
    first: bool
    generator: Generator = field(init=False)
    ties: Generator = field(init=False)
    scores: Scores = field(default_factory=Scores)
    untouched: dict[str, frozenset[str]] = field(default_factory=dict)
    collected: dict[Path, Any] = field(default_factory=dict)
    outside: dict[tuple[str, str], OutsideMaps] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = stream(self.seed, "abduction")
        self.ties = stream(self.seed, "ties", self.model.device)

    def add(self, path: Path, name: str, scores: Tensor) -> None:
        """Add scores of rows, `(n,)`, in the unit of a variable's distances."""
        self.scores.add(path, scores, unit(self.model.variables[name]))

    @contextmanager
    def flagged(self, paths: Iterable[Path]) -> Iterator[None]:
        """Leave the reason under the paths of what is not available, and raise no error."""
        try:
            yield
        except ValueError as refused:
            for path in paths:
                self.scores.refuse(path, str(refused))

    def images(self, query: Query) -> Iterator[str]:
        """Yield the images that an intervention may change."""
        for name in query.affected(self.model):
            if isinstance(self.model.variables[name], Image):
                yield name


class Line(NamedTuple):
    """The line of a comparison about a path.

    Attributes:
        text: What it is called.
        mode: The mode of the answer, if there is one to name.
        section: First name of the section whose lines it joins; its own, if not given.
        rank: Place within its section; lower ones come first.
    """

    text: str
    mode: str | None = None
    section: str | None = None
    rank: int = 2


@dataclass(frozen=True)
class Section:
    """The numbers of a measure that stand under one first name of their paths.

    Attributes:
        name: The first name, such as `composition`.
        title: What its table asks.
        note: How to read the table.
        heading: What a comparison calls it; the name, if not given.
        better: `higher` or `lower`, by the last name of a path, or by the unit; `""` for all
            others. Where none fits, nothing is better.
        answerer: Place in a path of the name of who answered; `None` if it is always the model.
        line: Gives, of a path, how a comparison tells of it.
        counts_draws: Whether a score depends on how many draws of the noise there are.
        plain: Whether it holds single numbers of sets of rows, or of the model, without intervals.
    """

    name: str
    title: str = ""
    note: str = ""
    heading: str = ""
    better: Mapping[str, str] = field(default_factory=dict)
    answerer: int | None = None
    line: Callable[[Path], Line] | None = None
    counts_draws: Callable[[Path], bool] = lambda path: False
    plain: bool = False

    def direction(self, path: Path, unit: str) -> str | None:
        """Return which way is better, of a path and its unit."""
        if FACTUAL in path:
            return None
        known = (self.better.get(key) for key in (path[-1], unit, ""))
        return next((way for way in known if way), None)

    def of_model(self, path: Path, modes: Iterable[str]) -> bool:
        """Return whether it tells of a model, or is a floor: not of a world or a baseline."""
        models = {*modes, AVERAGED, OBSERVED, MODEL, UNGUIDED}
        return self.answerer is None or path[self.answerer] in models

    def table(self, metrics: Mapping[str, Any]) -> Table:
        """Return its numbers as a table."""
        nested = metrics.get(self.name, {})
        if self.plain:
            return table_of_numbers(self.title, self.note, nested)
        table = table_of_means(self.title, self.note, dict(leaves(nested)))
        return replace(table, columns=[MODES.get(head, head) for head in table.columns])


Metrics: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """One thing that an evaluation measures; functions that it lacks are not called.

    Attributes:
        name: How a protocol asks for it.
        about: What it measures, in one line.
        sections: Where its numbers stand.
        standard: Whether it is measured unless a protocol says otherwise.
        always: Whether it is measured whatever a protocol says.
        essential: Whether the console shows it; the page shows everything.
        rung: Rung of the ladder that it is about; lower ones come first in a report.
        draws: Whether it needs answers to several draws of the noise: `never`, `always`, or only
            `with truth`, of rows that are compared with the truth.
        references: Number of real rows, other than those that are asked, which it compares with at
            most; `None` for as many as are asked.
        on_factual: Called with real test rows, their place, whether they are compared with the
            truth, and what the oracles read in them; with the first seed alone.
        on_null: Called with a batch of rows, to ask for what changes nothing.
        on_pairs: Called with all interventions, the rows' place, and the rows.
        on_answer: Called after each answer to an intervention, with its mode.
        on_answers: Called once all modes of an intervention are answered.
        compute: Gives numbers of sets of rows, and of the model, from all rows, the interventions,
            and how many rows were compared with the truth; with the first seed alone.
        conclude: Adds to the numbers of rows what follows from several scores of a row.
        tables: Gives its tables; one a section, if not given.
    """

    name: str
    about: str
    sections: tuple[Section, ...] = ()
    standard: bool = False
    always: bool = False
    essential: bool = False
    rung: int = 3
    draws: Literal["never", "always", "with truth"] = "never"
    references: int | None = 0
    on_factual: Callable[[Examination, Rows, slice, bool, Readings], None] | None = None
    on_null: Callable[[Examination, Rows], None] | None = None
    on_pairs: Callable[[Examination, Sequence[Query], slice, Rows], None] | None = None
    on_answer: Callable[[Examination, Answers, str], None] | None = None
    on_answers: Callable[[Examination, Answers], None] | None = None
    compute: Callable[[Examination, Rows, Sequence[Query], int, Bootstrap], Metrics] | None = None
    conclude: Callable[[Examination, Metrics, Bootstrap], None] | None = None
    tables: Callable[[Mapping[str, Any]], Iterable[Table]] | None = None

    def show(self, metrics: Mapping[str, Any]) -> list[Table]:
        """Return its tables, as far as there are numbers."""
        if self.tables is not None:
            shown = list(self.tables(metrics))
        else:
            shown = [section.table(metrics) for section in self.sections]
        return [table for table in shown if table.rows]


def mode_of(temperature: float) -> str:
    """Return the name of a factor on the noise of observation.

    Example:
        >>> mode_of(1.0), mode_of(0.0), mode_of(0.1)
        ('kept', 'latent', 'eps x 0.1')
    """
    return {1.0: KEPT, 0.0: LATENT}.get(temperature, f"{SCALED}{temperature:g}")


def read_images(oracles: Oracles, rows: Rows, device: torch.device, batch_size: int) -> Readings:
    """Return what the oracles read in the images of rows, some at a time."""
    readings = {}
    for (image, name), oracle in oracles.items():
        values, features = [], []
        for images in rows[image].split(batch_size):
            embedded = oracle.embed(images.to(device))
            features.append(embedded)
            values.append(oracle.value(oracle.judge(embedded)))
        readings[image, name] = Reading(torch.cat(values), torch.cat(features))
    return readings


def features_of(readings: Readings, image: str) -> Tensor:
    """Return the features of an image in all its oracles, `(n, d)`.

    Raises:
        ValueError: If there are none.
    """
    features = [reading.features for (of, _), reading in readings.items() if of == image]
    if not features:
        raise ValueError(f"{image}: no oracle sees it")
    return torch.cat(features, dim=1)


def or_why(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what is measured, `None` for what is not finite; or the message of an error."""
    try:
        return {name: _finite(value) for name, value in measure().items()}
    except ValueError as refused:
        return {"undefined": str(refused)}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, float) and not torch.tensor(value).isfinite():
        return None
    return value
