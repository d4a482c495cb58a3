"""Progress of what takes a while: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["tracked"]

QUIET = 5.0
"""Seconds between two lines, at least: what is done sooner needs none."""

T = TypeVar("T")


def tracked(parts: Sequence[T], text: str, progress: bool = True) -> Iterator[T]:
    """Yield the parts of some work, and show how far it is.

    Args:
        parts: The parts, each of which takes about as long.
        text: What is done, such as `evaluating`.
        progress: Whether to show anything.

    Example:
        >>> list(tracked([1, 2, 3], "counting"))
        [1, 2, 3]
    """
    from rich.console import Console
    from rich.progress import track

    console = Console()
    if not progress:
        yield from parts
    elif console.is_terminal:
        yield from track(parts, text, transient=True, console=console)
    else:
        yield from _lines(parts, text)


def _lines(parts: Sequence[T], text: str) -> Iterator[T]:
    """Yield the parts, and write lines to stderr: how many are done, and the time left."""
    began = last = time.monotonic()
    for done, part in enumerate(parts, 1):
        yield part
        now = time.monotonic()
        if now - last >= QUIET and done < len(parts):
            left = (now - began) / done * (len(parts) - done)
            sys.stderr.write(f"{text}: {done} of {len(parts)}; {left / 60:.1f} min left\n")
            sys.stderr.flush()
            last = now
