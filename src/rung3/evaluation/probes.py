"""Measures that a protocol may ask for besides: scores of a row, each under its path.

| path | score of a row | measure |
|---|---|---|
| commutativity, "a, b", image, mode | distance of a then b from b then a | commutativity |
| truth, do, image, who, ssim | structural similarity to the truth | similarity |
| minimality, image, do, mode, cld | latent divergence; too far; too near | minimality |
| drift, image, do, parent, mode | how far what should stay has moved, by oracles | minimality |
| calibration, do, variable, coverage 50% | of the truth by the draws; coverage 90% | calibration |
| stability, do, variable, who | disagreement of two abductions, or of peers | stability |

Each is one function of `rung3.evaluation`; here they are only called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rung3.data.distances import distance
from rung3.data.ranks import covered, ranks
from rung3.data.rows import Rows
from rung3.data.variables import Image
from rung3.evaluation.measures.commutativity import commutativity
from rung3.evaluation.measures.minimality import alike, latent_divergence
from rung3.evaluation.measures.similarity import ssim
from rung3.evaluation.measures.stability import disagreement
from rung3.evaluation.measures.truth import NOTHING
from rung3.evaluation.plan import Query
from rung3.evaluation.runner import FACTUAL, KEPT, Asked, Examination, Sight

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["LEVELS", "Probes"]

LEVELS = (0.5, 0.9)
"""Nominal levels of the intervals whose coverage is counted."""


class Probes:
    """Adds scores to an examination, batch by batch.

    Args:
        examination: The examination.
        reference: Real rows that are not asked, and what the oracles see in them, for CLD.
        peers: Models of other seeds that should agree with it.
    """

    def __init__(
        self,
        examination: Examination,
        reference: tuple[Rows, Sight] | None,
        peers: Sequence[SCM],
    ) -> None:
        self.examination = examination
        self.model = examination.model
        self.reference = reference
        self.peers = list(peers)
        every: Mapping[str, Callable[[Asked], None]] = {
            "similarity": self._similarity,
            "minimality": self._minimality,
            "calibration": self._calibration,
            "stability": self._stability,
        }
        wanted = examination.protocol.measures
        self._chosen = [probe for name, probe in every.items() if name in wanted]

    def ask(self, asked: Asked) -> None:
        """All scores of one intervention on a batch of rows."""
        for probe in self._chosen:
            probe(asked)

    def commute(self, queries: Sequence[Query], at: slice, rows: Rows) -> None:
        """Commutativity of every pair of interventions on two parents of an image."""
        if "commutativity" not in self.examination.protocol.measures:
            return
        single = [query for query in queries if len(query.do) == 1]
        for a, b in combinations(single, 2):
            pair = [next(iter(q.at(at, self.model.device).items())) for q in (a, b)]
            names = [name for name, _ in pair]
            if callable_values(value for _, value in pair) or names[0] == names[1]:
                continue
            for image in self.examination.outcomes:
                if set(names) <= set(self.model.graph.parents(image)):
                    self._commute(pair[0], pair[1], image, rows)

    def _commute(self, a: tuple[str, Any], b: tuple[str, Any], image: str, rows: Rows) -> None:
        seen = self.examination
        for mode, temperature in seen.modes.items():
            path = ("commutativity", f"{a[0]}, {b[0]}", image, mode)
            with seen.flagged([path]):
                score = commutativity(
                    self.model, rows, a, b, image, temperature=temperature, seed=seen.generator
                )
                seen.add(path, image, score)

    def _similarity(self, asked: Asked) -> None:
        if asked.true is None:
            return
        for image in self._images(asked.query):
            true = asked.true[image]
            whos: dict[str, Tensor] = {mode: found[image] for mode, found in asked.answers.items()}
            for who, found in (whos | {NOTHING: asked.rows[image]}).items():
                path = ("truth", asked.query.label, image, who, "ssim")
                with self.examination.flagged([path]):
                    self.examination.scores.add(path, ssim(found.clamp(0, 1), true), "")

    def _minimality(self, asked: Asked) -> None:
        for image in self._images(asked.query):
            for mode in asked.answers:
                if self.reference is not None:
                    self._latent(asked, image, mode, *self.reference)
                self._drift(asked, image, mode)

    def _latent(self, asked: Asked, image: str, mode: str, rows: Rows, sight: Sight) -> None:
        label, scores = asked.query.label, self.examination.scores
        paths = [("minimality", image, label, mode, k) for k in ("cld", "too far", "too near")]
        with self.examination.flagged(paths):
            others = features_of(sight, image)
            before, after = (features_of(asked.sights[k], image) for k in (FACTUAL, mode))
            same = {
                who: self._alike(asked, found, rows)
                for who, found in (("old", asked.rows), ("new", asked.answers[mode]))
            }
            delta = (before - after).square().sum(1).sqrt()
            found = latent_divergence(delta, torch.cdist(before, others), same["old"], same["new"])
            for path, values in zip(paths, found, strict=True):
                scores.add(path, values, "", partial=True)

    def _alike(self, asked: Asked, found: Rows, reference: Rows) -> Tensor:
        """Whether references have the same values of all that was set, `(n, m)`."""
        each = [
            alike(self.model.variables[name], found[name], reference[name])
            for name in asked.query.do
        ]
        return torch.stack(each).all(0)

    def _drift(self, asked: Asked, image: str, mode: str) -> None:
        untouched = self.examination.untouched[asked.query.label]
        for (of, name), seen in asked.sights[mode].items():
            if of == image and name in untouched:
                moved = distance(
                    self.model.variables[name], seen.value, asked.sights[FACTUAL][of, name].value
                )
                self.examination.add(("drift", image, asked.query.label, name, mode), name, moved)

    def _calibration(self, asked: Asked) -> None:
        if asked.true is None or asked.draws is None:
            return
        for name in asked.query.affected(self.model):
            variable, draws = self.model.variables[name], asked.draws[name]
            path = ("calibration", asked.query.label, name)
            if bool((draws == draws[:1]).all()):
                continue  # nothing is uncertain
            v, unsure = ranks(variable, [draws], asked.true[name], self.examination.ties)
            for level in LEVELS:
                share = covered(v, unsure, level)
                of = (*path, f"coverage {level:.0%}")
                self.examination.scores.add(of, share, "", partial=True)

    def _stability(self, asked: Asked) -> None:
        names, label = asked.query.affected(self.model), asked.query.label
        again = self.model.counterfactual(
            asked.rows, asked.do, hold=asked.query.hold, seed=self.examination.generator
        )
        for name in names:
            apart = distance(self.model.variables[name], asked.answers[KEPT][name], again[name])
            self.examination.add(("stability", label, name, "abductions"), name, apart)
        if self.peers and not asked.query.hold:
            models = [self.model, *self.peers]
            found = disagreement(models, asked.rows, asked.do, names, seed=0)
            for name, apart in found.items():
                self.examination.add(("stability", label, name, "peers"), name, apart)

    def _images(self, query: Query) -> Iterator[str]:
        for name in query.affected(self.model):
            if isinstance(self.model.variables[name], Image):
                yield name


def features_of(sight: Sight, image: str) -> Tensor:
    """What all oracles of an image see in it, `(n, d)`.

    Raises:
        ValueError: If there are none.
    """
    own = [seen.features for (of, _), seen in sight.items() if of == image]
    if not own:
        raise ValueError(f"{image}: no oracle sees it")
    return torch.cat(own, dim=1)


def callable_values(values: Iterator[Any]) -> bool:
    """Whether some value is a function or a mechanism."""
    return any(callable(value) and not isinstance(value, Tensor) for value in values)
