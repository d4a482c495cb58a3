"""Write `docs/commands.md`: every command of `rung3` with its arguments and options.

python .ci/commands.py                  after a command or an option is added or renamed
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.main import get_command

from rung3.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
INTRODUCTION = """\
# Commands

`rung3 COMMAND --help` prints the same. `--traceback`, anywhere, shows where an error came from.
`rung3 --install-completion` lets the shell complete commands and options.
"""


def described(command: Any) -> str:
    """Return a command's section."""
    shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option"]
    words = " ".join([*(_metavar(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    rows = [f"| `{_metavar(p)}` | {_text(p)} | |" for p in arguments]
    rows += [f"| {_names(p)} | {_text(p)} | {_default(p)} |" for p in options]
    lines = [f"## {command.name}", "", command.help.strip(), "", "```sh"]
    lines += [f"rung3 {command.name} {words}".rstrip(), "```", ""]
    if rows:
        lines += ["| | what | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} `{_metavar(option)}`"


def _text(parameter: Any) -> str:
    return (getattr(parameter, "help", "") or "").replace("|", "\\|")


def _default(option: Any) -> str:
    value = option.default
    return "" if value in (None, False, (), []) or callable(value) else f"`{value}`"


def commands() -> str:
    """Return the page."""
    group: Any = get_command(app)
    return "\n".join([INTRODUCTION, *map(described, group.commands.values())]).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(commands(), "utf-8")
