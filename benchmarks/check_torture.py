"""Break runs, models and checkpoints many times over, and print what was right.

    python benchmarks/check_torture.py                 all of it, about an hour on one core
    python benchmarks/check_torture.py --share 0.1     a tenth of it

What is tried is in `tests/support/torture.py`; the tests try a few of each. Ends in failure if
anything was wrong, and says what.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import torture
from torture import Tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the cases to try")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    wrong = []
    print("| kind | tried | right |\n|---|---:|---:|", flush=True)
    for kinds, call in trials(args.share, args.seed):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            outcomes = call(Path(folder))
        tallies = (outcomes,) if isinstance(outcomes, Tally) else outcomes
        for kind, tally in zip(kinds, tallies, strict=True):
            print(f"| {kind} | {tally.tried:,} | {tally.right:,} |", flush=True)
            wrong += [f"{kind}: {fault}" for fault in tally.wrong]
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if wrong:
        raise SystemExit("\n".join(["", "wrong:", *wrong]))


def trials(
    share: float, seed: int
) -> list[tuple[tuple[str, ...], Callable[[Path], Tally | tuple[Tally, Tally]]]]:
    """What is tried, under which names."""

    def n(most: int) -> int:
        return max(1, round(share * most))

    def some(moments: int) -> range:
        return range(0, moments, max(1, round(1 / share)))

    return [
        (
            ("a model's files damaged", "a model's files altered, and their seals rewritten"),
            lambda folder: torture.models(folder, n(2000), seed),
        ),
        (
            ("a checkpoint damaged", "a checkpoint damaged, and its seal rewritten"),
            lambda folder: torture.checkpoints(folder, n(200), seed),
        ),
        (
            ("a file of a finished run damaged",),
            lambda folder: torture.damaged_runs(folder, n(1000), seed),
        ),
        (
            ("a model read while another replaces it",),
            lambda folder: torture.polled(folder, n(1000)),
        ),
        (
            ("a table study stopped before or after each write",),
            lambda folder: torture.crashes(torture.TABLE, folder, some),
        ),
        (
            ("an image study stopped before or after each write",),
            lambda folder: torture.crashes(torture.IMAGES, folder, some),
        ),
        (
            ("`rung3 run` killed at some moment (kill -9)",),
            lambda folder: torture.kills(torture.TABLE, folder, n(60), seed),
        ),
    ]


if __name__ == "__main__":
    main()
