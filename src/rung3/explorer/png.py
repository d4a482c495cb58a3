"""Images and maps as PNG, pixel for pixel: the page scales them up, and writes nothing on them.

A signed map has the one scale of all pictures, centred on zero: red where there is more, blue where
there is less, both told apart by every kind of colour vision, over the whole range of an image.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from rung3.cli.picture import by_channel, signed

__all__ = ["SIGNED", "SPREAD", "image_png", "signed_png", "spread_png", "uri"]

SIGNED = 255
"""Grey levels at either end of the colours of a signed map."""

SPREAD = 64
"""Grey levels (standard deviation) at the end of the colours of a spread."""


def image_png(image: Float[Tensor, "c h w"]) -> bytes:
    """An image in [0, 1]: three channels in colour, any others as the grey of their mean."""
    pixels = image.detach().cpu().clamp(0, 1)
    shown = pixels.movedim(0, -1) if len(pixels) == 3 else pixels.mean(0)
    return _encode((shown * 255).round().byte().numpy())


def signed_png(change: Float[Tensor, "c h w"]) -> bytes:
    """A difference of two images, channels side by side, on the fixed scale about zero."""
    return _encode((signed(by_channel(change)) * 255).round().byte().numpy())


def spread_png(spread: Float[Tensor, "c h w"]) -> bytes:
    """A standard deviation over draws, its channels averaged, on a fixed scale from zero."""
    at = spread.detach().cpu().mean(0) * (255 / SPREAD)
    return _encode(_colours("cividis")[(at.clamp(0, 1) * 255).round().long().numpy()])


def uri(png: bytes) -> str:
    """The picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


@cache
def _colours(name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The 256 colours of a scale, `(256, 3)`."""
    from matplotlib import colormaps

    shades: np.ndarray[Any, Any] = colormaps[name](np.arange(256), bytes=True)
    return shades[:, :3]


def _encode(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=1)
    return file.getvalue()
