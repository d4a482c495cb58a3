"""`propose`: a first study for rows that nobody has described yet, and what was seen in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rung3.data.files import write, write_text
from rung3.data.names import slug
from rung3.data.readers.scans import is_scan
from rung3.data.rows import spell_unknown
from rung3.data.variables import Image
from rung3.graph import CausalGraph
from rung3.graph.text import quote
from rung3.study.drafting.columns import Column, look
from rung3.study.drafting.pictures import Seen, look_at
from rung3.study.drafting.scans import look_at_scans
from rung3.study.drafting.sizes import Sizes, side_that_fits, size_numbers, size_picture
from rung3.study.drafting.source import Source, find_rows
from rung3.study.drafting.text import study_text

__all__ = ["Proposal", "propose"]

MINUTES = 10.0
"""Minutes of this machine that a first study may take, if not given."""

LEAST_ROWS = 20
"""Rows below which nothing is proposed: a fifth of them would test the model."""

TEST, VALIDATION = 0.2, 0.05
"""Shares of the rows that test and that validate."""


@dataclass(frozen=True)
class Proposal:
    """A first study.

    Attributes:
        name: The study's name.
        source: Where the rows come from.
        columns: What each column seems to be.
        graph: The causal graph, as text.
        given: Whether the graph was given; if not, it is a placeholder.
        sizes: What is proposed for each image.
        notes: What a reader should know.
        text: The study file.
    """

    name: str
    source: Source
    columns: Sequence[Column]
    graph: str
    given: bool
    sizes: Mapping[str, Sizes]
    notes: Sequence[str]
    text: str

    def table(self) -> list[list[str]]:
        """Return a line for each column: name, kind, unit, gaps, what was seen, and why."""
        return [
            [
                column.name,
                column.kind,
                str(column.fields.get("unit", "")),
                str(column.gaps or ""),
                column.saw,
                column.why,
            ]
            for column in self.columns
        ]

    def save(self, path: Path) -> None:
        """Write the study, and the table that it reads where that is yet to be written."""
        if self.source.written:
            write(self.source.path, self.source.frame.to_csv(index=False).encode())
        write_text(path, self.text)


def propose(
    source: Path,
    labels: Path | None = None,
    *,
    out: Path,
    graph: str | None = None,
    name: str | None = None,
    longest: int | None = None,
    minutes: float = MINUTES,
) -> Proposal:
    """Propose a study for a table, or for a folder of images and its labels.

    Args:
        source: The table (.csv, .parquet), or the folder.
        labels: The folder's table of labels; see `find_rows`.
        out: Where the study is to be written: its paths are relative to that.
        graph: The causal graph; if not given, every column is a cause of the image, which is to be
            changed.
        name: The study's name; if not given, that of the source.
        longest: Pixels of an image's longer side; if not given, 64 at most.
        minutes: Of this machine, for training and evaluation.

    Raises:
        ValueError: If the rows cannot be read, are too few, or have no column that can be used; if
            the graph names a column that is not there, or was left out.
    """
    name = name or slug(source.resolve().stem)
    rows = find_rows(source, labels, out.parent / f"{name}-rows.csv")
    if len(rows.frame) < LEAST_ROWS:
        raise ValueError(f"{source}: {len(rows.frame)} rows; expected at least {LEAST_ROWS}")
    folder = rows.path.parent
    columns = [look(str(key), cells.tolist(), folder) for key, cells in rows.frame.items()]
    n = round(len(rows.frame) * (1 - TEST) * (1 - VALIDATION))
    columns = [_with_pictures(column, longest, n, minutes) for column in columns]
    used = {column.name: column for column in columns if column.fields}
    if not used:
        raise ValueError(f"{source}: no column can be used; {columns[0].name}: {columns[0].why}")
    _check_graph(graph, columns)
    nodes = used if graph is None else CausalGraph(graph).nodes
    chosen = {key: column for key, column in used.items() if key in nodes}
    sizes = {
        key: size_picture(_image(column), n, minutes)
        for key, column in chosen.items()
        if column.kind == "Image"
    }
    drawn = graph or _placeholder(list(used.values()))
    text = study_text(
        name=name,
        table=rows,
        out=out,
        columns=columns,
        graph=drawn,
        given=graph is not None,
        chosen=chosen,
        sizes=sizes,
        numbers=size_numbers(n),
        shares=(TEST, VALIDATION),
    )
    notes = [*rows.notes, *_unused(columns, chosen)]
    return Proposal(name, rows, columns, drawn, graph is not None, sizes, notes, text)


def _unused(columns: Sequence[Column], chosen: Mapping[str, Column]) -> Iterator[str]:
    """Yield which columns the study does not use."""
    for what, names in (
        ("not in the graph", [c.name for c in columns if c.fields and c.name not in chosen]),
        ("left out, for the reason above", [c.name for c in columns if not c.fields]),
    ):
        if names:
            yield f"{what}: {', '.join(names)}"


def _with_pictures(column: Column, longest: int | None, n: int, minutes: float) -> Column:
    """Return a column of image files with what they hold, at a size that the minutes allow."""
    if column.kind != "Image":
        return column
    files = [file for file in column.files if file]
    look = look_at_scans if any(map(is_scan, files)) else look_at
    pictures = _seen(column, look(column.name, files, longest))
    side = None if longest else side_that_fits(_image(pictures), n, minutes)
    if side is None:
        return pictures
    smaller = _seen(column, look(column.name, files, side))
    return replace(smaller, why=f"{smaller.why} to fit {minutes:g} min; --size keeps more")


def _seen(column: Column, seen: Seen) -> Column:
    fields = {**seen.fields, **column.fields}
    return replace(column, fields=fields, saw=seen.saw, why=seen.why, scans=seen.scans)


def _image(column: Column) -> Image:
    return Image(**{key: value for key, value in column.fields.items() if key != "kind"})


def _placeholder(columns: Sequence[Column]) -> str:
    """Return a graph to be changed: every column a cause of each image, or no arrows at all."""
    images = [quote(c.name) for c in columns if c.kind == "Image"]
    others = [quote(c.name) for c in columns if c.kind != "Image"]
    if images and others:
        return f"{_group(others)} -> {_group(images)}"
    return "; ".join(images + others)


def _group(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{{{' '.join(names)}}}"


def _check_graph(graph: str | None, columns: Sequence[Column]) -> None:
    """Refuse a graph of columns that are not there, or that no variable can be made of."""
    known = {column.name: column for column in columns}
    for node in () if graph is None else CausalGraph(graph).nodes:
        if node not in known:
            raise ValueError(f"--graph: {spell_unknown([node], known)}")
        if not known[node].fields:
            raise ValueError(
                f"--graph: {node} was left out: {known[node].why} ({known[node].saw}); leave it "
                "out of the graph, or mend the column"
            )
