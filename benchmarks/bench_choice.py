"""CPU seconds of `fit` that chooses mechanisms, and of DoWhy-GCM's automatic assignment and fit.

The table is of lines with normal noise, `x -> y; {x y} -> z`. The first call of each is left out;
then they run in turn, one thread each. DoWhy is left out where it is not installed.

    OMP_NUM_THREADS=1 python benchmarks/bench_choice.py [--rows 1000000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from rung3 import SCM, fit


def lines(n: int) -> pd.DataFrame:
    x, e, f = np.random.default_rng(0).normal(size=(3, n))
    y = x / 2 + e
    return pd.DataFrame({"x": x, "y": y, "z": x + y + f})


def rung3_fit(frame: pd.DataFrame) -> Any:
    return fit(SCM("x -> y; {x y} -> z"), frame, progress=False)


def dowhy(frame: pd.DataFrame) -> Any:
    import networkx as nx
    from dowhy import gcm

    gcm.config.disable_progress_bars()
    gcm.config.set_default_n_jobs(1)
    graph = nx.DiGraph([("x", "y"), ("x", "z"), ("y", "z")])
    model = gcm.InvertibleStructuralCausalModel(graph)
    gcm.auto.assign_causal_mechanisms(model, frame)
    gcm.fit(model, frame)


def seconds(call: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> float:
    start = time.process_time()
    call(frame)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    calls = {"rung3": rung3_fit} | ({"DoWhy": dowhy} if find_spec("dowhy") else {})
    frame = lines(options.rows)
    for call in calls.values():
        call(frame[:2_000])
    for _ in range(options.repeats):
        print("  ".join(f"{name} {seconds(call, frame):.2f} s" for name, call in calls.items()))


if __name__ == "__main__":
    main()
