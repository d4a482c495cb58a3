"""From a folder of your own images to a verdict: commands, CPU minutes, and the skill reached.

    python benchmarks/bench_own_images.py FOLDER [--away PX] [--seed S] [--set KEY=VALUE ...]

600 pictures of 64x64 are drawn: a disc whose colour and radius follow two labels, on a random grey,
with noise; ten radii are left out. As people photograph things, it is near the middle: up to 4 px
away from it across and down, or as far as is said. Then `rung3 init` and `rung3 run`, as a user
types them. The true counterfactuals are drawn with the same place, grey and noise.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pictures
from torch import Tensor

from rung3.data.distances import distance
from rung3.data.readers.table import table
from rung3.study.folder import RunFolder

COLOURS = {"red": (220, 60, 40), "green": (50, 180, 70), "blue": (40, 60, 220)}

GRAPH = "{colour radius_px} -> file"

NOISE = 4.0
"""Standard deviation of the pixels' noise, in grey levels."""


@dataclass(frozen=True)
class Scene:
    """A picture's causes, and what else is drawn."""

    colour: str
    radius: float
    place: tuple[float, float]
    grey: float
    noise: NDArray[np.float64]

    def draw(self, size: int = 64) -> NDArray[np.uint8]:
        """Return its pixels, `(size, size, 3)`, the disc's edge smooth."""
        down, across = np.mgrid[:size, :size]
        away = np.hypot(down - self.place[0], across - self.place[1])
        inside = np.clip(self.radius + 0.5 - away, 0, 1)[..., None]
        pixels = inside * np.array(COLOURS[self.colour]) + (1 - inside) * self.grey + self.noise
        return np.asarray(pixels.round().clip(0, 255), np.uint8)


def scenes(n: int, seed: int, away: float) -> list[Scene]:
    """Return scenes of random causes, discs at most so many pixels away from the middle."""
    draw = np.random.default_rng(seed)
    ends = 32 - away, 32 + away
    return [
        Scene(
            str(draw.choice([*COLOURS])),
            float(draw.uniform(5, 14)),
            (float(draw.uniform(*ends)), float(draw.uniform(*ends))),
            float(draw.uniform(20, 160)),
            draw.normal(0, NOISE, (64, 64, 3)),
        )
        for _ in range(n)
    ]


def write(folder: Path, pictures: list[Scene], gaps: int) -> None:
    """Write pictures and their table; the first radii are left out."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = ["id,file,colour,radius_px"]
    for k, scene in enumerate(pictures):
        Pictures.fromarray(scene.draw()).save(folder / "images" / f"{k:03d}.png")
        radius = "" if k < gaps else f"{scene.radius:.3f}"
        lines.append(f"{k},images/{k:03d}.png,{scene.colour},{radius}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def skill(run: Path, folder: Path, pictures: list[Scene]) -> dict[str, float]:
    """Return the skill of each intervention, and print the errors in grey levels."""
    study, model = RunFolder(run).study(), RunFolder(run).model()
    test, _ = RunFolder(run).test()
    variables = study.declared()
    rows = table(folder / "labels.csv", variables=variables)
    known = [int(_same(rows["file"], picture)) for picture in test["file"]]
    chosen = [k for k in range(len(known)) if not test["radius_px"][k].isnan()]
    factual = [pictures[known[k]] for k in chosen]
    others = factual[1:] + factual[:1]
    changed = {
        "colour": [replace(s, colour=o.colour) for s, o in zip(factual, others, strict=True)],
        "radius_px": [replace(s, radius=o.radius) for s, o in zip(factual, others, strict=True)],
    }
    subset, skills = test[torch.tensor(chosen)], {}
    for name, truths in changed.items():
        write(folder / f"true-{name}", truths, 0)
        truth = table(folder / f"true-{name}" / "labels.csv", variables=variables)["file"]
        nothing = float(distance(variables["file"], subset["file"], truth).mean())
        for temperature, which in ((0.0, "from z alone"), (1.0, "noise kept")):
            targets = {name: torch.roll(subset[name], -1)}
            answer = model.counterfactual(subset, targets, seed=0, temperature=temperature)["file"]
            error = float(distance(variables["file"], answer, truth).mean())
            skills[name] = 1 - error / nothing
            print(f"do({name}), {which}: error {error:.2f}, skill {skills[name]:.2f}")
        print(f"do({name}): doing nothing {nothing:.2f}")
    return skills


def _same(images: Tensor, picture: Tensor) -> Tensor:
    return (images - picture).abs().flatten(1).sum(1).argmin()


def main() -> None:
    """Draw the pictures, run the commands, and print what they cost and what was reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--away", type=float, default=4.0, help="from the middle, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", nargs="*", default=[], help="further words of init")
    parser.add_argument("--set", nargs="*", default=[], help="changes of the study, KEY=VALUE")
    given = parser.parse_args()
    pictures = scenes(600, given.seed, given.away)
    write(given.folder, pictures, gaps=10)
    program = [sys.executable, "-m", "rung3"]
    changes = [word for change in given.set for word in ("--set", change)]
    for words in (
        ["init", "labels.csv", "--graph", GRAPH, "--name", "own", "--overwrite", *given.init],
        ["run", "own.yaml", *changes],
    ):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "RUNG3_CACHE": str((given.folder / "cache").resolve())}
        subprocess.run([*program, *words], cwd=given.folder, check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"rung3 {words[0]}: {seconds:.0f} s of CPU")
    skills = skill(given.folder / "runs" / "own", given.folder, pictures)
    verdict = RunFolder(given.folder / "runs" / "own").verdict()
    print(f"mean skill {sum(skills.values()) / len(skills):.2f}; {verdict and verdict.headline}")


if __name__ == "__main__":
    main()
