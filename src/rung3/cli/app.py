"""The command `rung3`: thin over the library, which it imports only when a command runs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from rung3.cli.console import Plain, print_table, save_picture, save_pictures, say

__all__ = ["app"]


app = typer.Typer(
    cls=Plain,
    help="Deep structural causal models: what would this image have looked like, had that been so?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (YAML).")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
RunPaths = Annotated[
    list[Path], typer.Argument(metavar="RUN RUN...", help="The folders of two runs or more.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value, such as training.epochs=2."),
]


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
    traceback: Annotated[bool, typer.Option(help="Show where an error came from.")] = False,
) -> None:
    """Deep structural causal models: what would this image have looked like, had that been so?"""


@app.command()
def run(
    study: StudyPath,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; runs/<name>.")] = None,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove an earlier run.")] = False,
) -> None:
    """Run a study: data, fit, evaluate, report. A run that was killed goes on where it was."""
    from rung3.study import Study, run_study

    made = Study.load(study, settings or ())
    folder = out or Path("runs") / made.name
    report = run_study(made, folder, overwrite=overwrite, say=say, progress=True)
    Console().print(report)
    say(f"\nreport: [bold]{escape(str(folder / 'report.html'))}[/]")


@app.command()
def evaluate(
    folder: RunPath,
    protocol: Annotated[
        str | None, typer.Option(help="A preset, such as melistas2024, or complete.")
    ] = None,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; RUN-<protocol>.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove an earlier one.")] = False,
) -> None:
    """Ask a run's model other questions, without fitting it again; the answer is a run as well."""
    from rung3.study import RunFolder, run_study

    asked = [*(settings or ()), *([f"evaluation.protocol={protocol}"] if protocol else ())]
    target = out or folder.with_name(f"{folder.resolve().name}-{protocol or 'again'}")
    study = RunFolder(folder).copy_fitted(target, asked, overwrite)
    Console().print(run_study(study, target, say=say, progress=True))
    say(f"\nreport: [bold]{escape(str(target / 'report.html'))}[/]")


@app.command()
def check(study: StudyPath, settings: Settings = None) -> None:
    """The dry run: what a study would do, and whether its questions can be answered."""
    from rung3.study.check import check as inspect_study
    from rung3.study.study import Study

    for title, columns, lines in inspect_study(Study.load(study, settings or ())).tables():
        print_table(title, columns, lines)


@app.command()
def counterfactual(
    folder: RunPath,
    do: Annotated[
        list[str],
        typer.Option("--do", metavar="NAME=VALUE", help="thickness=4, or thickness=thickness+2."),
    ],
    row: Annotated[int, typer.Option(help="Which test row, from 0.")] = 0,
    hold: Annotated[list[str] | None, typer.Option(help="A variable kept as it was.")] = None,
    particles: Annotated[int | None, typer.Option(help="Draws of the noise.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Picture to write; in RUN if not said.")] = None,
) -> None:
    """One test row and its what-if, as a table and a picture."""
    from rung3.cli.whatif import ask
    from rung3.study.folder import RunFolder

    place = RunFolder(folder)
    answer = ask(place, row, do, hold=hold or (), particles=particles, seed=seed)
    question = f"row {row}: do({', '.join(do)})"
    columns = ["variable", "was", "would have been", "truth", "status"]
    known = answer.truth is not None
    lines = [line if known else (*line[:3], line[4]) for line in answer.table()]
    print_table(question, columns if known else [*columns[:3], columns[4]], lines)
    say(escape(str(answer.imagined.explain())))
    save_pictures(answer.pictures(question), place.path, f"row{row}-{','.join(do)}", out)


@app.command()
def sample(
    folder: RunPath,
    do: Annotated[
        list[str] | None,
        typer.Option("--do", metavar="NAME=VALUE", help="Set in the whole population."),
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Evidence: only such rows.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Rows to draw.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Picture to write; in RUN if not said.")] = None,
) -> None:
    """The population as it is, and given evidence or interventions, as a table and a picture."""
    from rung3.cli.sample import draw
    from rung3.study.folder import RunFolder

    place = RunFolder(folder)
    found = draw(place, do or (), given or (), n=n, seed=seed)
    asked = [*(f"do({text})" for text in do or ()), *(f"given {text}" for text in given or ())]
    question = ", ".join(asked) or "as it is"
    print_table(f"{n} rows", ["variable", "as it is", question], found.table())
    say(escape(str(found.after.explain())))
    save_pictures(found.pictures(question), place.path, question, out)


@app.command()
def effects(
    folder: RunPath,
    rows: Annotated[
        str | None, typer.Option(help="Which test rows, from 0; the first four whole ones.")
    ] = None,
    do: Annotated[
        list[str] | None,
        typer.Option(
            "--do",
            metavar="NAME=VALUE",
            help="A column; several at once as 'a=1; b=2'. Usual values of each cause if not said.",
        ),
    ] = None,
    through: Annotated[
        list[str] | None,
        typer.Option(help="A mediator, or latent. All that there are if not said."),
    ] = None,
    outcome: Annotated[str | None, typer.Option(help="The image; the first if not said.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="Grey levels at the end of the colours; all if not said.")
    ] = None,
    particles: Annotated[int | None, typer.Option(help="Draws of the noise.", min=2)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "--output", help="Picture to write; in RUN if not said.")
    ] = None,
) -> None:
    """Direct, indirect and total effects on test rows, one column an intervention, as a picture."""
    from rung3.cli.effects import indices, of_run
    from rung3.study.folder import RunFolder

    place = RunFolder(folder)
    found = of_run(
        place,
        None if rows is None else indices(rows),
        do or (),
        outcome=outcome,
        through=through or (),
        particles=particles,
        seed=seed,
    )
    figure = found.figure(scale)
    columns = ["intervention", "through", "direct", "indirect", "total", "interaction", "skill"]
    title = f"mean absolute effect on {found.outcome}, {found.unit}"
    print_table(title, columns if found.known else columns[:-1], found.table())
    path = out or place.path / "effects.png"
    save_picture(figure, path)
    say(f"\npicture: [bold]{escape(str(path))}[/]")


@app.command()
def compare(
    folders: RunPaths,
    out: Annotated[Path | None, typer.Option(help="Folder to write the page to.")] = None,
) -> None:
    """Runs on the same test rows: values, paired differences, the best, pictures side by side."""
    from rung3.study import compare_runs

    found = compare_runs(folders)
    Console().print(found)
    if out is not None:
        say(f"\npage: [bold]{escape(str(found.save(out)))}[/]")


@app.command()
def tradeoff(
    folders: RunPaths,
    times: Annotated[int, typer.Option(help="Null interventions one after the other.")] = 1,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("tradeoff.png"),
) -> None:
    """Composition against effectiveness, with skill as colour, as a picture."""
    from rung3.evaluation import tradeoff as draw
    from rung3.study import compare_runs

    save_picture(draw(compare_runs(folders), times), out, dpi=150, transparent=True)
    say(f"picture: [bold]{escape(str(out))}[/]")


@app.command()
def sweep(
    study: StudyPath,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE,...", help="As training.seed=0,1,2; several: all pairs."),
    ] = None,
    stress: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Each arrow wrong, and this share of each label."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; runs/<name>-sweep.")] = None,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove earlier runs.")] = False,
) -> None:
    """Run a study for each value of a setting, and compare the runs; finished ones are kept."""
    from rung3.study import Study, compare_runs
    from rung3.study.sweep import sweep as run_all

    folder = out or Path("runs") / f"{Study.load(study, settings or ()).name}-sweep"
    asked: dict[str, Any] = {"stress": stress, "overwrite": overwrite}
    runs = run_all(study, vary or (), folder, settings or (), say=say, progress=True, **asked)
    found = compare_runs(runs)
    Console().print(found)
    say(f"\npage: [bold]{escape(str(found.save(folder)))}[/]")


@app.command()
def figure(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="composition, effectiveness or reversibility.")
    ],
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    change: Annotated[
        str | None, typer.Option(help="The cause that is set; the image's first if not said.")
    ] = None,
    rows: Annotated[str, typer.Option(help="Which test rows to draw, from 0.")] = "0,1,2,3",
    n: Annotated[int, typer.Option("-n", help="Test rows that errors are means over.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="Factor on the noise of observation; 1 keeps all of it.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "--output", help="Picture to write; in RUN if not said.")
    ] = None,
) -> None:
    """The axioms as pictures, runs side by side: the lecture's Figures 35, 36 and 37."""
    from rung3.cli.effects import indices
    from rung3.cli.figure import of_runs
    from rung3.study.folder import RunFolder

    places = [RunFolder(folder) for folder in folders]
    options: dict[str, Any] = {"change": change, "n": n, "temperature": temperature, "seed": seed}
    found = of_runs(kind, places, rows=indices(rows), **options)
    path = out or places[0].path / f"{kind}.png"
    save_picture(found.figure(), path)
    say(f"picture: [bold]{escape(str(path))}[/]")


@app.command()
def graph(
    source: Annotated[
        str, typer.Argument(metavar="STUDY_OR_TEXT", help='Such as "a -> b <- c"; DAGitty\'s too.')
    ],
    out: Annotated[Path | None, typer.Option(help="Picture to write.")] = None,
    separated: Annotated[
        tuple[str, str] | None, typer.Option(metavar="X Y", help="Are X and Y d-separated?")
    ] = None,
    given: Annotated[list[str] | None, typer.Option(help="... given this variable.")] = None,
    adjustment: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="X Y", help="Minimal adjustment sets for the effect of X on Y."),
    ] = None,
    effect: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="X Y", help="Roles of the others; front-door sets and instruments."),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(
            "--identify", metavar="QUERY", help='Such as "P(y | do(x))": from which data?'
        ),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Say why: paths, or what --given does as adjustment.")
    ] = False,
    structures: Annotated[
        bool, typer.Option("--structures", help="Chains, forks, colliders, M-structures.")
    ] = False,
    implied: Annotated[
        bool, typer.Option("--implied", help="The independencies that it implies.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="A table (CSV) to test these independencies against.")
    ] = None,
    equivalent: Annotated[
        bool, typer.Option("--equivalent", help="What all graphs of its equivalence class share.")
    ] = False,
    write: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Print it as dagitty, mermaid or text.")
    ] = None,
) -> None:
    """Ask a causal graph, or draw it; only --data needs any."""
    from rung3.cli.graph import answers
    from rung3.cli.graph_source import read_graph
    from rung3.graph import draw

    found, square = read_graph(source)
    said = answers(
        found,
        separated=separated,
        given=given or (),
        adjustment=adjustment,
        effect=effect,
        query=query,
        why=why,
        structures=structures,
        implied=implied,
        data=data,
        equivalent=equivalent,
        write=write,
    )
    for line in said:
        say(escape(str(line)))
    if not said:
        lines = [(name, ", ".join(found.parents(name))) for name in found.order]
        print_table("graph", ["variable", "parents"], lines)
    if out is not None:
        save_picture(draw(found, square=square), out, dpi=150, transparent=True)
        say(f"picture: [bold]{escape(str(out))}[/]")


@app.command()
def explore(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    host: Annotated[str, typer.Option(help="Where to listen; this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="On which port.", min=0, max=65535)] = 7860,
) -> None:
    """A page on this machine where the causal graph is the control panel."""
    from rung3.explorer import Session, open_runs

    try:
        from rung3.explorer.server import serve
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error}; install the page's server with pip install 'rung3[web]'"
        ) from None
    serve(Session(*open_runs(folders)), host, port, say)
