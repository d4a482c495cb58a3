"""Figures that others published, to be drawn beside ours: they are quoted, not measured here.

Their oracles, rows and number of training steps differ from ours, so a small distance between a
published point and a measured one means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["PUBLISHED", "Published"]


class Published(NamedTuple):
    """What was published of one model.

    Attributes:
        name: Of the model.
        composition: Drift of the image, in grey levels, by number of null interventions.
        effectiveness: Error of each variable when it is set: a mean absolute error in its unit, or
            for categories the share misread.
    """

    name: str
    composition: Mapping[int, float]
    effectiveness: Mapping[str, float]


PUBLISHED: dict[str, list[Published]] = {
    "melistas2024": [
        Published(
            "VAE", {1: 2.60, 10: 7.70}, {"thickness": 0.109, "intensity": 5.33, "digit": 0.225}
        ),
        Published(
            "HVAE", {1: 0.438, 10: 1.55}, {"thickness": 0.086, "intensity": 3.52, "digit": 0.028}
        ),
        Published(
            "GAN", {1: 3.81, 10: 11.70}, {"thickness": 0.228, "intensity": 15.14, "digit": 0.549}
        ),
    ]
}
"""Morpho-MNIST, from the slides of the authors of Melistas et al. 2024 (arXiv 2403.20287)."""
