"""How often 95 % intervals of effects from tables hold the truth, by estimator and rows.

    python benchmarks/check_coverage.py [--studies 1000] [--rows 200 1000 5000] [--only TEXT]

Of so many simulated studies each: coverage, bias, and the median width of the intervals.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from effect_studies import STUDIES, Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 1000, 5000])
    parser.add_argument("--only", default="", help="part of an estimator's name")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| estimator | rows | held the truth | bias | width | refused | ms |\n|" + "---|" * 7)
    for name, study in STUDIES.items():
        if options.only not in name:
            continue
        for n in options.rows:
            print(row(name, study, n, options.studies), flush=True)


def row(name: str, study: Study, n: int, studies: int) -> str:
    held, refused = 0, 0
    values: list[float] = []
    widths: list[float] = []
    began = time.perf_counter()
    for seed in range(studies):
        try:
            estimate = study.estimate(seed, n)
        except ValueError:
            refused += 1
            continue
        held += estimate.low <= study.truth <= estimate.high
        values.append(estimate.effect)
        widths.append(estimate.high - estimate.low)
    took = (time.perf_counter() - began) / studies * 1000
    share = held / max(1, len(values))
    bias = np.median(values) - study.truth if values else np.nan
    return (
        f"| {name} | {n:,} | {share:.1%} | {bias:+.4f} | {np.median(widths):.3f} | {refused} "
        f"| {took:.0f} |"
    )


if __name__ == "__main__":
    main()
