"""What an evaluation costs beside the model's own passes and the first rendering of truths.

Four interventions on real Morpho-MNIST test rows, with everything that a protocol can ask for: the
learned oracles' metrics on all rows, truth and morphometry on the first of them. CPU time of this
process, in seconds, part by part, on one thread. A second pass (`--passes 2`) finds the truths in
the cache. Memory is what it holds at most beyond the data, as Linux tells it. The model takes next
to no time (an image is rescaled, and the finest grey levels are its noise of observation), or is a
small VAE that is not trained.

    python benchmarks/bench_evaluation.py --rows 10000 --truths 1000
    python benchmarks/bench_evaluation.py --rows 1000 --truths 100 --vae
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rung3 import SCM, worlds
from rung3.data import morphomnist
from rung3.data.rows import Noise
from rung3.evaluation import Cache, Oracle, Protocol, evaluate, fit_oracles
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures import Measure, registry
from rung3.mechanisms import VAE, Equation
from rung3.mechanisms.base import Abduction, Mechanism, Parents, repeat_noise

DATA = Path(os.environ.get("RUNG3_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
GREY = 16

MODEL = "the model's passes"
RENDERING = "rendering of truths"
DISTANCE = "distance"
FRESH = "rendering of fresh rows, for the distance"


class Rescaled(Mechanism):
    """`x = i z + eps`: z the image in coarse grey levels over its intensity, eps the rest."""

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "images differ in intensity alone"
    observation_noise: ClassVar[tuple[str, ...]] = ("eps",)

    def __init__(self) -> None:
        super().__init__()

    def build(self) -> None:
        """Nothing is learned."""

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        shape = (n, *self.variable.shape)
        return {"z": torch.zeros(shape), "eps": torch.zeros(shape)}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Mapping)
        intensity = parents["intensity"][:, None, None, None] / 255
        return (noise["z"] * intensity + noise["eps"]).clamp(0, 1)

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        intensity = parents["intensity"][:, None, None, None] / 255
        coarse = (value * GREY).round() / GREY
        return repeat_noise({"z": coarse / intensity, "eps": value - coarse}, particles)

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        return torch.zeros(len(value))


class Clock:
    """CPU seconds of this process by part: a call within a call counts for the inner one alone."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.parts = ["everything else"]
        self.since = time.process_time()

    def turn(self) -> None:
        """Book the time since the last turn."""
        now = time.process_time()
        self.spent[self.parts[-1]] += now - self.since
        self.since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, on this clock."""

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            self.turn()
            # Renderings of fresh rows of the world are kept apart: no cache holds them.
            fresh = part == RENDERING and DISTANCE in self.parts
            self.parts.append(FRESH if fresh else part)
            try:
                return function(*args, **options)
            finally:
                self.turn()
                self.parts.pop()

        return call

    def measure(self, measure: Measure) -> Measure:
        """The measure with all its functions on this clock, under its own name."""
        functions = {field.name: getattr(measure, field.name) for field in fields(measure)}
        timed: dict[str, Any] = {
            name: self.timed(measure.name, function)
            for name, function in functions.items()
            if name in ("compute", "conclude") or name.startswith("on_")
            if function is not None
        }
        return replace(measure, **timed)

    def watch(self, part: str, owner: Any, *names: str) -> None:
        """Put attributes of a module or class, where it has them, on this clock."""
        for name in names:
            if hasattr(owner, name):
                setattr(owner, name, self.timed(part, getattr(owner, name)))


def watched(model: SCM, world: SCM) -> tuple[Clock, tuple[Measure, ...]]:
    """A clock on the parts of an evaluation, and the measures on it."""
    clock = Clock()
    passes = ("abduct", "predict", "log_prob", "infer", "sample_noise")
    clock.watch(MODEL, type(model.mechanisms["image"]), *passes)
    clock.watch(RENDERING, type(world.mechanisms["image"]), *passes)
    clock.watch("oracles", Oracle, "embed", "judge")
    clock.watch("bootstrap", Bootstrap, "mean", "skill")
    world.measures = {k: clock.timed("morphometry", f) for k, f in world.measures.items()}
    world.baselines = {k: clock.timed("baselines", f) for k, f in world.baselines.items()}
    return clock, tuple(clock.measure(measure) for measure in registry.MEASURES)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--truths", type=int, default=1_000)
    parser.add_argument("--vae", action="store_true", help="a small VAE that is not trained")
    parser.add_argument("--passes", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = worlds.morphomnist(DATA / "mnist", "test")
    test = morphomnist(DATA / "morphomnist-ti", "test", mnist=DATA / "mnist")[: options.rows]
    train = morphomnist(DATA / "morphomnist-ti")[: options.rows]
    model = subject(world, options.vae)
    oracles = fit_oracles(model, train[:1000], epochs=1, progress=False)  # as slow as good ones
    interventions = {name: test[name].flip(0) for name in ("thickness", "intensity", "digit")}
    both = {name: interventions[name] for name in ("thickness", "intensity")}
    protocol = Protocol.complete(
        interventions={**interventions, "both": both}, n=options.rows, truth_n=options.truths
    )
    print(f"{options.rows} rows, {options.truths} truths; CPU seconds, one thread")
    clock, registry.MEASURES = watched(model, world)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.passes):
            clock.turn()
            clock.spent.clear()
            evaluate(
                model, test, world, train, protocol=protocol, oracles=oracles,
                cache=Cache(folder), progress=False,
            )  # fmt: skip
            clock.turn()
            print(f"pass {k + 1}: {sum(clock.spent.values()):.1f} in all")
            print_parts(clock.spent)
    most = resident("VmHWM")
    print(f"resident: {before:,.0f} MiB before it, at most {most - before:,.0f} MiB more")


def subject(world: SCM, vae: bool) -> SCM:
    """The model that is evaluated: the world's equations, and an image that needs no training."""
    image: Mechanism = VAE(latent=16, width=8, depth=1) if vae else Rescaled()
    known = {name: world.mechanisms[name] for name in ("thickness", "intensity")}
    causes = {name: m for name, m in known.items() if isinstance(m, Equation)}
    return SCM(world.graph, world.variables, {**causes, "image": image})


def print_parts(spent: Mapping[str, float]) -> None:
    """Print seconds by part: the model, the rendering, and the others, the slowest first."""
    for part in (MODEL, RENDERING):
        print(f"{spent[part]:9.1f} {part}")
    others = {part: seconds for part, seconds in spent.items() if part not in (MODEL, RENDERING)}
    print(f"{sum(others.values()):9.1f} the rest, of it")
    for part, seconds in sorted(others.items(), key=lambda item: -item[1]):
        print(f"{seconds:13.1f} {part}", flush=True)


def resident(what: str) -> float:
    """Resident memory of this process in MiB, as Linux tells it: now, `VmRSS`, or at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


if __name__ == "__main__":
    main()
