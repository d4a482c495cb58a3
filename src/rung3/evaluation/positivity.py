"""Positivity: do the data hold rows like those that an intervention makes?

A mechanism `x := f(pa, u)` is learned where its parents were seen. Under `do(a := c)` it is asked
at the parents `(c, pa')`, where `pa'` are those that do not descend from `a` (the descendants
follow their own mechanisms). Two checks:

- the range: is c between the least and the greatest value seen (a category seen at all);
- the density: with every parent standardised and categories one-hot, is the nearest training row
  farther than the nearest neighbours of 99 % of the training rows are from them? Of the data's own
  rows 1 % are, by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rung3.data.rows import Rows
from rung3.data.variables import Discrete, Image
from rung3.mechanisms.networks.encoding import ParentEncoder
from rung3.scm.scm import SCM

__all__ = ["Positivity", "positivity"]

MAX_ROWS = 5_000
"""Training rows that targets are compared with, at most."""

QUANTILE = 0.99
"""Share of training rows whose nearest neighbour counts as near."""


@dataclass(frozen=True)
class Positivity:
    """The place of an intervention's targets in the training data.

    Attributes:
        variable: What is set.
        outcome: The child that is asked; `None` for a variable without children.
        jointly: The outcome's parents that were looked at together.
        seen: The range of the training data, as text.
        outside: Share of targets outside that range.
        far: Share of targets whose nearest training row is farther than the data's own are.
    """

    variable: str
    outcome: str | None
    jointly: tuple[str, ...]
    seen: str
    outside: float
    far: float


def positivity(model: SCM, train: Rows, rows: Rows, name: str, target: Tensor) -> list[Positivity]:
    """Check `do(name := target)` on rows, for each child of the variable.

    Args:
        model: The model; its graph and variables are used, and nothing that is learned.
        train: The training rows.
        rows: The rows that the intervention is asked of, `n` of them.
        name: The variable that is set.
        target: Its values, `(n, *shape)`.

    Example:
        >>> from rung3.mechanisms import Equation
        >>> model = SCM(a=Equation("u"), b=Equation("a + u"))
        >>> found = positivity(model, model.sample(500, seed=0), model.sample(4, seed=1), "a",
        ...     torch.tensor([0.0, 1.0, -1.0, 50.0]))
        >>> found[0].outcome, found[0].outside, found[0].far
        ('b', 0.25, 0.25)
    """
    present = ~model.variables[name].is_missing(train[name])
    seen, outside = _range(model, train[name][present], name, target)
    below = model.graph.descendants(name)
    results = []
    for child in model.graph.children(name) or (None,):
        names: tuple[str, ...] = (name,)
        if child is not None:
            others = (p for p in model.graph.parents(child) if p not in below and p != name)
            names += tuple(p for p in others if not isinstance(model.variables[p], Image))
        far = _far(model, train, {**rows, name: target}, names)
        results.append(Positivity(name, child, names, seen, outside, far))
    return results


def _range(model: SCM, value: Tensor, name: str, target: Tensor) -> tuple[str, float]:
    variable = model.variables[name]
    if isinstance(variable, Discrete):
        counts = torch.bincount(value.long(), minlength=variable.classes)
        unseen = (counts == 0)[target.long()]
        return f"{int((counts > 0).sum())} of {variable.classes}", float(unseen.float().mean())
    low, high = value.amin(0), value.amax(0)
    beyond = ((target < low) | (target > high)).reshape(len(target), -1).any(1)
    if variable.shape:
        return "by coordinate", float(beyond.float().mean())
    return f"{float(low):.4g} to {float(high):.4g}", float(beyond.float().mean())


def _far(model: SCM, train: Rows, rows: dict[str, Tensor], names: tuple[str, ...]) -> float:
    from scipy.spatial import cKDTree

    variables = {name: model.variables[name] for name in names}
    missing = torch.stack([v.is_missing(train[name]) for name, v in variables.items()]).any(0)
    chosen = (~missing).nonzero().flatten()
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))
    sample = train.select(chosen[order[:MAX_ROWS]])
    encoder = ParentEncoder(variables)
    encoder.calibrate(sample)
    data = encoder(sample, sample.n).numpy(force=True)
    points = encoder(rows, len(rows[names[0]])).numpy(force=True)
    tree = cKDTree(data)
    nearest = tree.query(data, k=2)[0][:, 1]
    limit = np.quantile(nearest, QUANTILE)
    return float((tree.query(points)[0] > limit).mean())
