"""The pose of what an image shows: a small affine map, chosen by latents in the same way for all.

Positions p run from -1 to 1 along each axis, x first. The image has at p what the drawing, in a
frame of its own, has at `A p + b`, with

    [A b; 0 1] = exp [G; 0],

and the numbers of G those of the pose, standard normal, each times a reach that is learned. So a
pose of 0 leaves the drawing where it is, a pose and its negative undo each other, and no map is
singular. Whatever is drawn, the same pose moves, turns, slants and stretches it in the same way:
what it means cannot depend on the parents, or on the other latents.

Sources: Jaderberg et al. 2015, *Spatial transformer networks* (arXiv 1506.02025); Detlefsen and
Hauberg 2019, *Explicit disentanglement of appearance and perspective in generative models*
(arXiv 1906.11881).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.mechanisms.networks.spatial import conv

__all__ = ["Pose"]

REACH = 0.1
"""What a pose of 1 adds to a number of the matrix at the start: a shift by a tenth of half the
image's side, or a slant, turn or stretch by as much. So most of a drawing stays in the image."""

PLANES = 8
"""Planes of a drawing. They are moved before they become pixels, which are sharper so."""


class Pose(nn.Module):
    """A drawing at a pose as an image, `(n, planes, ...), (n, size) -> (n, outputs, ...)`.

    Args:
        axes: Spatial axes, 2 or 3.
        outputs: Channels to put out.

    Attributes:
        size: Length of a pose: 6 for images, 12 for volumes.
        planes: Planes of a drawing.

    Example:
        >>> pose = Pose(axes=2, outputs=3)
        >>> pose(torch.rand(5, pose.planes, 8, 11), torch.zeros(5, pose.size)).shape
        torch.Size([5, 3, 8, 11])
    """

    planes = PLANES

    def __init__(self, axes: int, outputs: int) -> None:
        super().__init__()
        self.axes = axes
        self.size = axes * (axes + 1)
        self.log_reach = nn.Parameter(torch.full((self.size,), math.log(REACH)))
        self.last = conv(axes, PLANES, outputs, 3, padding=1)

    def forward(
        self, planes: Float[Tensor, "n k *sizes"], pose: Float[Tensor, "n p"]
    ) -> Float[Tensor, "n outputs *sizes"]:
        out: Tensor = self.last(self.moved(planes, pose).relu())
        return out

    def moved(
        self, planes: Float[Tensor, "n k *sizes"], pose: Float[Tensor, "n p"]
    ) -> Float[Tensor, "n k *sizes"]:
        """Return the planes at a pose; what lies outside is as at the edge.

        Example:
            >>> planes = torch.arange(4.0).expand(1, 1, 1, 4)
            >>> quarter = torch.tensor([[0, 0, 0.5, 0, 0, 0]]) / REACH  # of the width
            >>> Pose(axes=2, outputs=1).moved(planes, quarter).detach().round()
            tensor([[[[1., 2., 3., 3.]]]])
        """
        numbers = (self.log_reach.exp() * pose).view(-1, self.axes, self.axes + 1)
        maps = torch.matrix_exp(F.pad(numbers, (0, 0, 0, 1)))[:, : self.axes]
        at = F.affine_grid(maps, list(planes.shape), align_corners=False)
        return F.grid_sample(planes.to(at), at, padding_mode="border", align_corners=False)
