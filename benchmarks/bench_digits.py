"""How fast the world of drawn digits samples: images a second, rows and noise included.

python benchmarks/bench_digits.py [images] [repeats]
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from rung3 import worlds


def main(images: int = 10_000, repeats: int = 7) -> None:
    world = worlds.digits()
    world.sample(images, seed=0)
    rates = []
    for seed in range(repeats):
        start = time.perf_counter()
        world.sample(images, seed=seed)
        rates.append(images / (time.perf_counter() - start))
    print(f"{images} images, {repeats} repeats, {torch.get_num_threads()} threads")
    print("images/s: " + " ".join(f"{rate:,.0f}" for rate in rates))
    print(f"median:   {statistics.median(rates):,.0f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
