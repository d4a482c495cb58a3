"""Rows a second of regressions by batches, beside DuckDB's scan of the same columns.

    python benchmarks/bench_streaming.py 10_000_000 /tmp/rows

writes a Parquet file of eight columns of floats and two of codes (33 bytes a row) if it is not
there, and prints for each task seconds of the processor, rows a second, the share of DuckDB's rate,
and the memory that the process took beyond its start. Every task has a process and one thread of
its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import rung3
import rung3.data
from rung3 import Binary, Continuous
from rung3.mechanisms import AdditiveNoise, Flow, InverseCDF

TASKS = ("duckdb", "moments", "linear", "effect", "logistic", "cells", "passes", "fit", "flow")
NAMES = ["a", "b", "c", "d", "e", "f", "g", "t", "k", "y"]
KINDS = {"t": Binary(), "k": Continuous()}
GROUP = 1_000_000
MIB = 2**20


def make(path: Path, n: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(0)
    writer = None
    for start in range(0, n, GROUP):
        m = min(GROUP, n - start)
        x = generator.standard_normal((7, m), dtype=np.float32)
        t = (generator.random(m, dtype=np.float32) < 1 / (1 + np.exp(-0.5 * x[0]))).astype(np.int8)
        k = generator.integers(0, 10, m, dtype=np.int8)
        noise = generator.standard_normal(m, dtype=np.float32)
        y = x[0] + 2 * t - x[1] + k * np.float32(0.1) + noise
        table = pa.table(dict(zip(NAMES, [*x, t, k, y], strict=True)))
        writer = writer or pq.ParquetWriter(path, table.schema, use_dictionary=["t", "k"])
        writer.write_table(table)
    if writer:
        writer.close()


def run(task: str, path: Path) -> str:
    from rung3.effects.tables import streaming

    features = [name for name in NAMES if name != "y"]
    covariates = [name for name in features if name != "t"]
    if task == "duckdb":
        import duckdb

        sums = ", ".join(f"avg({name}), stddev({name})" for name in NAMES)
        return str(
            len(
                duckdb.connect(config={"threads": 1})
                .execute(f"SELECT {sums} FROM '{path}'")
                .fetchall()
            )
        )
    if task == "moments":
        return str(streaming.moments(path, NAMES).n)
    if task == "linear":
        return f"t {streaming.linear(path, 'y', features).coefficients['t']:.4f}"
    if task == "effect":
        return f"{streaming.adjusted_effect(path, 't', 'y', covariates).value:.4f}"
    if task in ("cells", "passes"):
        given = ["k"] if task == "cells" else covariates
        return str(rung3.effect(rung3.data.streamed(path), "t", "y", adjust=given, variables=KINDS))
    if task in ("fit", "flow"):
        return fit(path, task)
    regression = streaming.logistic(path, "t", covariates)
    return f"a {regression.coefficients['a']:.4f}, {regression.passes} passes"


def fit(path: Path, task: str) -> str:
    """Fit a model of all columns, its outcome by moments; or a flow of it, for a minute."""
    outcome = AdditiveNoise(degree=1) if task == "fit" else Flow()
    mechanisms = {"t": InverseCDF(hidden=()), "y": outcome}
    model = rung3.SCM("a -> t; {a b c d e f g k t} -> y", KINDS, mechanisms)
    table = rung3.data.streamed(path)
    history = rung3.fit(model, table, epochs=1, max_seconds=60, progress=False)
    average = rung3.effects.average(model, {"t": 1}, "y", versus={"t": 0}, seed=0)
    rates = f", {history.rows_per_second[0]:,.0f} rows/s" if history.rows_per_second else ""
    return f"{average}{rates}"


def measure(task: str, path: Path) -> None:
    """Print what the task takes; the memory is that beyond the imports."""
    import pyarrow as pa
    import pyarrow.dataset

    import rung3.effects.tables.streaming
    import rung3.training.loop  # noqa: F401

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    result = run(task, path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / MIB
    print(f"{task:9} {cpu:7.2f} s of CPU {wall:7.2f} s  {more:6.0f} MiB more  {result}", flush=True)


def main() -> None:
    n, path = int(sys.argv[1].replace("_", "")), Path(sys.argv[2]).with_suffix(".parquet")
    if not path.is_file():
        make(path, n)
    print(f"{n:,} rows, {path.stat().st_size / MIB:,.0f} MiB")
    for task in TASKS:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run([sys.executable, __file__, "--task", task, path], check=True,
                       env=environment)  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "--task":
        measure(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
