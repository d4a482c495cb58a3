"""The report as one HTML page that needs nothing else: pictures are embedded, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from rung3.data.pictures import uri
from rung3.evaluation.measures.table import Cell, Table
from rung3.evaluation.report.tables import further, tables

__all__ = ["document", "figure", "render", "summary"]

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #6a7077; --line: #e3e5e8; --bg: #fff;
  --accent: #d1495b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe2e6; --soft: #949ba3; --line: #2d3238; --bg: #15181c; --accent: #e8707f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 5rem; max-width: 72rem; background: var(--bg);
  color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; font-weight: 600; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; font-weight: 600; margin: 3rem 0 .3rem; padding-top: 1.2rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; font-weight: 600; margin: 2rem 0 .2rem; }
p { margin: .2rem 0 .8rem; max-width: 46rem; }
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
.graph img { max-width: 26rem; }
pre { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, monospace; color: var(--soft);
  white-space: pre-wrap; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--soft); }
"""


def render(
    metrics: Mapping[str, Any], pictures: Mapping[str, bytes], labels: Mapping[str, str]
) -> str:
    """Return the page as HTML.

    Args:
        metrics: The numbers.
        pictures: PNG files by name.
        labels: Label of each intervention, by the ending of its pictures' names.
    """
    graph = _image(pictures, "graph", "The causal graph", "graph")
    parts = [
        "<h1>How sound are its counterfactuals?</h1>",
        f'<p class="soft">{escape(summary(metrics))}</p>',
        graph,
        *(_table(table) for table in [*tables(metrics), *further(metrics)]),
        *_interventions(metrics, pictures, labels),
        *_sweeps(pictures),
        _image(pictures, "losses", "Training", title="Losses"),
        _settings(metrics),
    ]
    return document("rung3: report", parts)


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
    if settings["resamples"]:
        parts.append("95 % bootstrap intervals over rows")
    if settings["world"]:
        parts.append(f"truth: the world {settings['world']!r}")
    if metrics.get("effectiveness"):
        parts.append(f"oracles: {settings['oracles trained on']}")
    if speed is not None:
        parts.append(f"{speed:.0f} counterfactuals a second on {settings['device']}")
    return " · ".join(parts)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_cell(cell) for cell in cells)}</tr>\n"
        for name, cells in table.rows
    )
    return (
        f"<h2>{escape(table.title)}</h2>\n<p class='soft'>{escape(table.note)}</p>\n"
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
        "</div>"
    )


def _cell(cell: Cell) -> str:
    flag = " class='flag'" if cell.value in ("no truth", "undefined", "unused") else ""
    note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
    return f"<td{flag}>{escape(cell.value)}{note}</td>"


def _interventions(
    metrics: Mapping[str, Any], pictures: Mapping[str, bytes], labels: Mapping[str, str]
) -> Iterable[str]:
    yield "<h2>What would they have been?</h2>"
    for ending, label in labels.items():
        notes = "\n".join(metrics["provenance"].get(label, []))
        yield f"<h3>{escape(label)}</h3>"
        yield _image(pictures, f"graph-{ending}", f"The graph under {label}", "graph")
        yield _image(pictures, f"strip-{ending}", f"The first test rows under {label}")
        yield (
            f"<details><summary>what these answers rest on</summary><pre>{escape(notes)}</pre>"
            "</details>"
        )


def _sweeps(pictures: Mapping[str, bytes]) -> Iterable[str]:
    names = [name for name in pictures if name.startswith("sweep-")]
    if names:
        yield "<h2>One variable over its range</h2>"
    for name in names:
        yield _image(pictures, name, f"{name.removeprefix('sweep-')} from low to high")


def _image(
    pictures: Mapping[str, bytes], name: str, text: str, kind: str = "", title: str = ""
) -> str:
    if name not in pictures:
        return ""
    lead = f"<h2>{escape(title)}</h2>\n" if title else ""
    return lead + figure(pictures[name], text, kind)


def figure(png: bytes, text: str, kind: str = "") -> str:
    """Return a picture, embedded, at two thirds of its pixels."""
    width = int.from_bytes(png[16:20], "big") * 2 // 3
    image = f'<img width="{width}" alt="{escape(text)}" src="{uri(png)}">'
    return f'<figure class="{kind}">{image}</figure>'


def _settings(metrics: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>\n"
        for name, value in metrics["settings"].items()
    )
    model = escape("\n".join(metrics["model"]))
    return (
        f"<h2>Settings</h2>\n<pre>{model}</pre>\n"
        f"<div class='scroll'><table><tbody>{rows}</tbody></table></div>"
    )
