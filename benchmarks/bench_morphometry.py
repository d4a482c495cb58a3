"""Thickness of digits: ours beside the public Morpho-MNIST package's, at equal scale.

Theirs is `ImageMorphology(image, scale=...).mean_thickness`, image by image; ours measures all at
once. Both are run on the same images, in turn, on one thread; medians, of CPU time an image, and
the median of the runs' ratios. Fetch github.com/dccastro/Morpho-MNIST beside the repository.

    python benchmarks/bench_morphometry.py --rival ../Morpho-MNIST --data ../shared/data/mnist
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rung3 import data
from rung3.worlds.strokes.morphometry import measure_thickness


def timed(measure: Callable[[], Any]) -> tuple[float, np.ndarray]:
    """CPU seconds, and what was measured."""
    start = time.process_time()
    values = np.asarray(measure())
    return time.process_time() - start, values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rival", type=Path, required=True, help="folder that holds morphomnist/")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/mnist"))
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--scales", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    sys.path.insert(0, str(options.rival))
    from morphomnist.morpho import ImageMorphology

    torch.set_num_threads(1)
    images = data.mnist(options.data, "test")["image"][: options.images]
    levels = (255 * images[:, 0]).round().to(torch.uint8).numpy()
    print(f"{len(levels)} images of {levels.shape[1]} x {levels.shape[2]}, one thread, CPU time")
    print(f"{'scale':>5}{'theirs':>12}{'ours':>12}{'ratio':>8}{'least':>8}{'most apart':>14}")
    for scale in options.scales:

        def reference(scale: int = scale) -> list[float]:
            return [ImageMorphology(image, scale=scale).mean_thickness for image in levels]

        def measured(scale: int = scale) -> torch.Tensor:
            return measure_thickness(images, scale=scale)

        first = images[:16], levels[:16]
        measure_thickness(first[0], scale=scale)
        ImageMorphology(first[1][0], scale=scale)
        runs = [(timed(reference), timed(measured)) for _ in range(options.repeats)]
        seconds = [(slow[0], fast[0]) for slow, fast in runs]
        ratios = [slow / fast for slow, fast in seconds]
        each = [1000 * statistics.median(one) / len(levels) for one in zip(*seconds, strict=True)]
        apart = np.abs(runs[0][0][1] - runs[0][1][1]).max()
        print(
            f"{scale:5}{each[0]:9.2f} ms{each[1]:9.2f} ms{statistics.median(ratios):8.1f}"
            f"{min(ratios):8.1f}{apart:11.4f} px",
            flush=True,
        )


if __name__ == "__main__":
    main()
