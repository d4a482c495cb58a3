"""An adversary: what latents tell about discrete parents is guessed, and telling it costs.

A latent that holds a parent, such as the digit, works against an intervention on it: the decoder
hears one digit from the parents and another one from z. So networks q_k guess the discrete parents
from z, and while they minimise their log-loss, what z is made of maximises it, w times as much:

    min_q  max_z  w sum_k -log q_k(pa_k | z).

Both are one backward pass: the gradient is reversed, and scaled by w, on its way from the guesses
to z. A guess can do no better than the shares of the classes if z is independent of the parents,
as the model assumes that it is.

Source: Ganin et al. 2016, *Domain-adversarial training of neural networks* (arXiv 1505.07818).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.variables import Discrete, Variable
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.encoding import MLP

__all__ = ["Adversary"]


class Adversary(nn.Module):
    """The log-loss of guesses at discrete parents, `(n, latent)` and parents to `(n,)` in nats.

    Args:
        latent: Length of the latents.
        parents: The parents' variables, by name.
        weight: What a nat of it costs the latents.

    Raises:
        ValueError: If no parent is discrete.

    Example:
        >>> from rung3 import Binary
        >>> adversary = Adversary(latent=2, parents={"sick": Binary()}, weight=30.0)
        >>> adversary(torch.randn(5, 2), {"sick": torch.tensor([0, 1, 1, 0, 1])}).shape
        torch.Size([5])
    """

    def __init__(self, latent: int, parents: Mapping[str, Variable], weight: float) -> None:
        super().__init__()
        self.weight = weight
        discrete = {k: v.classes for k, v in parents.items() if isinstance(v, Discrete)}
        self.names = list(discrete)
        self.guesses = nn.ModuleList(MLP(latent, classes) for classes in discrete.values())
        if not discrete:
            given = f"they are {', '.join(parents)}" if parents else "there are none"
            raise ValueError(
                f"adversary={weight:g}: it guesses discrete parents, binary, ordinal or "
                f"categorical, and {given}; leave it out"
            )

    def forward(self, latents: Tensor, parents: Parents) -> Tensor:
        upside_down: Any = _Reversed.apply(latents, self.weight)  # type: ignore[no-untyped-call]
        losses = [
            F.cross_entropy(guess(upside_down), parents[name].long(), reduction="none")
            for name, guess in zip(self.names, self.guesses, strict=True)
        ]
        return torch.stack(losses).sum(0)


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is reversed and scaled."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None
