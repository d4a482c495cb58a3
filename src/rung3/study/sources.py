"""Where a study's rows come from: one class for each `kind` of data in a study file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from rung3 import data, worlds
from rung3.data.readers.mnist import Split
from rung3.data.rows import Rows, map_noise
from rung3.data.seeding import stream
from rung3.data.variables import Image, Variable
from rung3.scm.propagation import generate
from rung3.scm.scm import SCM
from rung3.study.parser import FilePath, Part
from rung3.worlds.strokes.colour import Scenario

__all__ = [
    "BrainData", "ChestData", "ColourData", "Data", "DigitsData", "MorphoMNISTData", "Splits",
    "TableData", "check_row",
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


class Splits(NamedTuple):
    """The rows of a study, and the world that they come from where it is known."""

    train: Rows
    validation: Rows
    test: Rows
    truth: SCM | None


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
    try:
        return data.split(rows, share, seed)
    except ValueError:
        raise ValueError(
            f"data.{part}: {share} of {rows.n} rows leaves a part empty; expected a share that "
            "sets at least one row aside, and leaves one"
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
        own = map_noise(lambda part: part[at : at + 1], noise[name])
        row[name] = mechanism.predict(own, {parent: row[parent] for parent in every})
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
        return worlds.brain(
            self.size, volume=self.volume, site=self.site, template=self.template
        )


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
        test: Another table, or the share of rows set aside at random.
        validation: Share of the training rows set aside.
    """

    kind: Literal["table"]
    path: FilePath
    columns: dict[str, str] = Field(default_factory=dict)
    test: Held = 0.2

    @model_validator(mode="after")
    def _other_rows(self) -> Self:
        if self.test == self.path:
            raise ValueError("test: these are the training rows; name another table, or a share")
        return self

    def read_from(self) -> dict[str, str]:
        return self.columns

    def train_rows(self, variables: Variables, seed: int) -> Rows:
        rows = self._read(self.path, variables)
        return _split("test", rows, self.test, seed)[0] if isinstance(self.test, float) else rows

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        if isinstance(self.test, float):
            rows = _split("test", self._read(self.path, variables), self.test, seed)[1]
        else:
            rows = self._read(self.test, variables)
        return _pick(rows, at)

    def splits(self, variables: Variables, seed: int, share: float | None = None) -> Splits:
        """Read all rows, the table once."""
        train = self._read(self.path, variables)
        if isinstance(self.test, float):
            train, test = _split("test", train, self.test, seed)
        else:
            test = self._read(self.test, variables)
        train, validation = self._set_aside(train, seed, share)
        return Splits(train, validation, test, None)

    def _read(self, path: FilePath, variables: Variables) -> Rows:
        column = {name: self.columns.get(name, name) for name in variables}
        read = data.table(path, variables={column[name]: v for name, v in variables.items()})
        return Rows({name: read[column[name]] for name in variables})


Data = Annotated[
    BrainData | ChestData | ColourData | DigitsData | MorphoMNISTData | TableData,
    Field(discriminator="kind"),
]
"""What a study file's `data` may be."""
