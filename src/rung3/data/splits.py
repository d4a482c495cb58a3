"""Rows set aside for validation: they come from the training rows, never from the test set."""

from __future__ import annotations

import torch

from rung3.data.rows import Rows
from rung3.data.seeding import Seed, base_seed

__all__ = ["split"]


def split(rows: Rows, validation: float = 0.1, seed: Seed = 0) -> tuple[Rows, Rows]:
    """Divide training rows at random into training and validation rows.

    Args:
        rows: The training rows.
        validation: Share set aside, between 0 and 1.
        seed: Which rows; the same seed gives the same ones.

    Returns:
        Training rows and validation rows, with their noise where it is known.

    Raises:
        ValueError: If a part would be empty.

    Example:
        >>> train, validation = split(Rows({"x": torch.arange(50.0)}), validation=0.2)
        >>> train.n, validation.n
        (40, 10)
    """
    held = round(validation * rows.n) if 0 < validation < 1 else 0
    if not 0 < held < rows.n:
        raise ValueError(
            f"validation={validation} of {rows.n} rows leaves a part empty; expected a share "
            "between 0 and 1 that sets at least one row aside, and leaves one"
        )
    generator = torch.Generator().manual_seed(base_seed(seed))
    order = torch.randperm(rows.n, generator=generator)
    return rows.select(order[held:].sort().values), rows.select(order[:held].sort().values)
