"""The examination of rows, batch by batch: every score of every row, under its path.

| path | score of a row |
|---|---|
| composition, outcome, mode, m | distance after m null interventions |
| reversibility, do, outcome, mode, m | distance after m times there and back |
| effectiveness, image, do, parent, mode | the oracle's error, or whether it is right |
| measured, image, do, parent, mode | error of the parent as measured on the image |
| truth, do, variable, who, error | distance from the true counterfactual |
| calibration, do, variable, crps | CRPS of the particles |
| spread, do, outcome | standard deviation over particles |

`rung3.evaluation.probes` adds the scores that a protocol asks for besides. A score that cannot be
had (the model answers NaN, a measure refuses) is flagged with the reason, and the rest goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from rung3.data.cache import Cache, Truths
from rung3.data.distances import distance, scale, unit
from rung3.data.rows import Rows
from rung3.data.seeding import stream
from rung3.data.variables import Discrete, Image
from rung3.evaluation.examples import Examples
from rung3.evaluation.measures import axioms
from rung3.evaluation.measures.calibration import crps
from rung3.evaluation.measures.truth import (
    NOTHING,
    Baseline,
    baseline_errors,
    errors,
    true_counterfactual,
)
from rung3.evaluation.plan import Query, outcomes
from rung3.evaluation.protocol import Protocol
from rung3.evaluation.scores import Path, Scores
from rung3.training.oracles.oracles import Oracles

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = [
    "AVERAGED",
    "FACTUAL",
    "KEPT",
    "LATENT",
    "OBSERVED",
    "SCALED",
    "TRUTH",
    "Asked",
    "Examination",
    "Measure",
]

Measure: TypeAlias = Callable[[Tensor], Tensor]
"""Values of a parent `(n,)`, measured on images `(n, C, H, W)`."""

KEPT, LATENT = "kept", "latent"
"""Modes: the noise of observation (a VAE's eps) kept as abducted; or prediction from z alone."""

SCALED = "eps x "
"""Other modes: that noise times a factor, which follows."""

AVERAGED = "averaged"
"""Compared with the truth too: the mean of the answers to several draws of the noise."""

FACTUAL, OBSERVED, TRUTH = "factual", "observed", "truth"
"""The real test images, as the floor of a score; the true counterfactual, in a known world."""


class Seen(NamedTuple):
    """What an oracle saw in images.

    Attributes:
        value: What it reads, `(n, *shape)`, in the variable's unit.
        features: The inputs of its last layer, `(n, d)`.
    """

    value: Tensor
    features: Tensor


Sight: TypeAlias = Mapping[tuple[str, str], Seen]
"""What each oracle saw, by image and variable."""


def mode_of(temperature: float) -> str:
    """The name of a factor on the noise of observation.

    Example:
        >>> mode_of(1.0), mode_of(0.0), mode_of(0.1)
        ('kept', 'latent', 'eps x 0.1')
    """
    return {1.0: KEPT, 0.0: LATENT}.get(temperature, f"{SCALED}{temperature:g}")


@dataclass(frozen=True)
class Asked:
    """One intervention on a batch of rows, and what was answered.

    Attributes:
        query: The intervention.
        do: Its values for these rows.
        rows: The factual rows.
        answers: The model's answers, by mode.
        true: The true counterfactuals, of all these rows or of none.
        draws: Answers to draws of the noise, with a leading axis, where they were wanted.
        sights: What the oracles saw in the images, by mode, and in the factual ones.
    """

    query: Query
    do: Mapping[str, Any]
    rows: Rows
    answers: Mapping[str, Rows]
    true: Rows | None
    draws: Rows | None
    sights: Mapping[str, Sight]


class Examination:
    """Collects the scores of rows, batch by batch.

    Args:
        model: The model.
        truth: The world, if known.
        oracles: Oracles by (image, parent).
        measures: Functions that measure a parent on images.
        baselines: Functions that give an image without a model.
        protocol: What is asked.
        seed: Of the abductions.
        cache: Where true counterfactuals may be kept.
    """

    def __init__(
        self,
        model: SCM,
        truth: SCM | None,
        oracles: Oracles,
        measures: Mapping[str, Measure],
        baselines: Mapping[str, Baseline],
        protocol: Protocol,
        seed: int,
        cache: Cache | None = None,
    ) -> None:
        self.model = model
        self.truth = truth
        self.truths = None if truth is None else Truths(cache, truth)
        self.oracles = oracles
        self.measures = measures
        self.baselines = baselines
        self.protocol = protocol
        self.generator = stream(seed, "abduction")
        self.ties = stream(seed, "ties", model.device)
        self.outcomes = outcomes(model)
        self.scores = Scores()
        self.examples = Examples()
        self.refused: dict[str, str] = {}
        self.untouched: dict[str, frozenset[str]] = {}
        self.notes: dict[str, Any] = {}
        self.seconds: list[tuple[int, float]] = []
        noisy = any(model.mechanisms[name].observation_noise for name in self.outcomes)
        temperatures = protocol.temperatures if noisy else (1.0,)
        self.modes = {mode_of(temperature): temperature for temperature in temperatures}

    def factual(self, rows: Rows, known: bool = True) -> Sight:
        """The floor: errors of oracles, and of measures where known, on the real test images."""
        sight = self._effectiveness(FACTUAL, OBSERVED, rows)
        if known:
            self._measured(FACTUAL, OBSERVED, rows)
        return sight

    def null(self, rows: Rows) -> None:
        """Composition, of every outcome."""
        if "composition" not in self.protocol.measures:
            return
        for name in self.outcomes:
            for mode, temperature in self.modes.items():
                paths = {m: ("composition", name, mode, str(m)) for m in self.protocol.composition}
                with self.flagged(paths.values()):
                    found = axioms.composition(
                        self.model,
                        rows,
                        name,
                        self.protocol.composition,
                        temperature=temperature,
                        seed=self.generator,
                    )
                    for m, scores in found.items():
                        self.add(paths[m], name, scores)

    def ask(
        self, query: Query, do: Mapping[str, Any], rows: Rows, sight: Sight, known: bool = True
    ) -> Asked:
        """One intervention: effectiveness, truth where known, reversibility, spread."""
        true = self._true(query, do, rows) if known else None
        answers, sights = {}, {FACTUAL: sight}
        for mode, temperature in self.modes.items():
            answers[mode] = self._timed(query, rows, do, temperature)
            sights[mode] = self._effectiveness(query.label, mode, answers[mode])
            if known:
                self._measured(query.label, mode, answers[mode])
            if isinstance(true, Rows):
                self._against(query, mode, answers[mode], true)
            self._reverse(query, do, rows, mode, temperature)
        self._note(query, answers[KEPT])
        draws = self._draws(query, do, rows, isinstance(true, Rows))
        if isinstance(true, Rows):
            if draws is not None:
                self._averaged(query, draws, true)
            self._effectiveness(query.label, TRUTH, true)
            self._measured(query.label, TRUTH, true)
            self._baselines(query, rows, true)
        found = true if isinstance(true, Rows) else None
        self.examples.add(query.label, rows, answers, found)
        return Asked(query, do, rows, answers, found, draws, sights)

    def add(self, path: Path, name: str, scores: Tensor) -> None:
        """Add scores of rows, `(n,)`, in the unit of a variable's distances."""
        self.scores.add(path, scores, unit(self.model.variables[name]))

    @contextmanager
    def flagged(self, paths: Iterable[Path]) -> Iterator[None]:
        """What cannot be had leaves its reason under its paths, and no error."""
        try:
            yield
        except ValueError as refused:
            for path in paths:
                self.scores.refuse(path, str(refused))

    def _timed(self, query: Query, rows: Rows, do: Mapping[str, Any], temperature: float) -> Rows:
        _wait(self.model.device)
        start = time.perf_counter()
        found = self.model.counterfactual(
            rows, do, hold=query.hold, seed=self.generator, temperature=temperature
        )
        _wait(self.model.device)
        self.seconds.append((rows.n, time.perf_counter() - start))
        return found

    def _effectiveness(self, label: str, mode: str, rows: Rows) -> Sight:
        """Errors of oracles against the values that the image was made for."""
        sight = {}
        for (image, name), oracle in self.oracles.items():
            features = oracle.embed(rows[image])
            seen = Seen(oracle.value(oracle.judge(features)), features)
            sight[image, name] = seen
            error = distance(oracle.target, seen.value, rows[name])
            if isinstance(oracle.target, Discrete):
                score, of = 1 - error, "accuracy"
            else:
                score, of = error, unit(oracle.target)
            self.scores.add(("effectiveness", image, label, name, mode), score, of)
        return sight

    def _measured(self, label: str, mode: str, rows: Rows) -> None:
        """Errors of measures against the values that the image was made for."""
        for image in self.outcomes:
            for name in self.model.graph.parents(image):
                if name in self.measures and isinstance(self.model.variables[image], Image):
                    path = ("measured", image, label, name, mode)
                    with self.flagged([path]):
                        measured = self.measures[name](rows[image]).to(rows[name].device)
                        error = distance(self.model.variables[name], measured, rows[name])
                        self.add(path, name, error)

    def _true(self, query: Query, do: Mapping[str, Any], rows: Rows) -> Rows | str | None:
        if self.truth is None or query.label in self.refused:
            return None
        found = true_counterfactual(
            self.truth, rows, do, self.model.device, query.hold, self.truths
        )
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
            self.add(("truth", query.label, name, who, "error"), name, error)

    def _baselines(self, query: Query, rows: Rows, true: Rows) -> None:
        self._against(query, NOTHING, rows, true)
        for image in query.affected(self.model):
            if isinstance(self.model.variables[image], Image):
                found = baseline_errors(self.model, rows, true, image, self.baselines)
                for who, error in found.items():
                    self.add(("truth", query.label, image, who, "error"), image, error)

    def _reverse(
        self, query: Query, do: Mapping[str, Any], rows: Rows, mode: str, temperature: float
    ) -> None:
        if "reversibility" not in self.protocol.measures:
            return
        names = [name for name in query.affected(self.model) if name in self.outcomes]
        paths = {
            (m, name): ("reversibility", query.label, name, mode, str(m))
            for m in self.protocol.reversibility
            for name in names
        }
        with self.flagged(paths.values()):
            found = axioms.reversibility(
                self.model,
                rows,
                do,
                names,
                self.protocol.reversibility,
                hold=query.hold,
                temperature=temperature,
                seed=self.generator,
            )
            for (m, name), path in paths.items():
                self.add(path, name, found[m][name])

    def _draws(self, query: Query, do: Mapping[str, Any], rows: Rows, known: bool) -> Rows | None:
        """Draws of the noise; their spread is every pixel's deviation, averaged over the image."""
        particles, measures = self.protocol.particles, self.protocol.measures
        wanted = "spread" in measures or (known and "calibration" in measures)
        if particles < 2 or not wanted:
            return None
        found = self.model.counterfactual(
            rows, do, hold=query.hold, particles=particles, seed=self.generator
        )
        for name in query.affected(self.model):
            variable = self.model.variables[name]
            if name in self.outcomes and not isinstance(variable, Discrete):
                deviation = found[name].std(0).reshape(rows.n, -1).mean(1)
                self.add(("spread", query.label, name), name, scale(variable) * deviation)
        return found

    def _averaged(self, query: Query, draws: Rows, true: Rows) -> None:
        """Draws against the truth: CRPS, fair to an honest spread; of images their mean too."""
        for name in query.affected(self.model):
            variable = self.model.variables[name]
            path = ("calibration", query.label, name, "crps")
            self.add(path, name, crps(variable, draws[name], true[name]))
            if isinstance(variable, Image):
                error = distance(variable, draws[name].mean(0), true[name])
                self.add(("truth", query.label, name, AVERAGED, "error"), name, error)

    def _note(self, query: Query, found: Rows) -> None:
        """What the answer rests on, in the words of its provenance."""
        if query.label not in self.notes:
            self.notes[query.label] = str(found.explain()).splitlines()
            changed = {*query.do, *query.affected(self.model)}
            self.untouched[query.label] = frozenset(self.model.variables) - changed


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
