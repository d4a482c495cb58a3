"""Colour on strokes: paint them, and measure hue and saturation.

A grey stroke g is painted with hue h, in turns, and saturation s, as HSV has it: for the channels
red, green and blue, with n = 5, 3 and 1,

    x_n = g - g s max(0, min(k_n, 4 - k_n, 1)),     k_n = (n + 6 h) mod 6.

So `max_n x_n = g`: whatever the colour, the shape can be read off exactly. Hue and saturation are
those of the mean colour m of the bright pixels, whose largest channel is at or above half the
image's largest:

    s(x) = (max m - min m) / max m,     h(x) = the h that paints m.

Source: Smith 1978, *Color gamut transform pairs* (SIGGRAPH 12:12-19).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["grey", "measure_hue", "measure_saturation", "paint"]


def paint(
    shape: Float[Tensor, "n 1 h w"], hue: Float[Tensor, " n"], saturation: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 h w"]:
    """Paint grey images, each in one colour.

    Args:
        shape: Grey images on black, in [0, 1].
        hue: 0 is red, 1/3 green, 2/3 blue, and 1 red again.
        saturation: From 0, grey, to 1.

    Returns:
        Colours in [0, 1], multiples of 1/255.

    Example:
        >>> white = torch.ones(2, 1, 1, 1)
        >>> paint(white, torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.6])).flatten(1)
        tensor([[1.0000, 0.0000, 0.0000],
                [0.4000, 1.0000, 1.0000]])
    """
    channel = torch.tensor([5.0, 3.0, 1.0], device=shape.device)
    k = torch.remainder(channel + 6 * hue[:, None], 6)
    dark = torch.minimum(k, 4 - k).clamp(0, 1) * saturation[:, None]
    colours = shape * (1 - dark)[:, :, None, None]
    return (255 * colours).round() / 255


def grey(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return the shape that was painted: the largest channel of each pixel."""
    return images.amax(1, keepdim=True)


def measure_hue(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Measure the hue of the strokes, in turns, in [0, 1); 0 for what has no colour.

    Args:
        images: Strokes on black, in [0, 1].

    Example:
        >>> white = torch.ones(1, 1, 4, 4)
        >>> measure_hue(paint(white, torch.tensor([0.7]), torch.tensor([0.5])))
        tensor([0.6995])
    """
    colour = _mean_colour(images)
    most, which = colour.max(1)
    chroma = (most - colour.amin(1)).clamp_min(1e-12)
    after, before = colour.roll(-1, 1), colour.roll(-2, 1)
    sixth = (after - before).gather(1, which[:, None])[:, 0] / chroma
    hue = torch.remainder((2 * which + sixth) / 6, 1)
    return torch.where(hue < 1, hue, 0.0)


def measure_saturation(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Measure the saturation of the strokes, in [0, 1]; 0 for a blank image.

    Args:
        images: Strokes on black, in [0, 1].

    Example:
        >>> white = torch.ones(1, 1, 4, 4)
        >>> measure_saturation(paint(white, torch.tensor([0.7]), torch.tensor([0.5])))
        tensor([0.4980])
    """
    colour = _mean_colour(images)
    most = colour.amax(1)
    return (most - colour.amin(1)) / most.clamp_min(1e-12)


def _mean_colour(images: Tensor) -> Tensor:
    """Return the mean colour of the bright pixels, `(n, 3)`."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images: expected shape (n, 3, H, W), got {tuple(images.shape)}")
    shape = images.amax(1, keepdim=True)
    bright = shape >= shape.amax((2, 3), keepdim=True) / 2
    return (images * bright).sum((2, 3)) / bright.sum((2, 3))
