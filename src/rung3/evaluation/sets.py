"""Measures of sets of rows, and of the model as a whole: no score of a row, and no bootstrap.

| path | what |
|---|---|
| realism, image, do, mode | KID with its standard error, FID, number of images of each kind |
| distance, do | MMD and energy distance from the world's interventional rows, and chance |
| recovery, variable | rank or distance correlation of abducted and true noise |
| prior, variable, part | how far abducted noise is from its prior, and chance |
| cost | parameters, rows a second, network evaluations, arithmetic, peak memory |

Realism of the factual images is the floor: the same measure of real images against others, as many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from rung3.data.rows import Rows
from rung3.data.variables import Image
from rung3.evaluation.measures.cost import cost
from rung3.evaluation.measures.interventional import interventional
from rung3.evaluation.measures.prior import prior_distances
from rung3.evaluation.measures.realism import Realism
from rung3.evaluation.measures.recovery import recovery
from rung3.evaluation.plan import Query
from rung3.evaluation.probes import features_of
from rung3.evaluation.runner import FACTUAL, OBSERVED, Asked, Examination, Seen, Sight
from rung3.evaluation.scores import Path, put
from rung3.training.oracles.oracles import Oracles

if TYPE_CHECKING:
    from rung3.scm.scm import SCM

__all__ = ["REFERENCES", "Sets", "look"]

REFERENCES = 1_000
"""Real rows that CLD compares with."""

AT_MOST = 2_000
"""Rows whose noise is compared."""

SAMPLE = 500
"""Rows of an interventional distribution."""

COSTED = 64
"""Rows of the batch whose cost is taken."""


def look(model: SCM, oracles: Oracles, rows: Rows, batch_size: int) -> Sight:
    """What the oracles see in images, some at a time."""
    found = {}
    for (image, name), oracle in oracles.items():
        values, features = [], []
        for images in rows[image].split(batch_size):
            seen = oracle.embed(images.to(model.device))
            features.append(seen)
            values.append(oracle.value(oracle.judge(seen)))
        found[image, name] = Seen(torch.cat(values), torch.cat(features))
    return found


class Sets:
    """Collects what is measured of sets.

    Args:
        examination: The examination that it goes with.
        reference: Real rows that are not asked, and what the oracles see in them.
    """

    def __init__(self, examination: Examination, reference: tuple[Rows, Sight] | None) -> None:
        self.examination = examination
        self.model = examination.model
        self.wanted = examination.protocol.measures
        self.real = None if reference is None else reference[1]
        self.there = 0 if reference is None else reference[0].n
        self.realism: dict[Path, Realism] = {}

    def factual(self, at: slice, sight: Sight) -> None:
        """The floor of realism."""
        for image in dict.fromkeys(of for of, _ in sight):
            self._realism(at, image, (FACTUAL, OBSERVED), sight)

    def ask(self, at: slice, asked: Asked) -> None:
        """What was answered to one intervention on the rows at a place."""
        for name in asked.query.affected(self.model):
            if isinstance(self.model.variables[name], Image):
                for mode in asked.answers:
                    self._realism(at, name, (asked.query.label, mode), asked.sights[mode])

    def compute(self, rows: Rows, queries: list[Query], seed: int) -> dict[str, Any]:
        """All that was asked for, as nested dicts; where it cannot be had, `undefined` says why.

        Args:
            rows: The rows that were asked, with the noise that they carry.
            queries: The interventions.
            seed: Of samples and abductions.
        """
        found: dict[str, Any] = {}
        if "realism" in self.wanted:
            found["realism"] = {}
            for path, realism in self.realism.items():
                put(found["realism"], path, _or_why(realism.compute))
            if not self.realism:
                found["realism"] = {"undefined": "no training rows, or no oracles, to compare with"}
        few = rows[:AT_MOST].to(self.model.device)
        if "recovery" in self.wanted:
            found["recovery"] = _or_why(lambda: recovery(self.model, few, seed))
        if "calibration" in self.wanted:
            found["prior"] = _or_why(lambda: prior_distances(self.model, few, seed))
        if "distance" in self.wanted:
            found["distance"] = {q.label: self._distance(q, rows.n, seed) for q in queries}
        if "cost" in self.wanted and queries:
            do = queries[0].at(slice(0, min(COSTED, rows.n)), self.model.device)
            batch = rows[:COSTED].to(self.model.device)
            found["cost"] = _or_why(lambda: cost(self.model, batch, do, seed=seed))
        return found

    def _realism(self, at: slice, image: str, path: Path, sight: Sight) -> None:
        if self.real is None or "realism" not in self.wanted or at.start >= self.there:
            return
        real = features_of(self.real, image)[at]
        imagined = features_of(sight, image)[: len(real)]
        self.realism.setdefault((image, *path), Realism()).update(real, imagined)

    def _distance(self, query: Query, n: int, seed: int) -> Mapping[str, Any]:
        if self.examination.truth is None:
            return {"undefined": "the world is not known"}
        if query.hold:
            return {"undefined": "other parents are held, which is no intervention"}
        n = min(n, SAMPLE)
        do, world = query.at(slice(0, n), self.model.device), self.examination.truth
        oracles = self.examination.oracles

        def measure() -> dict[str, Any]:
            names = [
                name
                for name, variable in self.model.variables.items()
                if name not in do
                and (not isinstance(variable, Image) or any(of == name for of, _ in oracles))
            ]
            apart = interventional(
                self.model, world, do, names=names, oracles=oracles, n=n, seed=seed
            )
            return {name: found._asdict() for name, found in apart.items()}

        return _or_why(measure)


def _or_why(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is measured, with `None` for what is not finite; or the words of what refuses."""
    try:
        return {name: _finite(value) for name, value in measure().items()}
    except ValueError as refused:
        return {"undefined": str(refused)}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, float) and not torch.tensor(value).isfinite():
        return None
    return value
