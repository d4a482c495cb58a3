"""Missing causes of an image, read off the image by predictors.

A posterior over what is missing needs the image's likelihood, of which an autoencoder has only a
bound. A predictor that was trained to tell a cause from the image alone, `d(x) ~ pa`, gives one
value instead. Answers that rest on such values say so (`Provenance.read`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Continuous
from rung3.scm.imputation import gaps
from rung3.scm.model import Model

__all__ = ["Reader", "fill", "shares"]


class Reader(Protocol):
    """What tells a value from an image; `rung3.evaluation.Oracle` is one."""

    def read(self, images: Tensor) -> Tensor:
        """Return values, `(n, ...)`, in the variable's unit, of images `(n, C, H, W)`."""
        ...


@torch.no_grad()
def fill(model: Model, rows: Rows) -> tuple[Rows, dict[str, Tensor]]:
    """Fill the gaps that the model's readers can tell from images; others stay.

    A variable that is not given at all is a gap in every row.

    Args:
        model: The model; its `readers` are used.
        rows: Rows as `Model.read` gives them, batched or not.

    Returns:
        The rows, and by variable a mask `(n,)` of what was filled.
    """
    batch = rows.batch
    masks = gaps(model, batch) if model.readers else {}
    values, filled = dict(batch), {}
    for (image, name), reader in model.readers.items():
        if name in filled or image not in batch:
            continue
        everywhere = torch.ones(batch.n, dtype=torch.bool, device=batch[image].device)
        lacks = masks.get(name, ~everywhere) if name in batch else everywhere
        at = lacks & ~masks.get(image, torch.zeros_like(lacks))
        if not at.any() or (name not in batch and not at.all()):
            continue
        variable = model.variables[name]
        read = reader.read(batch[image][at])
        if isinstance(variable, Continuous):
            read = read.clamp(variable.lower, variable.upper)
        validated = variable.validate(name, read)
        values[name], filled[name] = _put(batch.get(name), at, validated), at
    full = {name: value if rows.batched else value[0] for name, value in values.items()}
    return Rows(full, batched=rows.batched, provenance=rows.provenance) if filled else rows, filled


def _put(value: Tensor | None, at: Tensor, validated: Tensor) -> Tensor:
    """Return a variable's values with those that were read in their places."""
    if value is None:
        return validated
    whole = value.clone()
    whole[at] = validated.to(whole)
    return whole


def shares(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the share of rows that each mask is of."""
    return {name: float(mask.float().mean()) for name, mask in masks.items()}
