"""Figures of benchmarks in a JSON file, for `compare.py` to set beside those of another commit.

A file holds the figures of several benchmarks, by name: each a number of which less is better, and
its unit. What a benchmark records again replaces what it recorded before.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Figure", "add_option", "read", "record"]


class Figure(NamedTuple):
    """A measured number, of which less is better, such as seconds, MiB or a ratio of times."""

    value: float
    unit: str


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark be told a file: `--json FILE`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="record the figures there")


def record(file: Path | None, benchmark: str, figures: Mapping[str, Figure]) -> None:
    """Write a benchmark's figures among those of others; do nothing without a file."""
    if file is None:
        return
    known = read(file) if file.is_file() else {}
    known |= {f"{benchmark}: {name}": figure for name, figure in figures.items()}
    content = {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "figures": {name: figure._asdict() for name, figure in sorted(known.items())},
    }
    file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def read(file: Path) -> dict[str, Figure]:
    """Read the figures of a file, by name.

    Raises:
        ValueError: If the file is not one that `record` wrote.
    """
    try:
        figures = json.loads(file.read_text("utf-8"))["figures"]
        return {k: Figure(float(v["value"]), str(v["unit"])) for k, v in figures.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected figures of a benchmark's --json: {error!r}") from None
