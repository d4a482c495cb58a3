"""The dry run of a study: what it would do, and whether its questions can be answered.

Nothing is trained. A few real steps of each mechanism are timed, so that the time of training can
be estimated: `epochs x steps an epoch x seconds a step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Continuous, Discrete, Variable
from rung3.evaluation.positivity import Positivity, positivity
from rung3.scm.query import Query
from rung3.scm.scm import SCM
from rung3.study.choosing import chooses
from rung3.study.lengths import Short, duration, seconds_of, short_trainings
from rung3.study.preflight import preflight
from rung3.study.row_source import Splits
from rung3.study.study import Study
from rung3.study.unusual import unusual
from rung3.training.batches import Table
from rung3.training.counterfactual import CounterfactualObjective
from rung3.training.counterfactual.preparation import rehearsal, settable
from rung3.training.options import Options

__all__ = ["Check", "check"]

CALIBRATE = 2_000
"""Rows that the timed mechanisms take their scales from."""

LATE = 10**9
"""A step by which every schedule has come to its end."""

MOSTLY = 0.5
"""Share of targets outside the training data from which on they are not those of other rows."""

Line = Sequence[str]
Printed = tuple[str, list[str], list[Line]]


@dataclass(frozen=True)
class Check:
    """The outcome of a check: what a study would do.

    Attributes:
        model: The model, untrained.
        splits: The rows.
        positivity: How each intervention's targets lie in the training data, by its label.
        parameters: Number of parameters of each mechanism.
        seconds: Estimated time of training of each mechanism.
        objectives: What images are trained by, where it is not the likelihood alone.
        short: Trainings that are too short to learn from.
        idle: Interventions from which nothing follows.
        chosen: Whether mechanisms that are not named are chosen by the rows, when it is run.
    """

    model: SCM
    splits: Splits
    positivity: list[tuple[str, Positivity]]
    parameters: dict[str, int]
    seconds: dict[str, float]
    objectives: dict[str, CounterfactualObjective]
    short: list[Short]
    idle: list[str]
    chosen: bool = False

    def warnings(self) -> list[str]:
        """Return what will not come to much, each with what to set and how long that takes."""
        known = self.seconds
        causes = ", ".join(name for name in self.model.variables if self.model.graph.children(name))
        return [
            *(
                short.text(known[short.name] * short.factor if short.name in known else None)
                for short in self.short
            ),
            *(
                f"{label}: nothing follows from it in the graph, and all else stays; set a cause "
                f"instead: {causes}"
                for label in self.idle
            ),
            *(
                f"{label}: {one.outside:.0%} of its targets lie outside the training data "
                f"({one.variable}: {one.seen}), where a model only guesses; set others"
                for label, one in self.positivity
                if one.outside > MOSTLY
            ),
            *unusual(self.model.variables, self.splits.train, self.splits.test),
        ]

    def tables(self) -> list[Printed]:
        """Return title, columns and lines of each table to print."""
        aims = [self._objectives()] if self.objectives else []
        return [self._variables(), self._mechanisms(), *aims, self._rows(), self._positivity()]

    def _variables(self) -> Printed:
        columns = ["variable", "kind", "unit", "support", "in training", "parents"]
        graph, train = self.model.graph, self.splits.train
        lines: list[Line] = [
            (
                name,
                variable.kind,
                variable.unit,
                _support(variable),
                _seen(variable, train[name]),
                ", ".join(graph.parents(name)),
            )
            for name, variable in self.model.variables.items()
        ]
        return "variables", columns, lines

    def _mechanisms(self) -> Printed:
        columns = ["variable", "mechanism", "chosen", "abduction", "parameters", "training"]
        lines: list[Line] = [
            (
                name,
                mechanism.describe(),
                self._chosen(name),
                mechanism.abduction,
                f"{self.parameters[name]:,}",
                duration(self.seconds[name]),
            )
            for name, mechanism in self.model.mechanisms.items()
        ]
        total = f"{sum(self.parameters.values()):,}"
        lines.append(("all", "", "", "", total, "about " + duration(sum(self.seconds.values()))))
        return "mechanisms", columns, lines

    def _chosen(self, name: str) -> str:
        if name not in self.model.defaults:
            return "by the study"
        return "default; others are tried" if self.chosen else "default of its kind"

    def _objectives(self) -> Printed:
        columns = ["variable", "objective", "likelihood", "set", "predictors of"]
        lines: list[Line] = [
            (
                name,
                repr(aim),
                "held, in a second training" if aim.weight is None else "trained beside it",
                ", ".join(settable(aim, self.model, name)),
                ", ".join(rehearsal(aim, self.model, self.model.mechanisms[name]).read),
            )
            for name, aim in self.objectives.items()
        ]
        return "objectives", columns, lines

    def _rows(self) -> Printed:
        train, validation, test, truth = self.splits
        known = "known" if truth is not None else "not known"
        columns = ["training", "validation", "test", "true counterfactuals"]
        counts = [str(train.n), str(validation.n), str(test.n), known]
        if left_out := self.splits.left_out:
            columns.append("left out")
            counts.append("\n".join(f"{count}: {reason}" for reason, count in left_out.items()))
        return "rows", columns, [counts]

    def _positivity(self) -> Printed:
        title = (
            "positivity: targets outside the training range, and farther from the training rows "
            "than 99 % of those are from each other"
        )
        columns = ["intervention", "for", "range seen", "outside", "far", "together with"]
        lines: list[Line] = [
            (
                label,
                one.outcome or "",
                one.seen,
                f"{one.outside:.1%}",
                f"{one.far:.1%}",
                ", ".join(one.jointly[1:]),
            )
            for label, one in self.positivity
        ]
        return title, columns, lines


def check(study: Study) -> Check:
    """Read a study's data, and look at everything that can be known before training.

    Args:
        study: The study.

    Raises:
        ValueError: If the data do not fit the variables, or an intervention is not possible.
    """
    model, splits = study.model(), study.splits()
    queries = preflight(study, model, splits)
    positive = [
        (q.label, p) for q, rows in queries for p in _positivity_of(q, model, splits.train, rows)
    ]
    seconds: dict[str, float] = {}
    objectives: dict[str, CounterfactualObjective] = {}
    for group in study.groups():
        for name in group.mechanisms:
            taken = _seconds(model, name, splits.train, group.options)
            seconds[name] = seconds.get(name, 0.0) + taken
            if "objective" in group.options:
                objectives[name] = group.options["objective"]
    parameters = {
        name: sum(p.numel() for p in mechanism.parameters())
        for name, mechanism in model.mechanisms.items()
    }
    chosen = chooses(study, model, splits.train)
    short = [] if chosen else list(short_trainings(study, model, splits.train.n))
    idle = [query.label for query, _ in queries if not query.affected(model)]
    return Check(model, splits, positive, parameters, seconds, objectives, short, idle, chosen)


def _positivity_of(query: Query, model: SCM, train: Rows, rows: Rows) -> list[Positivity]:
    return [p for k in query.do for p in positivity(model, train, rows, k, rows[k])]


def _seconds(model: SCM, name: str, train: Rows, options: dict[str, Any]) -> float:
    """Estimate the seconds of training one mechanism."""
    bound = model.mechanisms
    (mechanism,) = model.confounding.units({name: bound[name]}, bound).values()
    if mechanism.name != name:
        return 0.0  # trained as one with another variable, and counted there
    trained = [p for p in mechanism.parameters() if p.requires_grad]
    if not trained:
        return 0.0
    size = min(options.get("batch_size", Options.batch_size), train.n)
    epochs = options.get("epochs", Options.epochs)
    aim = options.get("objective")
    involved = [mechanism]
    if aim:
        loss = rehearsal(aim, model, bound[name])
        carriers: Any = loss.carriers
        involved += [*carriers]
    table = Table(train, involved)
    for one in involved:
        one.calibrate(*table[:CALIBRATE].of(one))
    batch = table[:size]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        cost = loss(mechanism, batch, LATE).total if aim else mechanism.loss(*batch.of(mechanism))
        cost.backward()
        optimizer.step()

    steps: int = epochs * max(1, train.n // size)
    return steps * seconds_of(step)


def _support(variable: Variable) -> str:
    match variable:
        case Continuous(lower=lower, upper=upper, circular=circular):
            ends = f"[{lower:g}, {upper:g})" if circular else f"[{lower:g}, {upper:g}]"
            return ends + (f"^{variable.dim}" if variable.dim else "")
        case Discrete(labels=labels, classes=classes):
            return ", ".join(labels) or f"0 to {classes - 1}"
        case _:
            return "x".join(map(str, variable.shape)) + ", [0, 1]"


def _seen(variable: Variable, value: Tensor) -> str:
    present = value[~variable.is_missing(value)]
    lacking = f", {len(value) - len(present)} missing" if len(present) < len(value) else ""
    if isinstance(variable, Discrete):
        counts = torch.bincount(present.long(), minlength=variable.classes)
        return f"{int((counts > 0).sum())} of {variable.classes}{lacking}"
    return f"{float(present.min()):.4g} to {float(present.max()):.4g}{lacking}"
