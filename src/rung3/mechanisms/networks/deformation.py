"""Smooth deformations of images and volumes that can be undone.

A deformation is the flow of a stationary velocity field v for the time 1, which has the flow of -v
as its inverse. It is computed by halving the time and doubling the flow (Arsigny et al. 2006):

    d_0 = v / 2^k,      d_{j+1}(p) = d_j(p) + d_j(p + d_j(p)),      p -> p + d_k(p).

Positions run from -1 to 1 along each axis, x first, as those of `torch.nn.functional.grid_sample`.

Between pixels an image is read linearly, or by cubic splines, which blur it less: coefficients c of
which the spline sum_i c_i B(p - i) meets the image at its pixels, and of whose four terms along an
axis two each are one linear reading of c (Sigg and Hadwiger 2005, GPU Gems 2, chapter 20).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Deformation", "enlarged", "flow", "moved", "places", "read", "resampled"]

DOUBLINGS = 4
"""How often the flow is doubled: its first step is a sixteenth of the whole."""

ENLARGE = {2: "bilinear", 3: "trilinear"}
"""How fields are enlarged, by the number of axes."""

BETWEEN = {2: "bicubic", 3: "bilinear"}
"""How smooth maps are read between their pixels: as well as torch does at once."""


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


def resampled(
    image: Float[Tensor, "n c *sizes"],
    displacement: Float[Tensor, "n a *coarse"],
) -> Float[Tensor, "n c *sizes"]:
    """Return what `moved` does, by cubic splines: detail of the size of a pixel is kept better.

    Example:
        >>> wave = torch.sin(2 * torch.arange(32.0)).expand(1, 1, 32, 32)
        >>> half = torch.tensor([1 / 32, 0.0]).view(1, 2, 1, 1)  # half a pixel
        >>> true = torch.sin(2 * torch.arange(32.0) + 1).expand(1, 1, 32, 32)
        >>> off = [(read(wave, half) - true)[..., 8:-8].abs().max() for read in (moved, resampled)]
        >>> bool(off[1] < 0.6 * off[0])
        True
    """
    at = _at(image, displacement)
    size = torch.tensor(image.shape[:1:-1], dtype=at.dtype, device=at.device)
    pixel = (at + 1) / 2 * size - 0.5
    first = pixel.floor()
    t = pixel - first
    inner, outer = ((4 - 6 * s**2 + 3 * s**3) / 6 for s in (t, 1 - t))
    before, after = (1 - t) ** 3 / 6 + inner, outer + t**3 / 6
    ends = (before, first - 1 + inner / before), (after, first + 1 + t**3 / 6 / after)
    spline, values = _coefficients(image.to(at)), torch.zeros_like(image.to(at))
    axes = range(at.shape[-1])
    for sides in itertools.product(ends, repeat=len(axes)):
        weight = torch.stack([sides[axis][0][..., axis] for axis in axes]).prod(0)
        where = torch.stack([sides[axis][1][..., axis] for axis in axes], -1)
        values = values + weight[:, None] * _read(spline, (2 * where + 1) / size - 1, "bilinear")
    return values


def _coefficients(image: Tensor) -> Tensor:
    """Return the coefficients of the cubic spline that meets the image at its pixels."""
    for axis in range(2, image.ndim):
        line = torch.ones(image.shape[axis], dtype=torch.float64)
        basis = (4 * line.diag() + line[1:].diag(1) + line[1:].diag(-1)) / 6
        basis[0, 0] += 1 / 6  # beyond its ends a line goes on as it ends
        basis[-1, -1] += 1 / 6
        solved = torch.linalg.inv(basis).to(image)
        image = (image.movedim(axis, -1) @ solved.T).movedim(-1, axis)
    return image


def read(
    image: Float[Tensor, "n c *coarse"], at: Float[Tensor, "n *sizes a"]
) -> Float[Tensor, "n c *sizes"]:
    """Return images or fields of any resolution, read linearly at places, x first.

    Example:
        >>> read(torch.arange(4.0).view(1, 1, 1, 4), torch.tensor([[[[0.5, 0.0]]]]))
        tensor([[[[2.5000]]]])
    """
    return _read(image, at, "bilinear")


def _moved(image: Tensor, displacement: Tensor, between: str) -> Tensor:
    at = _at(image, displacement)
    return _read(image.to(at), at, between)


def _at(image: Tensor, displacement: Tensor) -> Tensor:
    """Return where each pixel is read, `(n, *sizes, axes)`."""
    sizes = image.shape[2:]
    if displacement.shape[2:] != sizes:
        displacement = enlarged(displacement, sizes)
    return displacement.movedim(1, -1) + places(sizes, displacement)


def _read(image: Tensor, at: Tensor, between: str) -> Tensor:
    return F.grid_sample(image, at, mode=between, padding_mode="border", align_corners=False)


def places(sizes: Sequence[int], like: Tensor) -> Float[Tensor, "*sizes a"]:
    """Return the middles of the pixels, x first, of the type and on the device of a tensor.

    Example:
        >>> places((1, 2), torch.zeros(()))
        tensor([[[-0.5000,  0.0000],
                 [ 0.5000,  0.0000]]])
    """
    lines = [
        (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * (2 / size) - 1
        for size in sizes
    ]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], dim=-1)
