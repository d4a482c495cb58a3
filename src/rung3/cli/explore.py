"""The command `rung3 explore`: the page on finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rung3.cli.console import say
from rung3.cli.models import DEMO
from rung3.cli.predictors import Inputs, Outcome, load_predictor, one_or_several

__all__ = ["explore"]


def explore(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Folders of runs, or models such as rung3/digits."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Open rung3/digits, without training.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default, this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 7860,
    predictor: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME",
            help="A callable or torch module in a Python file here, queried beside the models.",
        ),
    ] = None,
    inputs: Inputs = None,
    outcome: Outcome = None,
) -> None:
    """Serve a page on this machine where the causal graph is the control panel."""
    from rung3.explorer import Consulted, Session, open_runs

    try:
        from rung3.explorer.server import serve
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error}; install the page's server with pip install 'rung3[web]'"
        ) from None
    chosen = [*(folders or ()), *([Path(DEMO)] if demo else [])]
    if not chosen:
        raise ValueError(
            "expected the folder of a run, or --demo for a model that comes with rung3"
        )
    if predictor is None and (inputs or outcome):
        raise ValueError("--inputs, --outcome: they are a predictor's; name it with --predictor")
    consulted = None
    if predictor is not None:
        consulted = Consulted(predictor, load_predictor(predictor), one_or_several(inputs), outcome)
    serve(Session(*open_runs(chosen), predictor=consulted), host, port, say)
