"""What an image mechanism costs as work grows: images/s by batch, resolution and particles.

Training is loss, gradients and update; a counterfactual is abduct, act and predict, eps included,
and with K particles it counts as K images. One thread; seconds are those spent on the processor.
The picture goes to `docs/images/cost.png`.

    python benchmarks/bench_cost.py
    python benchmarks/bench_cost.py --mechanism '{kind: VAE, width: 32}' '{kind: HVAE}'
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt

from rung3.data.rows import map_noise
from subjects import bound, mechanism_option, rows, training_step

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "cost.png"
BATCH, SIZE = 16, 32
PANELS: Mapping[str, tuple[int, ...]] = {
    "batch size": (1, 4, 16, 64, 256),
    "resolution, px": (32, 64, 96, 128, 192),
    "particles": (1, 4, 16, 64),
}
"""What grows; the others stay at `BATCH`, `SIZE` and one particle."""

STYLES = {"training": "--s", "counterfactuals": "-o"}


def work(text: str, kind: str, panel: str, x: int) -> tuple[Callable[[], None], int]:
    """What to time, and how many images it comes to."""
    n = x if panel == "batch size" else BATCH
    particles = x if panel == "particles" else 1
    mechanism = bound(text, x if panel == "resolution, px" else SIZE)
    if kind == "training":
        optimizer = torch.optim.AdamW(mechanism.parameters())
        return lambda: training_step(mechanism, optimizer, n), n
    value, parents, others = rows(mechanism.variable.shape, n)
    others = {name: column.repeat(particles) for name, column in others.items()}

    @torch.no_grad()
    def answer() -> None:
        noise = mechanism.abduct(value, parents, particles)
        mechanism.predict(map_noise(lambda part: part.flatten(0, 1), noise), others)

    return answer, n * particles


def rate(run: Callable[[], None], images: int, seconds: float, repeats: int) -> float:
    """Median images a second, of runs of at least so many seconds, after a first."""
    run()
    rates = []
    for _ in range(repeats):
        start, done = time.process_time(), 0
        while time.process_time() - start < seconds:
            run()
            done += images
        rates.append(done / (time.process_time() - start))
    return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    mechanism_option(parser, ["{kind: VAE}", "{kind: HVAE}"])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a run, at least")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figure, axes = plt.subplots(
        1, len(PANELS), figsize=(11, 3.8), sharey=True, layout="constrained"
    )
    for panel, ax in zip(PANELS, axes, strict=True):
        for colour, text in enumerate(options.mechanism):
            for kind in STYLES:
                if (panel, kind) == ("particles", "training"):
                    continue
                curve = {
                    x: rate(*work(text, kind, panel, x), options.seconds, options.repeats)
                    for x in PANELS[panel]
                }
                spelt = "  ".join(f"{x}: {y:,.1f}" for x, y in curve.items())
                print(f"{text}, {kind}, images/s by {panel}: {spelt}", flush=True)
                ax.plot(*zip(*curve.items(), strict=True), STYLES[kind], color=f"C{colour}",
                        label=f"{bound(text, SIZE).describe()}, {kind}")  # fmt: skip
        dress(ax, panel)
    axes[0].set_ylabel("images/s, one thread")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(options.picture, dpi=150)


def dress(ax: Any, panel: str) -> None:
    ax.set(xscale="log", yscale="log", xlabel=panel)
    ax.set_xticks(PANELS[panel], [f"{x}" for x in PANELS[panel]])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
