"""A table, one row a subject; columns may name, or hold, files of images and scans."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.gathering import FileReader
from rung3.data.images import pictures
from rung3.data.inside import File, Inside, is_shards, read_parquet, read_shards
from rung3.data.precision import held
from rung3.data.readers.csv_text import read_csv
from rung3.data.readers.scans import ScanOptions, Scans, is_scan
from rung3.data.remote import fetched
from rung3.data.resizing import Fit
from rung3.data.rows import Rows
from rung3.data.spelling import did_you_mean
from rung3.data.unread import Unread
from rung3.data.values import no_numbers, to_tensor, when
from rung3.data.variables import Image, Variable

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GAPS", "column", "columns_of", "is_dates", "table", "unread_table", "with_dates",
]  # fmt: skip

GAPS = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
     "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)  # fmt: skip
"""Words that stand for nothing, as pandas has them, unless they are labels."""

ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
"""Dates, perhaps with a time, as ISO 8601 has them: other orders of day and month are ambiguous."""


def table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    variables: Mapping[str, Variable] | None = None,
    image_column: str | Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    scans: Mapping[str, ScanOptions] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Rows:
    """Read a table, and the images that columns of it name.

    Images are held as they are stored, in one or two bytes a number (`rung3.data.stored`): such a
    column is a tensor of floats that are made as its rows are asked for. It cannot be changed in
    place; `clone()` it.

    Args:
        path: A `.csv` or `.parquet` file; or shards, whose pictures lie inside: a `.tar` archive
            or a folder of them, in the convention of WebDataset (`rung3.data.inside`), or a folder
            of Parquet files. An address such as `s3://bucket/rows.parquet` is fetched first, by
            fsspec and its driver.
        columns: Which columns to read; by default those of `variables`, else all.
        variables: What the columns are. Names of categories are turned into codes by their
            `labels`, values are checked, and images have the channels, size and bits stated here;
            see `rung3.data.images` for what is read of their files.
        image_column: Column, or columns, of paths of image files, relative to the table's folder,
            besides those whose variable is an `Image`.
        size: `(height, width)` that images without a variable are resized to; by default none, and
            they must be alike.
        fit: What becomes of those of another aspect: `"crop"` or `"pad"`, as of `Image`; by default
            they are refused.
        scans: What is taken from NIfTI and DICOM files, by column of an image variable: black and
            white, a slice of a volume, one of several volumes. Pictures of a column that is named
            here are read by the same levels.
        workers: Threads that read pictures; as many as there are cores, up to eight, if not given.
        progress: Whether to show a progress bar, where there are a thousand images and more.

    Returns:
        Rows with one entry a column: numbers `(n,)` and images `(n, C, H, W)` in [0, 1].

    Raises:
        ValueError: If the file, a column or an image is missing or unreadable, or values are not
            numbers or do not fit their variable.
    """
    unread = unread_table(
        path, columns=columns, variables=variables, image_column=image_column, size=size, fit=fit,
        scans=scans,
    )  # fmt: skip
    return unread.read(workers, progress)


def unread_table(
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    variables: Mapping[str, Variable] | None = None,
    image_column: str | Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    scans: Mapping[str, ScanOptions] | None = None,
) -> Unread:
    """Read a table, and leave its images in their files; arguments are those of `table`."""
    path, variables = fetched(path), dict(variables or {})
    named = [image_column] if isinstance(image_column, str) else list(image_column or ())
    images = [name for name, kind in variables.items() if isinstance(kind, Image)] + named
    frame = _read(path, variables, images)
    if frame.empty:
        raise ValueError(f"{path} has no rows; expected at least one")
    wanted = list(dict.fromkeys([*(columns or variables or frame.columns), *images]))
    missing = [name for name in wanted if name not in frame]
    if missing:
        hint = did_you_mean(missing[0], frame.columns)
        columns_there = f"{list(frame.columns)}" + (f"; {hint}" if hint else "")
        raise ValueError(f"{path}: no column {missing[0]!r}; it has {columns_there}")
    values: dict[str, Tensor] = {}
    readers: dict[str, tuple[FileReader, Sequence[File | None]]] = {}
    for name in wanted:
        variable = variables.get(name)
        if name not in images:
            values[name] = _read_column(path, name, frame[name], variable)
        elif variable is None or isinstance(variable, Image):
            files = _files(path, frame[name])
            readers[name] = _reader(name, files, variable, size, fit, scans or {}), files
        else:
            raise ValueError(f"{name} is {variable}, and an image_column; declare it an Image")
    return Unread(wanted, values, readers, len(frame))


def _files(path: Path, column: pd.Series[Any]) -> list[File | None]:
    """Return the files that a column names, or the pictures inside shards that it holds."""
    if any(isinstance(cell, Inside) for cell in column):
        return [cell if isinstance(cell, Inside) else None for cell in column]
    names = column.fillna("").astype(str).str.strip()
    return [path.parent / name if name else None for name in names]


def _reader(
    name: str,
    files: Sequence[File | None],
    variable: Image | None,
    size: tuple[int, int] | None,
    fit: Fit | None,
    scans: Mapping[str, ScanOptions],
) -> FileReader:
    if name not in scans and not any(is_scan(file) for file in files if isinstance(file, Path)):
        return pictures(name, files, variable, size, fit)
    if variable is None:
        raise ValueError(f"{name}: names scans; say with variables= what Image they are")
    return Scans(name, variable, scans.get(name))


def columns_of(path: str | Path) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        ValueError: If the file is missing, or no table.
    """
    return [str(name) for name in _read(fetched(path), {}).columns]


def column(path: str | Path, name: str) -> list[str]:
    """Return a column of a table as text, such as the subjects that its rows are of.

    Raises:
        ValueError: If the file or the column is missing, or a cell is empty.
    """
    frame = _read(fetched(path), {})
    if name not in frame:
        raise ValueError(f"{path}: no column {name!r}; it has {list(frame.columns)}")
    values = frame[name]
    if (empty := values.isna()).any():
        row = int(np.flatnonzero(empty)[0])
        raise ValueError(f"{path}: column {name!r} is empty in row {row}; every row needs a value")
    if values.dtype.kind == "f" and (values % 1 == 0).all():
        values = values.astype("int64")  # 7.0 in one table is 7 in another
    return values.astype(str).str.strip().tolist()  # a blank makes nobody another person


def _read(
    path: Path, variables: Mapping[str, Variable], images: Sequence[str] = ()
) -> pd.DataFrame:

    if is_shards(path):
        return read_shards(path, images)
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder without .tar or .parquet files; expected a table: `rung3 init` "
            "makes one for a folder of images"
        )
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; expected a table, .csv or .parquet, or shards, a .tar or a folder "
            "of .tar or .parquet files"
        )
    try:
        if path.suffix == ".csv":
            return _read_csv(path, variables)
        if path.suffix == ".parquet":
            return read_parquet([path], images)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).strip()}") from None
    raise ValueError(f"{path}: expected a .csv or .parquet file, or a .tar")


def _read_csv(path: Path, variables: Mapping[str, Variable]) -> pd.DataFrame:
    """Read a CSV file; labels stay text: `NA` and `True` may be some, and `01` is not `1`."""
    import pandas as pd

    # Of two rows the second may not be longer: pandas would take what is left for an index.
    head = read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False)
    names = head.iloc[0].tolist()
    labels = {k: set(getattr(variables.get(k), "labels", ())) for k in names}
    frame = read_csv(
        path,
        dtype={name: str for name in names if labels[name]},
        na_values={name: list(GAPS) for name in names if not labels[name]},
        keep_default_na=False,
    )
    for name in (name for name in names if not pd.api.types.is_numeric_dtype(frame[name])):
        texts = frame[name].mask(frame[name].isin(GAPS - labels[name]), None)
        if not texts.isin(labels[name]).any():  # codes, perhaps
            texts = _read_texts(texts)
        frame[name] = texts
    return frame


def _read_texts(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Return texts as numbers or as dates, where all of them read as such."""
    import pandas as pd

    try:
        numbers = pd.to_numeric(texts)
        # Whole numbers of 64 bits beside gaps or signs stay text there.
        return numbers if pd.api.types.is_numeric_dtype(numbers) else texts.astype(np.float64)
    except ValueError:
        return with_dates(texts)


def with_dates(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of texts as dates if all of them are dates, in UTC; else as it is."""
    import pandas as pd

    if not is_dates(column.dropna()):
        return column
    return pd.to_datetime(column, format="ISO8601", utc=True).dt.tz_localize(None)


def is_dates(texts: Sequence[str] | pd.Series[Any]) -> bool:
    """Return whether texts are dates that can be read in one way only: year, month, day.

    Example:
        >>> is_dates(["2026-01-31", "2026-02-01 08:30"]), is_dates(["31.1.2026"]), is_dates([])
        (True, False, False)
    """
    import pandas as pd

    if not len(texts) or not all(isinstance(text, str) and ISO.fullmatch(text) for text in texts):
        return False
    return bool(
        pd.to_datetime(list(texts), format="ISO8601", utc=True, errors="coerce").notna().all()
    )


def _read_column(
    path: Path, name: str, column: pd.Series[Any], variable: Variable | None
) -> Tensor:
    if variable is not None:
        try:
            return _as_stored(name, column, variable.validate(name, column.to_numpy()))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    array = column.to_numpy()
    if array.dtype.kind not in "biuf":
        if not when(array) and (bad := no_numbers(name, array)):
            raise ValueError(
                f"{path}: column {name!r} has values that are not numbers (first: {bad[0]!r}); say "
                "what it is with variables=, or leave it out with columns="
            )
        array = to_tensor(name, array).numpy()
    whole = array.dtype.kind in "biu" and array.max() <= np.iinfo(np.int64).max
    if whole:
        value = torch.tensor(array, dtype=torch.int64)
    else:
        value = held(torch.tensor(array, dtype=torch.float64), 0)
    return _as_stored(name, column, value)


def _as_stored(name: str, column: pd.Series[Any], value: Tensor) -> Tensor:
    """Return the values as they are held; warn where whole numbers change."""
    if column.dtype.kind in "iuf" and value.is_floating_point():
        given, stored = column.to_numpy(), value.double().numpy()
        if (infinite := np.isinf(stored)).any():
            raise ValueError(f"{name}: {given[infinite][0]:g} is too large for {value.dtype}")
        exact = stored.astype(np.longdouble)  # tells whole numbers of 64 bits apart
        if (lost := (given == np.round(given)) & (given.astype(np.longdouble) != exact)).any():
            warnings.warn(
                f"{name}: held as {value.dtype}, {int(given[lost][0])} becomes "
                f"{int(stored[lost][0])} ({lost.sum()} values); subtract an offset, or leave "
                "identifiers out",
                stacklevel=2,
            )
    return value
