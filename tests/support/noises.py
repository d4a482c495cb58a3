"""Noise as what it is: one tensor, or one a level."""

from __future__ import annotations

from torch import Tensor

from rung3.data.rows import Noise


def whole(noise: Noise) -> Tensor:
    """Noise of a single tensor."""
    assert isinstance(noise, Tensor)
    return noise


def levels(noise: Noise) -> dict[str, Tensor]:
    """Noise of several tensors, by name."""
    assert isinstance(noise, dict)
    return noise
