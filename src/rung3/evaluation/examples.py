"""A few rows that are kept as pictures: what-ifs of each intervention, and sweeps of each cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from rung3.data.abductions import Abductions
from rung3.data.provenance import Provenance, Status
from rung3.data.rows import Rows
from rung3.data.variables import Discrete, Image

if TYPE_CHECKING:
    from rung3.scm.query import Query
    from rung3.scm.scm import SCM

__all__ = ["Example", "Examples", "Sweep"]

SHOWN = 10
"""Number of test rows shown under each intervention."""

CHANGED = 0.25
"""Standard deviations by which a value must move for a picture to show it."""

OUTSIDE = "outside"
"""Stands for whose values they are, where they are maps of change."""

STEPS = 9
"""Number of values of a sweep."""


@dataclass
class Example:
    """Some test rows under one intervention, on the CPU.

    Attributes:
        factual: The rows as they were.
        answers: The model's answers, by mode.
        truth: The true counterfactuals, where they are known.
    """

    factual: Rows
    answers: Mapping[str, Rows]
    truth: Rows | None

    @property
    def status(self) -> Mapping[str, Status]:
        """Whether each variable was observed, intervened, propagated or held."""
        return self.answers["kept"].explain().status

    def parts(self) -> dict[tuple[str, ...], Rows]:
        """Return all rows: `factual`, `answers` by mode, `truth`."""
        parts: dict[tuple[str, ...], Rows] = {("factual",): self.factual}
        parts |= {("answers", mode): rows for mode, rows in self.answers.items()}
        return parts if self.truth is None else {**parts, ("truth",): self.truth}


@dataclass
class Sweep:
    """One variable set to each value of its range, in a few rows.

    Attributes:
        name: The variable.
        values: What it is set to, `(v,)`.
        factual: The rows as they were.
        answers: The model's answer for each value.
    """

    name: str
    values: Tensor
    factual: Rows
    answers: list[Rows]


@dataclass
class Examples:
    """The examples that the report shows.

    Attributes:
        queries: An `Example` of each intervention.
        sweeps: A `Sweep` of each scalar that was intervened on, where there are images.
        outside: By intervention, image and who answers, the map of its change where nothing should
            change: see `rung3.evaluation.outside`.
    """

    queries: dict[str, Example] = field(default_factory=dict)
    sweeps: list[Sweep] = field(default_factory=list)
    outside: dict[str, dict[str, dict[str, Tensor]]] = field(default_factory=dict)

    def add(self, label: str, rows: Rows, answers: Mapping[str, Rows], truth: Rows | None) -> None:
        """Keep some rows of the first batch: the first of those in which something is set."""
        if label in self.queries:
            return
        at = _telling(rows, answers["kept"])
        self.queries[label] = Example(
            rows.select(at).to("cpu"),
            {mode: answer.select(at).to("cpu") for mode, answer in answers.items()},
            truth and truth.select(at).to("cpu"),
        )

    def forget_truth(self, label: str) -> None:
        """Drop the truth of an intervention that a later batch had none for."""
        if label in self.queries:
            self.queries[label].truth = None

    def tensors(self) -> dict[tuple[str, ...], Tensor]:
        """Return values by label, `factual`, mode or `truth`, and variable; without the sweeps."""
        values = {
            (label, *answerer, name): value
            for label, example in self.queries.items()
            for answerer, rows in example.parts().items()
            for name, value in rows.items()
        }
        return values | {
            (label, OUTSIDE, answerer, image): part
            for label, by_image in self.outside.items()
            for image, maps in by_image.items()
            for answerer, part in maps.items()
        }

    def status(self) -> dict[str, dict[str, str]]:
        """Return by label and variable whether it was observed, intervened, propagated or held."""
        return {label: dict(example.status) for label, example in self.queries.items()}

    @classmethod
    def restore(
        cls, tensors: Mapping[tuple[str, ...], Tensor], status: Mapping[str, Mapping[str, Any]]
    ) -> Self:
        """Restore the examples that `tensors` and `status` describe."""
        rows: dict[tuple[str, ...], dict[str, Tensor]] = {}
        for (*answerer, name), value in tensors.items():
            rows.setdefault(tuple(answerer), {})[name] = value
        examples = cls()
        for (label, *answerer), values in rows.items():
            for image, part in values.items() if answerer[:1] == [OUTSIDE] else ():
                by_image = examples.outside.setdefault(label, {})
                by_image.setdefault(image, {})[answerer[1]] = part
        for label, record in status.items():
            provenance = Provenance("imagining", record)
            answers = {
                answerer[-1]: Rows(values, provenance=provenance)
                for answerer, values in rows.items()
                if answerer[:2] == (label, "answers")
            }
            true = rows.get((label, "truth"))
            examples.queries[label] = Example(
                Rows(rows[label, "factual"]), answers, None if true is None else Rows(true)
            )
        return examples

    def sweep(self, model: SCM, rows: Rows, queries: list[Query], shown: int = 4) -> None:
        """Ask for every value of each variable that was intervened on alone."""
        names = dict.fromkeys(name for q in queries if len(q.do) == 1 for name in q.do)
        factual = rows[:shown].to(model.device)
        factual.abductions = Abductions()
        for name in names:
            below = model.graph.descendants([name])
            if not any(isinstance(model.variables[k], Image) for k in below - {name}):
                continue
            values = _range(model.variables[name], rows[name])
            if values is not None:
                answers = [
                    model.counterfactual(factual, {name: value}, seed=0).to("cpu")
                    for value in values
                ]
                self.sweeps.append(Sweep(name, values, factual.to("cpu"), answers))


def _range(variable: Any, values: Tensor) -> Tensor | None:
    """Return categories, or values from the 2 % to the 98 % quantile; none for arrays."""
    if isinstance(variable, Discrete):
        return torch.arange(variable.classes)[:12]
    if variable.shape:
        return None
    low, high = torch.quantile(values[:100_000].double(), torch.tensor([0.02, 0.98]).double())
    return torch.linspace(float(low), float(high), STEPS)


def _telling(rows: Rows, answer: Rows) -> Tensor:
    """Return places of rows: those where a value that was set is another one, then the others."""
    status = answer.explain().status
    unchanged = torch.ones(rows.n, dtype=torch.bool, device=next(iter(rows.values())).device)
    for name in (name for name, what in status.items() if what == "intervened"):
        before, after = (part[name].double().reshape(rows.n, -1) for part in (rows, answer))
        least = CHANGED * float(before.std(0, correction=0).mean())
        unchanged &= (after - before).abs().amax(1) <= least
    order = unchanged.int().sort(stable=True).indices[:SHOWN]
    return order.sort().values
