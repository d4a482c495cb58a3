"""The command `rung3 figure`: axioms of several runs, every intervention, and augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from rung3.cli.arguments import Out, Seed, indices
from rung3.cli.console import save_picture, say, say_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rung3.data.rows import Rows
    from rung3.evaluation.figures import Comparison, Reader
    from rung3.evaluation.intervened import Intervened
    from rung3.evaluation.tasks.robustness import Robustness
    from rung3.scm.scm import SCM
    from rung3.study.folder import RunFolder

__all__ = [
    "KINDS", "augmentation_of_run", "figure", "interventions_of_run", "outside_of_run",
    "strips_of_runs",
]  # fmt: skip

AXIOMS = ("composition", "effectiveness", "reversibility")
"""The axioms that can be drawn, for several runs."""

KINDS = (*AXIOMS, "interventions", "outside", "augmentation")
"""What can be drawn."""

AVERAGED = 200
"""Test rows that errors are means over, if not given."""

TESTED = 4_000
"""Rows of each environment that classifiers are tested on, if not given."""


def figure(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    change: Annotated[
        str | None, typer.Option(help="The cause that is set; by default, the image's first.")
    ] = None,
    rows: Annotated[str, typer.Option(help="Which test rows to draw, from 0.")] = "0,1,2,3",
    n: Annotated[
        int | None,
        typer.Option(
            "-n", help="Test rows behind each number; by default 200, for augmentation 4000."
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Factor on the noise of observation; 1 keeps all of it.")
    ] = 0.0,
    label: Annotated[
        str | None, typer.Option(help="For augmentation: the category that classifiers predict.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="For augmentation: number of trainings in each way.")
    ] = 5,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Draw an axiom for several runs side by side (the lecture's Figures 35, 36 and 37).

    Or `interventions`: rows of one run under every intervention and none, with direct effect,
    uncertainty, and the truth where it is known (Figures 32 and 33). Or `outside`: where one run's
    answers change pixels that should stay, as maps.

    Or `augmentation`: classifiers of a --label trained plainly, reweighted, with ordinary
    augmentation, and with counterfactuals under do(--change), tested under each shift.
    """
    from rung3.study.folder import RunFolder

    runs = [RunFolder(folder) for folder in folders]
    path = out or runs[0].answers_path / f"{kind}.png"
    if kind == "outside":
        save_picture(outside_of_run(runs, change=change), path)
        say_path("picture", path)
        return
    if kind == "augmentation":
        tested = TESTED if n is None else n
        robustness = augmentation_of_run(
            runs, label, change, temperature=temperature, n=tested, seeds=seeds, seed=seed
        )
        _keep_augmentation(robustness, path)
        return
    chosen, n = indices(rows), AVERAGED if n is None else n
    drawn: Comparison | Intervened
    if kind == "interventions":
        drawn = interventions_of_run(runs, change=change, rows=chosen, n=n, seed=seed)
    else:
        drawn = strips_of_runs(
            kind, runs, change=change, rows=chosen, n=n, temperature=temperature, seed=seed
        )
    save_picture(drawn.figure(), path)
    say_path("picture", path)


def _keep_augmentation(robustness: Robustness, path: Path) -> None:
    """Write the picture, and the numbers beside it."""
    from rung3.data.files import write_json

    save_picture(robustness.figure(), path)
    write_json(path.with_suffix(".json"), robustness.records())
    say(escape(str(robustness)))
    say_path("picture", path)


def strips_of_runs(
    kind: str,
    runs: Sequence[RunFolder],
    *,
    change: str | None = None,
    rows: Sequence[int] = range(4),
    n: int = 200,
    temperature: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """Compare the models of several runs, on the first run's test rows.

    Args:
        kind: `"composition"`, `"effectiveness"` or `"reversibility"`.
        runs: The folders.
        change: The cause that is set; by default, the image's first.
        rows: Which test rows are drawn.
        n: Number of test rows that errors are means over.
        temperature: Factor on a VAE's noise of observation.
        seed: Seed of the abductions.

    Raises:
        ValueError: If there is no such kind of picture, a run has no fitted model, or the runs'
            models do not fit the rows.
    """
    from rung3.evaluation.figures import composition, effectiveness, reversibility

    if kind not in AXIOMS:
        raise ValueError(f"{kind}: expected one of {', '.join(KINDS)}")
    if kind == "composition" and change is not None:
        raise ValueError(f"change={change!r}: a null intervention changes nothing")
    models = _models(runs)
    test, world = runs[0].test()
    if n < 1 or max(rows, default=0) >= test.n:
        raise ValueError(f"rows: n={n}, rows={list(rows)}; the test rows are 0 to {test.n - 1}")
    factual = test[: max(n, max(rows, default=0) + 1)]
    if kind == "composition":
        return composition(models, factual, shown=rows, temperature=temperature, seed=seed)
    if kind == "reversibility":
        return reversibility(
            models, factual, change, shown=rows, temperature=temperature, seed=seed
        )
    return effectiveness(
        models,
        factual,
        change,
        truth=_truth(world, factual, change),
        readers=_readers(runs[0], world),
        shown=rows,
        temperature=temperature,
        seed=seed,
    )


def interventions_of_run(
    runs: Sequence[RunFolder],
    *,
    change: str | None = None,
    rows: Sequence[int] = (0,),
    n: int = 200,
    seed: int = 0,
) -> Intervened:
    """Ask a run's model for its test rows under every intervention.

    Args:
        runs: The folder, one.
        change: Must not be given: every cause is set.
        rows: Which test rows are drawn.
        n: Number of test rows that the range of a cause is read from.
        seed: Seed of the abductions.

    Raises:
        ValueError: If there are several runs, or no such row.
    """
    from rung3.evaluation.intervened import interventions

    if len(runs) != 1 or change is not None:
        raise ValueError("interventions: every cause of one run is set; give one RUN, no --change")
    test, world = runs[0].test()
    if n < 1 or max(rows, default=0) >= test.n:
        raise ValueError(f"rows: n={n}, rows={list(rows)}; the test rows are 0 to {test.n - 1}")
    factual = test[: max(n, max(rows, default=0) + 1)]
    return interventions(
        runs[0].model(), factual, truth=_truth(world, factual, None), shown=rows, seed=seed
    )


def outside_of_run(runs: Sequence[RunFolder], *, change: str | None = None) -> Figure:
    """Draw the change outside the region that may change, from a run's report.

    Args:
        runs: The folder, one.
        change: Must not be given: every intervention of the report is drawn.

    Raises:
        ValueError: If there are several runs, or the report has no such maps.
    """
    from rung3.evaluation.report.report import Report

    if len(runs) != 1 or change is not None:
        raise ValueError("outside: every intervention of one run is drawn; one RUN, no --change")
    return Report.load(runs[0].path).outside()


def augmentation_of_run(
    runs: Sequence[RunFolder],
    label: str | None,
    change: str | None,
    *,
    temperature: float = 0.0,
    n: int = TESTED,
    seeds: int = 5,
    seed: int = 0,
) -> Robustness:
    """Compare ways to train classifiers on a run's training rows; its world must be known.

    Args:
        runs: The folder, one.
        label: What is predicted.
        change: The spurious variable, which is set by counterfactuals.
        temperature: Factor on a VAE's noise of observation.
        n: Rows of each environment.
        seeds: Trainings of each way.
        seed: Of all that is drawn.

    Raises:
        ValueError: If there are several runs, the label or the change is not given, or the world
            is not known.
    """
    from rung3.evaluation.tasks.robustness import compare_training
    from rung3.training.augmentation import Plan

    if len(runs) != 1 or label is None or change is None:
        raise ValueError("augmentation: give one RUN, --label and --change")
    model, splits = runs[0].model(), runs[0].study().splits()
    if splits.truth is None:
        raise ValueError("augmentation: needs a world that is known, to test in others like it")
    plan = Plan(change=change, independent_of=label, temperature=temperature)
    return compare_training(
        splits.truth, model, splits.train, label, plan, n=n, seeds=seeds, seed=seed, progress=True
    )


def _models(runs: Sequence[RunFolder]) -> dict[str, SCM]:
    """Return the runs' models by the names of their studies, or by folder where two agree."""
    models: dict[str, SCM] = {}
    for run in runs:
        name = run.study().name
        models[name if name not in models else str(run.path)] = run.model()
    return models


def _truth(world: SCM | None, rows: Rows, change: str | None) -> SCM | None:
    """Return the world, unless it does not know the counterfactuals of the rows."""
    from rung3.evaluation.figures import effectiveness

    if world is None:
        return None
    try:
        effectiveness({"truth": world}, rows[:2], change, shown=[0])
    except ValueError:
        return None
    return world


def _readers(run: RunFolder, world: SCM | None) -> Mapping[str, Reader]:
    """Return what reads causes off images: the world's measures, else the run's oracles."""
    from rung3.training.oracles.oracles import Oracles

    readers: dict[str, Reader] = {}
    if run.oracles_path.is_file():
        oracles = Oracles.load(run.oracles_path)
        readers |= {name: oracle.read for (_, name), oracle in oracles.items()}
    return readers | dict(world.measures if world is not None else {})
