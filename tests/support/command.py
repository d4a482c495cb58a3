"""The command `rung3` called in this process, and a tiny study for it to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from rung3.cli import app

DIGITS: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "digits", "train": 300, "test": 40, "validation": 0.1},
    "graph": "thickness -> intensity; {digit thickness intensity} -> image",
    "variables": {
        "digit": {"kind": "Categorical", "classes": 10},
        "thickness": {"kind": "Continuous", "unit": "px", "lower": 0},
        "intensity": {"kind": "Continuous", "unit": "grey level", "lower": 0, "upper": 255},
        "image": {"kind": "Image", "channels": 1, "height": 32, "width": 32},
    },
    "mechanisms": {"image": {"kind": "VAE", "latent": 4}},
    "training": {"epochs": 1, "batch_size": 64},
    "evaluation": {
        "interventions": {"thickness": "thickness + 2", "digit": 3},
        "n": 24,
        "particles": 2,
        "bootstrap": 20,
        "oracles": {"epochs": 1, "rows": 128},
    },
}


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


def write(folder: Path, **parts: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(DIGITS | parts), encoding="utf-8")
    return path
