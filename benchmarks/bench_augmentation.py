"""Whether counterfactual augmentation helps a classifier, on colour digits and on radiographs.

    python benchmarks/bench_augmentation.py chest    [--out FOLDER]
    python benchmarks/bench_augmentation.py colour   [--out FOLDER]

Fits a small model of the images to the training rows, or loads it from FOLDER, trains classifiers
in five ways (see `rung3.evaluation.tasks.robustness`), and writes a picture and the numbers there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

from rung3 import SCM, Rows, fit, load, worlds
from rung3.data.files import write_json
from rung3.evaluation.tasks.robustness import compare_training
from rung3.mechanisms import VAE
from rung3.training.augmentation import Plan


class Case(NamedTuple):
    """A world in which something tells the label.

    Attributes:
        world: The world.
        rows: Number of training rows, of the model and of the classifiers.
        image: The image's mechanism.
        epochs: Passes of its training.
        label: What is predicted.
        plan: How rows are augmented.
    """

    world: SCM
    rows: int
    image: VAE
    epochs: int
    label: str
    plan: Plan


def case(name: str) -> Case:
    if name == "chest":
        return Case(
            worlds.chest(32, site=True, referral=0.97),
            2_000,
            VAE(latent=16, width=16, depth=1, likelihood="discretised", beta=2),
            16,
            "disease",
            Plan(change="site", independent_of="disease"),
        )
    return Case(
        worlds.colour("digit-hue", outliers=0.02),
        6_000,
        VAE(latent=16, width=8, depth=2, likelihood="discretised", beta=2),
        11,
        "digit",
        Plan(change="hue", independent_of="digit", temperature=0),
    )


def fitted(chosen: Case, rows: Rows, folder: Path) -> SCM:
    """Load the model from the folder, or fit it and keep it there."""
    if (folder / "model").is_dir():
        return load(folder / "model")
    model = SCM(chosen.world.graph, chosen.world.variables, {"image": chosen.image})
    start = time.process_time()
    fit(model, rows, only=["image"], epochs=chosen.epochs, batch_size=32, seed=0, progress=False)
    rest = [name for name in chosen.world.variables if name != "image"]
    fit(model, rows, only=rest, epochs=chosen.epochs, batch_size=256, seed=0, progress=False)
    print(f"model: {time.process_time() - start:.0f} CPU seconds")
    model.save(folder / "model")
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", choices=["chest", "colour"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("-n", type=int, default=4_000)
    options = parser.parse_args()
    chosen, folder = case(options.world), options.out or Path("runs") / f"augment-{options.world}"
    rows = chosen.world.sample(chosen.rows, seed=0)
    model = fitted(chosen, rows, folder)
    start = time.process_time()
    comparison = compare_training(
        chosen.world, model, rows, chosen.label, chosen.plan,
        seeds=options.seeds, steps=options.steps, n=options.n,
    )  # fmt: skip
    print(comparison, comparison.augmented, sep="\n")
    print(f"comparison: {time.process_time() - start:.0f} CPU seconds")
    comparison.figure().savefig(folder / "augmentation.png")
    write_json(folder / "augmentation.json", comparison.records())
