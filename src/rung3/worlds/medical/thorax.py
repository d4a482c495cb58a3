"""A chest radiograph drawn from parametric anatomy: which pixel shows what, and how bright it is.

Positions are in half widths of the image: x from -1 at the left edge to 1 (the patient's left side
lies at the right, as radiographs are read), y from -1 at the top to 1. Every outline is a smooth
level, and a pixel's share of it is the level's logistic function, so images of all sizes show the
same chest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["GROUPS", "SHAPE", "TEXTURE", "Chest", "draw", "shade"]

SHAPE = (
    "centre", "width", "apex", "right dome", "left dome", "dome curve", "heart width",
    "heart height", "heart turn", "mediastinum", "aorta", "rib phase", "rib spacing",
    "rib slope", "clavicle", "breast", "scoliosis",
)  # fmt: skip
"""Standard normal numbers that shape a chest."""

TEXTURE = 24
"""Waves that make the vessels' pattern in the lungs."""

GROUPS = ("A", "B", "C")
"""Names of the groups of `race`, and no more than names."""

EDGE = 0.022
"""Width of an outline's edge."""

LUNG = 0.20
"""Grey level of lung."""

SOFT = 0.52
"""Grey level of soft tissue."""

HEART = 0.30
"""Grey level that the heart adds to lung."""

BELLY = 0.74
"""Grey level of the belly."""

FLUID = 0.76
"""Grey level of fluid."""


@dataclass(frozen=True)
class Chest:
    """Which share of each pixel shows what, `(n, h, w)` each.

    Attributes:
        body: The body's outline.
        lungs: Lung fields, with what the heart and fluid hide of them left out.
        heart: The heart.
        fluid: Pleural fluid.
        cage: The inside of the rib cage, above the diaphragm.
        below: What lies under the diaphragm.
        middle: The mediastinum.
    """

    body: Tensor
    lungs: Tensor
    heart: Tensor
    fluid: Tensor
    cage: Tensor
    below: Tensor
    middle: Tensor


def draw(
    size: int,
    shape: Float[Tensor, "n k"],
    age: Float[Tensor, " n"],
    male: Float[Tensor, " n"],
    fluid: Float[Tensor, "n 2"],
) -> Chest:
    """Draw the anatomy of n chests.

    Args:
        size: Pixels a side.
        shape: Standard normal, in the order of `SHAPE`.
        age: In years: hearts and aortas widen.
        male: 1 or 0: the thorax is wider, or narrower.
        fluid: Height of the fluid in the right and in the left pleura, as a share of the lung; 0
            for none.
    """
    part = _named(shape)
    x, y = _positions(size, shape)
    years = ((age - 60) / 10)[:, None, None]
    male = male[:, None, None]
    x = x - 0.02 * part["centre"] - 0.015 * part["scoliosis"] * torch.sin(2 * y)
    side = x.abs()
    left = torch.sigmoid(x / 0.02)
    width = 0.74 + 0.03 * (2 * male - 1) + 0.025 * part["width"]
    top = -0.80 + 0.03 * part["apex"]
    # The rib cage: round above, straight below.
    rise = ((0.05 - y) / (0.05 - top)).clamp(0, 1.5)
    wall = width * (1 - rise**3.2) - 0.04 * (y - 0.05).clamp_min(0)
    dome = 0.50 + 0.035 * part["right dome"] + left * (0.06 + 0.02 * part["left dome"])
    curve = 1.5 + 0.2 * part["dome curve"]
    floor = dome + curve * (side / width - 0.45).clamp_min(-0.35) ** 2 * width
    cage = _inside(torch.minimum(wall - side, floor - y))
    # Mediastinum, with the knob of the aorta at the left.
    knob = (0.055 + 0.012 * years + 0.012 * part["aorta"]) * torch.exp(-(((y + 0.36) / 0.11) ** 2))
    flank = 0.115 + 0.012 * part["mediastinum"] + 0.03 * (y + 0.2) ** 2 + left * knob
    middle = _inside(flank - side)
    heart = _heart(x, y, part, years) * _inside(floor + 0.03 - y)
    below = _inside(y - floor) * _inside(wall + 0.02 - side)
    filled = _fluid(side, y, wall, floor, top, left, fluid)
    lungs = cage * (1 - middle) * (1 - heart)
    filled = filled * _inside(wall - side) * (1 - middle)
    neck = 0.24 + 1.9 * (y + 0.86).clamp_min(0) ** 0.55
    body = _inside(torch.minimum(neck, width + 0.17 + 0.05 * (y - 0.2)) - side)
    return Chest(body, lungs * (1 - filled), heart, filled, cage, below, middle)


def shade(
    chest: Chest,
    shape: Float[Tensor, "n k"],
    texture: Float[Tensor, "n t"],
    age: Float[Tensor, " n"],
    male: Float[Tensor, " n"],
    race: Int[Tensor, " n"],
) -> Float[Tensor, "n 1 h w"]:
    """Return how bright the anatomy is, in [0, 1].

    Args:
        chest: What `draw` gave.
        shape: The same numbers.
        texture: Standard normal coefficients of the vessels' pattern.
        age: In years: bone thins.
        male: 1 or 0: without or with the shadow of breasts.
        race: Number of the group, which sets an arbitrary smooth change of intensity.
    """
    part = _named(shape)
    x, y = _positions(chest.body.shape[-1], shape)
    side, years = x.abs(), ((age - 60) / 10)[:, None, None]
    air = chest.cage * (1 - chest.middle)
    image = SOFT * chest.body
    image = torch.lerp(image, torch.full_like(image, LUNG), air)
    hila = torch.exp(-(((side - 0.17) / 0.10) ** 2) - (((y + 0.02) / 0.16) ** 2))
    image = image + air * (0.13 * hila + _vessels(x, y, texture))
    image = image + HEART * chest.heart * (0.5 + 0.5 * air) + 0.12 * chest.middle * chest.body
    image = torch.lerp(image, torch.full_like(image, BELLY), chest.below * chest.body)
    windpipe = _inside(0.045 - (x - 0.02 * part["centre"]).abs()) * _inside(-0.28 - y)
    image = image - 0.15 * windpipe * chest.body
    bone = 1 - 0.12 * years
    image = image + chest.body * bone * (_ribs(x, y, part) * chest.cage + _clavicles(side, y, part))
    image = image + 0.07 * bone * _inside(0.075 - side) * chest.body * (1 - chest.heart)
    breast = (1 - male)[:, None, None] * (0.085 + 0.012 * part["breast"]).clamp_min(0)
    out = ((side - 0.42) / 0.34) ** 2 + ((y - 0.26) / 0.30) ** 2
    image = image + breast * torch.sigmoid((1 - out) / 0.12) * chest.body
    image = torch.lerp(image, torch.full_like(image, FLUID), 0.92 * chest.fluid)
    pattern = torch.stack(
        [torch.zeros_like(x[0]), torch.cos(math.pi * y[0]), torch.cos(math.pi * x[0] + y[0])]
    )
    return (image * torch.exp(0.10 * pattern[race.long()])).clamp(0, 1)[:, None]


def _named(shape: Tensor) -> Mapping[str, Tensor]:
    """Return the numbers by name, `(n, 1, 1)` each, none beyond 2.5 deviations."""
    bounded = 2.5 * torch.tanh(shape / 2.5)
    return {name: bounded[:, k, None, None] for k, name in enumerate(SHAPE)}


def _positions(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and y of the pixels, `(1, size, size)`."""
    line = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x[None], y[None]


def _inside(level: Tensor) -> Tensor:
    """Return 1 where a level is positive, and 0 where it is negative."""
    return torch.sigmoid(level * (4 / EDGE))


def _heart(x: Tensor, y: Tensor, part: Mapping[str, Tensor], years: Tensor) -> Tensor:
    """Draw the heart: an ellipse that leans to the patient's left, and widens with age."""
    angle = 0.55 + 0.08 * part["heart turn"]
    wide = 0.335 + 0.016 * years + 0.025 * part["heart width"]
    tall = 0.235 + 0.008 * years + 0.015 * part["heart height"]
    across, down = x - 0.10, y - 0.31
    along = across * angle.cos() + down * angle.sin()
    off = down * angle.cos() - across * angle.sin()
    radius = ((along / wide) ** 2 + (off / tall) ** 2 + 1e-9).sqrt()
    return _inside((1 - radius) * tall)


def _fluid(
    side: Tensor, y: Tensor, wall: Tensor, floor: Tensor, top: Tensor, left: Tensor, fluid: Tensor
) -> Tensor:
    """Draw fluid: it fills a lung from below, and climbs the wall in a meniscus."""
    right_height, left_height = (fluid[:, k, None, None] for k in (0, 1))
    height = torch.lerp(right_height, left_height, left)
    # From the lowest point of the pleura, the angle between ribs and diaphragm, upwards.
    deepest = 0.98
    level = deepest - height * (deepest - top)
    climb = 0.28 * torch.exp(-(wall - side).clamp_min(0) / 0.13) * height.clamp_max(0.25) / 0.25
    present = (height / 0.02).clamp(0, 1)
    return present * _inside(y - level + climb) * _inside(floor + 0.01 - y)


def _vessels(x: Tensor, y: Tensor, texture: Tensor) -> Tensor:
    """Draw the vessels: waves of random directions, finer than the outlines."""
    numbers = torch.arange(TEXTURE, device=texture.device)
    turn = 2.399963 * numbers  # the golden angle: directions all round
    pace = 9 + 11 * (numbers % 8) / 8
    phase = pace[:, None, None] * (turn.cos()[:, None, None] * x + turn.sin()[:, None, None] * y)
    waves = (phase + numbers[:, None, None]).cos()
    return 0.011 * torch.einsum("nt,thw->nhw", texture, waves)


def _ribs(x: Tensor, y: Tensor, part: Mapping[str, Tensor]) -> Tensor:
    """Draw the ribs: from the spine outwards and down behind, and back inwards in front."""
    side = x.abs()
    pitch = 0.205 + 0.008 * part["rib spacing"]
    slope = 0.30 + 0.03 * part["rib slope"]
    behind = y + 0.10 * (side - 0.25).clamp_min(0) - slope * side + 0.55 * side**3
    front = y + 0.75 * side + 0.1 * part["rib slope"] * side
    turns = 2 * math.pi / pitch
    phase = 0.5 * part["rib phase"]
    back = torch.sigmoid((torch.cos(turns * behind + phase) - 0.25) / 0.18)
    fore = torch.sigmoid((torch.cos(0.8 * turns * front + phase) - 0.55) / 0.2)
    return 0.085 * back + 0.035 * fore * (side > 0.12)


def _clavicles(side: Tensor, y: Tensor, part: Mapping[str, Tensor]) -> Tensor:
    """Draw the collar bones."""
    line = -0.60 - 0.16 * side + 0.05 * torch.sin(5 * side) + 0.02 * part["clavicle"]
    bar = _inside(0.030 - (y - line).abs()) * _inside(side - 0.09) * _inside(0.80 - side)
    return 0.13 * bar
