"""Functions of a variable that tests of independence correlate.

Two variables are independent if no function of the one is correlated with a function of the other.
Numbers enter by waves of their ranks, `cos(pi j F(x))`, which see where mean, spread and skew move
(smooth tests of Neyman); categories by indicators; images by their mean, spread, sharpness and
principal components.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rung3.data.variables import Discrete, Image, Variable

__all__ = ["features", "summary"]

WAVES = 4
"""Waves of a column."""

WAVES_OF_MANY = 2
"""Waves of a column where a variable has more than two."""

COMPONENTS = 4
"""Principal components of images."""


def features(value: Tensor, kind: Variable) -> Tensor:
    """Return functions of a variable, `(n, d)`, that a change of its distribution moves."""
    if isinstance(kind, Discrete):
        indicators = F.one_hot(value.long(), kind.classes).double()
        return indicators[:, indicators.any(0)][:, 1:]
    columns = summary(value) if isinstance(kind, Image) else value.double().reshape(len(value), -1)
    waves = WAVES_OF_MANY if columns.shape[1] > 2 else WAVES
    ranks = columns.argsort(0).argsort(0).double()
    for k in range(columns.shape[1]):  # ties share a rank
        _, same, count = columns[:, k].unique(return_inverse=True, return_counts=True)
        sums = torch.zeros(len(count), dtype=torch.float64).index_add(0, same, ranks[:, k])
        ranks[:, k] = (sums / count)[same]
    phase = math.pi * (ranks + 0.5) / len(value)
    return torch.cat([(j * phase).cos() for j in range(1, waves + 1)], 1)


def summary(image: Tensor) -> Tensor:
    """Return mean, spread, sharpness and principal components of images, `(n, 3 + COMPONENTS)`."""
    flat = image.double().flatten(1)
    sharp = image.double().diff(dim=-1).square().flatten(1).mean(1)
    pool = F.adaptive_avg_pool2d if image.ndim == 4 else F.adaptive_avg_pool3d
    small = pool(image.double(), 8).flatten(1)
    _, _, directions = torch.linalg.svd(small - small.mean(0), full_matrices=False)
    components = (small - small.mean(0)) @ directions[:COMPONENTS].T
    return torch.cat([torch.stack([flat.mean(1), flat.std(1), sharp], 1), components], 1)
