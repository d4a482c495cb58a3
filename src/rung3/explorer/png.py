"""Maps as PNG, pixel for pixel: the page scales them up, and writes nothing on them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from rung3.data.pictures import (
    SEQUENTIAL,
    SPREAD_END,
    by_channel,
    colours_png,
    planar,
    shade,
    signed,
)

__all__ = ["SIGNED", "SPREAD", "signed_png", "spread_png"]

SIGNED = 255
"""Grey levels at either end of the colours of a signed map."""

SPREAD = round(255 * SPREAD_END)
"""Grey levels (standard deviation) at the end of the colours of a spread."""


def signed_png(change: Float[Tensor, "c ..."], at: float = 0.5) -> bytes:
    """Return a difference of two images as PNG: channels side by side, on the scale about zero.

    Of a volume three slices are shown, cut `at` a share of every axis.
    """
    return colours_png(signed(by_channel(planar(change, at=at))))


def spread_png(spread: Float[Tensor, "c ..."], at: float = 0.5) -> bytes:
    """Return a standard deviation over draws as PNG: its channels averaged, from zero on."""
    return colours_png(shade(planar(spread, at=at).mean(0), SEQUENTIAL, 0, SPREAD_END))
