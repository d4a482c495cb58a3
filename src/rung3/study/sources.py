"""Where a study's rows come from: one class for each `kind` of data in a study file."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor

from rung3 import data, worlds
from rung3.data.memory import require, row_bytes
from rung3.data.readers.medical import LAYOUTS, Cohort
from rung3.data.readers.mnist import Split
from rung3.data.readers.scans import ScanOptions
from rung3.data.rows import Rows, map_noise
from rung3.data.seeding import stream
from rung3.data.splits import check_apart, divide
from rung3.data.variables import Image, Variable
from rung3.scm.propagation import generate
from rung3.scm.scm import SCM
from rung3.study.options import Derived
from rung3.study.parser import FilePath, Part, nearest, unknown
from rung3.worlds.strokes.colour import Scenario

__all__ = [
    "BrainData", "ChestData", "ColourData", "Data", "DigitsData", "MedicalData", "MorphoMNISTData",
    "Splits", "TableData", "check_row",
]  # fmt: skip

Variables = Mapping[str, Variable]
Count = Annotated[int, Field(ge=1, lt=2**62)]
Share = Annotated[float, Field(gt=0, lt=1)]


def _share_or_path(given: Any) -> Any:
    """Refuse a number that is no share: it names no file either."""
    if isinstance(given, (int, float)) and not (isinstance(given, float) and 0 < given < 1):
        raise ValueError(
            "expected the share of rows to set aside, between 0 and 1, or another table; got "
            f"{given}"
        )
    if not isinstance(given, (float, str, Path)):
        raise ValueError(f"expected a share such as 0.2, or the path of a table; got {given!r}")
    return given


Held = Annotated[float | FilePath, BeforeValidator(_share_or_path)]
"""Rows to test on: a share, or another table."""


@dataclass(frozen=True)
class Splits:
    """The rows of a study, and the world that they come from where it is known, in this order.

    Attributes:
        train: Rows to train on.
        validation: Rows to validate on.
        test: Rows to test on.
        truth: The world; `None` where it is not known.
        left_out: How many rows of the files are in none of these, by reason.
    """

    train: Rows
    validation: Rows
    test: Rows
    truth: SCM | None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.validation, self.test, self.truth))


class Scans(Derived, of=ScanOptions):
    """What is taken from the scans of an image variable; see `rung3.data.readers.scan`."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.options()
        return self

    def options(self) -> ScanOptions:
        """Return the options as readers take them."""
        return ScanOptions(**self.given())


class _Source(Part):
    """Rows to train, validate and test on; validation rows are set aside from the training rows."""

    validation: Share = 0.05

    @property
    def is_read(self) -> bool:
        """Whether rows are read from files, which may change; else a world draws them."""
        return True

    @abstractmethod
    def train_rows(self, variables: Variables, seed: int) -> Rows:
        """Return the rows to train on, those for validation among them."""

    @abstractmethod
    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        """Return the rows that nothing is fitted to, or one of them.

        Args:
            variables: What each column holds.
            seed: Of the draws.
            at: The number of a row, from 0; all if not given.

        Raises:
            ValueError: If there is no such row.
        """

    def truth(self) -> SCM | None:
        """Return the world that the rows come from, where it is known."""
        return None

    def test_scan(self, name: str, seed: int, at: int) -> tuple[Path, ScanOptions]:
        """Return the scan that an image variable of a test row is read from, and what is taken.

        Raises:
            ValueError: If there is no such row, or it is not read from a scan.
        """
        raise ValueError(f"{name}: its rows are not read from scans")

    def drawn(self) -> dict[str, int]:
        """Return how many rows are drawn, by the part of the file that says so."""
        return {}

    def read_from(self) -> dict[str, str]:
        """Return the column that a variable is read from, where it has another name."""
        return {}

    def splits(self, variables: Variables, seed: int, share: float | None = None) -> Splits:
        """Read or draw all rows.

        Args:
            variables: What each column holds.
            seed: Of the draws, and of the rows that are set aside.
            share: Share of the training rows set aside, instead of `validation`; 0 for none.
        """
        train, validation = self._set_aside(self.train_rows(variables, seed), seed, share)
        return Splits(train, validation, self.test_rows(variables, seed), self.truth())

    def _set_aside(self, rows: Rows, seed: int, share: float | None) -> tuple[Rows, Rows]:
        share = self.validation if share is None else share
        return _split("validation", rows, share, seed) if share else (rows, rows[:0])


def _split(part: str, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    rest, held = _divide(part, range(rows.n), share, seed)
    return rows.select(rest), rows.select(held)


def _divide(
    part: str, subjects: Sequence[object], share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the numbers of the rows that are kept, and of those set aside, by subject."""
    try:
        return divide(subjects, share, seed)
    except ValueError:
        raise ValueError(
            f"data.{part}: {share} of {len(subjects)} rows leaves a part empty; expected a share "
            "that sets at least one row aside, and leaves one"
        ) from None


def check_row(at: int, n: int) -> None:
    """Refuse the number of a row that is not there.

    Raises:
        ValueError: If it is not.
    """
    if not 0 <= at < n:
        raise ValueError(f"row {at}: the test rows are 0 to {n - 1}")


def _pick(rows: Rows, at: int | None) -> Rows:
    if at is None:
        return rows
    check_row(at, rows.n)
    return rows[at]


def _draw_row(world: SCM, n: int, seed: int, at: int) -> Rows:
    """Draw one of the rows that `world.sample(n, seed=seed)` gives, and only its image.

    Noise comes in one stream for all rows; what takes time is to render it.
    """
    images = [name for name, kind in world.variables.items() if isinstance(kind, Image)]
    if any(world.graph.descendants([name]) - set(images) for name in images):
        return world.sample(n, seed=seed)[at]
    causes = [name for name in world.variables if name not in images]
    values, noise = generate(world, n, seed, only=causes)
    row = {name: column[at : at + 1] for name, column in values.items()}
    for name in (name for name in world.graph.order if name in images):
        mechanism = world.mechanisms[name]
        every = {parent: values[parent] for parent in mechanism.parents if parent in values}
        if len(every) < len(mechanism.parents):  # an image of an image
            return world.sample(n, seed=seed)[at]
        noise[name] = mechanism.sample_noise(n, every, stream(seed, name, world.device))
        part_noise = map_noise(lambda part: part[at : at + 1], noise[name])
        row[name] = mechanism.predict(part_noise, {parent: row[parent] for parent in every})
    own_noise = {k: map_noise(lambda part: part[at : at + 1], u) for k, u in noise.items()}
    return Rows(
        {name: row[name] for name in world.graph.nodes}, noise=own_noise, world=world.world
    )[0]


class _Drawn(_Source):
    """Rows that a world draws."""

    train: Count = 20_000
    test: Count = 1_000

    @abstractmethod
    def world(self, split: Split) -> SCM:
        """Return the world that the rows come from."""

    def drawn(self) -> dict[str, int]:
        return {"train": self.train, "test": self.test}

    @property
    def is_read(self) -> bool:
        return False

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        return self.world("train").sample(self.train, seed=2 * seed)

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        world, seed = self.world("test"), 2 * seed + 1
        if at is None:
            return world.sample(self.test, seed=seed)
        check_row(at, self.test)
        return _draw_row(world, self.test, seed, at)

    def truth(self) -> SCM | None:
        return self.world("test")


class DigitsData(_Drawn):
    """Rows drawn from `rung3.worlds.digits`.

    Args:
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["digits"]

    def world(self, split: Split) -> SCM:
        return worlds.digits()


class BrainData(_Drawn):
    """Rows drawn from `rung3.worlds.brain`.

    Args:
        size: Pixels a side.
        volume: Whether images are volumes, and not slices.
        site: Whether the scan's site is a cause of the image.
        template: Whether the anatomy is the template's, or else a phantom's; what is there, if not
            given.
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["brain"]
    size: Count = 64
    volume: bool = False
    site: bool = False
    template: bool | None = None

    def world(self, split: Split) -> SCM:
        return worlds.brain(self.size, volume=self.volume, site=self.site, template=self.template)


class ChestData(_Drawn):
    """Rows drawn from `rung3.worlds.chest`.

    Args:
        size: Pixels a side.
        site: Whether the radiograph's site is a cause of the image.
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["chest"]
    size: Count = 64
    site: bool = False

    def world(self, split: Split) -> SCM:
        return worlds.chest(self.size, site=self.site)


class ColourData(_Drawn):
    """Rows drawn from `rung3.worlds.colour`.

    Args:
        scenario: Which causes the image has.
        outliers: Probability that a confounded value is an outlier; 0 for no full support.
        confounded: Whether the causes depend on each other.
        mnist: Folder of the raw MNIST files, to paint those digits; drawn ones, if not given.
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["colour"]
    scenario: Scenario
    outliers: Annotated[float, Field(ge=0, lt=1)] = 0.05
    confounded: bool = True
    mnist: FilePath | None = None

    def world(self, split: Split) -> SCM:
        return worlds.colour(
            self.scenario,
            outliers=self.outliers,
            confounded=self.confounded,
            root=self.mnist,
            split=split,
        )


class MorphoMNISTData(_Source):
    """A Morpho-MNIST folder.

    Args:
        root: The folder.
        mnist: Folder of the raw MNIST files; with it the true counterfactuals are known.
        train: Number of training rows to read, from the first on; all if not given.
        test: The same for test rows.
        validation: Share of the training rows set aside.
    """

    kind: Literal["morphomnist"]
    root: FilePath
    mnist: FilePath | None = None
    train: Count | None = None
    test: Count | None = None

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        return data.morphomnist(self.root, "train")[: self.train]

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        rows = data.morphomnist(self.root, "test", mnist=self.mnist)[: self.test]
        return _pick(rows, at)

    def truth(self) -> SCM | None:
        return None if self.mnist is None else worlds.morphomnist(self.mnist, "test")


class TableData(_Source):
    """A CSV or Parquet table; the columns of image variables name files.

    Args:
        path: The table.
        columns: Column that a variable is read from, where it has another name.
        scans: What is taken from NIfTI and DICOM files, by image variable; pictures of a variable
            that is named here are read by the same levels.
        subject: Column that says whom a row is of: no subject is then in two parts.
        test: Another table, or the share of rows set aside at random.
        validation: Share of the training rows set aside.
    """

    kind: Literal["table"]
    path: FilePath
    columns: dict[str, str] = Field(default_factory=dict)
    scans: dict[str, Scans] = Field(default_factory=dict)
    subject: str | None = None
    test: Held = 0.2

    @model_validator(mode="after")
    def _other_rows(self) -> Self:
        if self.test == self.path:
            raise ValueError("test: these are the training rows; name another table, or a share")
        return self

    def read_from(self) -> dict[str, str]:
        return self.columns

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        rows, subjects = self._read(self.path, variables)
        if isinstance(self.test, float):
            return rows.select(_divide("test", subjects, self.test, seed)[0])
        return rows

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        if isinstance(self.test, float):
            rows, subjects = self._read(self.path, variables)
            rows = rows.select(_divide("test", subjects, self.test, seed)[1])
        else:
            rows, _ = self._read(self.test, variables)
        return _pick(rows, at)

    def splits(self, variables: Variables, seed: int, share: float | None = None) -> Splits:
        """Read all rows, the table once; refuse tables that share a subject."""
        train, subjects = self._read(self.path, variables)
        if isinstance(self.test, float):
            rest, held = _divide("test", subjects, self.test, seed)
            train, test = train.select(rest), train.select(held)
            subjects = [subjects[k] for k in rest.tolist()]
        else:
            test, others = self._read(self.test, variables)
            if self.subject is not None:
                _check_apart({"training": subjects, "test": others})
        share = self.validation if share is None else share
        if not share:
            return Splits(train, train[:0], test, None)
        rest, held = _divide("validation", subjects, share, seed)
        return Splits(train.select(rest), train.select(held), test, None)

    def test_scan(self, name: str, seed: int, at: int) -> tuple[Path, ScanOptions]:
        table = self.path if isinstance(self.test, float) else self.test
        files = data.column(table, self.columns.get(name, name))
        if isinstance(self.test, float):
            subjects = self._subjects(table, len(files))
            files = [files[k] for k in _divide("test", subjects, self.test, seed)[1].tolist()]
        check_row(at, len(files))
        options = self.scans[name].options() if name in self.scans else ScanOptions()
        return table.parent / files[at].strip(), options

    def _subjects(self, path: FilePath, n: int) -> Sequence[object]:
        return range(n) if self.subject is None else data.column(path, self.subject)

    def _read(self, path: FilePath, variables: Variables) -> tuple[Rows, Sequence[object]]:
        """Return the rows of a table, and whom each is of; by default all of different subjects."""
        column = {name: self.columns.get(name, name) for name in variables}
        if strange := [name for name in self.scans if not isinstance(variables.get(name), Image)]:
            raise ValueError(f"data.scans: {strange[0]} is no image variable")
        scans = {column[name]: part.options() for name, part in self.scans.items()}
        read = data.table(
            path, variables={column[name]: v for name, v in variables.items()}, scans=scans
        )
        rows = Rows({name: read[column[name]] for name in variables})
        return rows, self._subjects(path, rows.n)


def _check_apart(parts: Mapping[str, Sequence[object]]) -> None:
    try:
        check_apart(parts)
    except ValueError as error:
        raise ValueError(f"data: {error}") from None


def _layout(name: str) -> str:
    if name not in LAYOUTS:
        raise ValueError(nearest(name, LAYOUTS, "layout"))
    return name


class MedicalData(_Source):
    """A published medical data set, in its own layout; no subject is in two parts.

    Args:
        layout: Which: see `rung3.data.readers.medical`.
        root: Its folder.
        options: Options of its reader, such as `finding`.
        columns: Variable of the data set that one of the study is, where it has another name.
        scans: What is taken from its scans; given for pictures, they are read by their levels too.
        test: The share of rows set aside at random, or `published` for the split it comes with.
        validation: Share of the training rows set aside; with `published`, where that has none.
    """

    kind: Literal["medical"]
    layout: Annotated[str, AfterValidator(_layout)]
    root: FilePath
    options: dict[str, Any] = Field(default_factory=dict)
    columns: dict[str, str] = Field(default_factory=dict)
    scans: Scans | None = None
    test: Share | Literal["published"] = 0.2

    @model_validator(mode="after")
    def _known_options(self) -> Self:
        known = [*inspect.signature(LAYOUTS[self.layout]).parameters][1:]
        for key in self.options:
            if key not in known:
                raise unknown(("options", key), known, f"option of {self.layout}")
        return self

    def read_from(self) -> dict[str, str]:
        return self.columns

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        cohort = self._cohort()
        train, validation, _ = self._parts(cohort, seed, 0)
        return self._read(cohort, variables, [*train, *validation])

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        cohort = self._cohort()
        return _pick(self._read(cohort, variables, self._parts(cohort, seed, 0)[2]), at)

    def splits(self, variables: Variables, seed: int, share: float | None = None) -> Splits:
        """Read all rows, and count those that the reader left out."""
        cohort = self._cohort()
        share = self.validation if share is None else share
        parts = [self._read(cohort, variables, at) for at in self._parts(cohort, seed, share)]
        return Splits(parts[0], parts[1], parts[2], None, cohort.left_out)

    def test_scan(self, name: str, seed: int, at: int) -> tuple[Path, ScanOptions]:
        cohort = self._cohort()
        test = self._parts(cohort, seed, 0)[2]
        check_row(at, len(test))
        options = ScanOptions() if self.scans is None else self.scans.options()
        return cohort.images[test[at]], options

    def _cohort(self) -> Cohort:
        return LAYOUTS[self.layout](self.root, **self.options)

    def _parts(self, cohort: Cohort, seed: int, share: float) -> tuple[list[int], ...]:
        """Return the numbers of the rows for training, validation and test."""
        subjects = cohort.subjects
        if self.test == "published":
            train, held, test = map(cohort.published, ("train", "validate", "test"))
        else:
            train, test = (at.tolist() for at in _divide("test", subjects, self.test, seed))
            held = []
        if share and not held:
            rest, aside = _divide("validation", [subjects[k] for k in train], share, seed)
            train, held = ([train[k] for k in at.tolist()] for at in (rest, aside))
        parts = {"training": train, "validation": held, "test": test}
        if empty := [name for name in ("training", "test") if not parts[name]]:
            raise ValueError(f"data.test: {self.test} leaves no {empty[0]} rows")
        _check_apart({name: [subjects[k] for k in at] for name, at in parts.items()})
        return train, held, test

    def _read(self, cohort: Cohort, variables: Variables, at: Sequence[int]) -> Rows:
        column = {name: self.columns.get(name, name) for name in variables}
        wanted = {column[name]: variable for name, variable in variables.items()}
        size = len(at) * row_bytes(variables)
        require(f"data: {len(at):,} rows", size, "declare smaller images")
        read = cohort.rows(wanted, at, None if self.scans is None else self.scans.options())
        return Rows({name: read[column[name]] for name in variables})


Data = Annotated[
    BrainData | ChestData | ColourData | DigitsData | MedicalData | MorphoMNISTData | TableData,
    Field(discriminator="kind"),
]
"""What a study file's `data` may be."""
