"""Code that computes what the page shows: a Python script and a command."""

from __future__ import annotations

import base64
import json
import shlex

from rung3.data.names import slug
from rung3.data.variables import Image
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.explorer.session import POPULATION_IMAGES, POPULATION_ROWS, Session

__all__ = ["command", "python"]


def python(session: Session, query: PageState, k: int = 0) -> str:
    """Return a script that computes `before` and `after` as model k does, and draws the images.

    Raises:
        ValueError: If the query is wrong.
    """
    session.check(query)
    opened = session.models[k]
    values = repr(session.settings(query))
    draws = POPULATION_IMAGES if session.images else POPULATION_ROWS
    lines = ["from rung3.study.folder import RunFolder", "", f"run = RunFolder({_place(opened)!r})"]
    lines += ["model = run.model().requires_grad_(False)"]
    if query.about_row:
        if query.upload is None:
            lines += ["rows, world = run.test()", f"before = rows[{query.row}]"]
        else:
            lines += _upload(session, query)
        lines += [f"after = model.{_call(session, query)}"]
    else:
        acted = f"model.do({values})" if query.rung == "doing" and query.do else "model"
        given = f", given={values}" if query.rung == "seeing" and query.do else ""
        lines += [f"before = model.sample({draws}, seed={query.seed})"]
        lines += [f"after = {acted}.sample({draws}{given}, seed={query.seed})"]
    lines += ["print(after.explain())"]
    if session.images:
        lines += ["", "from rung3.data.pictures import picture", ""]
        mean = "" if query.about_row else ".mean(0)"
        suffix = f"-{k}-{slug(opened.name)}" if len(session.models) > 1 else ""
        files = {name: f"{slug(name)}{suffix}.png" for name in session.images}
        lines += [
            f"picture(before[{name!r}]{mean}, after[{name!r}]{mean}).savefig({file!r})"
            for name, file in files.items()
        ]
    return "\n".join(lines) + "\n"


def command(session: Session, query: PageState, k: int = 0) -> str:
    """Return a command that computes model k's answer, or a comment that says why there is none."""
    session.check(query)
    if query.upload is not None:
        return "# an uploaded image is not part of the run: use the script"
    if query.about_row and not query.do:
        return "# the command needs an intervention: set a variable first"
    if query.rung == "backtracking" and query.draws:
        return "# the command gives the nearest noise alone: for draws around it use the script"
    place, option = _place(session.models[k]), "--given" if query.rung == "seeing" else "--do"
    values = []
    for name, value in session.settings(query).items():
        values += [option, f"{name}={value}"]
    if not query.about_row:
        draws = POPULATION_IMAGES if session.images else POPULATION_ROWS
        parts = ["rung3", "sample", place, *values, "-n", str(draws)]
        return shlex.join([*parts, "--seed", str(query.seed)])
    parts = ["rung3", "counterfactual", place, "--row", str(query.row), *values]
    for name in query.hold:
        parts += ["--hold", name]
    if query.rung == "backtracking":
        parts += ["--backtrack"]
    elif query.draws or session.missing(query):
        parts += ["--particles", str(query.particles)]
    return shlex.join([*parts, "--seed", str(query.seed)])


def _call(session: Session, query: PageState) -> str:
    """Return the call that answers a query about one row."""
    values = repr(session.settings(query))
    if query.rung == "backtracking" and query.do:
        draws = f", solutions={query.particles}" if query.draws else ""
        return f"backtrack(before, to={values}{draws}, seed={query.seed})"
    options = "".join(
        [
            f", hold={list(query.hold)}" if query.hold else "",
            f", particles={query.particles}" if query.draws or session.missing(query) else "",
            f", seed={query.seed}",
        ]
    )
    return f"counterfactual(before, do={values}{options})"


def _place(opened: Opened) -> str:
    return str(opened.path) if opened.path is not None else opened.name


def _upload(session: Session, query: PageState) -> list[str]:
    """Return lines of a script that build the row of an uploaded image."""
    row, lines = session.factual(query), ["import base64, json", "import torch"]
    for name in session.images:
        variable = session.variables[name]
        assert isinstance(variable, Image)
        top = variable.levels or 65535  # the finest that an image file has: 16 bits
        kind = "uint8" if top < 256 else "int32"
        levels = (row[name] * top).round().numpy().astype(kind)
        text = base64.b64encode(levels.tobytes()).decode()
        lines += [
            f"levels = torch.frombuffer(bytearray(base64.b64decode({text!r})), dtype=torch.{kind})",
            f"upload = levels.reshape({tuple(levels.shape)}).float() / {top}",
        ]
    others = {
        k: row[k].tolist() if row[k].ndim else session.value(k, row[k].item())
        for k in session.variables
        if k not in session.images
    }
    image = "".join(f", {name!r}: upload" for name in session.images)
    return [*lines, f"before = {{**json.loads({json.dumps(others)!r}){image}}}"]
