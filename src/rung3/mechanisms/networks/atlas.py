"""Atlases: at each place, how much there is of each kind of tissue.

The atlas of a volume has as many axes as the volume. That of a slice may have a thickness, of
several planes: slices of different individuals lie at different heights, and not level, so together
they show what lies beside each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.mechanisms.networks.deformation import ENLARGE

__all__ = ["Atlas"]

GAIN = 10.0
"""Log-odds of the atlas per unit of its parameters: as these, they are learned fast enough."""

TILT = 0.5
"""Standard deviation of the log-odds at the ends of a slice's thickness at the start: some
difference there must be between planes, for anything to tell them apart."""

COARSE = 24
"""Points along an axis between which this difference is smooth."""


class Atlas(nn.Module):
    """Shares of kinds of tissue on a grid.

    Args:
        kinds: Number of kinds.
        sizes: Pixels of the image, by axis.
        planes: Planes that a slice's atlas has, as far apart as its points.
        fineness: Points of the atlas for each pixel, along each axis of the image.

    Attributes:
        across: Half the thickness of a slice's atlas, in halves of the image's last side; `None`
            if it has none.

    Example:
        >>> atlas = Atlas(kinds=3, sizes=(8, 12), planes=5, fineness=2)
        >>> atlas.shares().shape
        torch.Size([3, 5, 16, 24])
        >>> atlas.read(atlas.shares(), torch.zeros(2, 3, 8, 12)).shape
        torch.Size([2, 3, 8, 12])
    """

    def __init__(self, kinds: int, sizes: Sequence[int], planes: int, fineness: int) -> None:
        super().__init__()
        self.across = planes / (fineness * sizes[-1]) if planes > 1 else None
        fine = [fineness * size for size in sizes]
        self.odds = nn.Parameter(torch.zeros(kinds, *([planes] if len(sizes) == 2 else []), *fine))

    def start(self, shares: Float[Tensor, "k ..."]) -> None:
        """Take the shares that images show which are not deformed yet."""
        spatial = shares.ndim - 1
        fine = self.odds.shape[-spatial:]
        odds = F.interpolate(shares.log()[None], fine, mode=ENLARGE[spatial])[0]
        if spatial == 2:
            odds = odds[:, None].expand(-1, self.odds.shape[1], -1, -1)
        if self.across is not None:
            ends = TILT * torch.randn(1, len(odds), COARSE, COARSE)
            tilt = F.interpolate(ends, fine, mode="bicubic")[0].to(odds)
            height = torch.linspace(-1, 1, odds.shape[1]).view(-1, 1, 1).to(odds)
            odds = odds + tilt[:, None] * height
        with torch.no_grad():
            self.odds.copy_(odds / GAIN)

    def shares(self) -> Float[Tensor, "k z y x"]:
        """Return the share of each kind, which sum to 1."""
        return (GAIN * self.odds).softmax(0)

    def slopes(self, maps: Float[Tensor, "c z y x"], axes: int) -> Float[Tensor, "a c z y x"]:
        """Return slopes along so many axes, x first, a half of the image's side."""
        x, y, z = (maps.new_tensor(size / 2) for size in maps.shape[:0:-1])
        halves = [x, y, z if self.across is None else z / self.across]
        return torch.stack(
            [
                torch.gradient(maps, dim=-1 - axis)[0] * halves[axis]
                if maps.shape[-1 - axis] > 1
                else torch.zeros_like(maps)
                for axis in range(axes)
            ]
        )

    def read(
        self, maps: Float[Tensor, "c z y x"], at: Float[Tensor, "n a *sizes"]
    ) -> Float[Tensor, "n c *sizes"]:
        """Read maps on the atlas's grid at places.

        Args:
            maps: What to read.
            at: Places, in halves of the image's side, x first; without the last
                one, they lie in the middle plane.
        """
        sizes = at.shape[2:]
        if at.shape[1] == 2:
            at = torch.cat([at, torch.zeros_like(at[:, :1])], 1)
        elif self.across is not None:
            at = torch.cat([at[:, :2], at[:, 2:] / self.across], 1)
        flat = at.flatten(2).transpose(1, 2)[None, :, :, None]
        values = F.grid_sample(maps[None], flat, padding_mode="border", align_corners=False)
        seen: Tensor = values[0, ..., 0].transpose(0, 1).unflatten(2, sizes)
        return seen
