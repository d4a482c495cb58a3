"""How long importing rung3 takes beside `import torch`: fresh processes, taken in turn.

`import rung3` loads nothing until a name is used; `from rung3 import SCM, fit, evaluate` loads what
they need, torch included.

python benchmarks/bench_import.py [repeats]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

STATEMENTS = ("import torch", "import rung3", "from rung3 import SCM, fit, evaluate")
TIMED = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"


def seconds(statement: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def main(repeats: int = 15) -> None:
    for statement in STATEMENTS:
        seconds(statement)
    taken: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(repeats):
        for statement in STATEMENTS:
            taken[statement].append(seconds(statement))
    base = statistics.median(taken[STATEMENTS[0]])
    for statement, times in taken.items():
        middle = statistics.median(times)
        print(
            f"{statement:38}{middle:6.2f} s ({min(times):.2f} to {max(times):.2f})"
            f"  ratio {middle / base:.2f}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
