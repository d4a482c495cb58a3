"""Train the supervised ceiling of a world, and print its skill beside other baselines.

    python benchmarks/train_ceiling.py digits --out FILE
    python benchmarks/train_ceiling.py morphomnist --mnist MNIST --morphomnist FOLDER --out FILE

It trains on rows drawn from the world (for Morpho-MNIST, on raw training digits), and is tested on
others: 500 fresh rows of the digits world, or the first 400 official test rows of Morpho-MNIST and
their published true counterfactuals (`truth.npz`). An evaluation has it among the world's
baselines once it lies in `src/rung3/evaluation/baselines/ceilings/`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rung3 import SCM, data, worlds
from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.evaluation.baselines.ceiling import WIDTH, Ceiling, fit_ceiling
from rung3.evaluation.measures.base import Baseline
from skill import Question, questions

CAUSES = ("thickness", "intensity", "digit")


def main() -> None:
    args = arguments()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    world = worlds.digits() if args.world == "digits" else worlds.morphomnist(args.mnist, "train")
    start = time.process_time()
    options = {"width": args.width, "bfloat16": args.bfloat16, "seed": args.seed}
    ceiling = fit_ceiling(world, "image", n=args.rows, epochs=args.epochs, **options)
    ceiling.save(args.out)
    print(f"{args.rows} rows, {args.epochs} epochs, width {args.width}, seed {args.seed}")
    print(f"{time.process_time() - start:.0f} CPU-seconds, {args.out.stat().st_size} bytes")
    for label, reason in ceiling.skipped.items():
        print(f"not trained on {label}: {reason}")
    test, by_cause = exam(args, world)
    print(scores(world, Ceiling.load(args.out), test, by_cause))


def exam(args: argparse.Namespace, world: SCM) -> tuple[Rows, dict[str, Question]]:
    """Test rows, and what to ask of them."""
    if args.world == "digits":
        test = world.sample(500, seed=args.seed + 1)
        return test, questions(world, test, "image", CAUSES, torch.device("cpu"), test.n)
    test = data.morphomnist(args.morphomnist, "test")[:400]
    with np.load(args.morphomnist / "truth.npz") as arrays:
        truth = {name: torch.from_numpy(part) for name, part in arrays.items()}
    return test, {f"do({k})": published(test, truth, k) for k in ("thickness", "intensity")}


def published(test: Rows, truth: dict[str, Tensor], cause: str) -> Question:
    """A published intervention: what was set, what followed, and the true images."""
    names = ("thickness", "intensity") if cause == "thickness" else ("intensity",)
    after = {name: truth[f"do_{cause}_{name}"].float() for name in names}
    parents = {name: test[name] for name in CAUSES} | after
    return Question(parents, truth[f"do_{cause}_image"][:, None].float() / 255)


def scores(world: SCM, ceiling: Ceiling, test: Rows, by_cause: dict[str, Question]) -> str:
    """Skill of the ceiling and of the world's baselines, one intervention a line."""
    image, variable = test["image"], world.variables["image"]
    before = {name: test[name] for name in CAUSES}
    lines = []
    for label, (after, true) in by_cause.items():
        nothing = distance(variable, image, true).mean()
        lines.append(f"{label}: doing nothing {nothing:.2f} grey levels; skill")
        baselines: dict[str, Baseline] = {**world.baselines, "this ceiling": ceiling}
        for name, baseline in baselines.items():
            error = distance(variable, baseline(image, before, after), true).mean()
            lines.append(f"    {name:20} {1 - error / nothing:.3f}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("world", choices=("digits", "morphomnist"))
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--mnist", type=Path, help="folder of the MNIST IDX files")
    parser.add_argument("--morphomnist", type=Path, help="folder of Morpho-MNIST and truth.npz")
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--bfloat16", action="store_true", help="train in bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.world == "morphomnist" and None in (args.mnist, args.morphomnist):
        parser.error("morphomnist needs --mnist and --morphomnist")
    return args


if __name__ == "__main__":
    main()
