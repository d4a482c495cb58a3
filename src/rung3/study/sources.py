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
from rung3.data.cache import user_cache
from rung3.data.readers.medical import LAYOUTS, Cohort, PreparedCohort
from rung3.data.readers.mnist import Split
from rung3.data.readers.scans import ScanOptions, taken
from rung3.data.readers.table import unread_table
from rung3.data.rows import Rows, map_noise
from rung3.data.seeding import stream
from rung3.data.splits import check_apart, check_owners, divide
from rung3.data.stored import as_stored
from rung3.data.unread import Unread
from rung3.data.variables import Image, Variable
from rung3.scm.propagation import generate
from rung3.scm.scm import SCM
from rung3.study.listings import Listing, Say
from rung3.study.options import Derived
from rung3.study.parser import FilePath, Part, nearest, unknown
from rung3.worlds.strokes.colour import Scenario

__all__ = [
    "BrainData", "ChestData", "ColourData", "Data", "DigitsData", "Filed", "MedicalData",
    "MorphoMNISTData", "Splits", "TableData", "check_row",
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
        prepared: Digests of the rows as they were prepared on disk; empty if any were not.
    """

    train: Rows
    validation: Rows
    test: Rows
    truth: SCM | None
    left_out: Mapping[str, int] = field(default_factory=dict)
    prepared: str = ""

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

    def stamp(self, variables: Variables) -> str:
        """Return digests of the rows as they were prepared on disk; empty if any were not."""
        return ""

    def drawn(self) -> dict[str, int]:
        """Return how many rows are drawn, by the part of the file that says so."""
        return {}

    def read_from(self) -> dict[str, str]:
        """Return the column that a variable is read from, where it has another name."""
        return {}

    def splits(
        self,
        variables: Variables,
        seed: int,
        share: float | None = None,
        say: Say = lambda text: None,
    ) -> Splits:
        """Read or draw all rows.

        Args:
            variables: What each column holds.
            seed: Of the draws, and of the rows that are set aside.
            share: Share of the training rows set aside, instead of `validation`; 0 for none.
            say: Called with where images are held, of rows that are read from files.
        """
        train, validation = self._set_aside(self.train_rows(variables, seed), seed, share)
        return Splits(train, validation, self.test_rows(variables, seed), self.truth())

    def _set_aside(self, rows: Rows, seed: int, share: float | None) -> tuple[Rows, Rows]:
        share = self.validation if share is None else share
        return _split("validation", rows, share, seed) if share else (rows, rows[:0])


class Filed(_Source):
    """Rows that are read from files, from where they may have been prepared on disk."""

    prepared: FilePath | None = None

    @property
    def place(self) -> Path:
        """The folder that `rung3 prepare` writes to: one of the user's cache, if not given."""
        return self.prepared or user_cache().folder / "prepared"

    @abstractmethod
    def listings(self, variables: Variables) -> list[Listing]:
        """Return the tables of rows that can be prepared."""

    def stamp(self, variables: Variables) -> str:
        digests = [listing.digest() for listing in self.listings(variables)]
        return " ".join(digests) if all(digests) else ""


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


def _held(world: SCM, rows: Rows) -> Rows:
    """Return drawn rows with the images held as levels, as those that are read from files."""
    kinds = world.variables
    images = {k: kind.levels for k, kind in kinds.items() if isinstance(kind, Image)}
    values = {k: as_stored(v, images[k]) if k in images else v for k, v in rows.items()}
    return Rows(values, noise=rows.noise, world=rows.world, provenance=rows.provenance)


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
        world = self.world("train")
        return _held(world, world.sample(self.train, seed=2 * seed))

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        world, seed = self.world("test"), 2 * seed + 1
        if at is None:
            return _held(world, world.sample(self.test, seed=seed))
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
        referral: Share of patients whose disease decides the site.
        train: Number of rows to train on.
        test: Number of rows to test on.
        validation: Share of the training rows set aside.
    """

    kind: Literal["chest"]
    size: Count = 64
    site: bool = False
    referral: Annotated[float, Field(ge=0, le=1)] = 0.0

    def world(self, split: Split) -> SCM:
        return worlds.chest(self.size, site=self.site, referral=self.referral)


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


class TableData(Filed):
    """A CSV or Parquet table; the columns of image variables name files.

    Args:
        path: The table.
        columns: Column that a variable is read from, where it has another name.
        scans: What is taken from NIfTI and DICOM files, by image variable; pictures of a variable
            that is named here are read by the same levels.
        subject: Column that says whom a row is of: no subject is then in two parts.
        test: Another table, or the share of rows set aside at random.
        validation: Share of the training rows set aside.
        prepared: Folder of rows prepared on disk by `rung3 prepare`; one of the user's cache, if
            not given.
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

    def splits(
        self,
        variables: Variables,
        seed: int,
        share: float | None = None,
        say: Say = lambda text: None,
    ) -> Splits:
        """Read all rows, the table once; refuse tables that share a subject."""
        train, subjects = self._read(self.path, variables, say)
        if isinstance(self.test, float):
            rest, held = _divide("test", subjects, self.test, seed)
            train, test = train.select(rest), train.select(held)
            subjects = [subjects[k] for k in rest.tolist()]
        else:
            test, others = self._read(self.test, variables, say)
            if self.subject is not None:
                _check_apart({"training": subjects, "test": others})
                self._check_both(self.test, variables)
        share = self.validation if share is None else share
        if not share:
            return Splits(train, train[:0], test, None, prepared=self.stamp(variables))
        rest, held = _divide("validation", subjects, share, seed)
        parts = train.select(rest), train.select(held), test
        return Splits(*parts, None, prepared=self.stamp(variables))

    def test_scan(self, name: str, seed: int, at: int) -> tuple[Path, ScanOptions]:
        table = self.path if isinstance(self.test, float) else self.test
        files = data.column(table, self.columns.get(name, name))
        if isinstance(self.test, float):
            subjects = self._subjects(table, len(files))
            files = [files[k] for k in _divide("test", subjects, self.test, seed)[1].tolist()]
        check_row(at, len(files))
        options = self.scans[name].options() if name in self.scans else ScanOptions()
        return table.parent / files[at].strip(), options

    def _check_both(self, test: Path, variables: Variables) -> None:
        """Refuse a file of one subject in one table and of another in the other."""
        if self.path.exists() and test.exists():  # of rows that were prepared they may be gone
            read = {path: self._listing(path, variables).read() for path in (self.path, test)}
            _check_owners({path: (part, extra["subjects"]) for path, (part, extra) in read.items()})

    def _subjects(self, path: FilePath, n: int) -> Sequence[object]:
        return range(n) if self.subject is None else data.column(path, self.subject)

    def _read(
        self, path: FilePath, variables: Variables, say: Say = lambda text: None
    ) -> tuple[Rows, Sequence[object]]:
        """Return the rows of a table, and whom each is of; by default all of different subjects."""
        listing = self._listing(path, variables)
        if (prepared := listing.prepared(say)) is None:
            unread, extra = listing.read()
            prepared = listing.settle(unread, extra, say)
        read = unread.read(progress=True) if prepared is None else prepared.rows
        whose = (extra if prepared is None else prepared.extra)["subjects"]
        column = {name: self.columns.get(name, name) for name in variables}
        rows = Rows({name: read[column[name]] for name in variables})
        return rows, range(rows.n) if whose is None else whose

    def listings(self, variables: Variables) -> list[Listing]:
        paths = [self.path] if isinstance(self.test, float) else [self.path, self.test]
        return [self._listing(path, variables) for path in paths]

    def _listing(self, path: FilePath, variables: Variables) -> Listing:
        column = {name: self.columns.get(name, name) for name in variables}
        if strange := [name for name in self.scans if not isinstance(variables.get(name), Image)]:
            raise ValueError(f"data.scans: {strange[0]} is no image variable")
        kinds = {column[name]: variable for name, variable in variables.items()}
        scans = {column[name]: part.options() for name, part in self.scans.items()}

        def read() -> tuple[Unread, dict[str, Any]]:
            unread = unread_table(path, variables=kinds, scans=scans)
            whose = None if self.subject is None else data.column(path, self.subject)
            if whose is not None:
                _check_owners({path: (unread, whose)})
            return unread, {"subjects": whose}

        identity = {"table": str(path), "subject": self.subject}
        return Listing(self.place, self.prepared is not None, kinds, scans, identity, [path], read)


def _check_apart(parts: Mapping[str, Sequence[object]]) -> None:
    try:
        check_apart(parts)
    except ValueError as error:
        raise ValueError(f"data: {error}") from None


def _check_owners(tables: Mapping[Path, tuple[Unread, Sequence[object]]]) -> None:
    """Refuse tables that name one file for two subjects, in columns of images."""
    of = [whose for _, subjects in tables.values() for whose in subjects]
    rows = [f"{row} of {table.name}" for table, (_, s) in tables.items() for row in range(len(s))]
    for name in next(iter(tables.values()))[0].images:
        files = [file for unread, _ in tables.values() for file in unread.images[name][1]]
        paths = [file.resolve() if isinstance(file, Path) else None for file in files]
        try:
            check_owners(paths, of, rows)
        except ValueError as error:
            raise ValueError(f"data: {name}: {error}") from None


def _layout(name: str) -> str:
    if name not in LAYOUTS:
        raise ValueError(nearest(name, LAYOUTS, "layout"))
    return name


class MedicalData(Filed):
    """A published medical data set, in its own layout; no subject is in two parts.

    Args:
        layout: Which: see `rung3.data.readers.medical`.
        root: Its folder.
        options: Options of its reader, such as `finding`.
        columns: Variable of the data set that one of the study is, where it has another name.
        scans: What is taken from its scans; given for pictures, they are read by their levels too.
        test: The share of rows set aside at random, or `published` for the split it comes with.
        validation: Share of the training rows set aside; with `published`, where that has none.
        prepared: As of a table.
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
        cohort = self._cohort(variables)
        train, validation, _ = self._parts(cohort, seed, 0)
        return self._read(cohort, variables, [*train, *validation])

    def test_rows(self, variables: Variables, seed: int, at: int | None = None) -> Rows:
        cohort = self._cohort(variables)
        return _pick(self._read(cohort, variables, self._parts(cohort, seed, 0)[2]), at)

    def splits(
        self,
        variables: Variables,
        seed: int,
        share: float | None = None,
        say: Say = lambda text: None,
    ) -> Splits:
        """Read all rows, and count those that the reader left out."""
        cohort = self._cohort(variables, say)
        share = self.validation if share is None else share
        parts = [self._read(cohort, variables, at) for at in self._parts(cohort, seed, share)]
        train, held, test = parts
        return Splits(train, held, test, None, cohort.left_out, self.stamp(variables))

    def test_scan(self, name: str, seed: int, at: int) -> tuple[Path, ScanOptions]:
        cohort = self._files()
        test = self._parts(cohort, seed, 0)[2]
        check_row(at, len(test))
        options = None if self.scans is None else self.scans.options()
        return taken(cohort.images[test[at]], options)

    def listings(self, variables: Variables) -> list[Listing]:
        column = {name: self.columns.get(name, name) for name in variables}
        kinds = {column[name]: variable for name, variable in variables.items()}
        scans = None if self.scans is None else self.scans.options()

        def read() -> tuple[Unread, dict[str, Any]]:
            cohort = self._files()
            return cohort.unread(kinds, scans=scans), cohort.extra()

        identity = {"layout": self.layout, "root": str(self.root), "options": self.options}
        sheets = sorted(path for path in self.root.glob("*") if path.is_file())
        by_image = {"": scans} if scans else {}
        wanted = self.prepared is not None
        return [Listing(self.place, wanted, kinds, by_image, identity, sheets, read)]

    def _files(self) -> Cohort:
        return LAYOUTS[self.layout](self.root, **self.options)

    def _cohort(
        self, variables: Variables, say: Say = lambda text: None
    ) -> Cohort | PreparedCohort:
        """Return the rows as they were prepared, or else their files."""
        (listing,) = self.listings(variables)
        if (prepared := listing.prepared(say)) is None:
            cohort = self._files()
            unread = cohort.unread(listing.kinds, scans=listing.scans.get(""))
            prepared = listing.settle(unread, cohort.extra(), say)
            if prepared is None:
                return cohort
        return PreparedCohort(self.root, prepared)

    def _parts(
        self, cohort: Cohort | PreparedCohort, seed: int, share: float
    ) -> tuple[list[int], ...]:
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

    def _read(
        self, cohort: Cohort | PreparedCohort, variables: Variables, at: Sequence[int]
    ) -> Rows:
        column = {name: self.columns.get(name, name) for name in variables}
        wanted = {column[name]: variable for name, variable in variables.items()}
        read = cohort.rows(wanted, at, None if self.scans is None else self.scans.options())
        return Rows({name: read[column[name]] for name in variables})


Data = Annotated[
    BrainData | ChestData | ColourData | DigitsData | MedicalData | MorphoMNISTData | TableData,
    Field(discriminator="kind"),
]
"""What a study file's `data` may be."""
