"""The command `rung3 effect`: an average effect from a table and a graph."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from rung3.cli.arguments import Seed
from rung3.cli.columns import read_columns
from rung3.cli.console import say, say_path
from rung3.cli.graph import read_graph

__all__ = ["effect"]


def effect(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A file, .csv or .parquet.")],
    graph: Annotated[
        str, typer.Argument(metavar="GRAPH", help='Text such as "z -> x; {z x} -> y", or a study.')
    ],
    treatment: Annotated[str, typer.Argument(metavar="TREATMENT", help="Column of the cause.")],
    outcome: Annotated[str, typer.Argument(metavar="OUTCOME", help="Column of the outcome.")],
    do: Annotated[
        str | None, typer.Option(metavar="VALUE", help="What the treatment is set to.")
    ] = None,
    versus: Annotated[
        str | None, typer.Option(metavar="VALUE", help="What that is compared with.")
    ] = None,
    estimand: Annotated[str, typer.Option(help="Whose effect: ATE, ATT or ATU.")] = "ATE",
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="A column whose groups are compared, too.")
    ] = None,
    adjust: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Adjust for this; it is checked.")
    ] = None,
    instrument: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Use this instrument.")
    ] = None,
    method: Annotated[str, typer.Option(help="standardise, ipw or aipw.")] = "aipw",
    event: Annotated[
        str | None, typer.Option(metavar="VALUE", help="A value of the outcome to count.")
    ] = None,
    degree: Annotated[int, typer.Option(help="Degree of the models in numbers.", min=1)] = 1,
    weights: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of survey weights.")
    ] = None,
    clusters: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of subjects that have several rows.")
    ] = None,
    observed: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For a time: column that is 1 if its end was observed."),
    ] = None,
    horizon: Annotated[
        float | None,
        typer.Option(metavar="TIME", help="For a time: horizon up to which means are taken."),
    ] = None,
    number: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Read the whole numbers of this column as amounts."),
    ] = None,
    missing: Annotated[
        str, typer.Option(help="How to treat rows with gaps: complete (leave out) or weight.")
    ] = "complete",
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Try to refute the effect, and write a page there."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Estimate an average effect from a table, in a way that the causal graph allows."""
    from rung3.data.variables import Continuous
    from rung3.effects.tables import effect as estimate

    rows = read_columns(table)
    options: dict[str, Any] = {
        "do": _value(do),
        "versus": _value(versus),
        "adjust": adjust,
        "graph": read_graph(graph)[0],
        "instrument": instrument,
        "estimand": estimand,
        "by": by,
        "method": method,
        "event": _value(event),
        "degree": degree,
        "weights": weights,
        "clusters": clusters,
        "observed": observed,
        "horizon": horizon,
        "missing": missing,
        "variables": {name: Continuous() for name in number or ()},
        "level": level,
    }
    result = estimate(rows, treatment, outcome, seed=seed, **options)
    say(f"[bold]{escape(result.answer)}[/]")
    say(escape(str(result)))
    for name, ratio in (("ratio", result.ratio), ("odds ratio", result.odds_ratio)):
        if ratio is not None:
            say(f"{name}: {escape(str(ratio))}")
    if result.curve is not None:
        say(escape(f"{outcome} at doses of {treatment}:\n{result.curve}"))
    if report is not None:
        from rung3.evaluation import effect_report

        options["variables"] |= result.kinds  # about which nothing needs to be said again
        page = effect_report(rows, treatment, outcome, seed=seed, **options)
        for check in (*page.refutation.checks, page.refutation.e_value):
            say(escape(str(check)))
        say_path("report", page.save(report))


def _value(text: str | None) -> Any:
    """Return what a value on the command line is: a number, or text."""
    if text is None:
        return None
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
