"""`Augmented`: counterfactual rows, and where each comes from."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from rung3.data.files import write
from rung3.data.pictures import image_png
from rung3.data.rows import Rows
from rung3.data.variables import Discrete, Image, Variable

__all__ = ["Augmented"]

TABLE = "rows.csv"
"""Name of the table in a folder of augmented rows."""

PROVENANCE = ("source", "set", "seed", "weight")
"""Columns of the table beside the variables."""


@dataclass(frozen=True)
class Augmented:
    """Rows with the joint that a plan asks for.

    Attributes:
        rows: Their values, `(m, ...)`.
        source: The number of the row that each comes from, `(m,)`.
        change: The variable that was set, `do(change := rows[change])`.
        factual: Whether a row is its source itself, `(m,)`.
        seed: The seed of the query that answered a counterfactual, one for many rows; -1 for
            factual rows. The same call of `augment` gives the same rows.
        weight: Weights with mean one, `(m,)`, with which the joint is the one asked for.
        attempted: Number of counterfactuals that were tried to be made.
        rejected: How many of these no attempt confirmed, by the variable that was not read off
            them; one may count for several variables.
    """

    rows: Rows
    source: Tensor
    change: str
    factual: Tensor
    seed: Tensor
    weight: Tensor
    attempted: int
    rejected: Mapping[str, int]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.source)

    @property
    def accepted(self) -> float:
        """Share of the counterfactuals that were confirmed; one if none was needed."""
        return int((~self.factual).sum()) / self.attempted if self.attempted else 1.0

    def __str__(self) -> str:
        changed = int((~self.factual).sum())
        lines = [
            f"{self.n} rows: {self.n - changed} as they were, {changed} under do({self.change})"
        ]
        if self.attempted > changed:
            causes = ", ".join(f"{name} in {n}" for name, n in self.rejected.items() if n)
            lines.append(f"  {self.attempted - changed} rejected; not read off the image: {causes}")
        lines.append(f"  weights from {self.weight.min():.3g} to {self.weight.max():.3g}")
        return "\n".join(lines)

    def save(self, folder: str | Path, variables: Mapping[str, Variable]) -> Path:
        """Write a table and the images, which `rung3.data.table` reads.

        Args:
            folder: Where to; made if it is not there.
            variables: The model's variables.

        Returns:
            The path of the table: the variables, then source, whether it was set, seed and weight.

        Raises:
            ValueError: If a variable is named as one of the other columns, or is a volume.
        """
        folder = Path(folder)
        for name, variable in variables.items():
            if name in PROVENANCE:
                raise ValueError(
                    f"{name}: a column of the table has this name; rename the variable"
                )
            if isinstance(variable, Image) and len(variable.shape) > 3:
                raise ValueError(f"{name}: a volume is not a PNG; use augment_shards")
        columns = {name: _cells(folder, name, v, self.rows[name]) for name, v in variables.items()}
        columns |= {
            "source": self.source.tolist(),
            "set": ["" if f else self.change for f in self.factual.tolist()],
            "seed": ["" if s < 0 else s for s in self.seed.tolist()],
            "weight": [f"{w:.6g}" for w in self.weight.tolist()],
        }
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        path = folder / TABLE
        write(path, text.getvalue().encode())
        return path


def _cells(folder: Path, name: str, variable: Variable, values: Tensor) -> list[str]:
    """Return the cells of a column; images are written as files, named by their cells."""
    if isinstance(variable, Image):
        paths = [Path("images") / f"{k:06}-{name}.png" for k in range(len(values))]
        for path, image in zip(paths, values, strict=True):
            write(folder / path, image_png(image))
        return [path.as_posix() for path in paths]
    if isinstance(variable, Discrete):
        return [variable.label(code) for code in values.long().tolist()]
    return [repr(number) for number in values.double().tolist()]
