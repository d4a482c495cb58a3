"""How the values are drawn that a variable is set to, one a test row.

    permuted    x~_i = x_pi(i),  pi a permutation of the test rows
    marginal    x~_i ~ the values of the training rows, with replacement
    forced      x~_i ~ uniform over the distinct training values in another bin than x_i's
    grid        x~_i = v_((i + s) mod K),  v_1 < ... < v_K over the range, s random

All are independent of everything else about the row, but `forced`, which is independent given that
it changes. Bins are K of equal width over the training range; each category is one. The range of a
grid is that of the middle 96 % of the training values.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from rung3.data.variables import Discrete, Variable
from rung3.evaluation.protocol import Targets

__all__ = ["draw"]

EDGES = (0.02, 0.98)
"""Quantiles between which a grid lies."""


def draw(
    kind: Targets,
    name: str,
    variable: Variable,
    test: Tensor,
    train: Tensor,
    levels: int,
    generator: Generator,
) -> Tensor:
    """Targets for every test row, `(n, *shape)`.

    Args:
        kind: How.
        name: The variable's name.
        variable: The variable.
        test: Its factual values, `(n, *shape)`.
        train: Its training values, `(m, *shape)`, none of them missing.
        levels: Number of bins, or of values of a grid.
        generator: Of the draws.

    Raises:
        ValueError: If bins or a grid are asked of vectors or images, or there is but one bin.

    Example:
        >>> from rung3 import Categorical
        >>> codes, seed = torch.tensor([0, 1, 2, 2]), torch.Generator().manual_seed(0)
        >>> (draw("forced", "digit", Categorical(3), codes, codes, 9, seed) != codes).all()
        tensor(True)
    """
    n = len(test)
    if kind == "permuted":
        return test[torch.randperm(n, generator=generator)]
    if kind == "marginal":
        return train[torch.randint(len(train), (n,), generator=generator)]
    if variable.shape:
        raise ValueError(f"{name}: {kind} targets are of single numbers, and it is {variable}")
    if kind == "grid":
        values = _grid(variable, train, levels)
        start = int(torch.randint(len(values), (), generator=generator))
        return values[(torch.arange(n) + start) % len(values)]
    return _forced(name, variable, test, train, levels, generator)


def _grid(variable: Variable, train: Tensor, levels: int) -> Tensor:
    if isinstance(variable, Discrete):
        found: Tensor = train.unique()
        return found
    low, high = torch.quantile(train[:100_000].double(), torch.tensor(EDGES).double()).tolist()
    return torch.linspace(low, high, levels, dtype=train.dtype)


def _forced(
    name: str, variable: Variable, test: Tensor, train: Tensor, levels: int, generator: Generator
) -> Tensor:
    """Places among the distinct values, sorted, with the run of the row's own bin left out."""
    values = train.unique()
    if isinstance(variable, Discrete):
        edges = (values[1:] + values[:-1]) / 2
    else:
        edges = torch.linspace(float(values[0]), float(values[-1]), levels + 1)[1:-1]
    edges = edges.double()
    bins, own = (torch.bucketize(v.double(), edges) for v in (values, test))
    first, last = torch.searchsorted(bins, own), torch.searchsorted(bins, own, right=True)
    others = len(values) - (last - first)
    if (others == 0).any():
        raise ValueError(f"{name}: all training values lie in one bin, so none can be forced")
    share = torch.rand(len(test), generator=generator, dtype=torch.float64)
    at = (share * others).long()
    forced: Tensor = values[torch.where(at < first, at, at + (last - first))]
    return forced
