"""What the usual calls take on small models: fit, counterfactuals of many rows and one, evaluate.

CPU seconds of this process: the least of several repetitions, after one that is not counted.

    python benchmarks/bench_calls.py [--repeats 7] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch

from records import Figure, add_option, record
from rung3 import SCM, evaluate, fit, worlds
from rung3.mechanisms import Flow


def calls() -> dict[str, Callable[[], object]]:
    """By name, what is timed."""
    world = worlds.lecture()
    rows = world.sample(10_000, seed=0)
    flow = Flow(bins=8)
    model = SCM(world.graph, mechanisms=dict.fromkeys(world.variables, flow))
    fit(model, rows, epochs=1, seed=0, progress=False)
    some, do = rows[:200], {"x1": 1.0}

    def fitting() -> object:
        fresh = SCM(world.graph, mechanisms=dict.fromkeys(world.variables, flow))
        return fit(fresh, rows, epochs=1, seed=0, progress=False)

    return {
        "fit, one epoch of 10,000 rows": fitting,
        "counterfactual of 10,000 rows": lambda: model.counterfactual(rows, do, seed=0),
        "counterfactual of one row": lambda: model.counterfactual(rows[0], do, seed=0),
        "evaluate, standard, 200 rows": lambda: evaluate(model, some, world, progress=False),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    figures = {}
    for name, call in calls().items():
        call()
        seconds = []
        for _ in range(options.repeats):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
        figures[name] = Figure(min(seconds), "s")
        print(f"{name:34}{min(seconds):9.4f} s (at most {max(seconds):.4f})")
    record(options.json, "calls", figures)


if __name__ == "__main__":
    main()
