"""Where a study's rows come from: one class for each `kind` of data in a study file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rung3 import data, worlds
from rung3.data.rows import Rows
from rung3.scm.scm import SCM
from rung3.study.drawn_sources import BrainData, ChestData, ColourData, DigitsData
from rung3.study.medical_source import MedicalData
from rung3.study.parser import FilePath
from rung3.study.row_source import Count, RowSource, Variables, pick
from rung3.study.table_source import TableData

__all__ = ["Data", "MorphoMNISTData"]


class MorphoMNISTData(RowSource):
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
        return pick(rows, at)

    def truth(self) -> SCM | None:
        return None if self.mnist is None else worlds.morphomnist(self.mnist, "test")


Data = Annotated[
    BrainData | ChestData | ColourData | DigitsData | MedicalData | MorphoMNISTData | TableData,
    Field(discriminator="kind"),
]
"""What a study file's `data` may be."""
