"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Held",
    "Interventions",
    "Out",
    "Particles",
    "Row",
    "RunPath",
    "RunPaths",
    "Seed",
    "Settings",
    "StudyPath",
    "indices",
]


def _study(given: Path) -> Path:
    from rung3.study.packaged import study_file  # not for --help

    return study_file(given)


StudyPath = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY",
        help="A study file (YAML), or the name of one that comes with rung3, such as digits.",
        callback=_study,
    ),
]

RunPath = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The folder of a run, or a model such as rung3/digits."),
]

RunPaths = Annotated[
    list[Path], typer.Argument(metavar="RUN RUN...", help="The folders of two or more runs.")
]

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value, such as training.epochs=2."),
]

Interventions = Annotated[
    list[str],
    typer.Option("--do", metavar="NAME=VALUE", help="Such as age=4, or age=age+2."),
]

Held = Annotated[
    list[str] | None, typer.Option("--hold", help="A variable kept at its factual value.")
]

Row = Annotated[int, typer.Option(help="Which test row, from 0.")]

Seed = Annotated[int, typer.Option(help="Seed of the draws.")]

Particles = Annotated[int | None, typer.Option(help="Number of draws of the noise.", min=1)]

Out = Annotated[
    Path | None,
    typer.Option("--out", "--output", help="Picture to write; by default, a file in RUN."),
]


def indices(text: str) -> list[int]:
    """Return whole numbers from text, such as `0,3,7`.

    Raises:
        ValueError: If the text is something else.

    Example:
        >>> indices("0, 3,7")
        [0, 3, 7]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"rows: expected whole numbers such as 0,3,7, got {text!r}")
    return [int(part) for part in parts]
