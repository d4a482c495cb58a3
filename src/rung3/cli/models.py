"""The commands `rung3 demo` and `rung3 models`: fitted models that come with rung3."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rung3.cli.console import print_table, save_pictures, say

__all__ = ["DEMO", "demo", "models"]

DEMO = "rung3/digits"
"""The model that a demonstration shows."""

ROW, CHANGE = 4, "thickness=4"
"""A thin six, and what it would have been, had it been thick."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the picture.")] = Path("."),
) -> None:
    """Show a counterfactual of a model that comes with rung3, without training."""
    from rung3.cli.whatif import ask
    from rung3.study.folder import RunFolder

    answer = ask(RunFolder(DEMO), ROW, [CHANGE])
    title = f"{DEMO}, row {ROW}: do({CHANGE})"
    print_table(title, answer.columns, answer.table())
    save_pictures(answer.pictures(title), out, "rung3-demo", None)
    say(
        "\nnext: rung3 explore --demo    the page on this model\n"
        "      rung3 run digits        train one like it, and read its report\n"
        "      rung3 init TABLE        your own data: a table, or a folder of images"
    )


def models() -> None:
    """List the fitted models that come with rung3."""
    from rung3.scm.zoo import models as held

    lines = [
        [model.name, model.title, f"{model.bytes / 1e6:.1f} MB", model.digest[:12]]
        for model in held().values()
    ]
    print_table("models", ["name", "what it is", "size", "digest"], lines)
    say('open one: rung3 explore NAME; in Python: rung3.load("NAME")')
