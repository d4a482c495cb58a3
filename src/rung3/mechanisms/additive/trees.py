"""`Trees`: a sum of small regression trees, for functions with steps.

    f(z) = c + sum_t v_t(l_t(z)),

with l_t(z) the leaf of tree t that z falls into, found by going left where a feature is at most a
threshold. Scikit-learn's histogram gradient boosting grows them (Friedman 2001, *Greedy function
approximation*; Ke et al. 2017, *LightGBM*), each by what those before leave of the squares, until
rows held out tell no more; thresholds lie between 255 bins of the rows. They are kept as arrays,
and evaluated here.

Trees fit the rows that they learned from too well, so the noise is read from rows that they did
not: of each fold of the rows, from trees that the other folds grew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Trees"]

LEAVES, RATE, LEAST, FOLDS = 24, 0.1, 20, 4
"""Of a tree; of learning; rows of a leaf; folds of the rows."""
CHUNK = 1_000_000
"""Leaves that are looked for at once."""


class Trees(nn.Module):
    """Sums of trees, `(n, inputs) -> (n, outputs)`; no gradients.

    Args:
        trees: Most trees of a sum.
        outputs: Number of outputs.

    Example:
        >>> z = torch.linspace(-2, 2, 4_000)[:, None]
        >>> trees = Trees(200)
        >>> _ = trees.solve(z, (4 * z).floor())
        >>> bool(((trees(z) - (4 * z).floor()).abs() < 0.05).float().mean() > 0.9)
        True
    """

    feature: Tensor
    below: Tensor
    sides: Tensor
    value: Tensor
    start: Tensor
    depth: Tensor

    def __init__(self, trees: int, outputs: int = 1) -> None:
        super().__init__()
        shape = (outputs, trees, 2 * LEAVES - 1)
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("below", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("sides", torch.zeros(*shape, 2, dtype=torch.long))
        self.register_buffer("value", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("start", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("depth", torch.zeros(outputs, dtype=torch.long))

    def forward(self, z: Tensor) -> Tensor:
        size = max(1, CHUNK // self.feature.shape[1])
        return torch.cat([self._told(some) for some in z.split(size)]).to(z)

    def _told(self, z: Tensor) -> Tensor:
        """Go down all trees at once; a leaf is its own child."""
        z, told = z.double(), []
        for k, start in enumerate(self.start):
            tree = torch.arange(self.feature.shape[1], device=z.device)
            at = tree.new_zeros(len(z), len(tree))
            for _ in range(int(self.depth[k])):
                right = z.gather(1, self.feature[k][tree, at]) > self.below[k][tree, at]
                at = self.sides[k][tree, at, right.long()]
            told.append(start + self.value[k][tree, at].sum(1))
        return torch.stack(told, 1)

    @torch.no_grad()
    def solve(self, z: Tensor, y: Tensor) -> Tensor:
        """Grow them, and tell y of each row by trees that did not learn from it, `(n, outputs)`.

        Args:
            z: Features `(n, inputs)`.
            y: What they shall tell, `(n, outputs)`.
        """
        fold = torch.randperm(len(z)) % min(FOLDS, len(z))
        told = torch.zeros_like(y)
        for part in [*fold.unique().tolist(), None] if len(z) > 2 * LEAST else [None]:
            some = fold != part if part is not None else fold >= 0
            for k in range(y.shape[1]):
                self._keep(k, self._grown(z[some], y[some, k]))
            held = ~some if part is not None else fold < 0
            told[held] = self(z[held])
        return told

    def _grown(self, z: Tensor, y: Tensor) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        boosting = HistGradientBoostingRegressor(
            max_iter=self.feature.shape[1],
            max_leaf_nodes=LEAVES,
            learning_rate=RATE,
            min_samples_leaf=LEAST,
            early_stopping=len(z) > 10 * LEAST,
            random_state=0,
        )
        return boosting.fit(z.double().numpy(force=True), y.double().numpy(force=True))

    def _keep(self, output: int, boosting: Any) -> None:
        """Take the trees' arrays over; leaves point to themselves, and trees not grown say 0."""
        for part in (self.feature, self.below, self.sides, self.value):
            part[output] = 0
        self.start[output] = float(np.ravel(boosting._baseline_prediction)[0])
        grown = [tree.nodes for (tree,) in boosting._predictors]
        self.depth[output] = max((int(nodes["depth"].max()) for nodes in grown), default=0)
        for row, nodes in enumerate(grown):
            n, leaf = len(nodes), nodes["is_leaf"].astype(bool)
            sides = np.stack([nodes["left"], nodes["right"]], 1).astype(np.int64)
            sides[leaf] = np.flatnonzero(leaf)[:, None]
            below = np.where(leaf, 0.0, nodes["num_threshold"])
            self.feature[output, row, :n] = torch.from_numpy(nodes["feature_idx"].astype(np.int64))
            self.below[output, row, :n] = torch.from_numpy(below)
            self.sides[output, row, :n] = torch.from_numpy(sides)
            self.value[output, row, :n] = torch.from_numpy(np.where(leaf, nodes["value"], 0.0))
