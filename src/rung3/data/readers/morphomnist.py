"""Morpho-MNIST folders: digits whose thickness and intensity were set, IDX files and a CSV.

Source: Castro et al. 2019, *Morpho-MNIST* (JMLR 20); its "thickness-intensity" set is of
Pawlowski et al. 2020 (arXiv 2006.06485), appendix A.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from rung3.data.readers.mnist import Split, file_prefix, raw_mnist, to_stored
from rung3.data.rows import Rows

__all__ = ["morphomnist"]

WORLD = "morphomnist"
"""Name of the world that the rows come from."""

COLUMNS = ("thickness", "intensity")


def morphomnist(
    root: str | Path,
    split: Split = "train",
    *,
    mnist: str | Path | None = None,
    size: int = 32,
) -> Rows:
    """Read a Morpho-MNIST folder: images and labels as IDX, and `*-morpho.csv`.

    Args:
        root: The folder.
        split: `"train"` or `"test"`.
        mnist: Folder of the raw MNIST files. With it the rows carry the raw digits, which are the
            exogenous noise of their images, and `rung3.worlds.morphomnist` knows their true
            counterfactuals.
        size: Height and width that the images are padded to.

    Returns:
        Rows with `digit`, `thickness` (px), `intensity` (grey levels) `(n,)` and `image`
        `(n, 1, size, size)` in [0, 1], held as stored.

    Raises:
        ValueError: If a file is missing, truncated or altered, a column is missing, or the files
            differ in number of rows.
    """
    images, labels = raw_mnist(root, split)
    path = Path(root) / f"{file_prefix(split)}-morpho.csv"
    values = {"digit": labels.long(), **_read_csv(path, len(labels))}
    values["image"] = to_stored(images, size)
    if mnist is None:
        return Rows(values)
    raw, raw_labels = raw_mnist(mnist, split)
    if not torch.equal(raw_labels, labels):
        raise ValueError(f"{mnist}: its labels are not those of {root}: rows must correspond")
    noise = {"image": {"raw": raw.unsqueeze(1), "label": raw_labels.long()}}
    return Rows(values, noise=noise, world=WORLD)


def _read_csv(path: Path, n: int) -> dict[str, Tensor]:
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"{path} is missing; expected a CSV with the columns {', '.join(COLUMNS)}")
    table = pd.read_csv(path)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; it has {list(table.columns)}")
    if len(table) != n:
        raise ValueError(f"{path} has {len(table)} rows, but there are {n} images")
    if "index" in table and table["index"].tolist() != list(range(n)):
        raise ValueError(f"{path}: its index must run from 0 to {n - 1} in the order of the images")
    for name in COLUMNS:
        if table[name].dtype.kind not in "iuf" or table[name].isna().any():
            raise ValueError(f"{path}: column {name!r} has values that are not numbers")
    return {name: torch.tensor(table[name].to_numpy(), dtype=torch.float32) for name in COLUMNS}
