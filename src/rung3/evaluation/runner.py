"""The one pass over the rows: what a model is asked, and which measure sees the answers.

Every batch of rows is asked about each intervention once, with each factor on the noise of
observation; `rung3.evaluation.measures` say what becomes of the answers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from rung3.data.cache import Truths
from rung3.data.rows import Rows
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.examples import Examples
from rung3.evaluation.measures import registry
from rung3.evaluation.measures.base import FACTUAL, KEPT, Asked, Examination, Measure, Sight, look
from rung3.evaluation.measures.truth import forget, true_counterfactual
from rung3.evaluation.scores import put
from rung3.scm.query import Query

__all__ = ["Runner", "summarise"]


class Runner:
    """Asks a model batch by batch, with one seed, and hands the answers to the measures.

    Args:
        seen: The model under examination, and what measures may use.
        truths: True counterfactuals of the world, if it is known.

    Attributes:
        examples: Rows that are kept as pictures.
        refused: By intervention, why the world does not know the truth of it.
        notes: By intervention, what the answers rest on.
        seconds: Number of rows, and how long their counterfactuals took.
    """

    def __init__(self, seen: Examination, truths: Truths | None) -> None:
        self.seen = seen
        self.truths = truths
        self.measures = [m for m in registry.MEASURES if m.always or m.name in seen.wanted]
        self.examples = Examples()
        self.refused: dict[str, str] = {}
        self.notes: dict[str, Any] = {}
        self.seconds: list[tuple[int, float]] = []

    def ask(
        self, rows: Rows, at: slice, queries: Sequence[Query], sight: Sight, known: bool
    ) -> None:
        """Ask everything of one batch of rows.

        Args:
            rows: The factual rows.
            at: Their place among all that are asked.
            queries: The interventions.
            sight: What the oracles see in their images.
            known: Whether they are compared with the truth.
        """
        seen = self.seen
        if seen.first:
            for measure in self.measures:
                if measure.factual:
                    measure.factual(seen, rows, at, known, sight)
        for measure in self.measures:
            if measure.null:
                measure.null(seen, rows)
        for measure in self.measures:
            if measure.pairs:
                measure.pairs(seen, queries, at, rows)
        for query in queries:
            do = query.at(at, seen.model.device)
            true = self._true(query, do, rows) if known else None
            asked = Asked(query, at, do, rows, known, true, sights={FACTUAL: sight})
            self._answer(asked)

    def _answer(self, asked: Asked) -> None:
        """Ask for one intervention in every mode, then for draws, and have all of it measured."""
        seen, query = self.seen, asked.query
        for mode, temperature in seen.modes.items():
            answer = self._timed(asked, temperature)
            asked.answers[mode] = answer
            asked.sights[mode] = look(seen.oracles, answer, seen.model.device, seen.batch_size)
            for measure in self.measures:
                if measure.answered:
                    measure.answered(seen, asked, mode)
        self._note(query, asked.answers[KEPT])
        if seen.particles > 1 and (
            "spread" in seen.wanted or (asked.true is not None and "calibration" in seen.wanted)
        ):
            asked.draws = seen.model.counterfactual(
                asked.rows,
                asked.do,
                hold=query.hold,
                particles=seen.particles,
                seed=seen.generator,
            )
        self.examples.add(query.label, asked.rows, asked.answers, asked.true)
        for measure in self.measures:
            if measure.asked:
                measure.asked(seen, asked)

    def _timed(self, asked: Asked, temperature: float) -> Rows:
        device = self.seen.model.device
        _wait(device)
        start = time.perf_counter()
        answer = self.seen.model.counterfactual(
            asked.rows,
            asked.do,
            hold=asked.query.hold,
            seed=self.seen.generator,
            temperature=temperature,
        )
        _wait(device)
        self.seconds.append((asked.rows.n, time.perf_counter() - start))
        return answer

    def _true(self, query: Query, do: Mapping[str, Any], rows: Rows) -> Rows | None:
        """Return what would really have been; once the world refuses, nothing, for all rows."""
        seen = self.seen
        if seen.truth is None or query.label in self.refused:
            return None
        device = seen.model.device
        true = true_counterfactual(seen.truth, rows, do, device, query.hold, self.truths)
        if isinstance(true, Rows):
            return true
        self.refused[query.label] = true
        self.examples.forget_truth(query.label)
        forget(seen.scores, query.label)
        return None

    def _note(self, query: Query, answer: Rows) -> None:
        """Keep what the answer rests on, in the words of its provenance."""
        if query.label not in self.notes:
            self.notes[query.label] = str(answer.explain()).splitlines()
            changed = {*query.do, *query.affected(self.seen.model)}
            unchanged = frozenset(self.seen.model.variables) - changed
            self.seen.untouched[query.label] = unchanged


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
    seen, measures = first.seen, first.measures
    seen.scores, by_seed = seen.scores.averaged([other.seen.scores for other in others])
    metrics = seen.scores.summary(bootstrap)
    for measure in measures:
        if measure.conclude:
            measure.conclude(seen, metrics, bootstrap)
    for path, means in by_seed.items() if others else ():
        put(metrics, (*path, "by seed"), means)
    for label, reason in first.refused.items():
        put(metrics, ("truth", label), {"no truth": reason})
    metrics["provenance"] = first.notes
    metrics["speed"] = {"per second": _speed(first.seconds)}
    return metrics | _computed(measures, seen, rows, queries, known, bootstrap)


def _computed(
    measures: Iterable[Measure],
    seen: Examination,
    rows: Rows,
    queries: Sequence[Query],
    known: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Return what is measured of sets of rows, and of the model."""
    numbers: dict[str, Any] = {}
    for measure in measures:
        if measure.compute:
            numbers |= measure.compute(seen, rows, queries, known, bootstrap)
    return numbers


def _speed(seconds: Sequence[tuple[int, float]]) -> float | None:
    """Return rows a second; the first call, which warms up, counts only if it is the only one."""
    timed = seconds[1:] or seconds
    rows, duration = (sum(part) for part in zip(*timed, strict=True)) if timed else (0, 0.0)
    return rows / duration if duration else None


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
