"""How long importing rung3 takes beside `import torch`: fresh processes, taken in turn.

`import rung3` loads nothing until a name is used; `from rung3 import SCM, fit, evaluate` loads what
they need, torch included.

    python benchmarks/bench_import.py [--repeats 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from records import Figure, add_option, record

STATEMENTS = ("import torch", "import rung3", "from rung3 import SCM, fit, evaluate")
TIMED = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"


def seconds(statement: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    add_option(parser)
    options = parser.parse_args()
    for statement in STATEMENTS:
        seconds(statement)
    taken: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(options.repeats):
        for statement in STATEMENTS:
            taken[statement].append(seconds(statement))
    base = statistics.median(taken[STATEMENTS[0]])
    figures = {}
    for statement, times in taken.items():
        middle = statistics.median(times)
        print(
            f"{statement:38}{middle:6.2f} s ({min(times):.2f} to {max(times):.2f})"
            f"  ratio {middle / base:.2f}"
        )
        if middle != base:
            figures[statement] = Figure(middle / base, "times import torch")
    record(options.json, "import", figures)


if __name__ == "__main__":
    main()
