"""A comparison as one table in the console, and as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from rung3.data.names import slug, slugs
from rung3.evaluation.measures.base import FACTUAL, KEPT, MODES
from rung3.evaluation.measures.base import Line as Spelled
from rung3.evaluation.measures.registry import sections
from rung3.evaluation.report import page

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from rung3.evaluation.report.compared import Compared

__all__ = ["pictures_of", "render", "table"]

ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", None: ""}

HOW = (
    "Below each mean: its 95 % interval, and the difference from the best (where nothing is "
    "better, from the first run), paired over the same test rows. Bold with a star: the best, and "
    "all that cannot be distinguished from it, as the interval of their difference holds 0. Each "
    "interval stands for itself: of a hundred differences that are none, five seem to be some. And "
    "rows are resampled, not trainings: whether another seed would turn the order round, only runs "
    "with other seeds of training tell."
)

SHORT = (
    "Below each mean: the difference from the best (where nothing is better, from the first run), "
    "paired over the same test rows. Bold with a star: the best, and all that cannot be "
    "distinguished from it. Intervals are on the page that --out writes; shown here from"
)
"""How to read a table without intervals."""

NAMES = 30
"""Columns of a console for the names of metrics."""

INTERVALS = 32
"""Columns of a console for a run with its intervals."""

DELTA = "\N{GREEK CAPITAL LETTER DELTA} "
"""Before a difference."""

STYLE = """
body { max-width: 90rem; }
td:first-child { white-space: normal; min-width: 16rem; }
td.section { font-weight: 600; padding-top: 1.4rem; }
td.best { font-weight: 650; } td.best small { font-weight: 400; }
.wide { overflow-x: auto; } .wide img { max-width: none; }
.note { border-left: 3px solid var(--accent); padding-left: .8rem; }
"""


class Line(NamedTuple):
    """A line of the table: a metric of every run, and its rank within its section."""

    section: str
    name: str
    entry: Mapping[str, Any]
    rank: int = 2


class Cell(NamedTuple):
    """A run's mean, its interval and its difference from the best, as text."""

    value: str
    interval: str = ""
    difference: str = ""
    best: bool = False


def lines(comparison: Compared) -> list[Line]:
    """Return the metrics in which runs differ, and floors, section by section."""
    entries = comparison.entries.items()
    spelled = [_line(path, e) for path, e in entries if FACTUAL in path or not _same(e)]
    order = [*map(_heading, sections()), *(line.section for line in spelled)]
    return sorted(spelled, key=lambda line: (order.index(line.section), line.rank))


def notes(comparison: Compared) -> list[str]:
    """Return what to know about it, and the metrics that are the same in all runs."""
    entries = comparison.entries.items()
    same = [_line(path, e) for path, e in entries if FACTUAL not in path and _same(e)]
    if not same:
        return comparison.notes
    listed = "; ".join(f"{line.name} {cells(line)[0].value}" for line in same)
    return [*comparison.notes, f"The same in all runs: {listed}."]


def _same(entry: Mapping[str, Any]) -> bool:
    """Return whether every run has it, and the same."""
    first, *others = entry["runs"].values()
    return first is not None and all(other == first for other in others)


def cells(line: Line) -> list[Cell]:
    """Return a line's cells, one a run."""
    return [_cell(line.entry, name) for name in line.entry["runs"]]


def table(comparison: Compared, width: int) -> Iterator[RenderableType]:
    """Yield the table for a console of some width, section by section, with its notes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    runs = list(comparison.reports)
    wide = width >= NAMES + INTERVALS * len(runs)
    drawn = [(line, [_text(cell, wide) for cell in cells(line)]) for line in lines(comparison)]
    printed = [text for _, texts in drawn for cell in texts for text in cell.plain.splitlines()]
    each = max(map(len, printed), default=0)
    each = max(each, min((width - NAMES) // len(runs) - 2, max(map(len, runs))))
    first = max(NAMES, width - 3 - (each + 2) * len(runs))  # a column is parted by two spaces
    yield Text(_title(comparison), "bold")
    for section, group in groupby(drawn, lambda pair: pair[0].section):
        block = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        block.add_column(section, width=first, overflow="fold")
        for name in runs:
            block.add_column(name, justify="right", width=each, overflow="fold", vertical="top")
        for line, texts in group:
            block.add_row(Text(line.name), *texts)
        yield block
    yield Text(HOW if wide else f"{SHORT} {NAMES + INTERVALS * len(runs)} columns on.", "dim")
    for note in notes(comparison):
        yield Text(note)


def _text(cell: Cell, wide: bool) -> Text:
    """Return a cell, with its intervals if there is room for them."""
    from rich.text import Text

    value = (f"{cell.value} *", "bold") if cell.best else f"{cell.value}  "
    notes = (cell.interval, cell.difference) if wide else (cell.difference.partition(" (")[0],)
    return Text.assemble(value, *((f"\n{note}  ", "dim") for note in notes if note))


def render(comparison: Compared, pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML.

    Args:
        comparison: What to tell.
        pictures: PNG files by name.
    """
    first = next(iter(comparison.reports.values()))
    remarks = "".join(f"<p class='note'>{escape(note)}</p>\n" for note in notes(comparison))
    parts = [
        f"<h1>{escape(_title(comparison))}</h1>",
        f'<p class="soft">{escape(page.summary(first.metrics))}</p>',
        f'<div class="wide">{_html(comparison)}</div>',
        f"<p class='soft'>{escape(HOW)}</p>",
        remarks,
        _tradeoff(pictures),
        *_pictures(comparison, pictures),
        "<h2>The models</h2>",
        *(
            f"<h3>{escape(name)}</h3>\n<pre>{escape(chr(10).join(report.metrics['model']))}</pre>"
            for name, report in comparison.reports.items()
        ),
    ]
    return page.document("rung3: comparison", parts, STYLE)


def _html(comparison: Compared) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *comparison.reports))
    rows, section, across = [], "", len(comparison.reports) + 1
    for line in lines(comparison):
        if line.section != section:
            section = line.section
            rows.append(f'<tr><td class="section" colspan="{across}">{escape(section)}</td></tr>')
        columns = "".join(_td(cell) for cell in cells(line))
        rows.append(f"<tr><td>{escape(line.name)}</td>{columns}</tr>")
    body = "\n".join(rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def _td(cell: Cell) -> str:
    kind, star = (' class="best"', " *") if cell.best else ("", "")
    notes = "".join(f"<small>{escape(n)}</small>" for n in (cell.interval, cell.difference) if n)
    return f"<td{kind}>{escape(cell.value)}{star}{notes}</td>"


def pictures_of(comparison: Compared) -> dict[tuple[str, str], str]:
    """Return the names of the pictures by intervention and mode."""
    labels = slugs(next(iter(comparison.reports.values())).examples.queries)
    return {
        (label, mode): f"beside-{name}-{slug(mode)}"
        for label, name in labels.items()
        for mode in comparison.modes
    }


def _tradeoff(pictures: Mapping[str, bytes]) -> str:
    if "tradeoff" not in pictures:
        return ""
    shown = page.figure(pictures["tradeoff"], "Composition against effectiveness")
    return (
        "<h2>The trade-off</h2>\n<p class='soft'>Composition against effectiveness, of answers "
        "from z alone where there is a z. A model that does nothing stands at the left, high up, "
        f"and has no skill.</p>\n<div class='wide'>{shown}</div>"
    )


def _pictures(comparison: Compared, pictures: Mapping[str, bytes]) -> Iterator[str]:
    if any(name.startswith("beside-") for name in pictures):
        yield "<h2>The same test rows under each model</h2>"
    for (label, mode), name in pictures_of(comparison).items():
        if name in pictures:
            title = f"{label}{_mode(mode)}"
            shown = f'<div class="wide">{page.figure(pictures[name], title)}</div>'
            yield f"<h3>{escape(title)}</h3>\n{shown}"


def _title(comparison: Compared) -> str:
    return f"{len(comparison.reports)} models, the same questions"


def _line(path: tuple[str, ...], entry: Mapping[str, Any]) -> Line:
    section = sections().get(path[0])
    if section is None or section.line is None:
        line = Spelled(", ".join(path[1:]) or path[0])
    else:
        line = section.line(path)
    text = line.text + ("" if line.mode is None else _mode(line.mode))
    unit = f", {entry['unit']}" if entry["unit"] else ""
    heading = _heading(line.section or path[0])
    return Line(heading, f"{text}{unit} {ARROWS[entry['better']]}".rstrip(), entry, line.rank)


def _heading(name: str) -> str:
    """Return what a section is called, given the first name of its paths."""
    section = sections().get(name)
    if section is not None and section.heading:
        return section.heading
    return name.replace("_", " ").capitalize()


def _mode(mode: str) -> str:
    return "" if mode == KEPT else f", {MODES.get(mode, mode)}"


def _cell(entry: Mapping[str, Any], name: str) -> Cell:
    mean = entry["runs"][name]
    if mean is None:
        return Cell("\N{EN DASH}")
    if mean["mean"] is None:
        return Cell("undefined")
    change = entry["differences"].get(name)
    difference = ""
    if change is not None and change["mean"] is not None:
        difference = f"{DELTA}{_signed(change['mean'])}{_interval(change, _signed, ' (', ')')}"
    interval = _interval(mean, _number)
    return Cell(_number(mean["mean"]), interval, difference, name in entry["best"])


def _interval(mean: Mapping[str, Any], spell: Any, left: str = "", right: str = "") -> str:
    if mean["low"] is None or mean["low"] == mean["high"]:
        return ""
    return f"{left}{spell(mean['low'])} to {spell(mean['high'])}{right}"


def _number(value: float) -> str:
    """Return a number with three digits or more.

    Example:
        >>> _number(0.12345), _number(12.345), _number(1234.5)
        ('0.123', '12.3', '1,234')
    """
    size = round(abs(value), 3)
    return f"{value:,.{3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0}f}"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{_number(value)}"
