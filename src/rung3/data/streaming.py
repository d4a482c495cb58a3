"""`Streamed`: a table that is read by batches, from its first row to its last, as often as asked.

The memory is that of a few batches, however many rows there are. Parquet files, Arrow tables and
data sets are read in any order; what hands out Arrow batches itself (a DuckDB relation, a Polars
frame) in its own, uncopied. What needs rows at hand takes a sample of them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rung3.data.remote import is_remote, opened
from rung3.data.rows import Rows
from rung3.data.spelling import suggest
from rung3.data.variables import Variable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["SAMPLE", "Streamed", "streamed"]

ROWS = 2**16
"""Rows of a batch: ten columns of doubles take 5 MiB."""

SAMPLE = 2**18
"""Rows of a sample, if not given: 20 MiB of ten columns of doubles."""

OPEN = 4
"""Pieces of a table that are read side by side where the order is drawn: sorted rows are mixed."""

PLACES = 64
"""Places of a table from which a sample is drawn that need not read all of it."""

PIECE = 2**17
"""Rows of a piece of an Arrow table; of Parquet files, a piece is a row group."""

Array = np.ndarray[Any, np.dtype[np.float64]]


class Streamed:
    """A table that is read by batches.

    Args:
        source: The path or the address of a Parquet file or of a folder of them; an Arrow table or
            data set; a DuckDB relation, a Polars frame, or whatever else hands out Arrow batches. A
            reader of batches can be read once.

    Raises:
        ValueError: If there is no such file, or the source hands out no Arrow batches.

    Example:
        >>> import pyarrow as pa
        >>> table = Streamed(pa.table({"dose": [0.5, 1.0, None], "cured": ["no", "yes", "yes"]}))
        >>> table
        Streamed(dose: double, cured: string)
        >>> table.n, table.sample(2, seed=0)["cured"].tolist()
        (3, ['yes', 'yes'])
    """

    def __init__(self, source: Any) -> None:
        import pyarrow as pa
        import pyarrow.dataset as ds

        if isinstance(source, str | Path):
            source = _dataset(source)
        elif not isinstance(source, pa.Table | ds.Dataset) and not hasattr(
            source, "__arrow_c_stream__"
        ):
            raise ValueError(
                f"{type(source).__name__} hands out no Arrow batches; expected a Parquet file, an "
                "Arrow table or data set, a DuckDB relation, or a Polars frame (of a lazy one, "
                "collect() it, or give its file)"
            )
        self.source = source
        self._spent = False

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        known = isinstance(self.source, pa.Table | ds.Dataset | pa.RecordBatchReader)
        return (self.source if known else pa.RecordBatchReader.from_stream(self.source)).schema

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.schema.names)

    @cached_property
    def n(self) -> int:
        """Number of rows: of Parquet files as they say themselves, else counted in a pass."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        if isinstance(self.source, ds.Dataset):
            with _readable(getattr(self.source, "files", ())):
                return int(self.source.count_rows())
        if isinstance(self.source, pa.Table):
            return int(self.source.num_rows)
        return sum(batch.num_rows for batch in self.batches(self.names[:1]))

    def batches(self, names: Sequence[str], order: np.random.Generator | None = None) -> Any:
        """Yield the columns as Arrow record batches of at most some 66,000 rows.

        Args:
            names: Names of the columns.
            order: Draws the order of pieces of the table, several of which are read side by side;
                the table's own order if not given, or where that is the only one.

        Raises:
            ValueError: If there is no such column, or the rows cannot be read again.
        """
        self.check(names)
        pieces = None if order is None else self._pieces(names)
        if order is None or pieces is None:
            return self._read(self._in_order(list(names)))
        return self._read(_interleaved([pieces[k] for k in order.permutation(len(pieces))]))

    def _read(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield batches with text in the one form that all of Arrow's functions know."""
        while True:
            with _readable(getattr(self.source, "files", ())):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch.from_arrays([_plain(c) for c in batch.columns], batch.schema.names)

    def check(self, names: Sequence[str]) -> None:
        """Refuse names that no column has."""
        if unknown := [name for name in names if name not in self.names]:
            hint = suggest(unknown[0], self.names, "the columns")
            raise ValueError(f"unknown column {unknown[0]!r}; {hint}")

    def _in_order(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.dataset as ds

        if isinstance(self.source, pa.Table):
            yield from self.source.select(names).to_batches(max_chunksize=ROWS)
        elif isinstance(self.source, ds.Dataset):
            yield from self.source.to_batches(columns=names, **_frugal())
        else:
            if self._spent:
                raise ValueError(
                    "a reader of batches can be read once, and this takes several passes; give "
                    "what it was made from"
                )
            self._spent = isinstance(self.source, pa.RecordBatchReader)
            for batch in pa.RecordBatchReader.from_stream(self.source):
                for start in range(0, batch.num_rows, ROWS):
                    yield batch.select(names).slice(start, ROWS)

    def _pieces(self, names: Sequence[str]) -> list[Any] | None:
        """Return parts of the table that can be read in any order, each a call that reads it."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        if isinstance(self.source, pa.Table):
            chosen = self.source.select(list(names))
            starts = range(0, chosen.num_rows, PIECE)
            return [
                lambda start=start: iter(chosen.slice(start, PIECE).to_batches(max_chunksize=ROWS))
                for start in starts
            ]
        if not isinstance(self.source, ds.FileSystemDataset):
            return None
        return [partial(self._group, group, list(names)) for group in self._groups()]

    def _groups(self) -> list[Any]:
        """Return the row groups of Parquet files."""
        return [g for file in self.source.get_fragments() for g in file.split_by_row_group()]

    def _group(self, group: Any, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Read a row group."""
        batches: Iterator[pa.RecordBatch] = group.to_batches(
            schema=self.schema, columns=names, **_frugal()
        )
        return batches

    def numbers(self, names: Sequence[str]) -> Iterator[Array]:
        """Yield columns of numbers `(m, d)`, of the rows that have them all.

        Raises:
            ValueError: If there is no such column, or it is not of numbers.
        """
        self.check(names)
        for name in names:
            if not _is_number(self.schema.field(name).type):
                raise ValueError(f"{name}: expected numbers, got {self.schema.field(name).type}")
        for batch in self.batches(names):
            rows = np.empty((len(names), batch.num_rows))  # columns, as Arrow has them, in a row
            for row, column in zip(rows, batch.columns, strict=True):
                row[:] = _as_numbers(column)
            if not np.isfinite(rows.sum()):
                rows = rows[:, np.isfinite(rows).all(axis=0)]
            yield rows.T

    def rows(
        self,
        kinds: Mapping[str, Variable],
        exact: Sequence[str] | None = None,
        order: np.random.Generator | None = None,
    ) -> Iterator[Rows]:
        """Yield the columns of some variables, batch by batch, checked.

        Args:
            kinds: The variables, by name.
            exact: Names of numbers that are held in double; all if not given.
            order: As of `batches`.

        Raises:
            ValueError: If there is no such column, or a value does not fit its variable.
        """
        names = list(kinds)
        double = set(names if exact is None else exact)
        for batch in self.batches(names, order):
            columns = zip(names, batch.columns, strict=True)
            yield Rows({k: _values(k, kinds[k], c, k in double) for k, c in columns})

    def sample(
        self, n: int | None = None, seed: int = 0, names: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Draw rows without replacement, in the table's order; all rows if it has no more.

        Args:
            n: Number of rows; 262,144 if not given.
            seed: Of the draw.
            names: Which columns; all if not given.

        Raises:
            ValueError: If n is less than 1, or there is no such column.
        """
        import pyarrow as pa

        n = SAMPLE if n is None else n
        if n < 1:
            raise ValueError(f"n={n}: expected at least one row")
        chosen = list(self.names if names is None else names)
        self.check(chosen)
        if self.n <= n:
            drawn = np.arange(self.n)
        else:
            drawn = np.sort(np.random.default_rng(seed).choice(self.n, n, replace=False))
        parts = list(_taken(self.batches(chosen), drawn))
        if not parts:
            raise ValueError(f"{self} has no rows")
        rows: pd.DataFrame = pa.Table.from_batches(parts).to_pandas()
        return rows

    def sample_of_places(self, seed: int = 0, names: Sequence[str] | None = None) -> pd.DataFrame:
        """Draw 262,144 rows from places that are spread over the table, reading a part of it.

        Of Parquet files of many millions of rows the table is cut into 64 equal parts, and each
        gives 4,096 rows of some 65,536 that lie together at a place drawn at random. Any row is as
        likely as any other, and a sorted table gives rows of all parts; but neighbours come
        together, which one who tests for independence must know. Of anything else, as `sample`.

        Args:
            seed: Of the draw.
            names: Which columns; all if not given.
        """
        import pyarrow as pa
        import pyarrow.dataset as ds

        chosen = list(self.names if names is None else names)
        groups = self._groups() if isinstance(self.source, ds.FileSystemDataset) else []
        lengths = np.array([sum(one.num_rows for one in group.row_groups) for group in groups])
        drawn = _drawn_at_places(lengths, SAMPLE, np.random.default_rng(seed))
        if drawn is None:
            return self.sample(SAMPLE, seed, names)
        self.check(chosen)
        starts = np.cumsum(lengths) - lengths
        parts: list[pa.RecordBatch] = []
        for group, start, length in zip(groups, starts, lengths, strict=True):
            first, last = np.searchsorted(drawn, [start, start + length])
            if first < last:
                batches = self._read(self._group(group, chosen))
                parts.extend(_taken(batches, drawn[first:last] - start))
        rows: pd.DataFrame = pa.Table.from_batches(parts).to_pandas()
        return rows

    def digest(self) -> str:
        """Return letters that change if the columns or the number of rows do, or the files.

        Of files their sizes and times are compared, not their content.
        """
        files = [Path(path) for path in getattr(self.source, "files", [])]
        states = [(one.name, one.stat().st_size, one.stat().st_mtime_ns)
                  for one in files if one.is_file()]  # fmt: skip
        text = f"{self.schema.to_string()} {self.n} {states}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Streamed({', '.join(f'{f.name}: {f.type}' for f in self.schema)})"


def streamed(source: Any) -> Streamed:
    """Return a table that is read by batches; what is one already, as it is.

    `rung3.fit`, `rung3.choose`, `rung3.diagnose`, `rung3.effect` and
    `rung3.effects.mediate_over` take it where they take rows.

    Args:
        source: As of `Streamed`.

    Example:
        >>> import pyarrow as pa
        >>> from rung3 import SCM, fit
        >>> from rung3.mechanisms import AdditiveNoise
        >>> x = torch.linspace(-1, 1, 2_000).double()
        >>> table = streamed(pa.table({"x": x.numpy(), "y": (3 * x + x.sin()).numpy()}))
        >>> model = SCM("x -> y", mechanisms={"y": AdditiveNoise(degree=1)})
        >>> fit(model, table, progress=False).training
        {}
    """
    return source if isinstance(source, Streamed) else Streamed(source)


def _dataset(path: str | Path) -> Any:
    """Return the data set of a Parquet file or a folder of them, here or at an address."""
    import pyarrow.dataset as ds

    files, root = opened(path) if is_remote(path) else (None, str(path))
    try:
        with _readable([str(path)]):
            dataset = ds.dataset(root, format="parquet", filesystem=files)
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing; expected a Parquet file, or a folder of them"
        ) from None
    if not dataset.files:
        raise ValueError(f"{path} holds no Parquet file")
    return dataset


@contextmanager
def _readable(files: Sequence[str]) -> Iterator[None]:
    """Name files of which something cannot be read."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        names = ", ".join(files[:3]) + (" ..." if len(files) > 3 else "") or "the table"
        raise ValueError(f"{names}: truncated or altered, or cannot be read: {error}") from None


def _frugal() -> dict[str, Any]:
    """Return options of a scan that hold few batches at a time."""
    import pyarrow.dataset as ds

    return {
        "batch_size": ROWS,
        "batch_readahead": 2,
        "fragment_readahead": 1,
        "fragment_scan_options": ds.ParquetFragmentScanOptions(
            pre_buffer=False, use_buffered_stream=True, page_checksum_verification=True
        ),
    }


def _drawn_at_places(
    lengths: Array, n: int, generator: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Draw numbers of n rows, rising, from places spread over row groups of these lengths.

    Returns:
        The numbers; `None` where the rows are too few for this to spare much reading.
    """
    total = int(lengths.sum())
    blocks = np.maximum(1, -(-lengths // ROWS))  # of which one is read up to, of a group
    places = max(PLACES, math.ceil(2 * n * blocks.sum() / max(total, 1)))
    if total < 2 * places * ROWS:
        return None
    at = ((np.arange(places) + generator.random(places)) * (total / places)).astype(np.int64)
    ends = np.cumsum(lengths)
    group = np.searchsorted(ends, at, side="right")
    start, length = (ends - lengths)[group], lengths[group]
    block = (at - start) * blocks[group] // length
    low, high = (start + (block + k) * length // blocks[group] for k in (0, 1))
    wanted = np.diff(np.arange(places + 1) * n // places)
    drawn = [
        generator.choice(np.arange(first, last), min(wanted[low == first].sum(), last - first),
                         replace=False)
        for first, last in np.unique(np.stack([low, high], 1), axis=0)
    ]  # fmt: skip
    return np.sort(np.concatenate(drawn))


def _taken(
    batches: Iterable[pa.RecordBatch], drawn: np.ndarray[Any, np.dtype[np.int64]]
) -> Iterator[pa.RecordBatch]:
    """Take rows of batches by their numbers, which rise; no batch is read after the last."""
    import pyarrow as pa

    start = 0
    for batch in batches:
        first, last = np.searchsorted(drawn, [start, start + batch.num_rows])
        yield batch.take(pa.array(drawn[first:last] - start))
        start += batch.num_rows
        if last == len(drawn):
            return


def _interleaved(pieces: list[Any]) -> Iterator[pa.RecordBatch]:
    """Yield batches of a few pieces in turn; where one ends, the next takes its place."""
    waiting = iter(pieces)
    reading = [piece() for piece in itertools.islice(waiting, OPEN)]
    while reading:
        for place, piece in enumerate(reading):
            batch = next(piece, None)
            if batch is not None:
                yield batch
                continue
            following = next(waiting, None)
            reading[place] = iter(()) if following is None else following()
            if following is None:
                reading = [one for k, one in enumerate(reading) if k != place]
                break


def _plain(column: pa.Array) -> pa.Array:
    """Return text as strings, whether it came as views (Polars) or as codes of a dictionary."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        labels = pa.array(column.dictionary.to_pylist())
        column = pa.DictionaryArray.from_arrays(column.indices, labels).dictionary_decode()
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _as_numbers(column: pa.Array) -> Any:
    """Return a column of numbers as NumPy has it, NaN where it has a gap."""
    import pyarrow.compute as pc

    if column.null_count:
        column = pc.fill_null(pc.cast(column, "float64"), np.nan)
    return column.to_numpy(zero_copy_only=False)


def _values(name: str, kind: Variable, column: pa.Array, exact: bool) -> Tensor:
    """Return a column as a variable's values; labels are looked up once each."""
    import pyarrow as pa

    if _is_number(column.type):
        return kind.validate(name, _as_numbers(column), exact)
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if column.null_count or not text:
        return kind.validate(name, column.to_pandas(), exact)
    coded = column.dictionary_encode()
    codes = kind.validate(name, coded.dictionary.to_numpy(zero_copy_only=False), exact)
    return codes[torch.from_numpy(np.array(coded.indices, dtype=np.int64))]
