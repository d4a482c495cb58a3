"""Positivity: in every stratum of what is adjusted for, some rows must have each treatment.

Where it fails, the stratum is named; among numbers it is a region, found by a small tree whose
leaves hold rows of one arm only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rung3.data.columns import amounts
from rung3.data.variables import Discrete
from rung3.effects.tables.sample import Sample, strata_of, stratum_of

__all__ = ["check_strata", "region_without", "teller"]

WITHOUT_ERROR = "without error"
"""What is said of columns that tell a target in every row."""

DEPTH = 3
"""Conditions that name a region, at most."""

LEAST_ROWS = 10
"""Rows of a region, at least: fewer lack an arm by chance."""


def check_strata(sample: Sample, names: Sequence[str], arms: Tensor, labels: Sequence[str]) -> None:
    """Check that each stratum of discrete columns has rows of both arms.

    Args:
        sample: The sample.
        names: The columns.
        arms: Masks `(2, n)`.
        labels: What the arms are called.

    Raises:
        ValueError: Naming the first stratum that lacks one.
    """
    strata = strata_of(sample.rows, names)
    for arm, label in zip(arms, labels, strict=True):
        counts = torch.zeros(int(strata.max()) + 1).index_add_(0, strata, arm.float())
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            inside = strata == empty[0]
            where = stratum_of(sample, names, int(inside.nonzero()[0])) or "of all rows"
            more = f"; {len(empty)} strata lack one" if len(empty) > 1 else ""
            raise ValueError(
                f"{sample.treatment}: no rows with {sample.treatment} = {label} in the stratum "
                f"{where}; adjust for less, or join levels{amounts(sample.kinds, names)} "
                f"({int(inside.sum())} rows there{more})"
            )


def region_without(
    sample: Sample,
    names: Sequence[str],
    target: str,
    arms: Tensor,
    labels: Sequence[str],
    needed: Sequence[int] = (0, 1),
) -> str:
    """Name a column that tells a target without error, or a region that lacks one of its values.

    Args:
        sample: The sample.
        names: The columns that may tell it.
        target: Name of the treatment, or of an outcome that is yes or no.
        arms: Masks `(2, n)` of two of its values.
        labels: What these are called.
        needed: Numbers of the values that no region may lack.

    Returns:
        A sentence; empty if no region of a few conditions lacks a value.
    """
    everything = [[name] for name in names] + [list(names)]
    regions = (_search(sample, chosen, target, arms, labels, needed) for chosen in everything)
    return next((sentence for sentence in regions if sentence), "")


def teller(
    sample: Sample, names: Sequence[str], target: str, arms: Tensor, labels: Sequence[str]
) -> str:
    """Name columns that tell a target without error, as `region_without` does; empty if none do."""
    everything = [[name] for name in names] + [list(names)]
    sentences = (_search(sample, chosen, target, arms, labels) for chosen in everything if chosen)
    return next((sentence for sentence in sentences if WITHOUT_ERROR in sentence), "")


def _search(
    sample: Sample,
    names: list[str],
    target: str,
    arms: Tensor,
    labels: Sequence[str],
    needed: Sequence[int] = (0, 1),
) -> str:
    from sklearn.tree import DecisionTreeClassifier

    inside = arms.any(0).numpy()
    y = arms[0].numpy()[inside]
    columns = [c for name in names for c in _columns(sample, name)]
    x = np.stack([values for _, _, values in columns], 1)[inside]
    least = min(LEAST_ROWS, len(y) // 4 or 1)
    tree = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=least)
    leaves = tree.fit(x, y).apply(x)
    pure = [leaf for leaf in np.unique(leaves) if len(np.unique(y[leaves == leaf])) == 1]
    lacking_one = [leaf for leaf in pure if int(y[leaves == leaf][0]) in needed]
    if not lacking_one:
        return ""
    largest = max(lacking_one, key=lambda leaf: int((leaves == leaf).sum()))
    rows = leaves == largest
    lacking = labels[1] if y[rows][0] else labels[0]
    where = _conditions(tree.tree_, largest, [(k, v) for k, v, _ in columns])
    if len(pure) == len(np.unique(leaves)):
        joined = ", ".join(names)
        return f"{joined} tells {target} {WITHOUT_ERROR}: {target} is never {lacking} where {where}"
    return f"no rows with {target} = {lacking} where {where} ({int(rows.sum())} rows)"


def _columns(sample: Sample, name: str) -> list[tuple[str, str, np.ndarray]]:
    """Return what a tree splits on: a name, the level that an indicator is of, and values."""
    kind, value = sample.kinds[name], sample.rows[name]
    if isinstance(kind, Discrete) and kind.labels:
        levels = range(kind.classes) if kind.classes > 2 else [1]
        return [(name, kind.label(k), (value == k).double().numpy()) for k in levels]
    flat = value.double().reshape(len(value), -1)  # levels without names are parted by their order
    return [(name, "", column.numpy()) for column in flat.unbind(1)]


def _conditions(tree: object, leaf: int, columns: list[tuple[str, str]]) -> str:
    """Spell the conditions on the way to a leaf."""
    left, right = tree.children_left, tree.children_right  # type: ignore[attr-defined]
    words, node = dict[tuple[str, bool], str](), leaf
    while node:
        parent = int(np.flatnonzero((left == node) | (right == node))[0])
        name, level = columns[tree.feature[parent]]  # type: ignore[attr-defined]
        above = right[parent] == node
        cut = f"{tree.threshold[parent]:.4g}"  # type: ignore[attr-defined]
        test = f"{'=' if above else '!='} {level}" if level else f"{'>' if above else '<='} {cut}"
        # The nearer the leaf, the tighter.
        words.setdefault((name + level, above), f"{name} {test}")
        node = parent
    return " and ".join(reversed(words.values()))
