"""The report of an effect from a table: the answer first, then what it rests on, on one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rung3.data.columns import say_gaps
from rung3.data.files import publish
from rung3.data.pictures import ACCENT, INK, png
from rung3.data.rows import Values, named
from rung3.data.seeding import Seed
from rung3.data.values import coded
from rung3.data.variables import Discrete
from rung3.effects.estimate import Estimate
from rung3.effects.tables import Effect, Refutation, refute
from rung3.effects.tables.balance import Balance, balance
from rung3.effects.tables.panels import panel
from rung3.evaluation.report.page import document, figure
from rung3.graph import CausalGraph, draw_graph, falsify
from rung3.graph.falsification import Falsification
from rung3.graph.given import as_graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EffectReport", "effect_report"]

SHOWN_TESTS = 8
"""Independencies of the graph on the page, those with the smallest p-values."""


@dataclass(frozen=True)
class EffectReport:
    """An effect, and whether it can be false.

    Attributes:
        refutation: The effect, and attempts to refute it.
        graph: The causal graph, if one was given.
        falsification: Tests of what the graph implies; `None` where they cannot be made.
        untested: Why.
        balance: How alike the arms are; `None` of a continuous treatment, or without adjustment.
    """

    refutation: Refutation
    graph: CausalGraph | None
    falsification: Falsification | None
    untested: str
    balance: Balance | None

    @property
    def effect(self) -> Effect:
        """The effect."""
        return self.refutation.effect

    def __str__(self) -> str:
        parts = [self.effect.answer, str(self.refutation)]
        if self.balance is not None:
            parts.append(str(self.balance))
        parts.append(self.untested if self.falsification is None else str(self.falsification))
        return "\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        return "\n".join(self._parts())

    def numbers(self) -> dict[str, Any]:
        """Return the numbers: nested dicts that JSON can hold."""
        estimate = self.effect
        named = {
            "effect": estimate.effect,
            "ratio": estimate.ratio,
            "odds ratio": estimate.odds_ratio,
        }
        return {
            "answer": estimate.answer,
            "estimates": {k: _numbers(v) for k, v in named.items() if v is not None},
            "groups": {k: _numbers(v) for k, v in estimate.groups.items()},
            "way": estimate.way,
            "how": estimate.how,
            "rows": estimate.n,
            "rows with gaps left out": estimate.gaps,
            "notes": list(estimate.notes),
            "checks": {
                check.name: {"passed": check.passed, "text": str(check)}
                for check in self.refutation.checks
            },
        }

    def pictures(self) -> dict[str, bytes]:
        """Draw PNG files by name."""
        drawn: dict[str, Figure] = {}
        if self.graph is not None:
            shown = [name for name in self.effect.adjusted if name in self.graph]
            drawn["graph"] = draw_graph(self.graph, do=[self.effect.treatment], given=shown)
        if self.balance is not None:
            drawn["balance"] = self.balance.love_plot()
            drawn["overlap"] = self.balance.overlap_plot()
        if self.effect.groups:
            drawn["groups"] = _forest(self.effect)
        if self.effect.curve is not None:
            drawn["curve"] = _curve(self.effect)
        if self.refutation.robustness is not None:
            drawn["hidden"] = self.refutation.robustness.figure()
        return {name: png(one) for name, one in drawn.items()}

    def save(self, folder: str | Path) -> Path:
        """Write `report.html` (self-contained), `effect.json` and the pictures as PNG files.

        Args:
            folder: Where to; made if it is not there.

        Returns:
            The path of `report.html`.
        """
        place = Path(folder)
        title = f"{self.effect.treatment} on {self.effect.outcome}"
        page = document(f"rung3: the effect of {title}", self._parts())
        numbers = json.dumps(self.numbers(), indent=2, ensure_ascii=False)
        contents = {f"{name}.png": picture for name, picture in self.pictures().items()}
        publish(place, {**contents, "effect.json": numbers.encode(), "report.html": page.encode()})
        return place / "report.html"

    def _parts(self) -> Iterator[str]:
        estimate, drawn = self.effect, self.pictures()

        def picture(name: str, text: str, kind: str = "") -> str:
            return figure(drawn[name], text, kind) if name in drawn else ""

        yield f"<h1>{escape(estimate.answer)}</h1>"
        rows = f"{estimate.n:,} rows{say_gaps(estimate.gaps)}"
        yield f'<p class="soft">{escape(f"{estimate.how}; {rows}")}</p>'
        yield _table(_estimates(estimate))
        yield "".join(f"<p>{escape(note)}</p>" for note in estimate.notes)
        yield picture("curve", f"Mean {estimate.outcome} by {estimate.treatment}, with a 95 % band")
        yield picture("groups", "The effect in each group")
        yield "<h2>What it rests on</h2>"
        yield picture("graph", "The causal graph; what is adjusted for is bold", "graph")
        yield from self._tests()
        if self.balance is not None:
            yield "<h2>Can the arms be compared?</h2>"
            yield picture("balance", "Standardised differences between the arms")
            yield picture("overlap", "Estimated probabilities of the treatment in both arms")
        yield "<h2>Can it be false?</h2>"
        yield _list(map(str, self.refutation.checks))
        yield "<h2>A cause that nobody measured</h2>"
        yield f"<p>{escape(str(self.refutation.e_value))}</p>"
        if self.refutation.robustness is not None:
            yield _list(str(self.refutation.robustness).split("\n"))
            yield picture("hidden", "The effect that a hidden cause would leave")

    def _tests(self) -> Iterator[str]:
        if self.falsification is None:
            yield f"<p>{escape(self.untested)}</p>"
            return
        yield _list(str(self.falsification).split("\n")[: SHOWN_TESTS + 1])


def effect_report(
    table: Values,
    treatment: str,
    outcome: str,
    *,
    graph: Any = None,
    seed: Seed = 0,
    **options: Any,
) -> EffectReport:
    """Estimate an effect from a table, try to refute it, and report both.

    Args:
        table: The table, as `rung3.effect` takes it.
        treatment: Name of the treatment.
        outcome: Name of the outcome.
        graph: The causal graph; what it implies is tested, where the table has its columns.
        seed: Of what is drawn.
        options: Those of `rung3.effects.tables.refute`, and of `rung3.effect`.

    Raises:
        ValueError: As `rung3.effect`.

    Example:
        >>> from rung3 import worlds
        >>> rows = worlds.kidney_stones().sample(700, seed=0)
        >>> report = effect_report(rows, "treatment", "recovery",
        ...     graph="size -> treatment; {size treatment} -> recovery", repeats=2)
        >>> report.effect.adjusted, report.balance.balanced
        (('size',), True)
    """
    causal = None if graph is None else as_graph(graph)
    refutation = refute(table, treatment, outcome, graph=causal, seed=seed, **options)
    falsification, untested = _falsified(causal, table)
    return EffectReport(refutation, causal, falsification, untested, _balance(refutation, options))


def _falsified(graph: CausalGraph | None, table: Values) -> tuple[Falsification | None, str]:
    if graph is None:
        return None, "No graph was given: what is adjusted for was taken as it was said."
    columns = named(table)
    if lacking := [name for name in graph.nodes if name not in columns]:
        return None, f"The graph was not tested: the table has no column {lacking[0]!r}."
    try:
        return falsify(graph, {name: columns[name] for name in graph.nodes}), ""
    except ValueError as error:
        return None, f"The graph was not tested: {error}"


def _balance(refutation: Refutation, options: Mapping[str, Any]) -> Balance | None:
    effect, sample = refutation.effect, refutation.sample
    discrete = isinstance(sample.kinds[effect.treatment], Discrete)
    if not effect.adjusted or effect.way != "back-door" or not discrete:
        return None
    try:
        values = coded(options.get("do"), 1), coded(options.get("versus"), 0)
        return balance(sample, effect.adjusted, *values)
    except ValueError:  # a learner may manage where the logistic model does not
        return None


def _numbers(estimate: Estimate[float]) -> dict[str, float | None]:
    """Return an estimate as JSON holds it: an end that is infinite is none."""
    ends = {"value": estimate.effect, "low": estimate.low, "high": estimate.high}
    return {name: end if abs(end) < float("inf") else None for name, end in ends.items()}


def _estimates(estimate: Effect) -> list[tuple[str, str]]:
    named = {"effect": estimate.effect, "ratio": estimate.ratio, "odds ratio": estimate.odds_ratio}
    lines = [(name, str(one)) for name, one in named.items() if one is not None]
    if estimate.means is not None:
        sides = zip(estimate.compared, estimate.means, strict=True)
        lines += [
            (f"{estimate.outcome} under {estimate.treatment} = {k}", str(v)) for k, v in sides
        ]
    if estimate.strength is not None:
        lines.append(("first-stage F", f"{estimate.strength:.1f}"))
    return lines + [(name, str(one)) for name, one in estimate.groups.items()]


def _table(lines: list[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>\n" for k, v in lines)
    return f"<div class='scroll'><table><tbody>{rows}</tbody></table></div>"


def _list(lines: Any) -> str:
    return f"<ul>{''.join(f'<li>{escape(line.strip())}</li>' for line in lines)}</ul>"


def _forest(estimate: Effect) -> Figure:
    named = {"all": estimate.effect, **estimate.groups}
    figure, axes = panel(f"effect on {estimate.outcome}", lines=len(named))
    for place, one in enumerate(reversed(named.values())):
        axes.plot([one.low, one.high], [place, place], color=INK, linewidth=1.2)
        axes.plot(one.effect, place, "o", color=ACCENT)
    axes.axvline(0, color=INK, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(named)), list(reversed(named)))
    return figure


def _curve(estimate: Effect) -> Figure:
    assert estimate.curve is not None
    doses, means = estimate.curve.doses, estimate.curve.means
    figure, axes = panel(estimate.treatment, f"mean {estimate.outcome}")
    band = [one.low for one in means], [one.high for one in means]
    axes.fill_between(doses, *band, color=ACCENT, alpha=0.2, linewidth=0)
    axes.plot(doses, [one.effect for one in means], color=ACCENT)
    return figure
