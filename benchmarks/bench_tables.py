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
from collections.abc import Callable

import networkx as nx
import pandas as pd
import torch
from dowhy import gcm

from rung3 import SCM, choose, fit
from rung3.mechanisms import Equation, Flow

CHAIN = [("x", "y"), ("y", "z")]


def main(rows: int = 10_000, repeats: int = 15) -> None:
    gcm.config.disable_progress_bars()
    world = SCM(x=Equation("u"), y=Equation("2*x + u"), z=Equation("0.5*u - y"))
    data = world.sample(rows, seed=0)
    truth = world.counterfactual(data, do={"x": data["x"] + 1})["z"]
    frame = pd.DataFrame({name: value.double().numpy() for name, value in data.items()})

    theirs = gcm.InvertibleStructuralCausalModel(nx.DiGraph(CHAIN))
    gcm.auto.assign_causal_mechanisms(theirs, frame)
    gcm.fit(theirs, frame)

    def dowhy() -> torch.Tensor:
        shift = {"x": lambda x: x + 1}
        answer = gcm.counterfactual_samples(theirs, shift, observed_data=frame)
        return torch.tensor(answer["z"].to_numpy())

    splines = SCM("x -> y -> z")
    affine = SCM("x -> y -> z", mechanisms={name: Flow(splines=0, hidden=()) for name in "xyz"})
    for model in (splines, affine):
        fit(model, data, epochs=10, seed=0, progress=False)

    chosen = choose(SCM("x -> y -> z"), data, seed=0)

    def rung3(model: SCM) -> Callable[[], torch.Tensor]:
        def answer() -> torch.Tensor:
            with torch.no_grad():
                return model.counterfactual(data, do={"x": data["x"] + 1})["z"]

        return answer

    contenders = {
        "DoWhy-GCM": dowhy,
        "rung3, spline flows": rung3(splines),
        "rung3, affine flows": rung3(affine),
        "rung3, chosen": rung3(chosen.model),
        "rung3, the equations": rung3(world),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    errors = {}
    for _ in range(repeats + 1):
        for name, run in contenders.items():
            start = time.process_time()
            answer = run()
            seconds[name].append(time.process_time() - start)
            errors[name] = float((answer - truth).abs().mean())
    print(chosen)
    print(f"{rows} rows, {repeats} repeats after a first, {torch.get_num_threads()} threads")
    print(f"{'median':22}{'CPU ms':>10}{'least':>8}{'most':>8}{'ratio':>8}{'error':>10}")
    base = statistics.median(seconds["DoWhy-GCM"][1:])
    for name, taken in seconds.items():
        later = [1000 * second for second in taken[1:]]
        middle = statistics.median(later)
        print(
            f"{name:22}{middle:10.1f}{min(later):8.1f}{max(later):8.1f}"
            f"{middle / base / 1000:8.2f}{errors[name]:10.4f}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
