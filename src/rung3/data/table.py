"""A table, CSV or Parquet, one row a subject; a column may name image files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rung3.rows import Rows
from rung3.variables import Image, Variable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["table"]

GAPS = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
     "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)  # fmt: skip
"""Words that stand for nothing, as pandas has them, unless they are labels."""


def table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    variables: Mapping[str, Variable] | None = None,
    image_column: str | None = None,
    size: tuple[int, int] | None = None,
) -> Rows:
    """Read a table, and the images that one of its columns names.

    Args:
        path: A `.csv` or `.parquet` file.
        columns: Which columns to read; by default those of `variables`, else all.
        variables: What the columns are. Names of categories are turned into codes by their
            `labels`, values are checked, and an image has the channels and size stated here.
        image_column: Column of paths of image files, relative to the table's folder; by default the
            one whose variable is an `Image`.
        size: `(height, width)` that the images are resized to; by default none, and they must be
            alike.

    Returns:
        Rows with one entry a column: numbers `(n,)` and images `(n, C, H, W)` in [0, 1].

    Raises:
        ValueError: If the file, a column or an image is missing or unreadable, or values are not
            numbers or do not fit their variable.
    """
    path, variables = Path(path), dict(variables or {})
    frame = _read(path, variables)
    if image_column is None:
        image_column = next((k for k, v in variables.items() if isinstance(v, Image)), None)
    wanted = list(columns or variables or frame.columns)
    if image_column is not None and image_column not in wanted:
        wanted.append(image_column)
    missing = [name for name in wanted if name not in frame]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r}; it has {list(frame.columns)}")
    values: dict[str, Tensor] = {}
    for name in wanted:
        variable = variables.get(name)
        if name == image_column:
            files = [path.parent / str(file) for file in frame[name]]
            values[name] = _read_images(name, files, variable, size)
        else:
            values[name] = _read_column(path, name, frame[name], variable)
    return Rows(values)


def _read(path: Path, variables: Mapping[str, Variable]) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"{path} is missing; expected a table, .csv or .parquet")
    try:
        if path.suffix == ".csv":
            return _read_csv(path, variables)
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).strip()}") from None
    raise ValueError(f"{path}: expected a .csv or .parquet file")


def _read_csv(path: Path, variables: Mapping[str, Variable]) -> pd.DataFrame:
    """Labels stay the text that they are: `NA` and `True` may be some, and `01` is not `1`."""
    import pandas as pd

    # Of two rows the second may not be longer: pandas would take what is left for an index.
    head = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False)
    names = head.iloc[0].tolist()
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"its header names {twice[0]!r} twice; expected names that differ")
    labels = {k: set(getattr(variables.get(k), "labels", ())) for k in names}
    frame = pd.read_csv(
        path,
        dtype={name: str for name in names if labels[name]},
        na_values={name: list(GAPS) for name in names if not labels[name]},
        keep_default_na=False,
    )
    for name in (name for name in names if labels[name]):
        texts = frame[name].mask(frame[name].isin(GAPS - labels[name]), None)
        if not texts.isin(labels[name]).any():  # codes, perhaps
            with suppress(ValueError):
                texts = pd.to_numeric(texts)
        frame[name] = texts
    return frame


def _read_column(
    path: Path, name: str, column: pd.Series[Any], variable: Variable | None
) -> Tensor:
    if variable is not None:
        try:
            return _kept(name, column, variable.validate(name, column.to_numpy()))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    array = column.to_numpy()
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: column {name!r} has values that are not numbers (first: {array[0]!r}); say "
            "what it is with variables=, or leave it out with columns="
        )
    whole = array.dtype.kind in "biu"
    dtype = torch.int64 if whole else torch.get_default_dtype()
    return _kept(name, column, torch.tensor(array, dtype=dtype))


def _kept(name: str, column: pd.Series[Any], held: Tensor) -> Tensor:
    """The values as they are held, with a warning where whole numbers are no longer themselves."""
    if column.dtype.kind in "iuf" and held.is_floating_point():
        given, found = column.to_numpy(), held.double().numpy()
        if (np.isinf(found) & np.isfinite(given)).any():
            raise ValueError(f"{name}: {given[np.isinf(found)][0]:g} is too large for {held.dtype}")
        if (lost := (given == np.round(given)) & (given != found)).any():
            warnings.warn(
                f"{name}: held as {held.dtype}, {given[lost][0]:.0f} becomes {found[lost][0]:.0f} "
                f"({lost.sum()} values); subtract an offset, or leave identifiers out",
                stacklevel=2,
            )
    return held


def _read_images(
    name: str, files: Sequence[Path], variable: Variable | None, size: tuple[int, int] | None
) -> Tensor:
    channels = None
    if isinstance(variable, Image):
        channels, size = variable.channels, size or (variable.height, variable.width)
    images = [_read_image(name, file, channels, size) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"{name}: {file} is {tuple(image.shape)}, but {files[0]} is "
                f"{tuple(images[0].shape)}; give size=(height, width)"
            )
    stacked = torch.stack(images)
    return stacked if variable is None else variable.validate(name, stacked)


def _read_image(
    name: str, file: Path, channels: int | None, size: tuple[int, int] | None
) -> Tensor:
    """One image, `(C, H, W)` in [0, 1]: grey or colour of 8 bits, or grey of 16."""
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    try:
        with Pillow.open(file) as opened:
            opened.load()
            picture: Pillow.Image = opened
    except FileNotFoundError:
        raise ValueError(f"{name}: image file {file} is missing") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{name}: image file {file} cannot be read: {error}") from None
    deep = picture.mode.startswith("I")
    if not deep:
        grey = channels == 1 or (channels is None and picture.mode in ("L", "1"))
        picture = picture.convert("L" if grey else "RGB")
    if size is not None and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Pillow.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float32) / (65535 if deep else 255)
    return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1).contiguous()
