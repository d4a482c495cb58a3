"""A cache on disk: results that are costly and always the same, such as trained oracles.

A file's name is the hash of everything that its content depends on, so a file that is found is
right.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

__all__ = ["Cache", "user_cache"]

T = TypeVar("T")


def user_cache() -> Cache:
    """Give the user's cache: `RUNG3_CACHE`, or `rung3` in `XDG_CACHE_HOME`, or in `~/.cache`."""
    beside = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rung3"
    return Cache(os.environ.get("RUNG3_CACHE") or beside)


class Cache:
    """A folder of files that are named by a hash; it may be removed at any time.

    Args:
        folder: The folder; made when something is kept.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, kind: str, parts: Iterable[str]) -> Path:
        """Name the file of these parts."""
        text = "\n".join([version("rung3"), kind, *parts])
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self.folder / kind / f"{name}.safetensors"

    def find(self, path: Path, read: Callable[[Path], T]) -> T | None:
        """Read a file; `None` if it is not there, or, with a warning, if it is damaged."""
        try:
            return read(path) if path.is_file() else None
        except (ValueError, OSError) as error:
            warnings.warn(f"the cache is rebuilt: {error}", stacklevel=2)
            return None

    def keep(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write a file; with a warning, if that cannot be done."""
        try:
            write(path)
        except OSError as error:
            warnings.warn(f"nothing is kept in the cache {self.folder}: {error}", stacklevel=2)
