"""What every source of a study's rows does: train, validation and test rows, set apart."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from torch import Tensor

from rung3.data.cache import user_cache
from rung3.data.readers.scans import ScanOptions
from rung3.data.rows import Rows
from rung3.data.splits import check_apart, divide
from rung3.data.variables import Variable
from rung3.scm.scm import SCM
from rung3.study.listings import Listing, Say
from rung3.study.options import Derived
from rung3.study.parser import FilePath, Part

__all__ = [
    "Count",
    "Filed",
    "RowSource",
    "Scans",
    "Share",
    "Splits",
    "Variables",
    "check_parts",
    "check_row",
    "divide_rows",
    "pick",
]

Variables = Mapping[str, Variable]
Count = Annotated[int, Field(ge=1, lt=2**62)]
Share = Annotated[float, Field(gt=0, lt=1)]


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


class RowSource(Part):
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
        if not share:
            return rows, rows[:0]
        rest, held = divide_rows("validation", range(rows.n), share, seed)
        return rows.select(rest), rows.select(held)


class Filed(RowSource):
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


def divide_rows(
    part: str, subjects: Sequence[object], share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the numbers of the rows that are kept, and of those set aside, by subject.

    Raises:
        ValueError: If a part would be empty; it names the part.
    """
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


def pick(rows: Rows, at: int | None) -> Rows:
    """Return one row, or all of them if no number is given.

    Raises:
        ValueError: If there is no such row.
    """
    if at is None:
        return rows
    check_row(at, rows.n)
    return rows[at]


def check_parts(parts: Mapping[str, Sequence[object]]) -> None:
    """Refuse parts that share a subject.

    Raises:
        ValueError: If two do; it names the subject.
    """
    try:
        check_apart(parts)
    except ValueError as error:
        raise ValueError(f"data: {error}") from None
