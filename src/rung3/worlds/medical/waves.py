"""Smooth random deformations that keep volume exactly: shear waves, one after another.

For a wave vector k and an amplitude a(phase) at right angles to it,

    x -> x + a_c cos(k . x) + a_s sin(k . x),      a_c, a_s orthogonal to k,

is the flow of a velocity field whose divergence is zero. It leaves `k . x` alone, so its inverse is
the same wave subtracted, and its Jacobian is 1 everywhere. A deformation is a product of such
waves, with two polarisations and two phases each, drawn as standard normal coefficients.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["COEFFICIENTS", "deform"]

OCTAVES = ((170.0, 0.75), (85.0, 0.3))
"""Wavelength along an axis in mm, and standard deviation of a coefficient in mm: the longer
waves bend the head by some 4 mm, the shorter ones move its folds by 1.5 mm."""

DIRECTIONS = tuple(k for k in itertools.product((1, 0, -1), repeat=3) if k > (0, 0, 0))
"""Wave vectors, in units of the lowest frequency: half of the cube's, for -k is the same wave."""

COEFFICIENTS = 4 * len(DIRECTIONS) * len(OCTAVES)
"""Coefficients of a deformation: two directions across each wave, a cosine and a sine of each."""


def deform(
    points: Float[Tensor, "3 n p"], coefficients: Float[Tensor, "n c"]
) -> Float[Tensor, "3 n p"]:
    """Return where the inverse of n deformations takes points, in mm.

    Args:
        points: Points x of each image, along x, y and z.
        coefficients: Standard normal, `(n, COEFFICIENTS)`.

    Example:
        >>> points = 100 * torch.rand(3, 1, 5, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(deform(points, torch.zeros(1, COEFFICIENTS)), points)
        True
    """
    vectors, directions = (part.to(points) for part in _waves())
    # (n, waves, phases, polarisations) times (waves, polarisations, xyz)
    weights = coefficients.to(points).view(-1, len(vectors), 2, 2)
    amplitudes = torch.einsum("nwfp,wpd->wdfn", weights, directions)[..., None]
    x, y, z = points
    for k, (along_x, along_y, along_z) in zip(vectors.tolist(), amplitudes, strict=True):
        phase = k[0] * x + k[1] * y + k[2] * z
        both = phase.cos(), phase.sin()
        x, y, z = _add(x, along_x, both), _add(y, along_y, both), _add(z, along_z, both)
    return torch.stack([x, y, z])


def _add(position: Tensor, amplitudes: Tensor, both: tuple[Tensor, Tensor]) -> Tensor:
    """Add a wave to one coordinate, `(n, p)`."""
    return position.addcmul(amplitudes[0], both[0]).addcmul_(amplitudes[1], both[1])


@lru_cache(maxsize=1)
def _waves() -> tuple[Float[Tensor, "w 3"], Float[Tensor, "w 2 3"]]:
    """Tabulate wave vectors in radians per mm, and two directions across each, in mm."""
    vectors, directions = [], []
    for length, deviation in OCTAVES:
        for direction in DIRECTIONS:
            along = torch.tensor(direction, dtype=torch.float32)
            # The axis that lies farthest off the wave's makes the first direction across.
            axis = torch.eye(3)[along.abs().argmin()]
            first = torch.linalg.cross(along, axis)
            second = torch.linalg.cross(along, first)
            across = torch.stack([first / first.norm(), second / second.norm()])
            vectors.append(2 * math.pi / length * along)
            directions.append(deviation * across)
    return torch.stack(vectors), torch.stack(directions)
