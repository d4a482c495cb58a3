"""The command `rung3 runs`: the runs in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rung3.cli.console import print_table

__all__ = ["runs"]


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to look.")] = Path("runs"),
) -> None:
    """List the runs in a folder: what they are, how far they are, and their verdicts."""
    from rung3.study.listing import list_runs

    heads = ["run", "study", "data", "image by", "state", "verdict"]
    lines = list_runs(folder)
    if not lines:
        raise ValueError(f"{folder} holds no run; `rung3 run STUDY` makes one in runs/")
    print_table(f"runs in {folder}", heads, lines)
