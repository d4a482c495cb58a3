"""The one pass over the rows: what a model is asked, and which measure sees the answers.

Every batch of rows is asked about each intervention once, with each factor on the noise of
observation; `rung3.evaluation.measures` say what becomes of the answers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.examples import Examples
from rung3.evaluation.measures.base import (
    FACTUAL,
    KEPT,
    UNGUIDED,
    Answers,
    Examination,
    Readings,
    read_images,
)
from rung3.evaluation.measures.truth import forget
from rung3.evaluation.scores import put
from rung3.scm.query import Query
from rung3.scm.truth import Truths, true_counterfactual

__all__ = ["Runner", "summarise"]


class Runner:
    """A pass that asks a model batch by batch, with one seed, and hands measures the answers.

    Args:
        exam: The model under examination, and what measures may use.
        truths: True counterfactuals of the world, if it is known.

    Attributes:
        examples: Rows that are kept as pictures.
        refused: By intervention, why the world does not know the truth of it.
        notes: By intervention, what the answers rest on.
        seconds: Number of rows, and how long their counterfactuals took.
        targets: By intervention and variable, the values that it was set to, batch by batch.
    """

    def __init__(self, exam: Examination, truths: Truths | None) -> None:
        self.exam = exam
        self.truths = truths
        self.examples = Examples()
        self.refused: dict[str, str] = {}
        self.notes: dict[str, Any] = {}
        self.seconds: list[tuple[int, float]] = []
        self.targets: dict[str, dict[str, list[Tensor]]] = {}

    def ask(
        self, rows: Rows, at: slice, queries: Sequence[Query], readings: Readings, known: bool
    ) -> None:
        """Ask everything of one batch of rows.

        Args:
            rows: The factual rows.
            at: Their place among all that are asked.
            queries: The interventions.
            readings: What the oracles read in their images.
            known: Whether they are compared with the truth.
        """
        exam = self.exam
        if exam.first:
            for measure in exam.measures:
                if measure.on_factual:
                    measure.on_factual(exam, rows, at, known, readings)
        for measure in exam.measures:
            if measure.on_null:
                measure.on_null(exam, rows)
        for measure in exam.measures:
            if measure.on_pairs:
                measure.on_pairs(exam, queries, at, rows)
        for query in queries:
            do = query.at(at, exam.model.device)
            true = self._true(query, do, rows) if known else None
            answers = Answers(query, at, do, rows, known, true, readings={FACTUAL: readings})
            self._answer(answers, timed=query is queries[0])

    def _answer(self, answers: Answers, timed: bool) -> None:
        """Ask for one intervention in every mode, then for draws, and have all of it measured."""
        exam, query = self.exam, answers.query
        device, batch_size = exam.model.device, exam.batch_size
        for mode, temperature, options in self._modes():
            ask = self._timed if timed and mode == KEPT else self._counterfactual
            answer = ask(answers, answers.rows, temperature, options)
            answers.by_mode[mode] = answer
            answers.readings[mode] = read_images(exam.oracles, answer, device, batch_size)
            for measure in exam.measures:
                if measure.on_answer:
                    measure.on_answer(exam, answers, mode)
        self._note(query, answers.by_mode[KEPT])
        targets = self.targets.setdefault(query.label, {name: [] for name in query.do})
        for name in query.do:
            targets[name].append(answers.by_mode[KEPT][name].cpu())
        if exam.particles > 1 and self._needs_draws(answers):
            answers.draws = exam.model.counterfactual(
                answers.rows,
                answers.do,
                hold=query.hold,
                particles=exam.particles,
                seed=exam.generator,
            )
        self.examples.add(query.label, answers.rows, answers.by_mode, answers.true)
        for measure in exam.measures:
            if measure.on_answers:
                measure.on_answers(exam, answers)

    def _modes(self) -> Iterator[tuple[str, float, dict[str, Any]]]:
        """Yield modes of answers, each with its temperature and options of the query.

        A mechanism that guides by itself is asked without guidance too: what does it change?
        """
        for mode, temperature in self.exam.modes.items():
            yield mode, temperature, {}
        if any(mechanism.is_guided for mechanism in self.exam.model.mechanisms.values()):
            yield UNGUIDED, 1.0, {"guidance": 1.0}

    def _needs_draws(self, answers: Answers) -> bool:
        """Return whether a measure needs answers to several draws of the noise."""
        needs = {measure.draws for measure in self.exam.measures}
        return "always" in needs or ("with truth" in needs and answers.true is not None)

    def _timed(
        self, answers: Answers, rows: Rows, temperature: float, options: Mapping[str, Any]
    ) -> Rows:
        """Ask of rows that keep no noise, so that the time is that of a whole counterfactual."""
        device = self.exam.model.device
        _wait(device)
        start = time.perf_counter()
        answer = self._counterfactual(answers, rows[:], temperature, options)
        _wait(device)
        self.seconds.append((rows.n, time.perf_counter() - start))
        return answer

    def _counterfactual(
        self, answers: Answers, rows: Rows, temperature: float, options: Mapping[str, Any]
    ) -> Rows:
        return self.exam.model.counterfactual(
            rows,
            answers.do,
            hold=answers.query.hold,
            seed=self.exam.generator,
            temperature=temperature,
            **options,
        )

    def _true(self, query: Query, do: Mapping[str, Any], rows: Rows) -> Rows | None:
        """Return the true counterfactual; once the world refuses, nothing, for all rows."""
        exam = self.exam
        if exam.truth is None or query.label in self.refused:
            return None
        device = exam.model.device
        true = true_counterfactual(exam.truth, rows, do, device, query.hold, self.truths)
        if isinstance(true, Rows):
            return true
        self.refused[query.label] = true
        self.examples.forget_truth(query.label)
        forget(exam.scores, query.label)
        return None

    def _note(self, query: Query, answer: Rows) -> None:
        """Keep the provenance of the answer, and which variables the intervention leaves alone."""
        if query.label not in self.notes:
            self.notes[query.label] = str(answer.explain()).splitlines()
            changed = {*query.do, *query.affected(self.exam.model)}
            unchanged = frozenset(self.exam.model.variables) - changed
            self.exam.untouched[query.label] = unchanged


def summarise(
    runners: Sequence[Runner],
    rows: Rows,
    queries: Sequence[Query],
    known: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Return all numbers; the first runner's scores become every row's means over the seeds.

    Args:
        runners: Of the same rows, one a seed.
        rows: All test rows, also those that were not asked.
        queries: The interventions, of the first seed.
        known: How many rows were compared with the truth, if it is known.
        bootstrap: For the intervals.

    Returns:
        Nested dicts: along each path `mean`, `low`, `high`, `unit`, and with several seeds their
        means as `by seed`; where there is no mean, `undefined` says why.
    """
    first, *others = runners
    exam = first.exam
    exam.scores, by_seed = exam.scores.averaged([other.exam.scores for other in others])
    metrics = exam.scores.summary(bootstrap)
    for measure in exam.measures:
        if measure.conclude:
            measure.conclude(exam, metrics, bootstrap)
    for path, means in by_seed.items() if others else ():
        put(metrics, (*path, "by seed"), means)
    for label, reason in first.refused.items():
        put(metrics, ("truth", label), {"no truth": reason})
    metrics["provenance"] = first.notes
    metrics["speed"] = {"per second": _speed(first.seconds)}
    for measure in exam.measures:
        if measure.compute:
            metrics |= measure.compute(exam, rows, queries, known, bootstrap)
    return metrics | {name: metrics.get(name, {}) for name in ("log_prob", "divergence")}


def _speed(seconds: Sequence[tuple[int, float]]) -> float | None:
    """Return rows a second; the first call, which warms up, counts only if it is the only one."""
    timed = seconds[1:] or seconds
    rows, duration = (sum(part) for part in zip(*timed, strict=True)) if timed else (0, 0.0)
    return rows / duration if duration else None


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
