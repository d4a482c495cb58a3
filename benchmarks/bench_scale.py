"""Fit and counterfactuals of a million rows of ten mixed columns: rows a second, and memory.

A world of five numbers, two yes-or-no, an ordinal and two categorical columns. Each size runs in a
process of its own, whose peak memory is the operating system's; one epoch of batches of 4,096 with
the default mechanisms, and then `do` of one cause on all rows, in parts of 50,000.

python benchmarks/bench_scale.py [rows ...]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from rung3 import SCM, Binary, Categorical, Continuous, Ordinal, fit
from rung3.mechanisms import Equation, InverseCDF

SIZES = (100_000, 300_000, 1_000_000)
PART = 50_000
ARROWS = (
    "region -> income; {region income} -> plan; {income age} -> spending; {plan spending} -> usage;"
    "{usage plan} -> calls; {calls age} -> satisfaction; {satisfaction income} -> leaves;"
    "{age usage} -> mobile"
)
COLUMNS = {
    "region": Categorical(4),
    "age": Continuous(lower=18),
    "income": Continuous(),
    "plan": Categorical(3),
    "spending": Continuous(),
    "usage": Continuous(),
    "calls": Continuous(),
    "satisfaction": Ordinal(5),
    "leaves": Binary(),
    "mobile": Binary(),
}
UNIFORM = {"noise": "Uniform(0, 1)"}
TRUE = {
    "region": InverseCDF(table=[0.4, 0.3, 0.2, 0.1]),
    "age": Equation("18 + 30*u", noise="Exponential(1)"),
    "income": Equation("region/2 + exp(u/2)"),
    "plan": Equation("minimum(2, floor(3*u*sigmoid(income - region/4)*1.3))", **UNIFORM),
    "spending": Equation("income + tanh(age/40) + u/2"),
    "usage": Equation("plan + spending/2 + u"),
    "calls": Equation("usage - plan + exp(usage/8)*u"),
    "satisfaction": Equation("floor(5*u*sigmoid(2 - calls/2 - age/90))", **UNIFORM),
    "leaves": Equation("u < sigmoid(1 - satisfaction - income/4)", **UNIFORM),
    "mobile": Equation("u < sigmoid(usage - age/20)", **UNIFORM),
}


def one(rows: int) -> None:
    """One size, in this process."""
    torch.set_num_threads(1)
    data = {k: v.clone() for k, v in SCM(ARROWS, COLUMNS, TRUE).sample(rows, seed=0).items()}
    head = {k: v[:1_000] for k, v in data.items()}
    fit(SCM(ARROWS, COLUMNS), head, epochs=1, progress=False)  # imports, which are not timed
    before = _memory()
    model = SCM(ARROWS, COLUMNS)
    start = time.process_time()
    fit(model, data, epochs=1, batch_size=4_096, progress=False)
    fitted = time.process_time()
    for first in range(0, rows, PART):
        part = {k: v[first : first + PART] for k, v in data.items()}
        model.counterfactual(part, do={"income": lambda income: income + 1}, seed=0)
    answered = time.process_time()
    for what, seconds in (("fit", fitted - start), ("counterfactuals", answered - fitted)):
        print(f"{rows:>10,} {what:16}{seconds:8.1f} s {rows / seconds:12,.0f} rows/s", end="")
        print(f"{_memory():10.2f} GiB at most ({before:.2f} before)", flush=True)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        one(int(sys.argv[2]))
        return
    print("CPU time of one thread")
    for rows in map(int, sys.argv[1:] or SIZES):
        subprocess.run([sys.executable, "-W", "ignore", __file__, "one", str(rows)], check=True)


if __name__ == "__main__":
    main()
