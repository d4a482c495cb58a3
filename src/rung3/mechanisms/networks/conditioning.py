"""What a velocity depends on beside the state: the time, parents and a code, each to be left out.

Each parent has a share of the context of its own (see `rung3.mechanisms.networks.context`). A
parent that is left out has a learned share in its place, the same in every row:

    c = (c_1, ..., c_K),   c_k = f_k(pa_k), or a_k where parent k is left out.

A network that saw each parent left out by itself in training knows the velocity given any of them,
which guidance compares (`rung3.mechanisms.guidance`). A code beside the state
(`rung3.mechanisms.semantic`) has a share too, and is left out in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rung3.data.variables import Variable
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.context import Context

__all__ = ["Conditioning"]

FREQUENCIES = 8
"""Half-waves of the fastest feature of the time: velocities change slowly in it."""

TIME_WIDTH = 64
"""Length of the time's share of the features."""

CODE_WIDTH = 64
"""Length of the code's share of the features."""

DROP_CODE = 0.1
"""Share of the rows without code in training, so that answers from the state alone are known."""


class Conditioning(nn.Module):
    """Time, parents and a code as features `(n, width)`; each parent and the code can be left out.

    Args:
        parents: The parents' variables, by name.
        latent: Length of the code; 0 for none.

    Attributes:
        width: Length of the features.

    Example:
        >>> from rung3 import Binary, Continuous
        >>> conditioning = Conditioning({"age": Continuous(), "sick": Binary()})
        >>> given = {"age": torch.tensor([60.0, 61.0]), "sick": torch.tensor([1, 0])}
        >>> context = conditioning.context(given, 2, without={"age"})
        >>> torch.equal(context[0, :32], context[1, :32])  # nothing is known of the age
        True
        >>> conditioning(0.5, context).shape
        torch.Size([2, 128])
    """

    frequencies: Tensor

    def __init__(self, parents: Mapping[str, Variable], latent: int = 0) -> None:
        super().__init__()
        self.names = list(parents)
        self.parents = Context(parents)
        if parents:
            self.absent = nn.Parameter(torch.zeros(self.parents.width))
        self.register_buffer(
            "frequencies", math.pi * torch.arange(1, FREQUENCIES + 1), persistent=False
        )
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES + 1, TIME_WIDTH),
            nn.SiLU(),
            nn.Linear(TIME_WIDTH, TIME_WIDTH),
            nn.SiLU(),
        )
        self.width = TIME_WIDTH + self.parents.width
        self.code = nn.Linear(latent, CODE_WIDTH) if latent else None
        if latent:
            self.no_code = nn.Parameter(torch.zeros(CODE_WIDTH))
            self.width += CODE_WIDTH

    def calibrate(self, parents: Parents) -> None:
        """Take the location and scale of the parents from training data."""
        self.parents.calibrate(parents)

    def context(
        self,
        parents: Parents,
        n: int,
        without: set[str] | frozenset[str] = frozenset(),
        drop: float = 0.0,
        code: Tensor | None = None,
        drop_code: bool = False,
    ) -> Tensor:
        """Return what is the same at every time, `(n, width of parents and code)`.

        Args:
            parents: The parents' values, `(n, ...)`.
            n: Number of rows, needed where there are no parents.
            without: Names of parents left out in every row.
            drop: Probability with which each parent is left out of each row, by torch's own random
                numbers.
            code: The code, `(n, latent)`; left out if not given.
            drop_code: Whether to leave the code out of some rows, at random.
        """
        context = self._parents(parents, n, without, drop)
        if self.code is None:
            return context
        share = self.no_code.expand(n, -1)
        if code is not None:
            mask = torch.rand((n, 1), device=code.device) >= DROP_CODE if drop_code else True
            share = torch.where(torch.as_tensor(mask, device=code.device), self.code(code), share)
        return torch.cat([context, share.to(context.dtype)], dim=1)

    def _parents(
        self, parents: Parents, n: int, without: set[str] | frozenset[str], drop: float
    ) -> Tensor:
        """Return the parents' shares, `(n, parents' width)`."""
        context: Tensor = self.parents(parents, n)
        if not self.names:
            return context
        present = torch.tensor([name not in without for name in self.names], device=context.device)
        present = present.expand(n, -1)
        if drop:
            present = present & (torch.rand(present.shape, device=context.device) >= drop)
        share = len(self.absent) // len(self.names)
        return torch.where(present.repeat_interleave(share, dim=1), context, self.absent)

    def forward(self, time: Tensor | float, context: Tensor) -> Tensor:
        """Return the features at a time, of all rows or of each `(n,)`."""
        t = torch.as_tensor(time, dtype=context.dtype, device=context.device)
        t = t.expand(len(context))[:, None]
        phase = t * self.frequencies
        features = self.time(torch.cat([2 * t - 1, phase.sin(), phase.cos()], dim=1))
        return torch.cat([features, context.to(features.dtype)], dim=1)
