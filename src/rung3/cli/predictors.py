"""The commands `rung3 explain` and `rung3 audit`: a predictor of your own in a run's model."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from rung3.cli.arguments import Out, Row, RunPath, Seed
from rung3.cli.console import save_picture, say, say_path

if TYPE_CHECKING:
    from rung3.data.rows import Rows
    from rung3.scm.scm import SCM
    from rung3.study.folder import RunFolder

__all__ = ["Inputs", "Outcome", "audit", "explain", "load_predictor", "one_or_several"]

Named = Annotated[
    str,
    typer.Option(
        "--predictor",
        metavar="MODULE:NAME",
        help="A callable or torch module in a Python file here, such as models:classifier.",
    ),
]

Inputs = Annotated[
    list[str] | None,
    typer.Option(help="A variable that it reads; by default, those that its arguments name."),
]

Outcome = Annotated[str | None, typer.Option(help="The variable that it predicts.")]


def explain(
    folder: RunPath,
    predictor: Named,
    row: Row = 0,
    do: Annotated[
        list[str] | None,
        typer.Option(
            "--do", metavar="NAME=VALUE", help="An effect to ask for; by default, usual values."
        ),
    ] = None,
    inputs: Inputs = None,
    outcome: Outcome = None,
    particles: Annotated[int, typer.Option(help="Number of draws of the noise.", min=1)] = 16,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Explain a predictor's output on a row, and say what would change its decision."""
    from rung3.data.expressions import interventions
    from rung3.effects import explain as explained
    from rung3.study.folder import RunFolder

    function = load_predictor(predictor)
    run = RunFolder(folder)
    model = run.model()
    settings = {f"do({text})": interventions(text.split(";"), model.variables) for text in do or ()}
    why = explained(
        model,
        function,
        model.fill(run.test(row)[0])[0],
        do=settings or None,
        inputs=one_or_several(inputs),
        outcome=outcome,
        typical=_complete(run),
        particles=particles,
        seed=seed,
    )
    say(escape(str(why)))
    path = out or run.answers_path / f"explanation-row{row}.png"
    save_picture(why.figure(), path)
    say_path("picture", path)


def audit(
    folder: RunPath,
    predictor: Named,
    protected: Annotated[str, typer.Option(help="The protected variable, a category.")],
    outcome: Outcome = None,
    groups: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="The two values to compare, if there are more."),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(help="A single path to follow, such as 'sex -> dose -> prediction'."),
    ] = None,
    inputs: Inputs = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Split the disparity of a predictor into its direct, indirect and spurious parts."""
    from rung3.effects import audit as audited
    from rung3.study.folder import RunFolder

    function = load_predictor(predictor)
    run = RunFolder(folder)
    model = run.model()
    findings = audited(
        model,
        function,
        protected,
        outcome,
        rows=_complete(run),
        groups=_pair(model, protected, groups),
        paths=path or (),
        inputs=one_or_several(inputs),
        seed=seed,
    )
    say(escape(str(findings)))
    place = out or run.answers_path / f"audit-{protected}.png"
    save_picture(findings.figure(), place)
    say_path("picture", place)


def load_predictor(text: str) -> Callable[..., Any]:
    """Import a predictor from a module on the path, or in the folder where the command runs.

    Args:
        text: `module:name`.

    Raises:
        ValueError: If there is no such module or name, or it cannot be called.
    """
    module, colon, name = text.partition(":")
    if not (module and colon and name):
        raise ValueError(
            f"--predictor: expected module:name, such as models:classifier, got {text!r}"
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as fault:
        raise ValueError(
            f"--predictor: no module {fault.name!r} in {here} or on Python's path"
        ) from None
    except AttributeError:
        raise ValueError(f"--predictor: {module} has no {name!r}") from None
    if not callable(value):
        raise ValueError(f"--predictor: {text} is {value!r}, which cannot be called")
    predictor: Callable[..., Any] = value
    return predictor


def one_or_several(names: list[str] | None) -> str | list[str] | None:
    """Return one name alone, or several as a list."""
    return names[0] if names and len(names) == 1 else names


def _pair(model: SCM, name: str, groups: str | None) -> tuple[Any, Any] | None:
    """Return two values of a variable from text such as `a,b`."""
    from rung3.data.expressions import interventions

    if groups is None:
        return None
    texts = [part.strip() for part in groups.split(",")]
    if len(texts) != 2:
        raise ValueError(f"--groups: expected two values such as a,b, got {groups!r}")
    low, high = (interventions([f"{name}={text}"], model.variables)[name] for text in texts)
    return low, high


def _complete(run: RunFolder) -> Rows:
    """Return the test rows in which nothing is missing."""
    from rung3.scm.imputation import whole

    rows = run.test()[0]
    return rows[whole(run.model(), rows)]
