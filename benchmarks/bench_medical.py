"""How many images a second the medical worlds draw, and what building the brain costs.

CPU time on one thread; the worlds draw with as many threads as torch has.

    python benchmarks/bench_medical.py
    python benchmarks/bench_medical.py --json before.json        and see `compare.py`
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from records import Figure, add_option, record
from rung3 import SCM, worlds
from rung3.worlds.medical.atlas import has_template


def seconds_an_image(world: SCM, n: int, repeats: int) -> float:
    """Return the median CPU seconds of an image."""
    world.sample(8, seed=0)  # the tables that are made once
    times = []
    for seed in range(repeats):
        start = time.process_time()
        world.sample(n, seed=seed)
        times.append((time.process_time() - start) / n)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 96, 192])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    add_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    print(f"{'world':<18}{'size':>5}{'images/s':>10}{'to build, s':>13}   (one thread, CPU time)")
    sources = ["phantom", *["template"] * has_template()]
    for size in options.sizes:
        for name in [*(f"brain, {source}" for source in sources), "chest"]:
            start = time.process_time()
            if name == "chest":
                world = worlds.chest(size)
            else:
                world = worlds.brain(size, template="template" in name)
            built = time.process_time() - start
            each = seconds_an_image(world, options.images, options.repeats)
            figures[f"{name}, {size} px"] = Figure(1e3 * each, "ms")
            print(f"{name:<18}{size:>5}{1 / each:>10.0f}{built:>13.2f}", flush=True)
    record(options.json, "medical worlds", figures)


if __name__ == "__main__":
    main()
