"""A folder of small made pictures with a table of labels, and a study of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pictures

GRAPH = "{colour radius_px} -> file"


def write_flowers(folder: Path, n: int = 40, size: int = 12) -> Path:
    """Discs whose colour and radius follow the labels; two rows have no radius."""
    draw = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    lines = ["id,file,colour,radius_px,note"]
    down, across = np.mgrid[:size, :size]
    for k in range(n):
        radius, blue = draw.uniform(2, 5), k % 3 == 0
        disc = np.hypot(down - size / 2, across - size / 2) < radius
        pixels = np.full((size, size, 3), 30, np.uint8)
        pixels[disc] = (40, 60, 220) if blue else (220, 60, 40)
        name = f"f{k:02d}.png"
        Pictures.fromarray(pixels).save(folder / "pictures" / name)
        shown = "" if k in (5, 9) else f"{radius:.2f}"
        lines.append(f"{k},{name},{'blue' if blue else 'red'},{shown},free text {k}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def flowers_study(folder: Path) -> dict[str, Any]:
    """Return a small study of them, as a mapping."""
    return {
        "name": "flowers",
        "data": {"kind": "table", "path": "rows.csv", "test": 0.2, "validation": 0.1},
        "graph": GRAPH,
        "variables": {
            "file": {"kind": "Image", "channels": 3, "height": 12, "width": 12},
            "colour": {"kind": "Binary", "labels": ["red", "blue"]},
            "radius_px": {"kind": "Continuous", "unit": "px", "lower": 0, "missing": True},
        },
        "mechanisms": {"file": {"kind": "VAE", "latent": 2, "width": 4}},
        "training": {"epochs": 2, "batch_size": 8},
        "evaluation": {
            "interventions": {"radius_px": 3.0, "colour": "blue"},
            "particles": 2,
            "bootstrap": 4,
            "oracles": {"epochs": 2},
        },
    }
