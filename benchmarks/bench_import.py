"""How long `import rung3` takes beside `import torch`: fresh processes, taken in turn.

python benchmarks/bench_import.py [repeats]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

TIMED = "import time; s = time.perf_counter(); import {}; print(time.perf_counter() - s)"


def seconds(module: str) -> float:
    command = [sys.executable, "-c", TIMED.format(module)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def main(repeats: int = 15) -> None:
    modules = ("torch", "rung3")
    for module in modules:
        seconds(module)
    taken: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(repeats):
        for module in modules:
            taken[module].append(seconds(module))
    medians = {module: statistics.median(times) for module, times in taken.items()}
    for module, times in taken.items():
        print(f"{module:6} {medians[module]:.2f} s ({min(times):.2f} to {max(times):.2f})")
    print(f"ratio  {medians['rung3'] / medians['torch']:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
