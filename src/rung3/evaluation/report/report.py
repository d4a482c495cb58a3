"""`Report`: what `evaluate` found, as numbers, as a table in the console, and as a page."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rung3.data.files import listed, packed, publish, read_tensors, sha256
from rung3.data.names import slugs
from rung3.data.pictures import png
from rung3.data.text_widths import fitted, longest_word
from rung3.data.variables import Image, Variable, from_config
from rung3.evaluation.examples import Examples
from rung3.evaluation.measures.table import Cell, Table, with_units
from rung3.evaluation.report import page, pictures
from rung3.evaluation.report.outside import outside_figure
from rung3.evaluation.report.tables import further, tables
from rung3.evaluation.scores import Scores
from rung3.evaluation.verdict import MARKS, Verdict, judge
from rung3.graph import CausalGraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

__all__ = ["Report"]


NUMBERS = "metrics.json"
"""File of all means with their intervals."""

SCORES = "scores.safetensors"
"""File of every row's scores."""

EXAMPLES = "examples.safetensors"
"""File of the rows that are shown as pictures."""

WIDE = 110
"""Columns of a console that has room for intervals."""


class Report:
    """Soundness of a model's counterfactuals.

    Attributes:
        metrics: All numbers: nested dicts that JSON can hold. Each mean is a dict of `mean`, `low`,
            `high` (a 95 % interval over rows) and `unit`.
        graph: The causal graph.
        variables: Its variables.
        examples: Rows that are shown as pictures.
        history: Losses by name.
        scores: Every row's scores, under the paths of the numbers.
        run: The folder of the run that it is of, for commands; `None` without one.
    """

    def __init__(
        self,
        metrics: dict[str, Any],
        graph: CausalGraph,
        variables: Mapping[str, Variable],
        examples: Examples,
        history: Mapping[str, Any],
        scores: Scores,
        run: str | None = None,
    ) -> None:
        self.metrics = metrics
        self.graph = graph
        self.variables = dict(variables)
        self.examples = examples
        self.history = dict(history)
        self.scores = scores
        self.run = run

    @property
    def verdict(self) -> Verdict:
        """What the numbers mean; of a report of an older version as far as they tell."""
        stored = self.metrics.get("verdict")
        return judge(self.metrics) if stored is None else Verdict.of_config(stored)

    def pictures(self) -> dict[str, bytes]:
        """Draw PNG files by name.

        They are `strip-...`, `outside-...`, `sweep-...`, `graph`, `graph-...` and `losses`.
        """
        drawn = {"graph": pictures.graph(self.graph, self.variables)}
        named = slugs(self.examples.queries)
        for label, example in self.examples.queries.items():
            chosen = [name for name, what in example.status.items() if what == "intervened"]
            drawn[f"graph-{named[label]}"] = pictures.graph(self.graph, self.variables, chosen)
            strip = pictures.strip(example, chosen, self.graph, self.variables)
            if strip is not None:
                drawn[f"strip-{named[label]}"] = strip
            for image, maps in self.examples.outside.get(label, {}).items():
                shown = outside_figure({label: maps}, self._image(image), paper=None)
                drawn[f"outside-{named[label]}"] = png(shown)
        swept = slugs(sweep.name for sweep in self.examples.sweeps)
        for sweep in self.examples.sweeps:
            drawn[f"sweep-{swept[sweep.name]}"] = pictures.film(sweep, self.graph, self.variables)
        if self.history:
            drawn["losses"] = pictures.losses(self.history)
        return drawn

    def outside(self) -> Figure:
        """Draw, by intervention, the change of pixels that should have stayed.

        Raises:
            ValueError: If the report has no such maps.
        """
        maps = {label: next(iter(m.values())) for label, m in self.examples.outside.items()}
        if not maps:
            raise ValueError(
                "the report has no maps of the change outside; they come with the measure "
                "'regions' and a world whose truth is known: rung3 evaluate RUN, after adding it "
                "to evaluation.protocol.measures of the study"
            )
        image = next(name for by_image in self.examples.outside.values() for name in by_image)
        return outside_figure(maps, self._image(image))

    def _image(self, name: str) -> Image:
        variable = self.variables[name]
        assert isinstance(variable, Image)
        return variable

    def _repr_html_(self) -> str:
        """Return the verdict and the tables for a notebook."""
        findings = "".join(f"<li>{escape(one.text)}</li>" for one in self.verdict.findings)
        return f"<ul>{findings}</ul><pre>{escape(str(self))}</pre>"

    def save(self, folder: str | Path, also: Mapping[str, bytes] | None = None) -> Path:
        """Write `metrics.json`, `report.html` (self-contained) and the pictures as PNG files.

        Beside them, for `load`: every row's scores, and the rows that are shown. Last comes
        `files.json`, with the digest of each.

        Args:
            folder: Where to; made if it is not there.
            also: More files that belong to it, by name.

        Returns:
            The path of `report.html`.
        """
        place = Path(folder)
        drawn = self.pictures()
        description = {
            "graph": self.graph.to_text(),
            "variables": {name: variable.config() for name, variable in self.variables.items()},
            "status": self.examples.status(),
        }
        shown = {json.dumps(key): value for key, value in self.examples.tensors().items()}
        numbers = json.dumps(self.metrics, indent=2, ensure_ascii=False, allow_nan=False)
        content = page.Content(
            self.metrics, self.headings(), self.examples, self.variables, self.verdict, self.run
        )
        text = page.render(content, drawn)
        contents = {f"{name}.png": png for name, png in drawn.items()}
        contents |= {SCORES: self.scores.packed(), EXAMPLES: packed(shown, "examples", description)}
        contents |= {NUMBERS: f"{numbers}\n".encode(), "report.html": text.encode()}
        publish(place, contents | dict(also or {}))
        return place / "report.html"

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a report that `save` wrote; it has no sweeps and no losses.

        Args:
            folder: Its folder, such as that of a finished run.

        Raises:
            ValueError: If the folder holds no report, or a file of it is missing or damaged.
        """
        place = Path(folder)
        numbers = place / NUMBERS
        if not numbers.is_file():
            raise ValueError(
                f"{place} holds no report: it has no {NUMBERS}; a finished `rung3 run`, or "
                "Report.save, writes one"
            )
        try:
            metrics = json.loads(numbers.read_text("utf-8"))
        except ValueError:
            raise ValueError(f"{numbers} is truncated or altered") from None
        if listed(place).get(NUMBERS, known := sha256(numbers)) != known:
            raise ValueError(f"{numbers} is altered: its digest is not the one in files.json")
        for name in (SCORES, EXAMPLES):
            if not (place / name).is_file():
                raise ValueError(
                    f"{place} has no {name}, as reports of older versions: remove its report.html "
                    "and run the study there again, which keeps the fitted model"
                )
        scores = Scores.load(place / SCORES)
        shown, description = read_tensors(place / EXAMPLES, "examples")
        variables = {name: from_config(name, v) for name, v in description["variables"].items()}
        values = {tuple(json.loads(key)): value for key, value in shown.items()}
        examples = Examples.restore(values, description["status"])
        graph, run = CausalGraph(description["graph"]), None
        if (place / "study.yaml").is_file():
            run = str(folder)
        return cls(metrics, graph, variables, examples, {}, scores, run)

    def headings(self) -> dict[str, str]:
        """Return the label of each intervention by the ending of its pictures' names."""
        return {name: label for label, name in slugs(self.examples.queries).items()}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as Drawn
        from rich.text import Text

        wide = options.max_width >= WIDE

        def text(cell: Cell) -> Text:
            note = f"\n{cell.note}" if cell.note and wide else ""
            return Text.assemble(cell.value, (note, "dim"))

        for part in map(with_units, tables(self.metrics)):
            table = Drawn(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
            widths = _widths(part, wide, options.max_width)
            for at, (head, width) in enumerate(zip(part.columns, widths, strict=True)):
                table.add_column(
                    head,
                    justify="right" if at else "left",
                    width=width,
                    vertical="top",
                    overflow="fold",
                )
            for name, cells in part.rows:
                table.add_row(Text(name), *(text(cell) for cell in cells))
            yield from (Text(part.title, "bold"), table, Text(f"{part.note}\n", "dim"))
        yield Text(page.summary(self.metrics))
        if more := [part.title.split(":")[0] for part in further(self.metrics)]:
            yield Text(f"On the page besides: {', '.join(more)}.", "dim")
        if not wide:
            yield Text(f"Intervals are in metrics.json; shown here from {WIDE} columns on.", "dim")
        yield from (Text(""), *_verdict_lines(self.verdict, self.run))

    def __str__(self) -> str:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=120, color_system=None).print(self, crop=False)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _widths(part: Table, notes: bool, width: int) -> list[int]:
    """Return the widths of a table's columns, so that it fits a console.

    Heads break between their words first, then the names of rows, then cells.
    """
    names = [name for name, _ in part.rows]
    columns = [[cells[at] for _, cells in part.rows] for at in range(len(part.columns) - 1)]
    lines = [[c.value for c in column] + [c.note for c in column if notes] for column in columns]
    cells = [max(map(len, column), default=0) for column in lines]
    name = max(map(len, [part.columns[0], *names]))
    natural = [name, *map(max, cells, map(len, part.columns[1:]))]
    heads = [longest_word([head]) for head in part.columns[1:]]
    floors = (
        [name, *map(max, cells, heads)],
        [longest_word(names), *map(max, cells, heads)],
        [longest_word(names), *map(max, map(longest_word, lines), heads)],
    )
    return fitted(natural, floors, width - 2 * len(part.columns))


def _verdict_lines(verdict: Verdict, run: str | None) -> Iterator[Text]:
    """Yield the verdict for a console: a headline, and each answer with what to try next."""
    from rich.text import Text

    colours = {"yes": "green", "partly": "yellow", "no": "red", "unknown": "dim"}
    yield Text(f"Verdict: {verdict.headline}", "bold")
    for finding in verdict.findings:
        yield Text.assemble((MARKS[finding.mark], colours[finding.mark]), f" {finding.text}")
        if command := finding.next(run):
            yield Text(f"  try: {command}", "dim", no_wrap=True, overflow="ignore")  # to copy
