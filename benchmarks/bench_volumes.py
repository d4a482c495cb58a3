"""A training step on volumes: seconds of processor time a volume, and peak memory.

    python benchmarks/bench_volumes.py [SIZE ...]

Each case runs in a process of its own, on one thread, with a batch of one volume.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from rung3 import Continuous, Image
from rung3.mechanisms import HVAE, VAE

KINDS = {"VAE": VAE, "HVAE": HVAE}


def measure(kind: str, size: int, checkpointing: bool) -> str:
    """Return a line: kind, size, parameters, seconds a volume, and MB above what torch takes."""
    torch.set_num_threads(1)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mechanism = KINDS[kind](checkpointing=checkpointing)
    bound = mechanism.bind("scan", Image(1, size, size, size), {"age": Continuous()})
    volume, parents = torch.rand(1, 1, size, size, size), {"age": torch.rand(1)}
    volume = (255 * volume).round() / 255
    for _ in range(2):  # the first step also makes what convolutions need
        start = time.process_time()
        bound.loss(volume, parents).backward()
        seconds = time.process_time() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
    count = sum(parameter.numel() for parameter in bound.parameters()) / 1e6
    how = "checkpointing" if checkpointing else "plain"
    return f"{kind:5} {size:4} {how:14} {count:6.1f} M {seconds:7.2f} s {memory:7.0f} MB"


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] in KINDS:
        print(measure(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1"), flush=True)
        return
    for size in map(int, sys.argv[1:] or ["32", "48", "64", "96", "128", "160"]):
        for kind in KINDS:
            for checkpointing in "01":
                words = [sys.executable, __file__, kind, str(size), checkpointing]
                subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
