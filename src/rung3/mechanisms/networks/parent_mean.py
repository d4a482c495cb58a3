"""The mean of latents given the discrete parents, which is no noise.

Noise is independent of the parents, and latents that are inferred need not be. A layer may hold
part of a digit, and under another one the decoder then hears both; or the pose of a 1 may lie
around another mean than that of a 7, because each is drawn in a frame of its own. So the noise is
what is left of the latents,

    noise = latents - m(pa),   m(pa) = b_0 + sum_k b_k[pa_k],

with a part of its own for each class of each discrete parent. As the mean of the latents' prior m
makes the bound on the likelihood greatest where it is the least-squares fit of the latents on the
classes. It follows from the mean products of classes and latents over the last batches, by ridge
regression: what is rarely seen has the mean of the rest. Means given numbers are left alone, since
they would be extrapolated where parents are seldom seen together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rung3.data.shared_batch import over_all
from rung3.data.variables import Discrete, Variable
from rung3.mechanisms.base import Parents

__all__ = ["ParentMean"]

RENEWAL = 2e-3
"""Least share of the newest batch in the mean products: some ten thousand rows count, so that the
mean of a tenth of them is known to 0.03 of their deviation."""

FIRST_BATCHES = 5
"""Until then, this many times the share that all batches have alike: the encoder still moves, and
older ones are of another one."""

RIDGE = 1e-3
"""Share of rows at which a class counts half: with fewer its mean is mostly noise."""


class ParentMean(nn.Module):
    """Means of latents, by name `(n, ...)`, given the discrete parents; 0 before it is renewed.

    Args:
        parents: The parents' variables, by name; those that are not discrete are passed over.
        shapes: Shapes of the latents of a row, by name.

    Example:
        >>> from rung3 import Binary
        >>> mean = ParentMean({"sick": Binary()}, {"z": (1,)})
        >>> sick = torch.tensor([0, 1, 1, 0])
        >>> mean.add({"z": 10.0 * sick[:, None]}, {"sick": sick})
        >>> mean.renew()
        >>> mean({"sick": torch.tensor([0, 1])}, 2)["z"].round()
        tensor([[ 0.],
                [10.]])
    """

    batches: Tensor
    products: Tensor
    parts: Tensor

    def __init__(
        self, parents: Mapping[str, Variable], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        super().__init__()
        self.classes = {k: v.classes for k, v in parents.items() if isinstance(v, Discrete)}
        self.shapes = dict(shapes)
        terms = 1 + sum(self.classes.values())
        size = sum(map(math.prod, self.shapes.values()))
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("products", torch.zeros(terms, terms + size))
        self.register_buffer("parts", torch.zeros(terms, size))

    @torch.no_grad()
    def add(self, latents: Mapping[str, Tensor], parents: Parents) -> None:
        """Count a batch: latents by name, `(n, ...)`, and the parents of the same rows."""
        n = len(next(iter(latents.values())))
        at = torch.stack(self._places(parents, n), dim=1)
        ones = self.parts.new_zeros(n, len(self.parts)).scatter_(1, at, 1.0)
        row = torch.cat([ones, *(latents[name].flatten(1).to(ones) for name in self.shapes)], dim=1)
        with torch.autocast(row.device.type, enabled=False):  # sums of products need their digits
            products = over_all(ones.T @ row / n)
        self.batches += 1
        share = (FIRST_BATCHES / (self.batches + FIRST_BATCHES - 1)).clamp_min(RENEWAL)
        self.products += share * (products - self.products)

    def renew(self) -> None:
        """Take the means from the batches that were counted; none leaves them as they are."""
        if not self.batches:
            return
        ridge = torch.full_like(self.products[:, 0], RIDGE)
        ridge[0] = 0  # the mean of all rows is no rare thing
        among, with_latents = self.products.tensor_split([len(ridge)], dim=1)
        self.parts.copy_(torch.linalg.solve(among + ridge.diag(), with_latents))

    def forward(self, parents: Parents, n: int) -> dict[str, Tensor]:
        """Return the means of each row's latents, by name, `(n, ...)`, without gradient."""
        mean = torch.stack([self.parts[at] for at in self._places(parents, n)]).sum(0)
        parts = mean.split([*map(math.prod, self.shapes.values())], dim=1)
        return {
            name: part.view(n, *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def _places(self, parents: Parents, n: int) -> list[Tensor]:
        """Return which parts make the mean of each row, one `(n,)` for all rows and each parent."""
        first, places = 1, [torch.zeros(n, dtype=torch.long, device=self.parts.device)]
        for name, classes in self.classes.items():
            places.append(first + parents[name].long())
            first += classes
        return places
