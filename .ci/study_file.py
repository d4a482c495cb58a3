"""Write `docs/study-file.md`: every key of a study file with its default, read off the options.

python .ci/study_file.py                after an option is added or renamed
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from rung3.data.variables import KINDS
from rung3.evaluation.protocol import Protocol
from rung3.study import sources
from rung3.study.kinds import MECHANISMS
from rung3.study.options import Evaluation, Objective, OracleOptions, ProtocolOptions, Training
from rung3.study.study import Study
from rung3.training.counterfactual.objective import CounterfactualObjective
from rung3.training.options import Options

PAGE = Path(__file__).resolve().parents[1] / "docs" / "study-file.md"
INTRODUCTION = """\
# The study file

A study is one YAML file that says everything about a run. `rung3 init` writes a first one for your
data, `rung3 check` says what it would do, and `rung3 run` does it. Only `name`, `data` and `graph`
are required. Any key can be set on the command line, as in `--set training.epochs=20`. Text may
contain `${NAME}` or `${NAME:-otherwise}`, replaced from the environment; paths are relative to the
file. A misspelt key is refused; the error gives its line and the closest valid key.

```yaml
name: patients
data: {kind: table, path: patients.csv, test: 0.2}
graph: age -> sick; {age sick} -> scan
variables:
  age: {kind: Continuous, unit: years, lower: 0}
  sick: {kind: Binary, labels: [no, yes]}
  scan: {kind: Image, channels: 1, height: 32, width: 32}
mechanisms:
  scan: {kind: VAE, latent: 16}
training:
  epochs: 20
  mechanisms:
    scan: {epochs: 100, batch_size: 32}
evaluation:
  interventions: {older: {age: age + 10}, cured: {sick: no}}
```
"""

DATA = get_args(get_args(sources.Data)[0])
"""The kinds of data."""

HEAD = ["| key | default | what |", "|---|---|---|"]


def arguments(*classes: type) -> dict[str, str]:
    """Return what the docstrings of classes say of their arguments, the first that says it."""
    entries: dict[str, str] = {}
    for kind in classes:
        text = inspect.getdoc(kind) or ""
        block = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", text, re.M)
        for entry in re.split(r"^ {4}(?=\w+:)", block[1] if block else "", flags=re.M):
            name, _, head = entry.partition(":")
            if head.strip():
                entries.setdefault(name.strip(), " ".join(head.split()))
    return entries


def table_of(model: Any, *documented: type) -> list[str]:
    """Return a table of the keys of a part of the file."""
    entries = arguments(model, *documented)
    rows = []
    for name, field in model.model_fields.items():
        if name != "kind":
            default = "must be given"
            if not field.is_required():
                default = _default(field.get_default(call_default_factory=True))
            rows.append(f"| `{name}` | {default} | {_cell(entries.get(name, ''))} |")
    return [*HEAD, *rows]


def kinds(named: Mapping[str, type], level: str) -> Iterator[str]:
    """Yield a section for each kind of variable or mechanism."""
    for name, kind in named.items():
        entries = arguments(*kind.__mro__)
        rows = [
            f"| `{p.name}` | {'must be given' if p.default is p.empty else _default(p.default)} "
            f"| {_cell(entries.get(p.name, ''))} |"
            for p in inspect.signature(kind).parameters.values()
        ]
        table = [*HEAD, *rows] if rows else []
        yield "\n".join([f"{level} {name}", "", _first_line(kind), "", *table, ""])


def _first_line(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _kind(part: Any) -> str:
    """Return how a file names a kind of data."""
    return str(get_args(part.model_fields["kind"].annotation)[0])


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined or value in ({}, [], ()):
        return ""
    return "" if isinstance(value, BaseModel) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def study_file() -> str:
    """Return the page."""
    data = [
        "\n".join([f"### kind: {_kind(part)}", "", _first_line(part), "", *table_of(part), ""])
        for part in DATA
    ]
    parts = [
        INTRODUCTION,
        "\n".join(["## The whole", "", *table_of(Study), ""]),
        "## data\n",
        *data,
        "## variables\n\nBy name, a kind and its fields; `Continuous()` where not given.\n",
        *kinds(KINDS, "###"),
        "## mechanisms\n\nBy name, a kind and its fields, or an equation as text, such as "
        "`2*x + u`; the default of the variable's kind where not given.\n",
        *kinds(MECHANISMS, "###"),
        "\n".join(["## training", "", *table_of(Training, Options), ""]),
        "\n".join(
            ["### training.objective", "", *table_of(Objective, CounterfactualObjective), ""]
        ),
        "\n".join(["## evaluation", "", *table_of(Evaluation), ""]),
        "\n".join(["### evaluation.protocol", "", *table_of(ProtocolOptions, Protocol), ""]),
        "\n".join(["### evaluation.oracles", "", *table_of(OracleOptions), ""]),
    ]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(study_file(), "utf-8")
