"""The commands on studies and runs: run, evaluate, check, prepare, sweep, compare, tradeoff."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import Console
from rich.markup import escape

from rung3.cli.arguments import RunPath, RunPaths, Settings, StudyPath
from rung3.cli.console import print_table, save_picture, say, say_path, warn

__all__ = ["check", "compare", "evaluate", "prepare", "run", "sweep", "tradeoff"]

Published: TypeAlias = Annotated[
    str | None, typer.Option(help="Published figures to add, such as melistas2024.")
]
"""Whose figures stand beside ours in the trade-off, hollow."""


def run(
    study: StudyPath,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default, runs/<name>.")
    ] = None,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove an earlier run.")] = False,
) -> None:
    """Run a study: data, fit, evaluate, report. A run that was stopped resumes where it was."""
    from rung3.study.parser import located
    from rung3.study.run import run_study
    from rung3.study.study import Study

    loaded = Study.load(study, settings or ())
    folder = out or Path("runs") / loaded.name
    with located(study, settings or ()):
        report = run_study(loaded, folder, overwrite=overwrite, say=say, progress=True)
    Console().print(report, crop=False)
    say_path("report", folder / "report.html")


def evaluate(
    folder: RunPath,
    protocol: Annotated[
        str | None, typer.Option(help="A preset, such as melistas2024, or complete.")
    ] = None,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default, RUN-<protocol>.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove an earlier evaluation.")
    ] = False,
) -> None:
    """Evaluate a run's model in another way, without fitting it again; the result is a run too."""
    from rung3.study.folder import RunFolder
    from rung3.study.run import run_study

    changes = [*(settings or ()), *([f"evaluation.protocol={protocol}"] if protocol else ())]
    target = out or folder.with_name(f"{folder.resolve().name}-{protocol or 'again'}")
    study = RunFolder(folder).copy_fitted(target, changes, overwrite)
    Console().print(run_study(study, target, say=say, progress=True), crop=False)
    say_path("report", target / "report.html")


def check(study: StudyPath, settings: Settings = None) -> None:
    """Make a dry run: what a study would do, and whether its questions can be answered."""
    from rung3.study.check import check as dry_run
    from rung3.study.parser import located
    from rung3.study.study import Study

    with located(study, settings or ()):
        result = dry_run(Study.load(study, settings or ()))
    for title, columns, lines in result.tables():
        print_table(title, columns, lines)
    for text in result.warnings():
        warn(text)
    _say_next(study, settings or ())


def prepare(
    study: StudyPath,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to; by default, data.prepared of the study, or else the cache."
        ),
    ] = None,
    settings: Settings = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read images.")] = 1,
) -> None:
    """Prepare a study's images on disk, to be read row by row; run it again to resume."""
    from rung3.study.parser import located
    from rung3.study.preparing import prepare_study
    from rung3.study.study import Study

    with located(study, settings or ()):
        loaded = Study.load(study, settings or ())
        folders = prepare_study(loaded, out, workers=workers)
    for folder in folders:
        say_path("prepared", folder)
    _say_next(study, [*(settings or ()), *([f"data.prepared={out}"] if out else ())])


def _say_next(study: Path, settings: Sequence[str]) -> None:
    """Print the command that runs the study, as one would type it."""
    from rung3.study.packaged import READY

    name = study.stem if study.parent == READY else str(study)
    changes = [word for setting in settings for word in ("--set", setting)]
    say(escape(f"next: {shlex.join(['rung3', 'run', name, *changes])}"))


def sweep(
    study: StudyPath,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="Values to try, such as training.seed=0,1,2; with several, all combinations.",
        ),
    ] = None,
    stress: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Make each arrow wrong in turn, then this share of each label."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs; by default, runs/<name>-sweep.")
    ] = None,
    settings: Settings = None,
    published: Published = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove earlier runs.")] = False,
) -> None:
    """Run a study for each value of a setting and compare the runs; finished ones are kept."""
    from rung3.evaluation.report.tradeoff import check_published
    from rung3.study import compare_runs
    from rung3.study.study import Study
    from rung3.study.sweep import sweep as run_all

    loaded = Study.load(study, settings or ())
    if published is not None:
        check_published(published, loaded.declared())
    folder = out or Path("runs") / f"{loaded.name}-sweep"
    runs = run_all(
        study,
        vary or (),
        folder,
        settings or (),
        stress=stress,
        overwrite=overwrite,
        say=say,
        progress=True,
    )
    comparison = compare_runs(runs)
    Console().print(comparison)
    say_path("page", comparison.save(folder, published))


def compare(
    folders: RunPaths,
    out: Annotated[Path | None, typer.Option(help="Folder to write the page to.")] = None,
) -> None:
    """Compare runs on the same test rows: values, paired differences, pictures side by side."""
    from rung3.study import compare_runs

    comparison = compare_runs(folders)
    Console().print(comparison)
    if out is not None:
        say_path("page", comparison.save(out))


def tradeoff(
    folders: RunPaths,
    times: Annotated[int, typer.Option(help="Number of null interventions in a row.")] = 1,
    published: Published = None,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("tradeoff.png"),
) -> None:
    """Draw composition against effectiveness, with skill as colour."""
    from rung3.evaluation import tradeoff as draw_tradeoff
    from rung3.study import compare_runs

    drawn = draw_tradeoff(compare_runs(folders), times, published)
    save_picture(drawn, out, dpi=150, transparent=True)
    say_path("picture", out)
