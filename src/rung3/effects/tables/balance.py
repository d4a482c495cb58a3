r"""Balance and overlap: whether rows of both arms can be compared, before and after weighting.

Of each column that is adjusted for, the standardised difference

    (mean in one arm - mean in the other) / sqrt((variance in one + variance in the other) / 2),

as the rows are, and weighted by `1 / P(arm | z)`; below .1 it counts as balanced (Austin, Stat.
Med. 2009). `P(arm | z)` shows overlap: where it is near 0 or 1, there is little to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung3.data.pictures import ACCENT, INK
from rung3.data.printed import Printed
from rung3.data.variables import Discrete
from rung3.effects.tables.adjustment import arms_of
from rung3.effects.tables.m_estimation import regress
from rung3.effects.tables.panels import legend, panel
from rung3.effects.tables.sample import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BALANCED", "Balance", "balance"]

BALANCED = 0.1
"""Standardised difference below which a column counts as balanced."""


BARS = 30
"""Bars of the picture of overlap."""


@dataclass(frozen=True)
class Balance(Printed):
    """How alike the arms are.

    Attributes:
        before: Standardised difference of each column, or level, as the rows are.
        after: The same, weighted.
        probabilities: Estimated probability of the first arm in the rows of each arm.
        labels: What the arms are called.
        treatment: Name of the treatment.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    probabilities: tuple[Tensor, Tensor]
    labels: tuple[str, str]
    treatment: str

    @property
    def balanced(self) -> bool:
        """Whether all columns are balanced after weighting."""
        return all(abs(value) < BALANCED for value in self.after.values())

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: {value:+.2f} before, {self.after[name]:+.2f} after weighting"
            for name, value in self.before.items()
        )

    def love_plot(self) -> Figure:
        """Draw the differences before and after weighting."""
        names = list(self.before)[::-1]
        figure, axes = panel("standardised difference, without its sign", lines=len(names))
        places = range(len(names))
        before = [abs(self.before[name]) for name in names]
        after = [abs(self.after[name]) for name in names]
        axes.hlines(places, after, before, color=INK, linewidth=0.8, alpha=0.5)
        axes.plot(before, places, "o", color=INK, mfc="none", label="as the rows are")
        axes.plot(after, places, "o", color=ACCENT, label="weighted")
        axes.axvline(BALANCED, color=INK, linestyle=":", linewidth=1)
        axes.set_yticks(list(places), names)
        axes.set_xlim(left=0)
        legend(axes)
        return figure

    def overlap_plot(self) -> Figure:
        """Draw how the estimated probability of the first arm is spread in both arms."""
        import numpy as np

        across = f"estimated probability of {self.treatment} = {self.labels[0]}"
        figure, axes = panel(across, "share of the arm", height=2.6)
        edges = np.linspace(0, 1, BARS + 1)
        arms = zip(self.probabilities, self.labels, (ACCENT, INK), (1, -1), strict=True)
        for values, label, colour, sign in arms:
            heights, _ = np.histogram(values.numpy(), edges)
            shares = sign * heights / max(1, heights.sum())
            named = f"{self.treatment} = {label}"
            axes.bar(edges[:-1], shares, 1 / BARS, align="edge", color=colour, label=named)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.yaxis.set_major_formatter(lambda share, _: f"{abs(share):.2g}")
        axes.set_xlim(0, 1)
        legend(axes)
        return figure


def balance(sample: Sample, given: Sequence[str], do: object, versus: object) -> Balance:
    """Compare the arms of a discrete treatment.

    Args:
        sample: The rows.
        given: What is adjusted for.
        do: A value of the treatment.
        versus: The value that it is compared with.

    Raises:
        ValueError: If nothing is adjusted for, or the treatment is told without error.
    """
    if not given:
        raise ValueError("balance: nothing is adjusted for")
    arms, labels = arms_of(sample, do, versus)
    inside = arms.any(0)
    features, arm = sample.design(given)[inside], arms[0][inside]
    model = regress(features, arm.double(), sample.weights[inside], True, inflate=False)
    share = model.mean(model.beta)
    weights = sample.weights[inside] * torch.where(arm, 1 / share, 1 / (1 - share))
    columns = {k: v[inside] for name in given for k, v in _named(sample, name).items()}
    plain = sample.weights[inside]
    return Balance(
        {name: _difference(values, arm, plain, plain) for name, values in columns.items()},
        {name: _difference(values, arm, weights, plain) for name, values in columns.items()},
        (share[arm], share[~arm]),
        labels,
        sample.treatment,
    )


def _named(sample: Sample, name: str) -> dict[str, Tensor]:
    """Return a number, or an indicator of each level but the first, by its name."""
    kind, value = sample.kinds[name], sample.rows[name]
    if isinstance(kind, Discrete):
        return {f"{name} = {kind.label(k)}": (value == k).double() for k in range(1, kind.classes)}
    flat = value.double().reshape(len(value), -1)
    if flat.shape[1] == 1:
        return {name: flat[:, 0]}
    return {f"{name}[{k}]": column for k, column in enumerate(flat.unbind(1))}


def _difference(values: Tensor, arm: Tensor, weights: Tensor, plain: Tensor) -> float:
    means, spread = [], 0.0
    for inside in (arm, ~arm):
        w, v, p = weights[inside], values[inside], plain[inside]
        means.append(float((w * v).sum() / w.sum()))
        middle = (p * v).sum() / p.sum()
        spread += float((p * (v - middle).square()).sum() / p.sum()) / 2
    difference = means[0] - means[1]
    return difference / float(max(spread, 1e-300) ** 0.5)
