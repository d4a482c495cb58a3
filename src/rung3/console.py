"""What the commands share: errors in a line, tables, texts, names of files."""

from __future__ import annotations

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

__all__ = ["Plain", "print_table", "say", "slug"]


class Plain(TyperGroup):
    """Commands whose errors are said in a line, without a traceback; exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            if ctx.params.get("traceback"):
                raise
            say(f"[bold red]error:[/] {escape(str(error))}", Console(stderr=True))
            raise typer.Exit(2) from None


def print_table(title: str, columns: list[str], lines: Any) -> None:
    """Print a table of cells, each as it is."""
    table = Table(*columns, title=title, title_justify="left", title_style="bold")
    for line in lines:
        table.add_row(*(escape(str(cell)) for cell in line))
    Console().print(table)


def say(text: str, console: Console | None = None) -> None:
    """Print a text with rich's markup, unbroken."""
    (console or Console()).print(text, highlight=False, soft_wrap=True)


def slug(text: str) -> str:
    """A text as part of a file's name."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
