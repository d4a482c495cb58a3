"""A network from images to maps of the same size, which keeps every pixel's place.

A pass down halves the size twice, and a pass up adds what each size had; the context (encoded
parents that are not images) scales and shifts channels in every block.

Source: Ronneberger et al. 2015 (arXiv 1505.04597).
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from rung3.data.variables import Image, Variable
from rung3.mechanisms.networks.convolutional import Block
from rung3.mechanisms.networks.spatial import conv, conv_transpose, crop, pad

__all__ = ["PixelwiseNetwork", "images_of_size"]

HALVINGS = 2
"""How often the size is halved on the way down: a pixel sees about 40 pixels around it."""


class PixelwiseNetwork(nn.Module):
    """Maps `(n, outputs, ...)` of images or volumes `(n, inputs, ...)` and contexts `(n, k)`.

    Args:
        inputs: Channels of the images.
        outputs: Channels of the maps.
        context: Width of the context.
        width: Channels at full size; twice as many at each smaller one.
        axes: Spatial axes of the images.

    Example:
        >>> import torch
        >>> network = PixelwiseNetwork(inputs=1, outputs=3, context=4)
        >>> network(torch.rand(2, 1, 9, 14), torch.zeros(2, 4)).shape
        torch.Size([2, 3, 9, 14])
    """

    def __init__(
        self, inputs: int, outputs: int, context: int, width: int = 16, axes: int = 2
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(HALVINGS + 1)]
        self.enter = conv(axes, inputs, width, 3, padding=1)
        self.down = nn.ModuleList(Block(wide, context, axes=axes) for wide in widths)
        self.halve = nn.ModuleList(conv(axes, wide, 2 * wide, 2, stride=2) for wide in widths[:-1])
        self.enlarge = nn.ModuleList(
            conv_transpose(axes, 2 * wide, wide, 2, stride=2) for wide in widths[:-1]
        )
        self.up = nn.ModuleList(Block(wide, context, axes=axes) for wide in widths[:-1])
        self.leave = conv(axes, width, outputs, 1)

    def forward(
        self, images: Float[Tensor, "n c *sizes"], context: Float[Tensor, "n k"]
    ) -> Float[Tensor, "n outputs *sizes"]:
        sizes = images.shape[2:]
        missing = [-size % 2**HALVINGS for size in reversed(sizes)]
        h, seen = self.enter(pad(images, missing)), []
        for level, block in enumerate(self.down):
            h = block(h, context)
            if level < HALVINGS:
                seen.append(h)
                h = self.halve[level](h.relu())
        for level in reversed(range(HALVINGS)):
            h = seen[level] + self.enlarge[level](h.relu())
            h = self.up[level](h, context)
        return crop(self.leave(h.relu()), sizes)


def images_of_size(parents: Mapping[str, Variable], sizes: tuple[int, ...]) -> dict[str, Image]:
    """Return the parents that are images of these sizes, by name.

    Example:
        >>> list(images_of_size({"scan": Image(1, 8, 9), "icon": Image(3, 4, 4)}, (8, 9)))
        ['scan']
    """
    images = {name: kind for name, kind in parents.items() if isinstance(kind, Image)}
    return {name: kind for name, kind in images.items() if kind.sizes == sizes}
