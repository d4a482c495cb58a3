"""What a scanner does to an image: bias field, noise, and the habits of a site.

    y = |x b + s n|,      |c| = (c_1^2 + c_2^2)^(1/2),      b = exp(sum_k a_k cos(k . p)),

with x the contrast, b the bias field, and n complex normal noise: the magnitude is Rician. A site
bends the contrast and blurs it first, x <- G_w * x^g, and has a noise level s of its own. All
randomness is exogenous: `do(site)` shows the same noise at another site, which is harmonisation.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["BIAS", "SITES", "Site", "at_site", "bias_field", "blurred", "pixel_noise", "rician"]


class Site(NamedTuple):
    """A site.

    Attributes:
        name: Its name.
        gamma: Exponent g of the contrast curve.
        blur: Standard deviation w of the blur, in pixels of a 64-pixel image.
        noise: Noise level s, of a range from 0 to 1.
    """

    name: str
    gamma: float
    blur: float
    noise: float


SITES = (Site("A", 1.0, 0.0, 0.02), Site("B", 0.75, 0.6, 0.015), Site("C", 1.35, 0.3, 0.035))
"""The sites; the first is the scanner of a world without sites."""

BIAS = tuple(itertools.product(range(3), repeat=2))[1:]
"""Frequencies of the bias field along two axes, in half waves across the image."""

BIAS_LOG = 0.05
"""Standard deviation of a coefficient of the bias field's logarithm."""


def bias_field(
    coefficients: Float[Tensor, "n k"], shape: tuple[int, ...]
) -> Float[Tensor, "n 1 ..."]:
    """Return a smooth field near 1 that multiplies an image, the same in all slices.

    Args:
        coefficients: Standard normal, `(n, len(BIAS))`.
        shape: Height and width, or depth, height and width.
    """
    height, width = (
        math.pi * (torch.arange(size, device=coefficients.device) + 0.5) / size
        for size in shape[-2:]
    )
    waves = torch.stack([(i * height).cos()[:, None] * (j * width).cos() for i, j in BIAS])
    field = (BIAS_LOG * torch.einsum("nk,khw->nhw", coefficients, waves)).exp()
    return field.view(-1, *(1,) * (len(shape) - 1), *shape[-2:]).expand(-1, 1, *shape)


def pixel_noise(seeds: Int[Tensor, " n"], shape: tuple[int, ...]) -> Float[Tensor, "n 2 ..."]:
    """Draw standard normal noise of pixels, real and imaginary part, from one seed a row.

    A seed is 8 bytes, and the noise of a small image 32 kB: so rows can carry their noise.
    """
    generator = torch.Generator()
    drawn = [
        torch.randn(2, *shape, generator=generator.manual_seed(seed)) for seed in seeds.tolist()
    ]
    return torch.stack(drawn).to(seeds.device) if drawn else torch.empty(0, 2, *shape)


def rician(image: Tensor, noise: Float[Tensor, "n 2 ..."], level: Tensor) -> Tensor:
    """Add noise to an image `(n, 1, ...)` and return the magnitude, in levels of eight bits."""
    level = level.view(-1, *(1,) * (image.ndim - 1))
    magnitude = torch.hypot(image + level * noise[:, :1], level * noise[:, 1:])
    return magnitude.clamp(0, 1).mul_(255).round_().div_(255)


def at_site(image: Tensor, site: Int[Tensor, " n"] | None) -> tuple[Tensor, Tensor]:
    """Return an image's contrast as a site shows it, and the site's level of noise `(n,)`.

    Args:
        image: Contrast in [0, 1], `(n, 1, ...)`.
        site: Number of each row's site; the first one if not given.
    """
    if site is None:
        return image, torch.full((len(image),), SITES[0].noise, device=image.device)
    shown = image.clone()
    for number, kind in enumerate(SITES):
        rows = site == number
        if rows.any():
            width = kind.blur * image.shape[-1] / 64
            shown[rows] = blurred(image[rows] ** kind.gamma, width)
    levels = torch.tensor([kind.noise for kind in SITES], device=image.device)
    return shown, levels[site.long()]


def blurred(image: Tensor, width: float) -> Tensor:
    """Blur images `(n, 1, ...)` by a Gaussian of so many pixels, in all spatial axes."""
    if width == 0:
        return image
    reach = math.ceil(3 * width)
    weights = torch.exp(
        -(torch.arange(-reach, reach + 1, device=image.device) ** 2) / (2 * width**2)
    )
    weights = weights / weights.sum()
    for axis in range(2, image.ndim):
        swept = torch.nn.functional.pad(image.movedim(axis, -1), (reach, reach))
        image = (swept.unfold(-1, 2 * reach + 1, 1) @ weights).movedim(-1, axis)
    return image
