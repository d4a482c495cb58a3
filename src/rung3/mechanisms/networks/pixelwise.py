"""A network from images to maps of the same size, which keeps every pixel's place.

A pass down halves the size twice, and a pass up adds what each size had; the context (encoded
parents that are no images) scales and shifts channels in every block.

Source: Ronneberger et al. 2015 (arXiv 1505.04597).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.mechanisms.networks.convolutional import Block

__all__ = ["PixelwiseNetwork"]

HALVINGS = 2
"""How often the size is halved on the way down: a pixel sees about 40 pixels around it."""


class PixelwiseNetwork(nn.Module):
    """Maps `(n, outputs, H, W)` of images `(n, inputs, H, W)` and a context `(n, context)`.

    Args:
        inputs: Channels of the images.
        outputs: Channels of the maps.
        context: Width of the context.
        width: Channels at full size; twice as many at each smaller one.

    Example:
        >>> import torch
        >>> network = PixelwiseNetwork(inputs=1, outputs=3, context=4)
        >>> network(torch.rand(2, 1, 9, 14), torch.zeros(2, 4)).shape
        torch.Size([2, 3, 9, 14])
    """

    def __init__(self, inputs: int, outputs: int, context: int, width: int = 16) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(HALVINGS + 1)]
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        self.down = nn.ModuleList(Block(wide, context) for wide in widths)
        self.halve = nn.ModuleList(nn.Conv2d(wide, 2 * wide, 2, stride=2) for wide in widths[:-1])
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(2 * wide, wide, 2, stride=2) for wide in widths[:-1]
        )
        self.up = nn.ModuleList(Block(wide, context) for wide in widths[:-1])
        self.leave = nn.Conv2d(width, outputs, 1)

    def forward(
        self, images: Float[Tensor, "n c h w"], context: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n outputs h w"]:
        height, width = images.shape[-2:]
        unit = 2**HALVINGS
        padded = F.pad(images, (0, -width % unit, 0, -height % unit), mode="replicate")
        h, seen = self.enter(padded), []
        for level, block in enumerate(self.down):
            h = block(h, context)
            if level < HALVINGS:
                seen.append(h)
                h = self.halve[level](h.relu())
        for level in reversed(range(HALVINGS)):
            h = seen[level] + self.enlarge[level](h.relu())
            h = self.up[level](h, context)
        maps: Tensor = self.leave(h.relu())[..., :height, :width]
        return maps
