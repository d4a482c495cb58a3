"""Images that lie on disk: memory of preparing, fitting and evaluating, and the loader's rate.

    python benchmarks/bench_disk.py 100_000 /tmp/images
    python benchmarks/bench_disk.py --row 1_000_000 /tmp/rows

The first writes so many 8-bit pictures of 96x96 as PNG, 4,096 of which differ, if they are not
there, and prints for each step, in a process and on a thread of its own, the seconds of the
processor, images a second, and the peak of resident memory less that after the imports. The second
writes a run of so many rows of 32x32, prepared on disk, and times one of its rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

SIZE = 96
STEPS = ("prepare", "held", "loader", "fit", "evaluate")
DISTINCT = 4_096
CPU_SECONDS = 45
MIB = 2**20

STUDY = {
    "name": "disk",
    "data": {"kind": "table", "path": "rows.csv", "test": 0.05, "prepared": "prepared"},
    "graph": "size -> light; {size light} -> scan",
    "variables": {"scan": {"kind": "Image", "channels": 1, "height": SIZE, "width": SIZE}},
    "mechanisms": {"scan": {"kind": "VAE", "latent": 8, "width": 4}},
    "training": {"epochs": 1, "batch_size": 128},
}


def make(folder: Path, n: int) -> None:
    """Write pictures of a blob whose size and light are the row's."""
    from PIL import Image

    (folder / "png").mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    size = draw.uniform(8, 20, min(n, DISTINCT))[np.arange(n) % DISTINCT]
    light = 8 * size + draw.normal(40, 8, min(n, DISTINCT))[np.arange(n) % DISTINCT]
    y, x = np.mgrid[:SIZE, :SIZE]
    lines = ["size,light,scan"]
    for k in range(n):
        path = folder / f"png/{k}.png"
        lines.append(f"{size[k]:.4f},{light[k]:.4f},png/{k}.png")
        if k >= DISTINCT:  # another name of the same bytes: what is measured does not see it
            path.hardlink_to(folder / f"png/{k % DISTINCT}.png")
            continue
        a, b = draw.uniform(30, 66, 2)
        blob = light[k] * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * size[k] ** 2))
        pixels = np.clip(blob + draw.integers(0, 8, (SIZE, SIZE)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)
    (folder / "rows.csv").write_text("\n".join(lines))
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))


def prepare(folder: Path) -> int:
    from rung3.study.preparing import prepare_study
    from rung3.study.study import Study

    study = Study.load(folder / "study.yaml")
    prepare_study(study, progress=False)
    return study.splits().train.n


def held(folder: Path) -> int:
    """Hold all in memory, as stored bytes."""
    from rung3 import data
    from rung3.study.study import Study

    kinds = Study.load(folder / "study.yaml").declared()
    return data.table(folder / "rows.csv", variables=kinds, progress=False).n


def loader(folder: Path) -> int:
    """Go through the training rows once, in the order of training."""
    from rung3.study.study import Study
    from rung3.training.batches import Shuffled, Table

    study = Study.load(folder / "study.yaml")
    train, mechanisms = study.splits().train, study.model().mechanisms
    batches = Shuffled(Table(train, mechanisms.values()), 128, seed=0)
    for _ in range(len(batches)):
        next(batches).of(mechanisms["scan"])
    return len(batches) * batches.size


def fit(folder: Path) -> int:
    """Train for an epoch, or as far as it comes in so many seconds; the model is saved."""
    from rung3.study.study import Study
    from rung3.training.fitting import fit_mechanisms as train_model
    from rung3.training.loop import Loop

    study, steps = Study.load(folder / "study.yaml"), 0

    def stop(loop: Loop, *_: object) -> None:
        nonlocal steps
        steps += 1
        loop.done = steps
        loop.trainer.should_stop = time.process_time() > CPU_SECONDS
        if loop.trainer.should_stop:
            loop.trainer.limit_train_batches = steps

    setattr(Loop, "on_train_batch_end", stop)  # noqa: B010
    splits, model = study.splits(), study.model()
    train_model(model, splits.train, splits.validation, epochs=1, batch_size=128, progress=False)
    model.save(folder / "model")
    return steps * 128


def evaluate(folder: Path) -> int:
    from rung3 import evaluate as examine
    from rung3.scm.scm import load
    from rung3.study.study import Study
    from rung3.training.oracles.oracles import fit_oracles

    splits, model = Study.load(folder / "study.yaml").splits(), load(folder / "model")
    oracles = fit_oracles(model, splits.train[:1_024], epochs=1, progress=False)
    n = min(128, splits.test.n)
    examine(model, splits.test, None, splits.train, oracles=oracles, n=n, progress=False)
    return n


def resident(what: str) -> float:
    """Return resident memory in MiB as Linux tells it: now, `VmRSS`, or at its peak, `VmHWM`."""
    line = next(k for k in Path("/proc/self/status").read_text().splitlines() if what in k)
    return float(line.split()[1]) / 1024


def measure(step: str, folder: Path) -> None:
    import lightning.pytorch  # noqa: F401
    import torch

    import rung3.evaluation
    import rung3.study.run
    import rung3.training.fitting  # noqa: F401

    torch.set_num_threads(1)
    work: Callable[[Path], int] = globals()[step]
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, cpu = resident("VmRSS"), time.process_time()
    n = work(folder)
    seconds = time.process_time() - cpu
    more = resident("VmHWM") - before
    print(f"| {step} | {seconds:.0f} s | {n / seconds:,.0f} | {more:,.0f} MiB |", flush=True)


def row(folder: Path, n: int) -> None:
    """Time one row of a run of many."""
    from rung3.study.folder import RunFolder

    if not RunFolder(folder / "run").data_path.is_file():
        make_run(folder, n)
    RunFolder(folder / "run").study()  # imports
    for at in (0, n // 40, n // 20 - 1):
        start, cpu = time.perf_counter(), time.process_time()
        RunFolder(folder / "run").test(at)
        print(f"row {at}: {time.perf_counter() - start:.2f} s, {time.process_time() - cpu:.2f} CPU")


def make_run(folder: Path, n: int) -> None:
    """Write a run of so many rows, prepared on disk, with images of noise."""
    import torch

    from rung3 import Image
    from rung3.data.gathering import FileReader, Note, Notes
    from rung3.data.inside import File
    from rung3.data.readers.table import unread_table
    from rung3.data.unread import Unread
    from rung3.study.folder import RunFolder
    from rung3.study.study import Study

    class NoiseReader(FileReader):
        """What makes an image of noise instead of reading a file."""

        what, threads = "file", False

        def read(self, file: File) -> tuple[torch.Tensor, Note | None]:
            return images[int(Path(str(file)).name) % len(images)], None

        def conclude(self, notes: Notes, n: int) -> None:
            pass

    images = torch.randint(0, 256, (512, 1, 32, 32)) / 255
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{k / n},{k % 7}.5,{k}" for k in range(n)]
    (folder / "rows.csv").write_text("\n".join(["size,light,scan", *lines]))
    image = {"kind": "Image", "channels": 1, "height": 32, "width": 32}
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | {"variables": {"scan": image}}))
    study = Study.load(folder / "study.yaml")
    (listing,) = study.data.listings(study.declared())  # type: ignore[union-attr]
    unread = unread_table(folder / "rows.csv", variables=listing.kinds)
    readers = {"scan": (NoiseReader("scan", Image(1, 32, 32)), unread.images["scan"][1])}
    listing.write(Unread(unread.names, unread.values, readers, n), {"subjects": None})
    run = RunFolder(folder / "run")
    run.claim(study)
    run.remember(study.splits())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("n", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--row", action="store_true")
    parser.add_argument("--step", choices=STEPS)
    given = parser.parse_args()
    if given.step:
        measure(given.step, given.folder)
        return
    if given.row:
        row(given.folder, given.n)
        return
    if not (given.folder / "study.yaml").is_file():
        make(given.folder, given.n)
    print("| step | CPU | images a second of CPU | memory beyond the imports |\n|---|---|---|---|")
    for step in STEPS:
        command = [sys.executable, "-W", "ignore", __file__, str(given.n), str(given.folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--step", step], env=environment, check=True)


if __name__ == "__main__":
    main()
