"""Make the models that rung3 holds: run their studies, and put what a reader needs on the shelf.

    python benchmarks/make_models.py [NAME ...] [--runs FOLDER]

A run that is there already is taken as it is. About a quarter of an hour on one CPU core each.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from rung3.data.files import write_json
from rung3.scm.zoo import SHELF, digest_of
from rung3.study import RunFolder, Study, run_study
from rung3.study.packaged import study_file

MODELS = {
    "digits": ("small-digits", "drawn digits, by thickness, intensity and digit: a small HVAE"),
}
"""Study and title of each model."""

KEPT = (
    "study.yaml", "history.json", "oracles.safetensors", "metrics.json", "scores.safetensors",
    "examples.safetensors", "card.md",
)  # fmt: skip
"""Files of a run that go on the shelf, beside its model."""

LARGEST = 6_000_000
"""Bytes that a model may have."""


def shelve(name: str, runs: Path) -> dict[str, str]:
    """Run a model's study unless that was done, and copy what is kept; return its entry."""
    study, title = MODELS[name]
    run = RunFolder(runs / study)
    if not run.finished:
        run_study(Study.load(study_file(study)), run.path, say=print, progress=True)
    place = SHELF / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run.model_path, place / "model")
    for file in KEPT:
        shutil.copy(run.path / file, place / file)
    metrics = json.loads((place / "metrics.json").read_text("utf-8"))
    metrics["run"]["command"] = f"rung3 run {study}"
    write_json(place / "metrics.json", metrics)
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    assert size < LARGEST, f"{name} has {size:,} bytes; expected less than {LARGEST:,}"
    print(f"{name}: {size:,} bytes")
    return {"title": title, "digest": digest_of(place)}


def main() -> None:
    """Make all models, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], default=[])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    index = SHELF / "models.json"
    listed = json.loads(index.read_text("utf-8")) if index.is_file() else {}
    for name in given.names or MODELS:
        listed[name] = shelve(name, given.runs)
    index.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
