"""The parents of an image as one vector, in which each has a share of its own.

    c = (f_1(pa_1), ..., f_K(pa_K))

What a layer takes from it, linearly, is then a sum over parents. Interventions set parents to
values that were seldom seen together, such as a thick stroke that is dark, where a function of all
of them at once could take any value. What parents do together is left to the layers that follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from rung3.data.variables import Discrete, Variable
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.encoding import MLP, ParentEncoder

__all__ = ["Context"]

WIDTH = 64
"""Length of the context, divided among the parents; and of their networks' hidden layer."""

LEAST_SHARE = 8
"""Least length of a parent's share, however many parents there are."""


class Context(nn.Module):
    """A mapping of parents' values, in their own units, to a vector `(n, width)`; 0 without any.

    Args:
        parents: The parents' variables, by name.

    Attributes:
        width: Length of the vector.

    Example:
        >>> from rung3 import Binary, Continuous
        >>> context = Context({"age": Continuous(unit="years"), "sick": Binary()})
        >>> context({"age": torch.tensor([60.0]), "sick": torch.tensor([1])}, 1).shape
        torch.Size([1, 64])
    """

    none: Tensor

    def __init__(self, parents: Mapping[str, Variable]) -> None:
        super().__init__()
        share = max(LEAST_SHARE, WIDTH // max(1, len(parents)))
        encoders = [ParentEncoder({name: variable}) for name, variable in parents.items()]
        self.encoders = nn.ModuleList(encoders)
        self.networks = nn.ModuleList(
            nn.Sequential(MLP(encoder.width, share, (WIDTH,)), nn.SiLU()) for encoder in encoders
        )
        self.variables = dict(parents)
        self.width = share * len(parents) or 1
        self.register_buffer("none", torch.zeros(1, 1), persistent=False)

    def calibrate(self, parents: Parents) -> None:
        """Take the location and scale of the parents from training data."""
        for encoder in cast(Iterable[ParentEncoder], self.encoders):
            encoder.calibrate(parents)

    def forward(
        self, parents: Parents, n: int, weights: Mapping[str, float] | None = None
    ) -> Tensor:
        """Return the context.

        Args:
            parents: The parents' values, `(n, ...)`.
            n: Number of rows, needed where there are no parents.
            weights: Weights of the shares of discrete parents, by name; 1 where not given.
        """
        weights = weights or {}
        shares = [
            self._weighted(k, parents, n, weights.get(name, 1.0))
            for k, name in enumerate(self.variables)
        ]
        return torch.cat(shares, dim=1) if shares else self.none.expand(n, 1)

    def _weighted(self, k: int, parents: Parents, n: int, weight: float) -> Tensor:
        """Return the share of the k-th parent, `(n, share)`."""
        share: Tensor = self.networks[k](self.encoders[k](parents, n))
        name, variable = list(self.variables.items())[k]
        if weight == 1 or not isinstance(variable, Discrete):
            return share
        values = torch.arange(variable.classes, device=share.device)
        each: Tensor = self.networks[k](self.encoders[k]({name: values}, variable.classes))
        return share + (weight - 1) * (share - each.mean(0))
