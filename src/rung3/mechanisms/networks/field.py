"""The network of a path's field: a value's state and the time to something of the same shape.

Images have a U-Net, numbers and vectors a perceptron of residual blocks whose hidden units the
features of time and parents scale and shift (FiLM, arXiv 1709.07871):

    h <- h + W2 * silu((1 + g(c)) W1 * silu(h) + b(c)),

with g = b = W2 = 0 at the start. Both start at zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.variables import Image, Variable
from rung3.mechanisms.networks.conditioning import Conditioning
from rung3.mechanisms.networks.convolutional import zero
from rung3.mechanisms.networks.unet import UNet, UNetOptions

__all__ = ["Field"]


class Field(nn.Module):
    """A network of a state `(n, *shape)`, a time and parents, of the state's shape.

    Args:
        variable: The variable, a number, a vector or an image.
        parents: Its parents' variables, by name.
        hidden: Of numbers and vectors: width and number of hidden layers.
        options: Of images: the U-Net's options.
        checkpointing: Of images: compute activations again in the backward pass.
        latent: Length of a code that the field depends on too; 0 for none.

    Attributes:
        conditioning: Gives the parents' context, which `forward` takes.
    """

    def __init__(
        self,
        variable: Variable,
        parents: Mapping[str, Variable],
        hidden: tuple[int, int],
        options: UNetOptions,
        checkpointing: bool = False,
        latent: int = 0,
    ) -> None:
        super().__init__()
        self.conditioning = Conditioning(parents, latent)
        width = self.conditioning.width
        self.network: nn.Module
        if isinstance(variable, Image):
            channels, *size = variable.shape
            self.network = UNet(channels, size, width, options, checkpointing=checkpointing)
        else:
            self.network = _Perceptron(math.prod(variable.shape), width, *hidden)

    def forward(self, state: Tensor, time: Tensor | float, context: Tensor) -> Tensor:
        """Return the field in single precision, `(n, *shape)`.

        Args:
            state: States, `(n, *shape)`.
            time: The time of all rows, or of each, `(n,)`.
            context: What `conditioning.context` gives for their parents.
        """
        field: Tensor = self.network(state, self.conditioning(time, context))
        return field.to(state.dtype)


class _Perceptron(nn.Module):
    """A perceptron of residual blocks, `(n, *shape), (n, features) -> (n, *shape)`."""

    def __init__(self, numbers: int, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.stem = nn.Linear(numbers, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.film = nn.ModuleList(nn.Linear(features, 2 * width) for _ in range(depth))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.out = nn.Linear(width, numbers)
        for layer in (*self.film, *self.second, self.out):
            assert isinstance(layer, nn.Linear)
            zero(layer)

    def forward(self, state: Tensor, features: Tensor) -> Tensor:
        h = self.stem(state.reshape(len(state), -1))
        for first, film, second in zip(self.first, self.film, self.second, strict=True):
            scale, shift = film(features).chunk(2, dim=1)
            h = h + second(F.silu(first(F.silu(h)) * (1 + scale) + shift))
        out: Tensor = self.out(F.silu(h))
        return out.reshape(state.shape)
