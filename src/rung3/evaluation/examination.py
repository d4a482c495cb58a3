"""The examination of rows, batch by batch: every score of every row, under its path.

| path | score of a row |
|---|---|
| composition, outcome, mode, m | distance after m null interventions |
| reversibility, do, outcome, mode, m | distance after m times there and back |
| effectiveness, image, do, parent, mode | the oracle's error, or whether it is right |
| measured, image, do, parent, mode | error of the parent as measured on the image |
| truth, do, variable, who, error | distance from the true counterfactual |
| spread, do, outcome | standard deviation over particles |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from rung3.evaluation import axioms
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.distances import distance, scale, unit
from rung3.evaluation.examples import Examples
from rung3.evaluation.oracles import Oracles
from rung3.evaluation.queries import Query, outcomes
from rung3.evaluation.scores import Scores, put
from rung3.evaluation.truth import NOTHING, Baseline, baseline_errors, errors, true_counterfactual
from rung3.rows import Rows
from rung3.seeding import stream
from rung3.variables import Discrete, Image

if TYPE_CHECKING:
    from rung3.scm import SCM

__all__ = ["FACTUAL", "KEPT", "LATENT", "OBSERVED", "TRUTH", "Examination", "Measure"]

Measure: TypeAlias = Callable[[Tensor], Tensor]
"""Values of a parent `(n,)`, measured on images `(n, C, H, W)`."""

KEPT, LATENT = "kept", "latent"
"""Modes: the noise of observation (a VAE's eps) kept as abducted; or prediction from z alone."""

FACTUAL, OBSERVED, TRUTH = "factual", "observed", "truth"
"""The real test images, as the floor of a score; the true counterfactual, in a known world."""


class Examination:
    """Collects the scores of rows, batch by batch.

    Args:
        model: The model.
        truth: The world, if known.
        oracles: Oracles by (image, parent).
        measures: Functions that measure a parent on images.
        baselines: Functions that give an image without a model.
        seed: Of the abductions.
    """

    def __init__(
        self,
        model: SCM,
        truth: SCM | None,
        oracles: Oracles,
        measures: Mapping[str, Measure],
        baselines: Mapping[str, Baseline],
        seed: int,
    ) -> None:
        self.model = model
        self.truth = truth
        self.oracles = oracles
        self.measures = measures
        self.baselines = baselines
        self.generator = stream(seed, "abduction")
        self.outcomes = outcomes(model)
        self.scores = Scores()
        self.examples = Examples()
        self.refused: dict[str, str] = {}
        self.notes: dict[str, Any] = {}
        self.seconds: list[tuple[int, float]] = []
        noisy = any(model.mechanisms[name].observation_noise for name in self.outcomes)
        self.modes = {KEPT: 1.0, LATENT: 0.0} if noisy else {KEPT: 1.0}

    def factual(self, rows: Rows) -> None:
        """The floor: errors of oracles and measures on the real test images."""
        self._effectiveness(FACTUAL, OBSERVED, rows)

    def null(self, rows: Rows) -> None:
        """Composition, of every outcome."""
        for name in self.outcomes:
            for mode, temperature in self.modes.items():
                found = axioms.composition(
                    self.model, rows, name, temperature=temperature, seed=self.generator
                )
                for m, scores in found.items():
                    self._add(("composition", name, mode, str(m)), name, scores)

    def ask(self, query: Query, do: Mapping[str, Any], rows: Rows, particles: int) -> None:
        """One intervention: effectiveness, truth, reversibility, spread."""
        true = self._true(query, do, rows)
        answers = {}
        for mode, temperature in self.modes.items():
            answers[mode] = self._timed(rows, do, temperature)
            self._effectiveness(query.label, mode, answers[mode])
            if isinstance(true, Rows):
                self._against(query, mode, answers[mode], true)
            self._reverse(query, do, rows, mode, temperature)
        self._note(query, answers[KEPT])
        self._spread(query, do, rows, particles)
        if isinstance(true, Rows):
            self._effectiveness(query.label, TRUTH, true)
            self._baselines(query, rows, true)
        known = true if isinstance(true, Rows) else None
        self.examples.add(query.label, rows, answers, known)

    def summary(self, bootstrap: Bootstrap) -> dict[str, Any]:
        """All numbers, as nested dicts."""
        metrics = self.scores.summary(bootstrap)
        for path in [path for path in self.scores if path[0] == "truth"]:
            nothing = self.scores[(*path[:3], NOTHING, "error")]
            skill = bootstrap.skill(self.scores[path], nothing)
            put(metrics, (*path[:-1], "skill"), skill)
        for label, reason in self.refused.items():
            put(metrics, ("truth", label), {"no truth": reason})
        metrics["provenance"] = self.notes
        timed = self.seconds[1:] or self.seconds
        rows, seconds = (sum(part) for part in zip(*timed, strict=True)) if timed else (0, 0.0)
        metrics["speed"] = {"per second": rows / seconds if seconds else None}
        return metrics

    def _add(self, path: tuple[str, ...], name: str, scores: Tensor) -> None:
        self.scores.add(path, scores, unit(self.model.variables[name]))

    def _timed(self, rows: Rows, do: Mapping[str, Any], temperature: float) -> Rows:
        _wait(self.model.device)
        start = time.perf_counter()
        found = self.model.counterfactual(rows, do, seed=self.generator, temperature=temperature)
        _wait(self.model.device)
        self.seconds.append((rows.n, time.perf_counter() - start))
        return found

    def _effectiveness(self, label: str, mode: str, rows: Rows) -> None:
        """Errors of oracles, and of measures, against the values that the image was made for."""
        for (image, name), oracle in self.oracles.items():
            error = oracle.error(rows[image], rows[name])
            if isinstance(oracle.target, Discrete):
                score, of = 1 - error, "accuracy"
            else:
                score, of = error, unit(oracle.target)
            self.scores.add(("effectiveness", image, label, name, mode), score, of)
        for image in self.outcomes:
            for name in self.model.graph.parents(image):
                if name in self.measures and isinstance(self.model.variables[image], Image):
                    measured = self.measures[name](rows[image]).to(rows[name].device)
                    error = distance(self.model.variables[name], measured, rows[name])
                    self._add(("measured", image, label, name, mode), name, error)

    def _true(self, query: Query, do: Mapping[str, Any], rows: Rows) -> Rows | str | None:
        if self.truth is None or query.label in self.refused:
            return None
        found = true_counterfactual(self.truth, rows, do, self.model.device)
        if isinstance(found, str):
            self.refused[query.label] = found
            self.examples.forget_truth(query.label)
            self.scores.discard(
                lambda path: (
                    path[:2] == ("truth", query.label)
                    or (query.label in path and path[-1] == TRUTH)
                )
            )
        return found

    def _against(self, query: Query, who: str, found: Rows, true: Rows) -> None:
        names = query.affected(self.model)
        for name, error in errors(self.model, found, true, names).items():
            self._add(("truth", query.label, name, who, "error"), name, error)

    def _baselines(self, query: Query, rows: Rows, true: Rows) -> None:
        self._against(query, NOTHING, rows, true)
        for image in query.affected(self.model):
            if isinstance(self.model.variables[image], Image):
                found = baseline_errors(self.model, rows, true, image, self.baselines)
                for who, error in found.items():
                    self._add(("truth", query.label, image, who, "error"), image, error)

    def _reverse(
        self, query: Query, do: Mapping[str, Any], rows: Rows, mode: str, temperature: float
    ) -> None:
        names = [name for name in query.affected(self.model) if name in self.outcomes]
        found = axioms.reversibility(
            self.model, rows, do, names, temperature=temperature, seed=self.generator
        )
        for m, by_name in found.items():
            for name, scores in by_name.items():
                self._add(("reversibility", query.label, name, mode, str(m)), name, scores)

    def _spread(self, query: Query, do: Mapping[str, Any], rows: Rows, particles: int) -> None:
        """Standard deviation of every pixel over draws of the noise, averaged over the image."""
        if particles < 2:
            return
        found = self.model.counterfactual(rows, do, particles=particles, seed=self.generator)
        for name in query.affected(self.model):
            variable = self.model.variables[name]
            if name in self.outcomes and not isinstance(variable, Discrete):
                deviation = found[name].std(0).reshape(rows.n, -1).mean(1)
                self._add(("spread", query.label, name), name, scale(variable) * deviation)

    def _note(self, query: Query, found: Rows) -> None:
        """What the answer rests on, in the words of its provenance."""
        if query.label not in self.notes:
            self.notes[query.label] = str(found.explain()).splitlines()


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
