"""Counterfactuals of a table beside DoWhy-GCM: abduct, do and predict, both in this process.

A linear chain `x -> y -> z` with Gaussian noise. Each library learns it from the same rows, and
answers `do(x = x + 1)` for the same rows; fitting is not timed. Runs alternate, and the ratio is
that of the medians of CPU time, which other work on the machine disturbs least.

python benchmarks/bench_tables.py [rows] [repeats]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping

import networkx as nx
import pandas as pd
import torch
from dowhy import gcm

from rung3 import SCM, choose, fit
from rung3.data.rows import Rows
from rung3.mechanisms import Equation, Flow

CHAIN = [("x", "y"), ("y", "z")]


Answer = Callable[[], torch.Tensor]


def dowhy(data: Rows) -> Answer:
    """Fit DoWhy-GCM, and return what answers."""
    gcm.config.disable_progress_bars()
    frame = pd.DataFrame({name: value.double().numpy() for name, value in data.items()})
    model = gcm.InvertibleStructuralCausalModel(nx.DiGraph(CHAIN))
    gcm.auto.assign_causal_mechanisms(model, frame)
    gcm.fit(model, frame)

    def answer() -> torch.Tensor:
        shift = {"x": lambda x: x + 1}
        answers = gcm.counterfactual_samples(model, shift, observed_data=frame)
        return torch.tensor(answers["z"].to_numpy())

    return answer


def rung3(model: SCM, data: Rows) -> Answer:
    """Return what answers by a fitted model."""

    def answer() -> torch.Tensor:
        with torch.no_grad():
            return model.counterfactual(data, do={"x": data["x"] + 1})["z"]

    return answer


def timed(
    contenders: Mapping[str, Answer], truth: torch.Tensor, repeats: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of each run after a first, by contender, and the errors."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    errors = {}
    for _ in range(repeats + 1):
        for name, run in contenders.items():
            start = time.process_time()
            answer = run()
            seconds[name].append(time.process_time() - start)
            errors[name] = float((answer - truth).abs().mean())
    return {name: taken[1:] for name, taken in seconds.items()}, errors


def main(rows: int = 10_000, repeats: int = 15) -> None:
    world = SCM(x=Equation("u"), y=Equation("2*x + u"), z=Equation("0.5*u - y"))
    data = world.sample(rows, seed=0)
    truth = world.counterfactual(data, do={"x": data["x"] + 1})["z"]
    contenders = {"DoWhy-GCM": dowhy(data)}
    splines = SCM("x -> y -> z")
    affine = SCM("x -> y -> z", mechanisms={name: Flow(splines=0, hidden=()) for name in "xyz"})
    for model in (splines, affine):
        fit(model, data, epochs=10, seed=0, progress=False)
    chosen = choose(SCM("x -> y -> z"), data, seed=0)
    models = {"spline flows": splines, "affine flows": affine}
    models |= {"chosen": chosen.model, "the equations": world}
    contenders |= {f"rung3, {name}": rung3(model, data) for name, model in models.items()}
    seconds, errors = timed(contenders, truth, repeats)
    print(chosen)
    print(f"{rows} rows, {repeats} repeats after a first, {torch.get_num_threads()} threads")
    print(f"{'median':22}{'CPU ms':>10}{'least':>8}{'most':>8}{'ratio':>8}{'error':>10}")
    base = statistics.median(seconds["DoWhy-GCM"])
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(
            f"{name:22}{1000 * middle:10.1f}{1000 * min(taken):8.1f}{1000 * max(taken):8.1f}"
            f"{middle / base:8.2f}{errors[name]:10.4f}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
