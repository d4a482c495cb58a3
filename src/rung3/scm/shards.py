"""Shards of answers: Parquet files or tar archives, each named by its own digest.

    row          the number of the row that was asked about
    draw         which of K draws of the noise, where there are several
    (variable)   its value: a number, a label, a list of numbers, or an image as bytes
    outside      variables whose value lies outside the range of the training data
    read         variables that were missing in the row, and read off an image
    provenance   what the answer rests on, as JSON: rung, status, interventions, abductions ...

An image of at most 8 bits in one or three channels, or of 16 in one, is a PNG; any other is its
numbers as bytes, of the shape and type that the metadata of its column name. A tar archive holds
the same in the convention of WebDataset: of each line `000000012.json` (with draws
`000000012-003.json`), and beside it `000000012.scan.png`, or `.npy` where it is not a PNG.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rung3.data.files import draft, sha256
from rung3.data.images import decode
from rung3.data.quick_png import quick_pngs
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Discrete, Image, Variable

__all__ = [
    "answers", "check_shard", "find_shards", "read_answers", "read_shard", "schema", "write_shard",
]  # fmt: skip

NAME = re.compile(r"shard-(\d{6,})-([0-9a-f]{64})\.(parquet|tar)")
"""Names of shards: number and SHA-256."""

Form: TypeAlias = Literal["parquet", "tar"]
"""What a shard is."""

COLUMNS = ("row", "draw", "outside", "read", "provenance")
"""Columns beside the variables, which cannot be called so."""


def schema(variables: Mapping[str, Variable], particles: int | None) -> pa.Schema:
    """Return the columns of a shard.

    Raises:
        ValueError: If a variable is called as one of the other columns is.
    """
    if taken := [name for name in variables if name in COLUMNS]:
        raise ValueError(f"{taken[0]}: a column of every shard has this name; rename the variable")
    names = pa.list_(pa.string())
    return pa.schema(
        [
            pa.field("row", pa.int64()),
            *([] if particles is None else [pa.field("draw", pa.int32())]),
            *(_field(name, variable) for name, variable in variables.items()),
            pa.field("outside", names),
            pa.field("read", names),
            pa.field("provenance", pa.dictionary(pa.int32(), pa.string())),
        ]
    )


def answers(
    variables: Mapping[str, Variable],
    answer: Rows,
    numbers: Sequence[int],
    outside: Mapping[str, Tensor],
    read: Mapping[str, Tensor],
    columns: pa.Schema,
) -> pa.Table:
    """Return answers as a table, row by row, and of each row draw by draw.

    Args:
        variables: The variables of the model.
        answer: Values `(n, ...)`, or `(K, n, ...)` with particles, and their provenance.
        numbers: The number of each row, `(n,)`.
        outside: By variable, a mask `(K n,)` of values outside the training range, draw by draw.
        read: By variable, a mask `(n,)` of what was read off an image.
        columns: What `schema` gave.
    """
    n, k = len(numbers), answer.particles or 1

    def lines(value: Tensor) -> Tensor:
        """Bring `(K n, ...)`, draw by draw, into the order of the lines."""
        return value.reshape(k, n, *value.shape[1:]).transpose(0, 1).flatten(0, 1)

    masks = {name: lines(mask).tolist() for name, mask in outside.items()}
    cells: dict[str, Any] = {
        "row": [number for number in numbers for _ in range(k)],
        "draw": list(range(k)) * n,
        "outside": [[v for v in masks if masks[v][at]] for at in range(k * n)],
        "read": [[v for v in read if read[v][at]] for at in range(n) for _ in range(k)],
        "provenance": pa.array([_account(answer)] * (k * n)).dictionary_encode(),
    }
    for name, variable in variables.items():
        value = answer[name] if answer.particles is None else answer[name].flatten(0, 1)
        cells[name] = _cells(variable, lines(value).detach().cpu())
    return pa.table({name: cells[name] for name in columns.names}, schema=columns)


def write_shard(folder: Path, number: int, table: pa.Table, form: Form = "parquet") -> str:
    """Write a shard under its name, whole or not at all, and return the name.

    Args:
        folder: Where to.
        number: Of the shard.
        table: Its lines, as `answers` gives them.
        form: A Parquet file, or a tar archive.

    Raises:
        OSError: If it cannot be written, as where the disk is full.
    """
    content = _parquet(table) if form == "parquet" else _tar(table)
    name = f"shard-{number:06}-{hashlib.sha256(content).hexdigest()}.{form}"
    try:
        with draft(folder / name) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise OSError(
            error.errno,
            f"shard {number} of {folder} cannot be written: {error.strerror or error}; once that "
            "is cured, the same call resumes",
        ) from None
    return name


def read_answers(table: pa.Table, variables: Mapping[str, Variable]) -> Rows:
    """Return the values of a shard, `(lines, ...)`, as the model had them."""
    return Rows({name: _values(variable, table[name]) for name, variable in variables.items()})


def _values(variable: Variable, column: pa.ChunkedArray) -> Tensor:
    cells = column.to_pylist()
    if isinstance(variable, Image):
        if _is_png(variable):
            return torch.stack([decode(io.BytesIO(cell)).value(variable)[0] for cell in cells])
        numbers = [np.frombuffer(cell, "<f4").reshape(variable.shape) for cell in cells]
        return torch.from_numpy(np.stack(numbers))
    if isinstance(variable, Discrete) and variable.labels:
        cells = [variable.labels.index(cell) for cell in cells]
    return torch.tensor(cells, dtype=variable.dtype)


def find_shards(folder: Path) -> dict[int, Path]:
    """Return the shards in a folder, by number."""
    matches = (NAME.fullmatch(path.name) for path in sorted(folder.glob("shard-*")))
    return {int(match[1]): folder / match[0] for match in matches if match}


def check_shard(path: Path) -> bool:
    """Return whether a shard is what was written: neither truncated nor altered."""
    match = NAME.fullmatch(path.name)
    return match is not None and sha256(path) == match[2]


def read_shard(path: Path) -> pa.Table:
    """Read a shard as the table that it was written from; of a tar archive JSON's own types."""
    if path.suffix == ".parquet":
        return pq.read_table(path)
    lines: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            key, _, kind = member.name.partition(".")
            file = archive.extractfile(member)
            assert file is not None
            content, line = file.read(), lines.setdefault(key, {})
            line.update(
                json.loads(content) if kind == "json" else {kind.rpartition(".")[0]: content}
            )
    return pa.Table.from_pylist(list(lines.values()))


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    packed = [f.name for f in table.schema if (f.metadata or {}).get(b"encoding") == b"png"]
    kinds = {name: "none" if name in packed else "zstd" for name in table.schema.names}
    pq.write_table(table, file, compression=kinds, use_dictionary=["provenance"])
    return file.getvalue()


def _tar(table: pa.Table) -> bytes:
    """Return an archive whose bytes are a function of the table alone: it tells no time."""
    file = io.BytesIO()
    about = {f.name: f.metadata for f in table.schema if f.metadata and b"encoding" in f.metadata}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for line in table.to_pylist():
            draw = f"-{line['draw']:03}" if "draw" in line else ""
            key = f"{line['row']:09}{draw}"
            values = {name: value for name, value in line.items() if name not in about}
            parts = {"json": json.dumps(values).encode()}
            for name, metadata in about.items():
                png = metadata[b"encoding"] == b"png"
                parts[f"{name}.{'png' if png else 'npy'}"] = (
                    line[name] if png else _npy(line[name], json.loads(metadata[b"shape"]))
                )
            for kind, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _npy(content: bytes, shape: Sequence[int]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.frombuffer(content, "<f4").reshape(shape))
    return file.getvalue()


def _field(name: str, variable: Variable) -> pa.Field:
    if isinstance(variable, Image):
        encoding = "png" if _is_png(variable) else "bytes"
        metadata = {"encoding": encoding, "shape": json.dumps(variable.shape), "dtype": "float32"}
        return pa.field(name, pa.binary(), metadata=metadata)
    if isinstance(variable, Discrete):
        return pa.field(name, pa.string() if variable.labels else pa.int64())
    assert isinstance(variable, Continuous)
    kind = pa.float64()
    return pa.field(name, pa.list_(kind) if variable.shape else kind)


def _is_png(image: Image) -> bool:
    flat = len(image.shape) == 3 and image.bits is not None
    return flat and (image.channels, image.bits) in {*((c, b) for c in (1, 3) for b in range(1, 9)),
                                                     (1, 16)}  # fmt: skip


def _cells(variable: Variable, value: Tensor) -> list[Any]:
    if isinstance(variable, Image):
        return _pngs(variable, value) if _is_png(variable) else [_bytes(one) for one in value]
    if isinstance(variable, Discrete) and variable.labels:
        return [variable.label(code) for code in value.long().tolist()]
    return list(value.long().tolist() if isinstance(variable, Discrete) else value.tolist())


def _pngs(variable: Image, images: Tensor) -> list[bytes]:
    """Write the nearest levels: those of 8 bits and of 16 as they are, of fewer spread over 8."""
    deep = variable.bits == 16
    levels = (variable.nearest(images.float().clamp(0, 1)) * (65535 if deep else 255)).round()
    stored = levels.movedim(1, -1).numpy().astype("uint16" if deep else "uint8")
    return quick_pngs(stored[..., 0] if variable.channels == 1 else stored)


def _bytes(image: Tensor) -> bytes:
    return bytes(image.contiguous().numpy().astype("<f4").tobytes())


def _account(answer: Rows) -> str:
    """Return what all answers of a query rest on; what is said row by row is left out."""
    provenance = answer.explain()
    names = ("rung", "status", "interventions", "abductions", "assumptions")
    parts = {name: getattr(provenance, name) for name in names}
    return json.dumps({k: v if isinstance(v, str) else dict(v) for k, v in parts.items()})
