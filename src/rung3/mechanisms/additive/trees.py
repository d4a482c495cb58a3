"""`Trees`: a sum of small regression trees, for functions with steps.

    f(z) = c + sum_t v_t(l_t(z)),

with l_t(z) the leaf of tree t that z falls into, found by going left where a feature is at most a
threshold. Scikit-learn's histogram gradient boosting grows them (Friedman 2001, *Greedy function
approximation*; Ke et al. 2017, *LightGBM*), each by what those before leave of the squares, until
rows held out tell no more; thresholds lie between 255 bins of the rows. They are stored as arrays,
and evaluated here.

Trees fit the rows that they learned from too well, so the noise is read from other rows: of each
fold of the rows, from trees that the other folds grew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Trees"]

MAX_LEAVES = 24
"""Most leaves of a tree: some causes act together, and few at once."""

LEARNING_RATE = 0.1
"""Share of a tree's step that is taken; scikit-learn's default."""

LEAST_ROWS = 20
"""Least rows of a leaf, so that its value is not a row's own; scikit-learn's default."""

FOLDS = 4
"""Folds of the rows: each is predicted by trees that the other three grew."""

CHUNK_LEAVES = 1_000_000
"""Leaves that are looked up at a time: it bounds the memory."""


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
        shape = (outputs, trees, 2 * MAX_LEAVES - 1)
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("below", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("sides", torch.zeros(*shape, 2, dtype=torch.long))
        self.register_buffer("value", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("start", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("depth", torch.zeros(outputs, dtype=torch.long))

    def forward(self, z: Tensor) -> Tensor:
        size = max(1, CHUNK_LEAVES // self.feature.shape[1])
        return torch.cat([self._sums(rows) for rows in z.split(size)]).to(z)

    def _sums(self, z: Tensor) -> Tensor:
        """Return the sums over trees, in double, `(n, outputs)`."""
        z, outputs = z.double(), []
        for k, start in enumerate(self.start):
            tree = torch.arange(self.feature.shape[1], device=z.device)
            node = tree.new_zeros(len(z), len(tree))
            # All rows go down all trees in step: a leaf is its own child, so no row goes too far.
            for _ in range(int(self.depth[k])):
                right = z.gather(1, self.feature[k][tree, node]) > self.below[k][tree, node]
                node = self.sides[k][tree, node, right.long()]
            outputs.append(start + self.value[k][tree, node].sum(1))
        return torch.stack(outputs, 1)

    @torch.no_grad()
    def solve(self, z: Tensor, y: Tensor) -> Tensor:
        """Grow them, and predict each row by trees that did not learn from it, `(n, outputs)`.

        Args:
            z: Features `(n, inputs)`.
            y: Targets, `(n, outputs)`.
        """
        fold = torch.randperm(len(z)) % min(FOLDS, len(z))
        predictions = torch.zeros_like(y)
        for left_out in fold.unique().tolist() if len(z) > 2 * LEAST_ROWS else []:
            held_out = fold == left_out
            self._fit(z[~held_out], y[~held_out])
            predictions[held_out] = self(z[held_out])
        self._fit(z, y)
        return predictions

    def _fit(self, z: Tensor, y: Tensor) -> None:
        for output in range(y.shape[1]):
            self.store(output, self.boost(z, y[:, output]))

    def boost(self, z: Tensor, y: Tensor) -> Any:
        """Grow the trees of one output with scikit-learn."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        boosting = HistGradientBoostingRegressor(
            max_iter=self.feature.shape[1],
            max_leaf_nodes=MAX_LEAVES,
            learning_rate=LEARNING_RATE,
            min_samples_leaf=LEAST_ROWS,
            early_stopping=len(z) > 10 * LEAST_ROWS,
            random_state=0,
        )
        return boosting.fit(z.double().numpy(force=True), y.double().numpy(force=True))

    def store(self, output: int, boosting: Any) -> None:
        """Copy the trees' arrays; leaves point to themselves, and missing trees give 0."""
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
