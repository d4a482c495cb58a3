"""Trainings of a study that are too short to learn from, seen before they begin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from rung3.data.variables import Image
from rung3.evaluation.verdict import least_steps
from rung3.scm.scm import SCM
from rung3.study.study import Study
from rung3.training.options import Options
from rung3.training.oracles.oracles import BATCH, EPOCHS, oracle_pairs

__all__ = ["Short", "duration", "seconds_of", "short_trainings", "steps_of"]

LEAST_STEPS_PREDICTOR = 200
"""Steps of a predictor's training, below which it is still far from the error that it ends at."""


TIMED_STEPS = 5
"""Steps of a training that are timed, after one that is not."""


@dataclass(frozen=True)
class Short:
    """A training that is too short.

    Attributes:
        name: What is trained.
        steps: The steps that the study gives it.
        least: Below so many little is learned.
        key: Key of the study that says how long.
        epochs: Epochs that are twice the least.
        factor: How many times longer it then takes.
    """

    name: str
    steps: int
    least: int
    key: str
    epochs: int
    factor: float

    def text(self, seconds: float | None = None) -> str:
        """Return the warning, with the estimated time of the longer training if it is known."""
        time = "" if seconds is None else f" (about {duration(seconds)})"
        return (
            f"{self.name}: {self.steps:,} steps, too few to learn from (expected {self.least:,} at "
            f"least); --set {self.key}={self.epochs}{time}"
        )


def steps_of(study: Study, n: int) -> dict[str, int]:
    """Return the steps that each mechanism is trained for, on `n` rows, in all its trainings."""
    steps: dict[str, int] = {}
    for group in study.groups():
        epochs = group.options.get("epochs", Options.epochs)
        size = min(group.options.get("batch_size", Options.batch_size), n)
        for name in group.mechanisms:
            steps[name] = steps.get(name, 0) + epochs * (n // size)
    return steps


def short_trainings(study: Study, model: SCM, n: int) -> Iterator[Short]:
    """Yield the trainings on `n` rows that are too short.

    Args:
        study: The study.
        model: Its model.
        n: Number of training rows.
    """
    for name, steps in steps_of(study, n).items():
        mechanism, image = model.mechanisms[name], isinstance(model.variables[name], Image)
        least = least_steps(image, type(mechanism).__name__)
        if mechanism.learns and steps < least:
            group = study.training.mechanisms.get(name)
            epochs = group.epochs if group and "epochs" in group.model_fields_set else None
            before = study.training.epochs if epochs is None else epochs
            factor = 2 * least / steps
            plain = "." in name or (epochs is None and not study.training.mechanisms)
            key = "training.epochs" if plain else f"training.mechanisms.{name}.epochs"
            yield Short(name, steps, least, key, round(before * factor + 0.5), factor)
    if not oracle_pairs(model):
        return
    options = study.evaluation.oracles
    rows = study.halves_of(n)[0]
    rows = rows if options.rows is None else min(rows, options.rows)
    epochs = options.epochs or EPOCHS
    steps = epochs * max(1, rows // BATCH)
    if steps < LEAST_STEPS_PREDICTOR:
        factor = 2 * LEAST_STEPS_PREDICTOR / steps
        longer, key = round(epochs * factor + 0.5), "evaluation.oracles.epochs"
        yield Short("the predictors", steps, LEAST_STEPS_PREDICTOR, key, longer, factor)


def seconds_of(step: Callable[[], None]) -> float:
    """Return the seconds that a step of training takes on the CPU, as if nothing else ran.

    It is the time of the processor where that is shorter than that of the clock: what waiting for
    other processes takes is left out, or a busy moment would make trainings seem long.
    """
    taken = []
    for _ in range(TIMED_STEPS + 1):
        clock, processor = time.perf_counter(), time.process_time()
        step()
        taken.append(min(time.perf_counter() - clock, time.process_time() - processor))
    return median(taken[1:])


def duration(seconds: float) -> str:
    """Return a time as text.

    Example:
        >>> duration(65), duration(840)
        ('65 s', '14 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
