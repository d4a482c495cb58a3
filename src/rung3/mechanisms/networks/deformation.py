"""Smooth deformations of images and volumes that can be undone.

A deformation is the flow of a stationary velocity field v for the time 1, which has the flow of -v
as its inverse. It is computed by halving the time and doubling the flow (Arsigny et al. 2006):

    d_0 = v / 2^k,      d_{j+1}(p) = d_j(p) + d_j(p + d_j(p)),      p -> p + d_k(p).

Positions run from -1 to 1 along each axis, x first, as those of `torch.nn.functional.grid_sample`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Deformation", "composed", "enlarged", "flow", "moved"]

DOUBLINGS = 4
"""How often the flow is doubled: its first step is a sixteenth of the whole."""

ENLARGE = {2: "bilinear", 3: "trilinear"}
"""How fields are enlarged, by the number of axes."""

BETWEEN = {2: "bicubic", 3: "bilinear"}
"""How images are read between their pixels: cubic where torch can, which blurs the least."""


class Deformation(NamedTuple):
    """A deformation, and its inverse, each as displacements `(n, axes, ...)` on a coarse grid.

    Attributes:
        there: Where a pixel of the image looks in the frame of the anatomy.
        back: Where a place of that frame looks in the image.
    """

    there: Tensor
    back: Tensor

    @classmethod
    def of(cls, velocity: Float[Tensor, "n a *sizes"]) -> Deformation:
        """Return the flow of a velocity field and its inverse."""
        return cls(flow(velocity), flow(-velocity))


def flow(velocity: Float[Tensor, "n a *sizes"]) -> Float[Tensor, "n a *sizes"]:
    """Return the displacements of the flow of a velocity field after the time 1.

    Example:
        >>> wave = 0.2 * torch.sin(torch.linspace(-3, 3, 32)).expand(1, 2, 32, 32)
        >>> there, back = flow(wave), flow(-wave)
        >>> bool((there + moved(back, there)).abs()[..., 4:-4, 4:-4].max() < 0.01)
        True
    """
    displacement: Tensor = velocity / 2**DOUBLINGS
    for _ in range(DOUBLINGS):
        displacement = displacement + _moved(displacement, displacement, "bilinear")
    return displacement


def composed(
    first: Float[Tensor, "n a *sizes"], then: Float[Tensor, "n a *sizes"]
) -> Float[Tensor, "n a *sizes"]:
    """Return the displacement of `p -> q + first(q)`, with `q = p + then(p)`.

    Example:
        >>> right, left = (torch.full((1, 2, 3, 3), side) for side in (0.1, -0.3))
        >>> composed(right, left)[0, 0, 0]
        tensor([-0.2000, -0.2000, -0.2000])
    """
    return then + _moved(first, then, "bilinear")


def enlarged(field: Float[Tensor, "n c *coarse"], sizes: Sequence[int]) -> Tensor:
    """Return a field on a finer grid, `(n, c, *sizes)`."""
    return F.interpolate(field, size=tuple(sizes), mode=ENLARGE[len(sizes)])


def moved(
    image: Float[Tensor, "n c *sizes"],
    displacement: Float[Tensor, "n a *coarse"],
) -> Float[Tensor, "n c *sizes"]:
    """Return the image whose pixel p is that of the given image at `p + displacement(p)`.

    Args:
        image: Images or volumes.
        displacement: On a grid of any size, which is enlarged.

    Example:
        >>> image = torch.arange(4.0).expand(1, 1, 4, 4)
        >>> right = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)
        >>> moved(image, right)[0, 0, 0]
        tensor([1., 2., 3., 3.])
    """
    return _moved(image, displacement, BETWEEN[image.ndim - 2])


def _moved(image: Tensor, displacement: Tensor, between: str) -> Tensor:
    sizes = image.shape[2:]
    if displacement.shape[2:] != sizes:
        displacement = enlarged(displacement, sizes)
    at = displacement.movedim(1, -1) + _places(sizes, displacement)
    return F.grid_sample(image.to(at), at, mode=between, padding_mode="border", align_corners=False)


def _places(sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return the pixels' own positions, `(*sizes, axes)`, x first."""
    lines = [
        (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * (2 / size) - 1
        for size in sizes
    ]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], dim=-1)
