"""What the commands share: errors and warnings in a line, tables, texts, pictures."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Plain",
    "paragraphs",
    "print_table",
    "save_picture",
    "save_pictures",
    "say",
    "say_path",
    "warn",
]


BETWEEN = 3
"""Blanks between two columns of a table, one of them the box's."""


class Plain(TyperGroup):
    """Commands whose errors and warnings are one line each, without a traceback; exit code 2.

    One that a signal stops ends with 128 and the signal's number.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--traceback` wherever it stands."""
        if "--traceback" in args:
            args = ["--traceback", *(word for word in args if word != "--traceback")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        _load_torch()
        from rung3.training.stopping import Stopped, stoppable

        try:
            with stoppable(), _plain_warnings():
                return super().invoke(ctx)
        except BrokenPipeError:  # the reader has seen enough, such as `| head`: typer ends quietly
            raise
        except (ValueError, OSError, MemoryError) as error:
            if ctx.params.get("traceback"):
                raise
            message = str(error) or "not enough memory"
            say(f"[bold red]error:[/] {escape(message)}", Console(stderr=True))
            raise typer.Exit(2) from None
        except Stopped as stopped:
            message = f"stopped {stopped.where}".rstrip()
            cure = "; run the same command again to resume" if stopped.cure else ""
            say(escape(f"\n{message}{cure}"), Console(stderr=True))
            raise typer.Exit(stopped.status) from None


def _load_torch() -> None:
    """Import torch, and leave what it brings to no garbage collection.

    Not for `--help`: it takes a second. Its objects stay, and to pass over them again and again
    takes a sixth of what a short command does.
    """
    if "torch" in sys.modules:
        return
    gc.disable()
    import torch  # noqa: F401

    gc.freeze()
    gc.enable()


def paragraphs(text: str) -> str:
    r"""Return a docstring with each paragraph on a line of its own, for the window to wrap.

    Example:
        >>> paragraphs("First\n    line.\n\n    More.")
        'First line.\n\nMore.'
    """
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each warning that is raised meanwhile as one line on stderr, without its place."""

    def show(message: Warning | str, *place: Any, **options: Any) -> None:
        warn(" ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def print_table(title: str, columns: Sequence[str], lines: Iterable[Iterable[object]]) -> None:
    """Print a table in the style of the report, with the text of each cell as it is.

    Nothing is broken while there is room; then the widest columns between words, the first last.
    """
    from rung3.data.text_widths import fitted, longest_word  # the package of data loads torch

    rows = [[str(cell) for cell in line] for line in lines]
    console = Console()
    texts = [[column, *(row[at] for row in rows)] for at, column in enumerate(columns)]
    natural = [max(len(line) for text in column for line in text.split("\n")) for column in texts]
    least = [natural[0], *map(longest_word, texts[1:])]
    widths = fitted(natural, [least], console.width - 2 - BETWEEN * (len(columns) - 1))
    table = Table(box=SIMPLE_HEAD, padding=(0, BETWEEN - 1, 0, 0), pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    say(f"\n[bold]{escape(title)}[/]")
    console.print(table)


def save_pictures(
    figures: Mapping[str, Figure], folder: Path, title: str, out: Path | None
) -> None:
    """Write the picture of each image to `out`, or to a file named by image and title."""
    from rung3.data.names import slug

    for name, figure in figures.items():
        path = out or folder / f"{slug(f'{name}-{title}')}.png"
        save_picture(figure, path, dpi=120)
        say_path("picture", path)


def save_picture(figure: Figure, path: Path, **options: Any) -> None:
    """Write a picture in the format that the path's ending names."""
    from rung3.data.files import save_figure

    save_figure(figure, path, **options)


def say_path(what: str, path: Path) -> None:
    """Print where a file was written."""
    say(f"\n{what}: [bold]{escape(str(path))}[/]")


def warn(text: str) -> None:
    """Print a warning as one line on stderr."""
    say(f"[bold yellow]warning:[/] {escape(text)}", Console(stderr=True))


def say(text: str, console: Console | None = None) -> None:
    """Print a text with rich's markup, unbroken."""
    (console or Console()).print(text, highlight=False, soft_wrap=True)
