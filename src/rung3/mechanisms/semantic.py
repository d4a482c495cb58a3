"""A code beside the state of a path: what a value is like, in a few numbers.

    z ~ N(0, I),   q(z | x, pa) = N(m(x, pa), s(x, pa)^2)

The state of a path has the value's own shape, and the velocity decides which part of a value its
noise holds. A code that the velocity depends on takes part of it: what the velocity gains by, and
the divergence of q from its prior allows. What the parents tell costs the code and gains nothing.

Source: Rasal et al. 2025, *Diffusion counterfactual generation with semantic abduction* (arXiv
2506.07883); Preechakul et al. 2022, *Diffusion autoencoders* (arXiv 2111.15640).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from rung3.data.variables import Image, Variable
from rung3.mechanisms.autoencoder import gaussian_kl
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.context import Context
from rung3.mechanisms.networks.convolutional import ConvEncoder, Pyramid
from rung3.mechanisms.networks.encoding import MLP

__all__ = ["Semantic"]

WIDTH = 16
"""Channels at half the image's size: the encoder looks once, the field at every step."""

HIDDEN = (64, 64)
"""Widths of the hidden layers of a number's or a vector's encoder."""

LOG_SCALES = (-7.0, 3.0)
"""Least and greatest log-scale of the posterior: a finer one would tell nothing more."""


class Semantic(nn.Module):
    """The posterior of a code, given standardised values and parents in their own units.

    Args:
        variable: A number, a vector or an image.
        parents: Its parents' variables, by name.
        latent: Length of the code.
    """

    def __init__(self, variable: Variable, parents: Mapping[str, Variable], latent: int) -> None:
        super().__init__()
        self.context = Context(parents)
        width, outputs = self.context.width, 2 * latent
        self.is_image = isinstance(variable, Image)
        self.encoder = (
            ConvEncoder(Pyramid(variable, WIDTH), width, outputs)
            if isinstance(variable, Image)
            else MLP(math.prod(variable.shape) + width, outputs, HIDDEN)
        )

    def forward(
        self, x: Tensor, parents: Parents, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw codes `(n, latent)`, and return their divergence from the prior, `(n,)`, in nats."""
        context = self.context(parents, len(x))
        features = (
            self.encoder(x, context)
            if self.is_image
            else self.encoder(torch.cat([x.reshape(len(x), -1), context], 1))
        )
        mean, log_scale = features.to(x.dtype).chunk(2, dim=1)
        log_scale = log_scale.clamp(*LOG_SCALES)
        eps = torch.randn(mean.shape, generator=generator, device=x.device, dtype=x.dtype)
        return mean + log_scale.exp() * eps, gaussian_kl(mean, log_scale)
