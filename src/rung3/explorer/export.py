"""Take it away: code that gives what the page shows, as Python and as a command."""

from __future__ import annotations

import base64
import json
import shlex

from rung3.data.names import slug
from rung3.data.variables import Image
from rung3.explorer.query import PageState
from rung3.explorer.runs import Opened
from rung3.explorer.session import DRAWN, DRAWN_IMAGES, Session

__all__ = ["command", "python"]


def python(session: Session, query: PageState, k: int = 0) -> str:
    """A script that gives `before` and `after` as model k answers, and draws the images.

    Raises:
        ValueError: If the query is wrong.
    """
    session.check(query)
    opened = session.models[k]
    values = repr(session.settings(query))
    draws = DRAWN_IMAGES if session.images else DRAWN
    lines = ["from rung3.study.folder import RunFolder", "", f"run = RunFolder({_place(opened)!r})"]
    lines += ["model = run.model().requires_grad_(False)"]
    if query.rung == "imagining":
        if query.own is None:
            lines += ["rows, world = run.test()", f"before = rows[{query.row}]"]
        else:
            lines += _own(session, query)
        options = "".join(
            [
                f", hold={list(query.hold)}" if query.hold else "",
                f", particles={query.particles}" if query.draws or session.lacking(query) else "",
                f", seed={query.seed}",
            ]
        )
        lines += [f"after = model.counterfactual(before, do={values}{options})"]
    else:
        acted = f"model.do({values})" if query.rung == "doing" and query.do else "model"
        given = f", given={values}" if query.rung == "seeing" and query.do else ""
        lines += [f"before = model.sample({draws}, seed={query.seed})"]
        lines += [f"after = {acted}.sample({draws}{given}, seed={query.seed})"]
    lines += ["print(after.explain())"]
    if session.images:
        lines += ["", "from rung3.data.pictures import picture", ""]
        mean = "" if query.rung == "imagining" else ".mean(0)"
        own = f"-{k}-{slug(opened.name)}" if len(session.models) > 1 else ""
        files = {name: f"{slug(name)}{own}.png" for name in session.images}
        lines += [
            f"picture(before[{name!r}]{mean}, after[{name!r}]{mean}).savefig({file!r})"
            for name, file in files.items()
        ]
    return "\n".join(lines) + "\n"


def command(session: Session, query: PageState, k: int = 0) -> str:
    """A command that gives what model k answers, or why there is none, as a comment."""
    session.check(query)
    if query.own is not None:
        return "# an image of one's own is not in the run: take the script"
    if query.rung == "imagining" and not query.do:
        return "# the command asks what one test row would have been, had a variable been set"
    place, set_by = _place(session.models[k]), "--given" if query.rung == "seeing" else "--do"
    words = []
    for name, value in session.settings(query).items():
        words += [set_by, f"{name}={value}"]
    if query.rung != "imagining":
        draws = DRAWN_IMAGES if session.images else DRAWN
        parts = ["rung3", "sample", place, *words, "-n", str(draws)]
        return shlex.join([*parts, "--seed", str(query.seed)])
    parts = ["rung3", "counterfactual", place, "--row", str(query.row), *words]
    for name in query.hold:
        parts += ["--hold", name]
    if query.draws or session.lacking(query):
        parts += ["--particles", str(query.particles)]
    return shlex.join([*parts, "--seed", str(query.seed)])


def _place(opened: Opened) -> str:
    return str(opened.path) if opened.path is not None else opened.name


def _own(session: Session, query: PageState) -> list[str]:
    """Lines that make a row of the user's own."""
    row, lines = session.factual(query), ["import base64, json", "import torch"]
    for name in session.images:
        variable = session.variables[name]
        assert isinstance(variable, Image)
        most = variable.levels or 65535  # the most that a picture file tells apart
        kind = "uint8" if most < 256 else "int32"
        levels = (row[name] * most).round().numpy().astype(kind)
        text = base64.b64encode(levels.tobytes()).decode()
        lines += [
            f"levels = torch.frombuffer(bytearray(base64.b64decode({text!r})), dtype=torch.{kind})",
            f"own = levels.reshape({tuple(levels.shape)}).float() / {most}",
        ]
    others = {
        k: row[k].tolist() if row[k].ndim else session.value(k, row[k].item())
        for k in session.variables
        if k not in session.images
    }
    image = "".join(f", {name!r}: own" for name in session.images)
    return [*lines, f"before = {{**json.loads({json.dumps(others)!r}){image}}}"]
