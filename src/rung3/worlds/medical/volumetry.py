"""Volumes of brain and ventricles, measured on an image alone.

A pixel of level y holds so much fluid as it is darker than tissue,

    f(y) = clip((t - y) / (t - d), 0, 1),      t = 0.62 q,      d = 0.18 q,

with q the 90 % quantile of the head's levels: so for T1 and T2-FLAIR alike. The head is what
is brighter than the ground, its holes filled; its size is H. The ventricles are the bodies of fluid
that lie deep in the head, with the pixels beside them; their size is A, the sum of f there. The
sequence is told by the cortex: darker than what lies deeper in T1, brighter in T2-FLAIR.

On the atlas, whose volumes are known, A / H grows with v / b. For each sequence

    v / b = r(A / H),      b = T(r) (H / H(r))^(3/k)      in images of k dimensions,

are looked up. In a slice both are right only up to the individual's anatomy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

__all__ = ["Volumetry", "measured"]

TISSUE = 0.62
"""Level of the darkest tissue, relative to the bright end of the head's."""

DARK = 0.18
"""Level of fluid, relative to the same."""

BRIGHT = 0.9
"""Quantile that is the bright end."""

GROUND = 0.09
"""Level between the ground, with its noise, and fluid."""

DEEP = 0.42
"""Depth below the head's surface at which fluid is that of ventricles, relative to the deepest."""

CORTEX = (0.10, 0.28, 0.38)
"""Depths between which the cortex lies, relative to the deepest; where white matter begins."""

Array = np.ndarray[Any, Any]


class Regions(NamedTuple):
    """What is measured on images, `(n,)` each.

    Attributes:
        ventricles: Size of the ventricles A, in pixels.
        head: Size of the head H, in pixels.
        sequence: 0 for T1 and 1 for T2-FLAIR.
    """

    ventricles: Array
    head: Array
    sequence: Array


@dataclass(frozen=True)
class Volumetry:
    """Measurements of volumes, by tables of the atlas's own.

    Args:
        ratios: Volumes of ventricles relative to brain, rising, `(k,)`.
        tables: By sequence, the sizes A / H on images of the atlas at these ratios, and H, `(k,)`.
        brain: The volume of brain that they have, in ml.
    """

    ratios: Array
    tables: tuple[tuple[Array, Array], ...]
    brain: float

    @classmethod
    def calibrated(
        cls, ratios: Tensor, brain: float, render: Callable[[Tensor, Tensor, int], Tensor]
    ) -> Volumetry:
        """Measure images of the atlas.

        Args:
            ratios: Volumes of ventricles relative to brain to tabulate, rising, `(k,)`.
            brain: Volume of brain, in ml.
            render: Gives images from volumes of ventricles and brain, `(k,)` each, and a sequence.
        """
        tables = []
        for sequence in (0, 1):
            seen = measured(render(brain * ratios, torch.full_like(ratios, brain), sequence))
            tables.append((np.maximum.accumulate(seen.ventricles / seen.head), seen.head))
        return cls(ratios.double().numpy(), tuple(tables), brain)

    def measure(self, volume: Literal["brain", "ventricle"], images: Tensor) -> Float[Tensor, " n"]:
        """Measure one of the volumes on images `(n, 1, ...)`, in ml."""
        seen = measured(images)
        share = seen.ventricles / np.maximum(seen.head, 1)
        value = np.zeros(len(images))
        for sequence, (shares, heads) in enumerate(self.tables):
            rows = seen.sequence == sequence
            reference = np.interp(share[rows], shares, heads)
            brain = self.brain * (seen.head[rows] / reference) ** (3 / (images.ndim - 2))
            ratio = np.interp(share[rows], shares, self.ratios)
            value[rows] = brain if volume == "brain" else ratio * brain
        return torch.from_numpy(value).to(images)


def measured(images: Float[Tensor, "n 1 ..."]) -> Regions:
    """Measure the sizes of ventricles and heads, and tell the sequences.

    Example:
        >>> measured(torch.zeros(1, 1, 8, 8)).head
        array([0.])
    """
    sizes = [_measured(image) for image in images[:, 0].detach().double().cpu().numpy()]
    ventricles, head, sequence = np.array(sizes).reshape(-1, 3).T
    return Regions(ventricles, head, sequence)


def _measured(image: Array) -> tuple[float, float, float]:
    head = _largest(ndimage.gaussian_filter(image, 0.7) > GROUND)
    if not head.any():
        return 0.0, 0.0, 0.0
    head = ndimage.binary_fill_holes(head)
    bright = np.quantile(image[head], BRIGHT)
    fluid = np.clip((TISSUE * bright - image) / ((TISSUE - DARK) * bright), 0, 1) * head
    depth = ndimage.distance_transform_edt(head)
    depth = depth / depth.max()
    labels, _ = ndimage.label(fluid > 0.5)
    deep = np.unique(labels[(depth > DEEP) & (labels > 0)])
    region = ndimage.binary_dilation(np.isin(labels, deep))
    solid = fluid < 0.5
    cortex = solid & (depth > CORTEX[0]) & (depth < CORTEX[1])
    inside = solid & (depth > CORTEX[2])
    brighter = cortex.any() and inside.any() and image[cortex].mean() > image[inside].mean()
    return float(fluid[region].sum()), float(head.sum()), float(brighter)


def _largest(mask: Array) -> Array:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
    largest: Array = labels == 1 + int(np.argmax(sizes))
    return largest
