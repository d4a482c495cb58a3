"""What `rung3 counterfactual RUN --row 0` takes: seconds of the processor, our files and our calls.

The seconds are of a fresh process, imports included: the least of several. Modules are those that
it has imported at its end. Files and calls are those of functions of rung3 when the command runs a
second time in one process, so without imports.

    python benchmarks/bench_one_row.py [RUN] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from records import Figure, add_option, record


def ask(run: str) -> None:
    """Run the command."""
    from rung3.cli import app

    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "answer.png")
        words = ["counterfactual", run, "--row", "0", "--do", "thickness=4", "--out", out]
        app(words, standalone_mode=False)


def measure(run: str) -> dict[str, float]:
    """Measure the command in this process, which has imported nothing of rung3."""
    start = time.process_time()
    ask(run)
    seconds = time.process_time() - start
    modules = [name for name in sys.modules if name.startswith("rung3")]
    home = str(Path(sys.modules["rung3"].__path__[0]))
    calls = Counter[str]()

    def count(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(home):
            calls[frame.f_code.co_filename] += 1

    sys.setprofile(count)
    ask(run)
    sys.setprofile(None)
    return {
        "seconds": seconds,
        "modules": len(modules),
        "files": len(calls),
        "calls": calls.total(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default="rung3/digits")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", action="store_true", help="one measurement, in this process")
    add_option(parser)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.run)))
        return
    command = [sys.executable, "-W", "ignore", __file__, options.run, "--one"]
    measurements = []
    for _ in range(options.repeats):
        lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        measurements.append(json.loads(lines.splitlines()[-1]))
    figures = {
        name: Figure(min(one[name] for one in measurements), "s" if name == "seconds" else "")
        for name in measurements[0]
    }
    for name, figure in figures.items():
        print(f"{name:10}{figure.value:10.2f} {figure.unit}")
    record(options.json, "one row", figures)


if __name__ == "__main__":
    main()
