"""Who takes part in `bench_hvae.py`: rung3's image mechanism of a study, and causal-gen's HVAE.

Seconds are those that the process spends on the processor, where it has one thread, so that other
work on the machine counts for little; else the clock's.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol
from unittest.mock import patch

import torch

from causal_gen import CausalGen
from rung3 import fit
from rung3.data.rows import Rows
from rung3.mechanisms import Mechanism
from rung3.study.study import Study

__all__ = ["IMAGE", "Contender", "autocast", "clock_of", "contenders", "wait"]

IMAGE = "image"

RESERVE = 0.97
"""Share of the seconds that ours plans for: a schedule must know its last step beforehand."""

PILOT = 64
"""Steps of a copy that tell how many fit into the seconds."""


class Contender(Protocol):
    """A bound mechanism, and how it is trained."""

    @property
    def mechanism(self) -> Mechanism: ...

    def rate(self, rows: Rows, batch_size: int) -> float:
        """Images a second in one pass of training over the rows, its first step aside."""

    def train(self, rows: Rows, seconds: float) -> tuple[int, float]:
        """Train for so long; how many images were seen, in how many seconds."""


class Rung3Contender:
    """The study's image mechanism, by `rung3.fit` with the study's options."""

    def __init__(self, study: Study, options: argparse.Namespace) -> None:
        self.model = study.model().to(options.device)
        self.mechanism = self.model.mechanisms[IMAGE]
        self.clock = clock_of(options)
        training = next(group.options for group in study.groups() if IMAGE in group.mechanisms)
        training |= {"seed": study.seed, "accelerator": torch.device(options.device).type}
        self.options = training | ({"precision": options.precision} if options.precision else {})

    def _fit(self, rows: Rows, **changed: Any) -> None:
        options = self.options | changed
        fit(self.model, rows, only=[IMAGE], validation_share=0, progress=False, **options)

    def rate(self, rows: Rows, batch_size: int) -> float:
        marks, loss = [], self.mechanism.loss

        def timed(*given: Any) -> torch.Tensor:
            marks.append(self.clock())
            return loss(*given)

        with patch.object(self.mechanism, "loss", timed):
            self._fit(rows, batch_size=batch_size, epochs=1)
        return (len(marks) - 1) * batch_size / (marks[-1] - marks[0])

    def train(self, rows: Rows, seconds: float) -> tuple[int, float]:
        size, pilot = self.options["batch_size"], copy.deepcopy(self)
        images = int(RESERVE * seconds * pilot.rate(rows[: PILOT * size], size))
        epochs = math.ceil(images / rows.n)
        start = self.clock()
        self._fit(rows[: images // epochs], epochs=epochs)
        return images, self.clock() - start


class CausalGenContender:
    """causal-gen's HVAE, by its own loop."""

    def __init__(self, study: Study, options: argparse.Namespace) -> None:
        variables, graph = study.declared(), study.model().graph
        parents = {name: variables[name] for name in graph.parents(IMAGE)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(study.seed)
            bound = CausalGen(options.rival).bind(IMAGE, variables[IMAGE], parents)
        self.mechanism = bound.to(options.device).eval()
        self.seed, self.device = study.seed, torch.device(options.device)
        self.clock, self.autocast = clock_of(options), autocast(options)

    def _steps(self, rows: Rows, batch_size: int | None = None) -> Generator[int, None, None]:
        here = rows.to(self.device)
        self.mechanism.calibrate(here[IMAGE], {k: here[k] for k in self.mechanism.parents})
        return self.mechanism.training_steps(here, batch_size, self.seed, self.autocast)

    def rate(self, rows: Rows, batch_size: int) -> float:
        steps = self._steps(rows, batch_size)
        first = seen = next(steps)
        start = self.clock()
        while seen + batch_size <= rows.n:
            seen = next(steps)
        taken = self.clock() - start
        steps.close()
        return (seen - first) / taken

    def train(self, rows: Rows, seconds: float) -> tuple[int, float]:
        steps, seen, start = self._steps(rows), 0, self.clock()
        while self.clock() - start < seconds:
            seen = next(steps)
        taken = self.clock() - start
        steps.close()
        return seen, taken


def contenders(study: Study, options: argparse.Namespace) -> dict[str, Callable[[], Contender]]:
    """By name, what makes each."""
    mechanisms: dict[str, Callable[[], Contender]] = {}
    if options.rival:
        mechanisms["causal-gen"] = lambda: CausalGenContender(study, options)
    mechanisms["rung3"] = lambda: Rung3Contender(study, options)
    return mechanisms


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    """The clock that seconds are read from."""
    single = options.device == "cpu" and options.threads == 1
    return time.process_time if single else time.perf_counter


def autocast(options: argparse.Namespace) -> Any:
    """The context of forward passes."""
    low = options.precision == "bf16-mixed"
    return torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=low)


def wait(device: torch.device | str) -> None:
    """Wait until an accelerator has done what it was told."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize()
