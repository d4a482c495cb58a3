"""What the commands share: errors in a line, tables, texts, names of files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plain", "print_table", "save_picture", "save_pictures", "say"]


class Plain(TyperGroup):
    """Commands whose errors are said in a line, without a traceback; exit code 2.

    One that a signal stops ends with 128 and the signal's number.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from rung3.training.stopping import (  # not for --help: torch takes a second
            Stopped,
            stoppable,
        )

        try:
            with stoppable(), warnings.catch_warnings():
                warnings.showwarning = _warn
                return super().invoke(ctx)
        except (ValueError, OSError, MemoryError) as error:
            if ctx.params.get("traceback"):
                raise
            said = str(error) or "not enough memory"
            say(f"[bold red]error:[/] {escape(said)}", Console(stderr=True))
            raise typer.Exit(2) from None
        except Stopped as stopped:
            said = f"stopped {stopped.where}".rstrip()
            again = "; the same command goes on" if stopped.cure else ""
            say(escape(f"\n{said}{again}"), Console(stderr=True))
            raise typer.Exit(stopped.status) from None


def _warn(message: Warning | str, *where: Any, **more: Any) -> None:
    """Print a warning as a line; where in the code it arose is of no use here."""
    say(f"[yellow]warning:[/] {escape(str(message))}", Console(stderr=True))


def print_table(title: str, columns: list[str], lines: Any) -> None:
    """Print a table of cells, each as it is."""
    table = Table(*columns, title=title, title_justify="left", title_style="bold")
    for line in lines:
        table.add_row(*(escape(str(cell)) for cell in line))
    Console().print(table)


def save_pictures(
    figures: Mapping[str, Figure], folder: Path, question: str, out: Path | None
) -> None:
    """Write the picture of each image, to `out` or by its name and the question, and say where."""
    from rung3.data.names import slug

    for name, figure in figures.items():
        path = out or folder / f"{slug(f'{name}-{question}')}.png"
        save_picture(figure, path, dpi=120)
        say(f"\npicture: [bold]{escape(str(path))}[/]")


def save_picture(figure: Figure, path: Path, **options: Any) -> None:
    """Write a picture in the format that the path's ending names."""
    from rung3.data.files import save_figure

    save_figure(figure, path, **options)


def say(text: str, console: Console | None = None) -> None:
    """Print a text with rich's markup, unbroken."""
    (console or Console()).print(text, highlight=False, soft_wrap=True)
