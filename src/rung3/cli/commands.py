"""The command `rung3`: thin over the library, which it imports only when a command runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from rung3.cli.augment import augment
from rung3.cli.console import Plain, paragraphs, say
from rung3.cli.effects import effects
from rung3.cli.explore import explore
from rung3.cli.figure import figure
from rung3.cli.generate import generate
from rung3.cli.graph import graph
from rung3.cli.init import init
from rung3.cli.models import demo, models
from rung3.cli.predictors import audit, explain
from rung3.cli.runs import runs
from rung3.cli.sample import sample
from rung3.cli.study import check, compare, evaluate, prepare, run, sweep, tradeoff
from rung3.cli.tables import effect
from rung3.cli.whatif import counterfactual

__all__ = ["app"]

COMMANDS: list[Callable[..., None]] = [
    *(demo, init, check, prepare, run, evaluate),
    *(counterfactual, generate, augment, sample, effects, explain, audit),
    *(compare, tradeoff, sweep, figure),
    *(runs, models),
    *(graph, effect, explore),
]
"""The commands, in the order of `rung3 --help`."""

app = typer.Typer(
    cls=Plain,
    help="Deep structural causal models: what would this image have looked like, had that been so?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in COMMANDS:
    app.command(help=paragraphs(command.__doc__ or ""))(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"rung3 {version('rung3')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def main(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version),
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from.")
    ] = False,
) -> None:
    """Deep structural causal models: what would this image have looked like, had that been so?"""
