"""What is printed: errors and warnings, each in a line."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import pytest
import typer
from command import call, write
from typer.testing import CliRunner

from rung3.cli.commands import app
from rung3.cli.console import Plain
from rung3.study.check import Check


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml is missing"),
        (["check", "{study}", "--set", "training.epcohs=1"], "did you mean 'epochs'"),
        (["run", "{study}", "--out", "{folder}"], "is not the folder of a run"),
        (["counterfactual", "{folder}", "--do", "a=1"], "is not the folder of a run"),
        (["counterfactual", "{run}", "--do", "thicknes=1"], "did you mean 'thickness'"),
        (["counterfactual", "{run}", "--do", "thickness=1", "--row", "99"], "rows are 0 to 39"),
        (["counterfactual", "{run}", "--do", "thickness=-1"], "outside its support"),
        (["counterfactual", "{run}", "--do", "digit=3", "--hold", "digit"], "both be set and held"),
        (["graph", "a -> b -> a"], "a -> b -> a"),
        (["graph", "a -> b", "--separated", "a", "c"], "no variable 'c'"),
        (["graph", "a -> b", "--identify", "P(b | do(c))"], "no variable 'c'"),
        (["graph", "a -> b", "--identify", "b"], "it does not start with P("),
        (["graph", "a -> b", "--write", "dot"], "expected one of dagitty, mermaid, text"),
        (["graph", "dag {{ a -> b -> a }}"], "cycle: a -> b -> a"),
        (["graph", "a <-> b", "--equivalent"], "this one has a <-> b"),
    ],
)
def test_errors_are_said_without_a_traceback(
    run: tuple[Path, str], tmp_path: Path, words: list[str], message: str
) -> None:
    names = {"study": write(tmp_path), "folder": tmp_path, "run": run[0]}
    result = call(*(word.format(**names) for word in words))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_traceback_shows_where_an_error_came_from() -> None:
    result = call("--traceback", "run", "nowhere.yaml")
    assert isinstance(result.exception, ValueError)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    pipe = typer.Typer(cls=Plain)

    @pipe.command()
    def lines() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    @pipe.command()
    def other() -> None: ...

    result = CliRunner().invoke(pipe, ["lines"])
    assert (result.exit_code, result.stderr) == (1, "")


def test_help_leaves_the_breaking_of_lines_to_the_window() -> None:
    for command in app.registered_commands:
        assert command.help
        assert "\n" not in command.help.replace("\n\n", "")


def test_a_warning_is_one_line_on_stderr(
    run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(_: Check) -> list[object]:
        warnings.warn("the rows are few;\n  take [more]", stacklevel=1)
        return []

    monkeypatch.setattr(Check, "tables", warn)
    monkeypatch.setattr(Check, "warnings", lambda _: [])
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = call("check", run[0] / "study.yaml")
        assert warnings.showwarning is before
    assert result.exit_code == 0, result.output
    assert result.stderr == "warning: the rows are few; take [more]\n"
    assert result.stdout == f"next: rung3 run {run[0] / 'study.yaml'}\n"


@pytest.mark.parametrize("width", [80, 140])
def test_a_table_breaks_no_word_while_there_is_room(width, monkeypatch, capsys):
    from rung3.cli.console import print_table

    monkeypatch.setenv("COLUMNS", str(width))
    heads = ["variable", "mechanism", "chosen", "abduction", "parameters", "training"]
    lines = [
        ["thickness", "Flow()", "default of its kind", "exact", "49", "0 s"],
        ["all", "VAE(latent=16)", "by the study", "approximate", "992,579", "about 4 min"],
    ]
    print_table("mechanisms", heads, lines)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    words = {word for line in [heads, *lines] for cell in line for word in cell.split()}
    assert words <= set(shown.split())
    assert ("default of its kind" in shown) == (width == 140)
