"""The report as one HTML page that needs nothing else: pictures are embedded, nothing fetched.

The verdict comes first, then what the images became, then the numbers. A picture is saved from the
one that is shown; a table's digits stand below each other, units in its head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from rung3.data.glossary import words
from rung3.data.names import slugs
from rung3.data.pictures import uri
from rung3.evaluation.measures.table import Cell, Table, with_units
from rung3.evaluation.report.tables import further, tables
from rung3.evaluation.report.values import effects_table, values_table
from rung3.evaluation.verdict import MARKS, Verdict

if TYPE_CHECKING:
    from rung3.data.variables import Variable
    from rung3.evaluation.examples import Examples

__all__ = ["Content", "document", "figure", "render", "summary"]

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #5f666d; --line: #e3e5e8; --bg: #fff;
  --raised: #f6f7f8; --accent: #c23b4e; --yes: #1a7f4b; --partly: #9a6700; --no: #c23b4e;
  --far: 209, 73, 91; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe2e6; --soft: #9aa1a9; --line: #2d3238; --bg: #15181c; --raised: #1d2126;
    --accent: #e8707f; --yes: #4cc38a; --partly: #e0a030; --no: #e8707f; --far: 232, 112, 127; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.2rem; }
body { margin: 0 auto; padding: 2rem 1.5rem 5rem; max-width: 72rem; background: var(--bg);
  color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; font-weight: 600; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 3rem 0 .3rem; padding-top: 1.2rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; font-weight: 600; margin: 2rem 0 .2rem; }
p { margin: .2rem 0 .8rem; max-width: 46rem; }
a { color: inherit; }
.soft, figcaption { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0 1rem; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
th { font-weight: 500; color: var(--soft); font-size: .85rem; }
td { white-space: nowrap; }
td small { color: var(--soft); display: block; line-height: 1.3; }
td.flag { color: var(--accent); }
td.flag small { white-space: normal; max-width: 24rem; }
figure { margin: .8rem 0 1.6rem; }
img { max-width: 100%; height: auto; display: block; }
.graph img { max-width: min(26rem, 100%); }
pre { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, monospace; color: var(--soft);
  white-space: pre-wrap; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--soft); }
"""

REPORT_STYLE = """
nav { position: sticky; top: 0; z-index: 1; background: var(--bg); margin: .6rem -1.5rem 0;
  padding: .5rem 1.5rem; border-bottom: 1px solid var(--line); display: flex; gap: 1.1rem;
  overflow-x: auto; white-space: nowrap; font-size: .85rem; }
nav a { color: var(--soft); text-decoration: none; } nav a:hover { color: var(--ink); }
.verdict { background: var(--raised); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem 1.2rem .6rem; margin: 1.2rem 0; }
.verdict h2 { border: 0; padding: 0; margin: 0 0 .5rem; font-size: 1.15rem; }
.verdict ul { list-style: none; margin: 0; padding: 0; }
.verdict li { display: grid; grid-template-columns: 1.5rem minmax(0, 1fr); margin: 0 0 .6rem; }
.verdict b { font-weight: 700; } .yes { color: var(--yes); } .partly { color: var(--partly); }
.no { color: var(--no); } .unknown { color: var(--soft); }
.verdict code { display: block; margin-top: .15rem; overflow-wrap: anywhere; }
code { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, monospace; color: var(--soft); }
dl { columns: 24rem; column-gap: 2rem; font-size: .9rem; } dt { font-weight: 600; }
dd { margin: 0 0 .6rem; color: var(--soft); break-inside: avoid; }
td.number, th.number { text-align: right; }
td.number i { visibility: hidden; font-style: normal; }
td.number small { text-align: right; }
td:first-child { position: sticky; left: 0; background: var(--bg); }
figure { margin-bottom: .2rem; } figure.wide { overflow-x: auto; }
.save { font-size: .8rem; color: var(--soft); display: inline-block; margin-bottom: 1.2rem; }
@media (min-width: 76rem) {
  body { max-width: 88rem; padding-left: 15rem; }
  nav { position: fixed; top: 2rem; left: max(1.5rem, calc(50vw - 43rem)); width: 12rem;
    flex-direction: column; gap: .45rem; border: 0; margin: 0; padding: 0; white-space: normal; }
}
@media (max-width: 40rem) {
  body { padding: 1.2rem 1rem 4rem; } nav { margin: .6rem -1rem 0; padding: .5rem 1rem; }
  td:first-child { white-space: normal; min-width: 8rem; }
  .values td:first-child { min-width: 0; } th, td { padding-right: .8rem; }
  figure.wide img { max-width: none; }
}
@media print { nav, .save { display: none; } }
"""


class Content(NamedTuple):
    """What the page tells.

    Attributes:
        metrics: All numbers.
        labels: Label of each intervention, by the ending of its pictures' names.
        examples: The rows that are shown.
        variables: The variables.
        verdict: What the numbers mean.
        run: The folder of the run, for commands; `None` without one.
    """

    metrics: Mapping[str, Any]
    labels: Mapping[str, str]
    examples: Examples
    variables: Mapping[str, Variable]
    verdict: Verdict
    run: str | None


class Part(NamedTuple):
    """A part of the page, and what its contents call it; empty for nothing."""

    html: str
    title: str = ""


def render(content: Content, drawn: Mapping[str, bytes]) -> str:
    """Return the page as HTML.

    Args:
        content: What it tells.
        drawn: Its pictures: PNG files by name.
    """
    metrics = content.metrics
    parts = [
        Part(_verdict(content.verdict, content.run), "Verdict"),
        Part(_image(drawn, "graph", "The causal graph", "graph")),
        *_interventions(content, drawn),
        *_sweeps(drawn),
        *(_table(table) for table in [*tables(metrics), *further(metrics)]),
        Part(_image(drawn, "losses", "Training", title="Losses"), "Losses"),
        Part(_settings(metrics), "Settings"),
        Part(_words(), "Words"),
    ]
    parts = [part for part in parts if part.html]
    ids = slugs(part.title for part in parts if part.title)
    body = [
        f'<section id="{ids[part.title]}">{part.html}</section>' if part.title else part.html
        for part in parts
    ]
    links = "".join(
        f'<a href="#{ids[part.title]}">{escape(_short(part.title))}</a>'
        for part in parts
        if part.title
    )
    run = metrics.get("run", {})
    title = run.get("name") or "How sound are its counterfactuals?"
    lead = [f"<h1>{escape(title)}</h1>", _origin(run)]
    lead += [f'<p class="soft">{escape(summary(metrics))}</p>', f"<nav>{links}</nav>"]
    return document(f"{title}: report", [*lead, *body], REPORT_STYLE)


def _origin(run: Mapping[str, Any]) -> str:
    """Return of which model, when and by which command the report was made, if it is known."""
    if not run:
        return ""
    lines = [", ".join(run["models"]), f"{run['when']}, rung3 {run['version']}"]
    text = " · ".join(escape(line) for line in lines)
    return f'<p class="soft made">{text}<br><code>{escape(run["command"])}</code></p>'


def _words() -> str:
    entries = (f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in words().items())
    return f"<h2>Words</h2>\n<dl>{''.join(entries)}</dl>"


def _verdict(verdict: Verdict, run: str | None) -> str:
    items = []
    for finding in verdict.findings:
        command = finding.next(run)
        code = f"<code>{escape(command)}</code>" if command else ""
        items.append(
            f'<li><b class="{finding.mark}" title="{finding.mark}">{MARKS[finding.mark]}</b>'
            f"<div>{escape(finding.text)}{code}</div></li>"
        )
    headline = escape(verdict.headline[:1].upper() + verdict.headline[1:])
    return f'<div class="verdict"><h2>{headline}</h2>\n<ul>{"".join(items)}</ul></div>'


def _short(title: str) -> str:
    """Return a title as the contents have it: without its question."""
    return title.partition(":")[0].removesuffix("?")


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """Return a page of these parts, in the reports' style and what is added to it."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def summary(metrics: Mapping[str, Any]) -> str:
    """Return one line on how the numbers came about."""
    settings, speed = metrics["settings"], metrics["speed"]["per second"]
    parts = [f"{settings['rows']} test rows"]
    if settings["rows left out for missing values"]:
        parts.append(f"{settings['rows left out for missing values']} left out: missing values")
    run = metrics.get("run", {})
    for reason, count in run.get("rows left out", {}).items():
        parts.append(f"{count} row{'s' * (count > 1)} of the data left out: {reason}")
    for name, count in run.get("training rows with a gap", {}).items():
        parts.append(f"{count} training row{'s' * (count > 1)} without {name}")
    if settings["resamples"]:
        parts.append("95 % bootstrap intervals over rows")
    if settings["world"]:
        parts.append(f"truth: the world {settings['world']!r}")
    if metrics.get("effectiveness"):
        parts.append(f"oracles: {settings['oracles trained on']}")
    if speed is not None:
        parts.append(f"{speed:.0f} counterfactuals a second on {settings['device']}")
    return " · ".join(parts)


def _table(table: Table) -> Part:
    table = with_units(table)
    numbers = [
        _is_number(column) for column in zip(*(cells for _, cells in table.rows), strict=False)
    ]
    widths = [
        _decimals(column) for column in zip(*(cells for _, cells in table.rows), strict=False)
    ]
    kinds = ["", *(' class="number"' if number else "" for number in numbers)]
    head = "".join(
        f"<th{kind}>{escape(column)}</th>"
        for kind, column in zip(kinds, table.columns, strict=False)
    )
    body = "".join(
        f"<tr><td>{escape(name)}</td>" + "".join(map(_cell, cells, numbers, widths)) + "</tr>\n"
        for name, cells in table.rows
    )
    html = (
        f"<h2>{escape(table.title)}</h2>\n<p class='soft'>{escape(table.note)}</p>\n"
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
        "</div>"
    )
    return Part(html, table.title)


def _is_number(column: Iterable[Cell]) -> bool:
    """Return whether a column holds numbers, and at most remarks beside them."""
    return any(cell.value[:1].isdigit() or cell.value[:1] in "-+<" for cell in column if cell.value)


def _decimals(column: Iterable[Cell]) -> int:
    return max((len(cell.value.partition(".")[2]) for cell in column), default=0)


def _cell(cell: Cell, number: bool, decimals: int) -> str:
    """Return a cell; unseen digits fill up those of a number, so that its points align."""
    kinds = ["number"] if number else []
    kinds += ["flag"] if cell.value in ("no truth", "undefined", "unused") else []
    shade = f' style="background: rgba(var(--far), {0.35 * cell.far:.2f})"' if cell.far else ""
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    places = len(cell.value.partition(".")[2])
    lead = "" if places or not decimals else "."
    fill = ""
    if number and cell.value[-1:].isdigit() and places < decimals:
        fill = f"<i>{lead}{'0' * (decimals - places)}</i>"
    kind = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<td{kind}{shade}>{escape(cell.value)}{fill}{note}</td>"


def _interventions(content: Content, drawn: Mapping[str, bytes]) -> Iterator[Part]:
    yield Part("<h2>What would they have been?</h2>", "What would they have been?")
    for ending, label in content.labels.items():
        example = content.examples.queries[label]
        notes = "\n".join(content.metrics["provenance"].get(label, []))
        parts = [
            f"<h3>{escape(label)}</h3>",
            _image(drawn, f"strip-{ending}", f"Test rows under {label}", "wide"),
        ]
        if f"strip-{ending}" not in drawn:
            parts.append(_plain(values_table(example, content.variables)))
        outside = f"Change outside the region that may change, under {label}"
        parts.append(_image(drawn, f"outside-{ending}", outside, "wide"))
        parts.append(
            "<details><summary>the graph, and what these answers rest on</summary>"
            + _image(drawn, f"graph-{ending}", f"The graph under {label}", "graph")
            + f"<pre>{escape(notes)}</pre></details>"
        )
        yield Part("\n".join(part for part in parts if part))
    effects = effects_table(content.metrics)
    if effects.rows:
        yield _table(effects)


def _plain(table: Table) -> str:
    """Return a table without its title."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = [
        "".join(f"<td>{escape(text)}</td>" for text in (name, *(cell.value for cell in cells)))
        for name, cells in table.rows
    ]
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return (
        f"<div class='scroll'><table class='values'><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div>"
    )


def _sweeps(drawn: Mapping[str, bytes]) -> Iterator[Part]:
    names = [name for name in drawn if name.startswith("sweep-")]
    if names:
        yield Part("<h2>One variable over its range</h2>", "One variable over its range")
    for name in names:
        title = f"{name.removeprefix('sweep-')} from low to high"
        yield Part(_image(drawn, name, title, "wide"))


def _image(
    drawn: Mapping[str, bytes], name: str, text: str, kind: str = "", title: str = ""
) -> str:
    if name not in drawn:
        return ""
    lead = f"<h2>{escape(title)}</h2>\n" if title else ""
    # The address is that of the picture itself, set when it is asked for: it is in the page once.
    take = "this.href = this.previousElementSibling.firstElementChild.src"
    link = (
        f'<a class="save" href="#" download="{escape(name)}.png" onclick="{take}">save picture</a>'
    )
    return f"{lead}<div>{figure(drawn[name], text, kind)}{link}</div>"


def figure(png: bytes, text: str, kind: str = "") -> str:
    """Return a picture, embedded, at two thirds of its pixels."""
    width = int.from_bytes(png[16:20], "big") * 2 // 3
    image = f'<img width="{width}" alt="{escape(text)}" src="{uri(png)}">'
    return f'<figure class="{kind}">{image}</figure>'


def _setting(value: Any) -> str:
    """Return a setting as text: a list without brackets, and `none` for what is empty."""
    if isinstance(value, Mapping):
        value = [f"{name}: {part}" for name, part in value.items()]
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _settings(metrics: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(_setting(value))}</td></tr>\n"
        for name, value in metrics["settings"].items()
    )
    model = escape("\n".join(metrics["model"]))
    return (
        f"<h2>Settings</h2>\n<pre>{model}</pre>\n"
        f"<div class='scroll'><table><tbody>{rows}</tbody></table></div>"
    )
