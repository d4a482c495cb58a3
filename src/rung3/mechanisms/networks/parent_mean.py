"""The mean of latents given the discrete parents, which is no noise.

Noise is independent of the parents, and latents that are inferred need not be: the pose of a 1 may
lie around another mean than that of a 7, because each is drawn in a frame of its own, and those
were never compared. Another digit at the same pose then lies elsewhere, or leans. So the noise is
what is left of the latents,

    noise = latents - m(pa),   m(pa) = b_0 + sum_k b_k[pa_k],

with one number for each class of each discrete parent. In the bound on the likelihood m is the mean
of the latents' prior, and least squares of the latents on the classes are what maximises it. They
follow from the mean products of classes and latents over the last batches, by ridge regression:
what is rarely seen has the mean of the rest. Means given numbers are left alone, since they would
be extrapolated where parents are seldom seen together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rung3.data.shared_batch import batch_mean
from rung3.data.variables import Discrete, Variable
from rung3.mechanisms.base import Parents

__all__ = ["ParentMean"]

RENEWAL = 0.01
"""Share of the newest batch in the mean products: the encoder still moves, and older ones are of
another one."""

RIDGE = 1e-3
"""Share of rows at which a class counts half: with fewer its mean is mostly noise."""


class ParentMean(nn.Module):
    """A mean of latents `(n, size)` given the discrete parents; 0 before it is renewed.

    Args:
        parents: The parents' variables, by name; those that are not discrete are passed over.
        size: Length of the latents.

    Example:
        >>> from rung3 import Binary
        >>> mean = ParentMean({"sick": Binary()}, size=1)
        >>> sick = torch.tensor([0, 1, 1, 0])
        >>> mean.add(10.0 * sick[:, None], {"sick": sick})
        >>> mean.renew()
        >>> mean({"sick": torch.tensor([0, 1])}, 2).round()
        tensor([[ 0.],
                [10.]])
    """

    batches: Tensor
    products: Tensor
    parts: Tensor

    def __init__(self, parents: Mapping[str, Variable], size: int) -> None:
        super().__init__()
        self.classes = {k: v.classes for k, v in parents.items() if isinstance(v, Discrete)}
        terms = 1 + sum(self.classes.values())
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("products", torch.zeros(terms, terms + size))
        self.register_buffer("parts", torch.zeros(terms, size))

    @torch.no_grad()
    def add(self, latents: Tensor, parents: Parents) -> None:
        """Count a batch: latents `(n, size)` and the parents of the same rows."""
        at = torch.stack(self._places(parents, len(latents)), dim=1)
        ones = self.parts.new_zeros(len(at), len(self.parts)).scatter_(1, at, 1.0)
        row = torch.cat([ones, latents.to(ones)], dim=1)
        products = batch_mean(ones[:, :, None] * row[:, None, :], over=0)
        self.batches += 1
        self.products += (1 / self.batches).clamp_min(RENEWAL) * (products - self.products)

    def renew(self) -> None:
        """Take the means from the batches that were counted; none leaves them as they are."""
        if not self.batches:
            return
        ridge = torch.full_like(self.products[:, 0], RIDGE)
        ridge[0] = 0  # the mean of all rows is no rare thing
        among, with_latents = self.products.tensor_split([len(ridge)], dim=1)
        self.parts.copy_(torch.linalg.solve(among + ridge.diag(), with_latents))

    def forward(self, parents: Parents, n: int) -> Tensor:
        """Return the mean of each row's latents, `(n, size)`, without gradient."""
        return torch.stack([self.parts[at] for at in self._places(parents, n)]).sum(0)

    def _places(self, parents: Parents, n: int) -> list[Tensor]:
        """Return which parts make the mean of each row, one `(n,)` for all rows and each parent."""
        first, places = 1, [torch.zeros(n, dtype=torch.long, device=self.parts.device)]
        for name, classes in self.classes.items():
            places.append(first + parents[name].long())
            first += classes
        return places
