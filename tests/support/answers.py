"""Answers to one question about the blobs, from right to wrong in a known way.

`true` is the world's, `near` and `far` are off by a little noise, `nothing` is the factual image,
`shuffled` has another row's noise, and `wrong sign` moves every pixel the other way.
"""

from __future__ import annotations

import torch
from blobs import base, world
from torch import Tensor

from rung3.data.rows import Rows

ORDER = ("true", "near", "far")
WRONG = ("nothing", "shuffled", "wrong sign")


def question(n: int, seed: int = 0) -> tuple[Rows, dict[str, Tensor], Rows]:
    """Rows, what is done to them (positions of other rows), and the truth."""
    rows = world().sample(n, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    do = {"position": rows["position"][torch.randperm(n, generator=generator)]}
    return rows, do, world().counterfactual(rows, do)


def images(rows: Rows, true: Rows, seed: int = 0) -> dict[str, Tensor]:
    """Images `(n, 1, 12, 12)` by name."""
    generator = torch.Generator().manual_seed(seed)
    before = base(rows["position"], rows["brightness"])
    after = base(true["position"], true["brightness"])
    left = rows["image"] - before
    noise = torch.randn(left.shape, generator=generator)
    return {
        "true": true["image"],
        "near": true["image"] + 0.002 * noise,
        "far": true["image"] + 0.01 * noise,
        "nothing": rows["image"],
        "shuffled": after + left.roll(1, 0),
        "wrong sign": rows["image"] + before - after,
    }
