"""Answers in bulk: many rows, of the run's test set or from files, as a table and pictures.

answers.csv      a line a row: each value as it was and as it would have been, and what was read off
                 the image because it was missing
images/          each image before and after, and the truth where it is known, as PNG
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rung3 import data
from rung3.data.display import spell, spread
from rung3.data.expressions import interventions
from rung3.data.files import write
from rung3.data.images import SUFFIXES, read_images
from rung3.data.names import slug
from rung3.data.pictures import image_png
from rung3.data.readers.table import columns_of
from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Image, Variable
from rung3.scm import reading
from rung3.scm.scm import SCM
from rung3.study.folder import RunFolder

__all__ = ["Chosen", "AskedRows", "answer_rows", "choose_rows", "find_rows"]

AT_ONCE = 64
"""Rows that are answered at once."""

TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Chosen:
    """Rows that are asked about.

    Attributes:
        rows: Their values; what a predictor could tell is filled.
        names: What each is called.
        world: The world that they come from, if it is known.
        read: By variable, a mask `(n,)` of values that were read off the image.
    """

    rows: Rows
    names: Sequence[str]
    world: SCM | None
    read: Mapping[str, Tensor]


@dataclass(frozen=True)
class AskedRows:
    """Rows as they were found, and which of them are asked about.

    Attributes:
        rows: The values of all; what an image may tell can be missing.
        numbers: The numbers of those that are asked about.
        names: What each of these is called.
        world: The world that they come from, if it is known.
    """

    rows: Rows
    numbers: Sequence[int]
    names: Sequence[str]
    world: SCM | None


def choose_rows(run: RunFolder, model: SCM, text: str) -> Chosen:
    """Choose test rows, or read rows from a file.

    Args:
        run: The folder of the run.
        model: Its model.
        text: `all`, `0:100`, `0,3,7`, a table like that of the study, an image file, or a folder of
            image files. What such files do not say of an image is read off it.

    Raises:
        ValueError: If there is no such row or file, or a value is missing that nothing tells.
    """
    selection = find_rows(run, model, text)
    rows = selection.rows[torch.tensor(selection.numbers)]
    filled, read = reading.fill(model, rows)
    return Chosen(filled, selection.names, selection.world, read)


def find_rows(run: RunFolder, model: SCM, text: str) -> AskedRows:
    """Find test rows, or rows of a file, as `choose_rows` does, and leave gaps as they are."""
    path = Path(text)
    if path.is_dir() or path.suffix.lower() in (*SUFFIXES, *TABLES):
        rows, names = _from_files(run, model, path)
        return AskedRows(rows, range(rows.n), names, None)
    test, world = run.test()
    places = _places(text, test.n)
    return AskedRows(test, places, [f"row {place}" for place in places], world)


def _places(text: str, n: int) -> list[int]:
    """Return numbers of rows from text: `all`, a slice, or a list."""
    if text.strip() == "all":
        return list(range(n))
    first, colon, last = text.partition(":")
    parts = [part.strip() for part in ([first, last] if colon else text.split(","))]
    if not all(part.isdecimal() or (colon and not part) for part in parts):
        raise ValueError(
            f"--rows {text!r}: expected all, a range such as 0:100, numbers such as 0,3,7, or the "
            "path of a table, an image or a folder of images"
        )
    if colon:
        places = list(range(int(parts[0] or 0), int(parts[1] or n)))
    else:
        places = [int(part) for part in parts]
    beyond = [place for place in places if place >= n]
    if beyond or not places:
        raise ValueError(f"--rows {text!r}: {beyond[:3] or 'none'}; the test rows are 0 to {n - 1}")
    return places


def _from_files(run: RunFolder, model: SCM, path: Path) -> tuple[Rows, list[str]]:
    open_kinds = {name: _open(variable) for name, variable in model.variables.items()}
    if path.suffix.lower() in TABLES:
        rows = _of_table(run, path, open_kinds)
        return rows, [f"row {k}" for k in range(rows.n)]
    images = [name for name, kind in model.variables.items() if isinstance(kind, Image)]
    if len(images) != 1:
        raise ValueError(f"{path}: an image file needs a model of one image; it has {images}")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{path} has no image files")
    kind = model.variables[images[0]]
    assert isinstance(kind, Image)
    values: dict[str, Tensor] = {images[0]: read_images(images[0], files, kind)}
    return _with_gaps(values, open_kinds, len(files)), [file.stem for file in files]


def _of_table(run: RunFolder, path: Path, kinds: Mapping[str, Variable]) -> Rows:
    """Read the columns of a table that it has; the others are gaps."""
    source = run.study().data.read_from()
    column = {name: source.get(name, name) for name in kinds}
    header = columns_of(path)
    there = {column[name]: kind for name, kind in kinds.items() if column[name] in header}
    if not there:
        raise ValueError(f"{path}: none of the columns {list(column.values())}; it has {header}")
    read = data.table(path, variables=there)
    values = {name: read[column[name]] for name in kinds if column[name] in there}
    return _with_gaps(values, kinds, read.n)


def _open(variable: Variable) -> Variable:
    """Return the variable with gaps allowed."""
    return replace(variable, missing=True)


def _with_gaps(values: Mapping[str, Tensor], kinds: Mapping[str, Variable], n: int) -> Rows:
    filled = {
        name: values[name] if name in values else torch.full((n, *kind.shape), torch.nan)
        for name, kind in kinds.items()
    }
    return Rows(filled)


def _whole(model: SCM, chosen: Chosen) -> Rows:
    """Return rows in the model's own types, or refuse a gap that nothing fills."""
    rows = chosen.rows
    for name, variable in model.variables.items():
        missing = variable.is_missing(rows[name])
        if missing.any():
            at = int(missing.nonzero()[0])
            raise ValueError(
                f"{chosen.names[at]}: {name} is missing, and no predictor of the run reads it off "
                "an image; give it, or draw it given the rest with --particles"
            )
    values = {name: rows[name].to(variable.dtype) for name, variable in model.variables.items()}
    return Rows(values, noise=rows.noise, world=rows.world)


@torch.no_grad()
def answer_rows(
    model: SCM,
    chosen: Chosen,
    do: Sequence[str],
    folder: Path,
    *,
    hold: Sequence[str] = (),
    particles: int | None = None,
    seed: int = 0,
) -> Path:
    """Ask what rows would have been, and write the answers.

    Args:
        model: The model.
        chosen: The rows.
        do: Interventions, as `rung3.data.expressions` reads them.
        folder: Where to; made if it is not there.
        hold: Variables kept at their factual values.
        particles: Number K of draws of the noise: their mean, most frequent category, and standard
            deviation are written; `None` for one draw.
        seed: Of the draws.

    Returns:
        The path of the table.

    Raises:
        ValueError: If there is no such variable, or nothing is set.
    """
    settings = interventions(do, model.variables)
    if not settings:
        raise ValueError("no intervention was given: set a variable with --do name=value")
    lines: list[dict[str, Any]] = []
    queried = _whole(model, chosen) if particles is None else chosen.rows
    for start in range(0, queried.n, AT_ONCE):
        rows = queried[start : start + AT_ONCE]
        answer = model.counterfactual(
            rows, settings, hold=hold, particles=particles, seed=seed + start
        )
        truth = _truth(chosen.world, rows, settings, hold)
        for k in range(rows.n):
            name = chosen.names[start + k]
            cells = dict(_cells(model, folder, name, rows, answer, truth, k))
            read = [n for n, mask in chosen.read.items() if mask[start + k]]
            lines.append({"row": name, **cells, "read off the image": " ".join(read)})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    path = folder / "answers.csv"
    write(path, text.getvalue().encode())
    return path


def _truth(
    world: SCM | None, rows: Rows, settings: Mapping[str, Any], hold: Sequence[str]
) -> Rows | None:
    if world is None:
        return None
    try:
        return world.counterfactual(rows, settings, hold=hold)
    except ValueError:  # a world need not know every counterfactual
        return None


def _cells(
    model: SCM,
    folder: Path,
    row: str,
    before: Rows,
    after: Rows,
    truth: Rows | None,
    k: int,
) -> Iterator[tuple[str, str]]:
    """Yield a line's cells by column; images are written as files, named by their cells."""
    for name, variable in model.variables.items():
        draws = after[name] if after.particles else after[name][None]
        parts = {"factual": before[name][k][None], "counterfactual": draws[:, k]}
        if truth is not None:
            parts["truth"] = truth[name][k][None]
        for what, values in parts.items():
            if isinstance(variable, Image):
                file = Path("images") / f"{slug(row)}-{slug(name)}-{what}.png"
                write(folder / file, image_png(values.mean(0)))
                yield f"{name}, {what}", file.as_posix()
            else:
                yield f"{name}, {what}", spell(variable, values, full=True)
        single = isinstance(variable, Continuous) and not variable.shape
        if after.particles and single:
            deviation = float(spread(variable, draws[:, k].double()))
            yield f"{name}, standard deviation", f"{deviation:.6g}"
