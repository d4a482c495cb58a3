"""IDX, the file format of MNIST: a magic number, the size of each axis, then the bytes.

    00 00 08 d | size_1 ... size_d (big-endian, 4 bytes each) | prod size_k bytes

Source: LeCun, Cortes and Burges, *The MNIST database of handwritten digits*.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["find", "parse_idx", "read_idx"]


def find(root: str | Path, name: str) -> Path:
    """Find the file of that name in a folder, plain or with `.gz`.

    Raises:
        ValueError: If the folder or the file is not there.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with {name}.gz")
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise ValueError(f"{folder} has neither {name} nor {name}.gz; it has {_contents(folder)}")


def read_idx(path: str | Path, axes: int) -> Tensor:
    """Read an IDX file of bytes, plain or compressed (`.gz`).

    Args:
        path: The file.
        axes: Number of axes expected: 1 for labels, 3 for images.

    Returns:
        The values as uint8, of the shape that the file states.

    Raises:
        ValueError: If the file cannot be decompressed, is not IDX, has other axes, or holds fewer
            or more bytes than it states.
    """
    path = Path(path)
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: truncated or altered: {error}") from None
    return parse_idx(content, axes, str(path))


def parse_idx(content: bytes, axes: int, path: str) -> Tensor:
    """Read the bytes of an IDX file; `path` is named in the errors.

    Raises:
        ValueError: As `read_idx`.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), axes=1, path="labels")
        tensor([7, 8, 9], dtype=torch.uint8)
    """
    header = 4 + 4 * axes
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) < header:
        raise ValueError(
            f"{path}: not an IDX file of bytes with {axes} axes: it begins with "
            f"{content[:4].hex(' ') or 'nothing'}, expected 00 00 08 {axes:02x}"
        )
    shape = struct.unpack(f">{axes}I", content[4:header])
    expected = int(torch.tensor(shape).prod())
    if len(content) - header != expected:
        raise ValueError(
            f"{path}: truncated or altered: its header states {shape}, {expected} bytes, and "
            f"{len(content) - header} follow"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)


def _contents(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") or "nothing"
