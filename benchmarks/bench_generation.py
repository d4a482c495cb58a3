"""Counterfactual images a second: of the model alone, and as shards by one worker and by two.

    python benchmarks/bench_generation.py [ROWS] [PIXELS]

The model is an untrained VAE of PIXELS x PIXELS (96) images. Each way is timed in turn, several
times, on one thread a process; seconds of the processor count what other processes do not take.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from rung3 import SCM, Image, Rows
from rung3.mechanisms import VAE, Equation
from rung3.scm import generate
from rung3.scm.generation import group_rows

ROUNDS = 3


def clock(pid: int | str = "self") -> float:
    """Return CPU seconds of a process and of all that it started, ended or not (Linux)."""
    place = Path("/proc") / str(pid)
    times = place.joinpath("stat").read_text().rpartition(")")[2].split()[11:15]
    children = place.joinpath("task", place.resolve().name, "children").read_text().split()
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK") + sum(map(clock, children))


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    pixels = int(sys.argv[2]) if len(sys.argv) > 2 else 96
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds = {"image": Image(1, pixels, pixels)}
    model = SCM("t -> image", kinds, {"t": Equation("u"), "image": VAE(latent=16)}).eval()
    image = torch.randint(256, (n, 1, pixels, pixels)) / 255
    rows = Rows({"t": torch.randn(n), "image": image})
    size = group_rows(model)

    def alone() -> None:
        with torch.no_grad():
            for start in range(0, n, size):
                part = rows[start : start + size]
                model.counterfactual(part, {"t": part["t"] + 1}, seed=start)

    def shards(workers: int) -> None:
        folder = Path(tempfile.mkdtemp())
        try:
            generate(model, rows, {"t": "t + 1"}, folder / "out", shard_rows=n // 8,
                     workers=workers, progress=False)  # fmt: skip
        finally:
            shutil.rmtree(folder)

    ways: dict[str, Callable[[], None]] = {
        "the model alone": alone, "one worker": lambda: shards(1), "two workers": lambda: shards(2)
    }  # fmt: skip
    alone()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            wall, cpu = time.perf_counter(), clock()
            call()
            seconds[name].append((n / (time.perf_counter() - wall), n / (clock() - cpu)))
    print(f"{n} images of {pixels}x{pixels}, groups of {size}, load {os.getloadavg()[0]:.1f}")
    for name, rates in seconds.items():
        wall, cpu = (median(rate) for rate in zip(*rates, strict=True))
        print(f"{name:16} {wall:7.0f} images/s {cpu:7.0f} images per CPU second")


if __name__ == "__main__":
    main()
