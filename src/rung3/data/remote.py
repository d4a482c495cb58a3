"""Tables at an address, such as `s3://bucket/rows.parquet`: fetched once, by fsspec.

What was fetched lies in the user's cache, under the address with the size and the time (or tag)
that the file has there; a file that changes there is fetched again.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from rung3.data.cache import user_cache
from rung3.data.files import draft

__all__ = ["fetched", "is_remote", "need_local", "opened"]

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")
"""An address; a `Path` of it has one slash where there were two. Drives have one letter."""

CHANGES = ("size", "ETag", "etag", "mtime", "LastModified", "updated", "created", "generation")
"""Parts of what a file system says of a file, of which one at least changes with it."""


def is_remote(path: str | Path) -> bool:
    """Return whether a path is an address.

    Example:
        >>> is_remote("s3://bucket/rows.csv"), is_remote(Path("gs://b/x")), is_remote("C:/x.csv")
        (True, True, False)
    """
    return ADDRESS.fullmatch(str(path)) is not None


def fetched(path: str | Path) -> Path:
    """Return a path; of an address, that of a copy on this machine.

    Args:
        path: A file, or a folder of shards, here or at an address.

    Raises:
        ValueError: If what reads the address is not installed, or nothing can be read there.
    """
    match = ADDRESS.fullmatch(str(path))
    if match is None:
        return Path(path)
    url = f"{match[1]}://{match[2]}"
    files, root = opened(path)
    try:
        single = files.isfile(root)
        names = [root] if single else sorted(files.glob(f"{root}/*.tar"))
        names = names or sorted(files.glob(f"{root}/*.parquet"))
        stamps = [[name, *_stamp(files.info(name))] for name in names]
        if not names:
            raise FileNotFoundError("there is no such file, and no folder of .tar or .parquet")
        key = hashlib.sha256(repr([url, stamps]).encode()).hexdigest()[:16]
        folder = user_cache().folder / "remote" / key
        for name in names:
            target = folder / name.rpartition("/")[2]
            if not target.is_file():
                with draft(target) as place:
                    files.get_file(name, str(place))
    except Exception as error:  # a driver may raise anything of its own
        raise ValueError(f"{url} cannot be read: {error}") from error
    return target if single else folder


def opened(path: str | Path) -> tuple[Any, str]:
    """Return the file system of an address, as fsspec has it, and the path in it.

    Raises:
        ValueError: If it is not an address, or what reads it is not installed.
    """
    match = ADDRESS.fullmatch(str(path))
    if match is None:
        raise ValueError(f"{path} is not an address")
    scheme, url = match[1], f"{match[1]}://{match[2]}"
    try:
        import fsspec

        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{url}: {scheme} is read by a driver of fsspec that is not installed: {error}; "
            "pip install s3fs for s3, gcsfs for gs, or copy the files to this machine"
        ) from None
    return files, root


def need_local(path: str | Path, what: str) -> None:
    """Refuse an address where files are written.

    Raises:
        ValueError: If it is one.
    """
    if is_remote(path):
        raise ValueError(
            f"{what}: {path} is an address, and files are written to this machine; write to a "
            "folder here, and copy that"
        )


def _stamp(about: dict[str, Any]) -> list[str]:
    return [str(about[name]) for name in CHANGES if name in about]
