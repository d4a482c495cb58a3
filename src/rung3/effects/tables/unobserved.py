r"""How strong a cause that nobody measured would have to be to explain an effect away.

**E-value** (VanderWeele and Ding, Ann. Intern. Med. 2017). A hidden cause explains a risk ratio RR
above 1 only if it is associated with treatment and outcome by risk ratios of at least

    E = RR + sqrt(RR (RR - 1))

each, beyond what is adjusted for. Of a number, `RR = exp(.91 d)` for an effect of d deviations.

**Robustness value** (Cinelli and Hazlett, J. R. Statist. Soc. B 2020). Of the linear regression of
the outcome on the treatment and what is adjusted for, with estimate b, error s and d degrees of
freedom, a hidden cause that explains the shares R2_t and R2_y of what is left of treatment and
outcome moves b by

    s sqrt(d) sqrt(R2_y R2_t / (1 - R2_t)).

RV is the share that, in both, brings b to zero; with `t*` it brings b to where its interval holds
zero. A column that is adjusted for gives the scale: the share that it explains itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung3.data.pictures import ACCENT, INK
from rung3.data.printed import Printed
from rung3.data.variables import Discrete
from rung3.effects.tables.adjustment import arms_of
from rung3.effects.tables.estimation import Effect
from rung3.effects.tables.panels import panel
from rung3.effects.tables.sample import Sample, independent, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EValue", "Robustness", "e_value", "robustness"]

STANDARDISED = 0.91
"""Logarithm of the risk ratio that a difference of one deviation is about (Chinn 2000)."""

MOST_EXPLAINED = 0.99
"""Share that a hidden cause explains, at most."""

CONTOURS = 100
"""Points along each side of the picture."""

CLOSE = 0.08
"""Distance of points that share a label, in sides of the picture."""

NAMED = 6
"""Names in a label, at most."""


@dataclass(frozen=True)
class EValue(Printed):
    """E-values of an effect.

    Attributes:
        estimate: To explain the estimate away.
        interval: To let the interval hold no effect; 1 where it does already.
    """

    estimate: float
    interval: float

    def __str__(self) -> str:
        return f"E-value {self.estimate:.2f}; of the interval's nearer end {self.interval:.2f}"


def e_value(effect: Effect, deviation: float) -> EValue:
    """Return the E-values of an effect.

    Args:
        effect: The effect.
        deviation: Standard deviation of the outcome, for effects that have no risk ratio.

    Example:
        >>> from rung3.effects.tables import effect
        >>> rows = {"t": [1] * 100 + [0] * 100, "y": [1] * 40 + [0] * 60 + [1] * 20 + [0] * 80}
        >>> print(e_value(effect(rows, "t", "y", adjust=[]), 1.0))  # RR = 2
        E-value 3.41; of the interval's nearer end 1.82
    """
    if effect.odds_ratio is not None and effect.ratio is not None:
        ratio = effect.ratio
        value, low, high = ratio.effect, ratio.low, ratio.high
    else:
        one = effect.effect
        value, low, high = (
            math.exp(min(STANDARDISED * end / deviation, 700.0))
            for end in (one.effect, one.low, one.high)
        )
    if value < 1:
        value, low, high = 1 / value, 1 / high, 1 / max(low, 1e-300)
    return EValue(_e_value(value), _e_value(max(low, 1.0)))


def _e_value(ratio: float) -> float:
    return ratio + math.sqrt(ratio * (ratio - 1))


@dataclass(frozen=True)
class Robustness(Printed):
    """What a hidden cause would have to explain.

    Attributes:
        estimate: The slope of the linear regression.
        error: Its standard error.
        freedom: Its degrees of freedom.
        value: RV, share of what is left of treatment and outcome.
        significant: RV for the interval to hold zero, at the level.
        benchmarks: Of each column that is adjusted for, the shares of treatment and of outcome that
            a hidden cause as strong as it explains, at most.
        level: Of the interval.
    """

    estimate: float
    error: float
    freedom: int
    value: float
    significant: float
    benchmarks: Mapping[str, tuple[float, float]]
    level: float

    def bias(self, treatment: float, outcome: float) -> float:
        """Return how far a hidden cause moves the estimate that explains such shares of both."""
        strength = math.sqrt(outcome * treatment / (1 - treatment))
        return self.error * math.sqrt(self.freedom) * strength

    def left(self, treatment: float, outcome: float) -> float:
        """Return the estimate that such a hidden cause, working against it, leaves."""
        return math.copysign(1, self.estimate) * (
            abs(self.estimate) - self.bias(treatment, outcome)
        )

    def __str__(self) -> str:
        lines = [
            f"a hidden cause that explains {self.value:.1%} of what is left of treatment and of "
            f"outcome would explain the effect away; {self.significant:.1%}, its significance"
        ]
        lines += [
            f"    one as strong as {name} ({treatment:.1%} and {outcome:.1%}) would leave "
            f"{self.left(treatment, outcome):.4g} of {self.estimate:.4g}"
            for name, (treatment, outcome) in self.benchmarks.items()
        ]
        return "\n".join(lines)

    def figure(self) -> Figure:
        """Draw the estimate that is left, by how much a hidden cause explains of both."""
        import numpy as np

        reach = [self.value, *(share for pair in self.benchmarks.values() for share in pair)]
        shares = np.linspace(0, min(0.95, 1.4 * max(reach)), CONTOURS)
        left = np.array([[self.left(x, y) for x in shares] for y in shares])
        figure, axes = panel(
            "what a hidden cause explains of what is left of the treatment",
            "... of the outcome",
            height=4.2,
        )
        lines = axes.contour(shares, shares, left, 8, colors=INK, linewidths=0.8)
        axes.clabel(lines, fontsize=8)
        axes.contour(shares, shares, left, [0.0], colors=ACCENT, linewidths=2)
        for x, y in self.benchmarks.values():
            axes.plot(x, y, "o", color=ACCENT, markersize=5, clip_on=False)
        for text, place in self._labels(CLOSE * shares[-1]).items():
            axes.annotate(text, place, (4, 4), textcoords="offset points", fontsize=8, color=INK)
        return figure

    def _labels(self, near: float) -> dict[str, tuple[float, float]]:
        """Return labels with their places: one for points so near that theirs would overlap."""
        groups: list[list[str]] = []
        for name in sorted(self.benchmarks, key=lambda name: self.benchmarks[name][1]):
            x, y = self.benchmarks[name]
            for group in groups:
                if math.dist((x, y), self.benchmarks[group[0]]) < near:
                    group.append(name)
                    break
            else:
                groups.append([name])
        labels = {}
        for group in groups:
            more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
            labels[", ".join(group[:NAMED]) + more] = self.benchmarks[group[-1]]
        return labels


def robustness(
    sample: Sample, given: Sequence[str], compared: tuple[object, object], level: float = 0.95
) -> Robustness:
    """Return the robustness value of a linear adjustment.

    Args:
        sample: The rows.
        given: What is adjusted for.
        compared: Both values of a discrete treatment.
        level: Of the interval.
    """
    from scipy.stats import t as student

    treatment, inside = _treatment(sample, compared)
    y = sample.y[inside]
    columns = {
        name: [c[inside] for c in numbers(name, sample.rows[name], sample.kinds[name])]
        for name in given
    }
    everything = [c for parts in columns.values() for c in parts]
    full = independent([*everything, treatment], len(y))
    statistic, freedom, estimate, error = _last(full, y)
    f = abs(statistic) / math.sqrt(freedom)
    limit = float(student.ppf((1 + level) / 2, freedom - 1)) / math.sqrt(freedom - 1)
    benchmarks = {}
    for name in given:
        rest = [c for other, parts in columns.items() if other != name for c in parts]
        of_t = _partial(independent(rest, len(y)), columns[name], treatment)
        of_y = _partial(independent([*rest, treatment], len(y)), columns[name], y)
        benchmarks[name] = _bounds(of_t, of_y)
    return Robustness(
        estimate, error, freedom, _value(f), _value(max(f - limit, 0.0)), benchmarks, level
    )


def _treatment(sample: Sample, compared: tuple[object, object]) -> tuple[Tensor, Tensor]:
    """Return the treatment as a number, of the rows that have one of the values."""
    values = sample.rows[sample.treatment].double()
    if not isinstance(sample.kinds[sample.treatment], Discrete):
        return values, torch.ones(len(values), dtype=torch.bool)
    arms, _ = arms_of(sample, *compared)
    inside = arms.any(0)
    return arms[0][inside].double(), inside


def _value(f: float) -> float:
    return (math.sqrt(f**4 + 4 * f**2) - f**2) / 2


def _last(x: Tensor, y: Tensor) -> tuple[float, int, float, float]:
    """Return t statistic, degrees of freedom, estimate and error of the last coefficient."""
    beta = torch.linalg.lstsq(x, y[:, None], driver="gelsd").solution[:, 0]
    freedom = len(y) - x.shape[1]
    variance = float((y - x @ beta).square().sum()) / freedom
    error = math.sqrt(variance * float(torch.linalg.pinv(x.T @ x, hermitian=True)[-1, -1]))
    estimate = float(beta[-1])
    return estimate / max(error, 1e-300), freedom, estimate, error


def _partial(x: Tensor, columns: Sequence[Tensor], y: Tensor) -> float:
    """Return the share of what x leaves of y that further columns explain."""
    before = _left(x, y)
    after = _left(torch.cat([x, torch.stack(list(columns), 1)], 1), y)
    return max(0.0, 1 - after / max(before, 1e-300))


def _left(x: Tensor, y: Tensor) -> float:
    beta = torch.linalg.lstsq(x, y[:, None], driver="gelsd").solution[:, 0]
    return float((y - x @ beta).square().sum())


def _bounds(of_treatment: float, of_outcome: float) -> tuple[float, float]:
    """Return what a hidden cause as strong as a column explains (Cinelli and Hazlett, sec. 4.4)."""
    odds = of_treatment / max(1 - of_treatment, 1e-12)
    shared = min(odds**2, MOST_EXPLAINED)  # of the hidden cause, what the column explains given T
    stretch = (1 + math.sqrt(shared)) ** 2 / (1 - shared)
    outcome = stretch * of_outcome / max(1 - of_outcome, 1e-12)
    return min(odds, MOST_EXPLAINED), min(outcome, MOST_EXPLAINED)
