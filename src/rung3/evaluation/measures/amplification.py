"""What should not have changed: amplification, and drift.

An intervention leaves the non-descendants of what was set as they were; on images only an oracle
d can tell. With x the factual image, x~ the counterfactual, and a parent that should have kept its
value `pa`,

    amplification   e(d(x~), pa) - e(d(x), pa)
    drift           e(d(x~), d(x))                 with e the distance of the variable's kind.

Amplification is the error of effectiveness less the same oracle's error on the same row's real
image: what the counterfactual added, below zero where it made the image more typical. Drift needs
no label. Doing nothing has neither. The oracle's own mistakes cancel in both only where it makes
them alike on real and on imagined images.

Source: Xia, Roschewitz, De Sousa Ribeiro, Jones and Glocker 2024 (arXiv 2403.09422).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from rung3.data.distances import distance
from rung3.data.rows import Rows
from rung3.training.oracles.oracles import Oracle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rung3.scm.scm import SCM

__all__ = ["amplification", "drift", "moved", "unchanged"]


def unchanged(model: SCM, image: str, do: Iterable[str]) -> list[str]:
    """The image's parents that an intervention leaves as they were.

    Example:
        >>> from rung3 import SCM
        >>> model = SCM("a -> b; {a b c} -> x")
        >>> unchanged(model, "x", ["a"]), unchanged(model, "x", ["b"])
        (['c'], ['a', 'c'])
    """
    untouched = _untouched(model, do)
    return [name for name in model.graph.parents(image) if name in untouched]


def amplification(oracle: Oracle, before: Tensor, after: Tensor, values: Tensor) -> Tensor:
    """The oracle's error on counterfactuals less its error on their factuals, `(n,)`.

    Args:
        oracle: Reads a parent that should not have changed.
        before: Factual images `(n, C, H, W)`.
        after: Counterfactual images `(n, C, H, W)`.
        values: The parent's values `(n, *shape)`.

    Returns:
        In the variable's unit; for categories 1 (now wrong), 0 (as before) or -1 (now right).
    """
    return oracle.error(after, values) - oracle.error(before, values)


def drift(oracle: Oracle, before: Tensor, after: Tensor) -> Tensor:
    """How far what the oracle reads has moved, `(n,)`, in the variable's unit.

    Args:
        oracle: Reads a parent that should not have changed.
        before: Factual images `(n, C, H, W)`.
        after: Counterfactual images `(n, C, H, W)`.
    """
    return oracle.error(after, oracle.read(before))


def moved(model: SCM, do: Iterable[str], before: Rows, after: Rows) -> dict[str, Tensor]:
    """How far each non-descendant's value has moved, `(n,)`; exactly zero in a sound model.

    Args:
        model: Whose graph and variables are meant.
        do: Names of what was set.
        before: Factual rows.
        after: Counterfactual rows.

    Example:
        >>> from rung3 import worlds
        >>> world = worlds.lecture()
        >>> rows = world.sample(2, seed=0)
        >>> moved(world, ["x2"], rows, world.counterfactual(rows, {"x2": 0.0}))
        {'x1': tensor([0., 0.])}
    """
    return {
        name: distance(model.variables[name], after[name], before[name])
        for name in _untouched(model, do)
    }


def _untouched(model: SCM, do: Iterable[str]) -> list[str]:
    """What is neither set nor a descendant of what is, in causal order."""
    names = list(do)
    touched = {*names, *model.graph.descendants(names)}
    return [name for name in model.graph.order if name not in touched]
