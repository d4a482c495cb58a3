"""Which noise goes with which value in training: independent, or by optimal transport.

Flow matching learns the map that is implied by pairs (u, x). Independent pairs are the plain
choice. Pairs that make `E |u - x|^2` small within a batch have straight paths, so that few steps
suffice, and their map is near the gradient of a convex potential, which the law alone fixes (arXiv
2302.00482, 2510.08294). But the noise of a cause's effect must not depend on the cause, and pairs
solved across parents make it: the noise of a row then tells its parents. So transport is solved

- within the rows of one value of the discrete parents; and
- of continuous parents, with the cost `|u_i - x_j|^2 + b |pa'_i - pa_j|^2`, where pa' are the
  parents of the same rows shuffled, each with one noise, and b is a stated weight. The larger b,
  the less the noise depends on the parents, and the more a pair is one of near parents, not of near
  values.

How far the noise depends on the parents all the same is measured: R^2 of the parents regressed on
the noise that went with them, by least squares, less what chance explains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rung3.data.variables import Discrete, Variable
from rung3.mechanisms.base import Parents
from rung3.mechanisms.networks.encoding import ParentEncoder

__all__ = ["Dependence", "Transport"]

COARSE = 4
"""Side to which the noise of an image is averaged before parents are regressed on it: transport
acts on coarse shapes most, and few regressors need few rows."""

MOST_REGRESSORS = 64
"""Most regressors of the noise; of more coordinates, as many neighbours are averaged."""


class Transport(nn.Module):
    """Pairs of noise and values by optimal transport within a batch.

    Args:
        name: The variable's name, for errors.
        parents: The parents' variables, by name.
        weight: The weight b of squared distances of continuous parents, in their deviations.

    Raises:
        ValueError: If a parent is not discrete and there is no weight.
    """

    def __init__(self, name: str, parents: Mapping[str, Variable], weight: float | None) -> None:
        super().__init__()
        self.discrete = [k for k, v in parents.items() if isinstance(v, Discrete)]
        numbers = {k: v for k, v in parents.items() if k not in self.discrete}
        if numbers and weight is None:
            raise ValueError(
                f"{name}: coupling='optimal-transport' solves within values of discrete parents, "
                f"and {', '.join(numbers)} {'are' if len(numbers) > 1 else 'is'} not discrete; "
                "state the weight of their distances, such as parent_weight=100, or use "
                "coupling='independent'"
            )
        self.weight = weight or 0.0
        self.encoder = ParentEncoder(numbers)

    def calibrate(self, parents: Parents) -> None:
        """Take the scale of continuous parents from training data."""
        self.encoder.calibrate(parents)

    @torch.no_grad()
    def forward(self, u: Tensor, x: Tensor, parents: Parents) -> Tensor:
        """Return the noise in the order in which it goes with the values, `(n, ...)`."""
        from scipy.optimize import linear_sum_assignment

        result = u.clone()
        near = self.encoder(parents, len(u))
        for rows in self._groups(parents, u):
            start, end = (part[rows].reshape(len(rows), -1).float() for part in (u, x))
            cost = torch.cdist(start, end).square()
            if self.weight:
                nearest = near[rows]
                shuffled = nearest[torch.randperm(len(rows), device=nearest.device)]
                cost = cost + self.weight * torch.cdist(shuffled, nearest).square()
            which, taker = linear_sum_assignment(cost.cpu().numpy())
            result[rows[torch.from_numpy(taker).to(rows)]] = u[
                rows[torch.from_numpy(which).to(rows)]
            ]
        return result

    def _groups(self, parents: Parents, u: Tensor) -> list[Tensor]:
        """Return the numbers of the rows of each value of the discrete parents."""
        every = torch.arange(len(u), device=u.device)
        if not self.discrete:
            return [every]
        codes = torch.stack([parents[name].long() for name in self.discrete], dim=1)
        group = codes.unique(dim=0, return_inverse=True)[1]
        return [every[group == k] for k in range(int(group.max()) + 1)]


class Dependence(nn.Module):
    """How far the parents can be told from the noise that went with them in training.

    Sums of products of `(1, noise, parents)` over all rows seen give the regression at any time.

    Args:
        shape: Shape of the noise of a row.
        parents: The parents' variables, by name.
    """

    products: Tensor

    def __init__(self, shape: tuple[int, ...], parents: Mapping[str, Variable]) -> None:
        super().__init__()
        self.encoder = ParentEncoder({k: v for k, v in parents.items() if len(v.shape) < 2})
        noise = _regressors(torch.zeros(1, *shape)).shape[1]
        self.noise = noise
        size = 1 + noise + self.encoder.width
        self.register_buffer("products", torch.zeros(size, size))

    def calibrate(self, parents: Parents) -> None:
        """Take the scale of continuous parents from training data."""
        self.encoder.calibrate(parents)

    @torch.no_grad()
    def add(self, u: Tensor, parents: Parents) -> None:
        """Count rows: noise `(n, ...)` and the parents that it went with."""
        with torch.autocast(u.device.type, enabled=False):  # sums of products need their digits
            encoded = self.encoder(parents, len(u))
            row = torch.cat([torch.ones(len(u), 1, device=u.device), _regressors(u), encoded], 1)
            self.products += row.T @ row

    def r_squared(self) -> float:
        """Return the greatest R^2 of a feature of the parents; NaN before enough rows are seen."""
        n, p = float(self.products[0, 0]), self.noise
        if n <= p + 1 or not self.encoder.width:
            return math.nan
        mean = self.products[0] / n
        covariance = self.products.double() / n - torch.outer(mean, mean).double()
        noise, parents = covariance[1 : 1 + p, 1 : 1 + p], covariance[1 + p :, 1 + p :]
        across = covariance[1 : 1 + p, 1 + p :]
        explained = (across * torch.linalg.lstsq(noise, across).solution).sum(0)
        total = parents.diagonal()
        share = (explained / total)[total > 1e-9]
        if not len(share):
            return math.nan
        chance = (n - 1) / (n - p - 1)
        return float(1 - (1 - share.max()) * chance)


def _regressors(u: Tensor) -> Tensor:
    """Return noise `(n, ...)` as columns, averaged over neighbours where there are many."""
    if u.ndim > 3:
        u = (F.adaptive_avg_pool2d if u.ndim == 4 else F.adaptive_avg_pool3d)(u, COARSE)
    flat = u.reshape(len(u), -1)
    if flat.shape[1] > MOST_REGRESSORS:
        flat = F.adaptive_avg_pool1d(flat[:, None], MOST_REGRESSORS)[:, 0]
    return flat
