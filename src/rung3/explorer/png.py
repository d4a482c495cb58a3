"""Images and maps as PNG, pixel for pixel: the page scales them up, and writes nothing on them."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Float
from torch import Tensor

from rung3.data.pictures import SEQUENTIAL, SPREAD_END, by_channel, pixels, planar, shade, signed

__all__ = ["SIGNED", "SPREAD", "image_png", "signed_png", "spread_png"]

SIGNED = 255
"""Grey levels at either end of the colours of a signed map."""

SPREAD = round(255 * SPREAD_END)
"""Grey levels (standard deviation) at the end of the colours of a spread."""


def image_png(image: Float[Tensor, "c ..."], at: float = 0.5) -> bytes:
    """Return an image in [0, 1] as PNG: three channels in colour, any others as their mean grey.

    Of a volume, here and below, three slices are shown, cut `at` a share of every axis.
    """
    return _encode(pixels(planar(image, at=at)))


def signed_png(change: Float[Tensor, "c ..."], at: float = 0.5) -> bytes:
    """Return a difference of two images as PNG: channels side by side, on the scale about zero."""
    return _encode(signed(by_channel(planar(change, at=at))))


def spread_png(spread: Float[Tensor, "c ..."], at: float = 0.5) -> bytes:
    """Return a standard deviation over draws as PNG: its channels averaged, from zero on."""
    return _encode(shade(planar(spread, at=at).mean(0), SEQUENTIAL, 0, SPREAD_END))


def _encode(shown: Float[Tensor, "h w *colours"]) -> bytes:
    from PIL import Image

    levels = (shown * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(file, "PNG", compress_level=1)
    return file.getvalue()
