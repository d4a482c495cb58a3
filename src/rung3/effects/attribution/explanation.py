"""What `explain` found: effects, causes and what flips a decision, as text and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from rung3.data.printed import Printed
from rung3.data.rows import Rows
from rung3.effects.estimate import Estimate
from rung3.effects.predictors.cheapest import Action

__all__ = ["CauseEffect", "Causes", "Explanation"]

TINY = 1e-12
"""Least attribution that a picture is scaled by."""

SHOWN = 6
"""Effects that a picture shows: the largest."""


@dataclass(frozen=True)
class CauseEffect(Printed):
    """How an intervention changes what a predictor says.

    Attributes:
        label: The intervention, as text.
        do: The intervention.
        total: Change of the output, and its interval: of one row over the particles, of several
            rows over the rows.
        parts: The same of each way: `"direct"`, a mediator, or `"latent"`; they add up to the
            total.
    """

    label: str
    do: Mapping[str, Any]
    total: Estimate[Tensor]
    parts: Mapping[str, Estimate[Tensor]]

    def __str__(self) -> str:
        ways = ", ".join(f"{name} {float(part.effect):+.3g}" for name, part in self.parts.items())
        return f"{self.label}: {self.total}" + (f" ({ways})" if len(self.parts) > 1 else "")


@dataclass(frozen=True)
class Causes:
    """How a cause and a decision hang together.

    Attributes:
        necessity: PN: how often the decision falls with another value of the cause.
        sufficiency: PS: how often the row's value brings the decision to rows without it.
    """

    necessity: Estimate[Tensor]
    sufficiency: Estimate[Tensor]


@dataclass(frozen=True)
class Explanation(Printed):
    """Why a predictor says what it says.

    Attributes:
        outputs: What it says of each row, `(n,)`.
        decisions: What it decides, `(n,)`; `None` of a number.
        effects: The effects of interventions, the largest first.
        causes: Of each cause, necessity and sufficiency for the decision; without those for which
            no usual row has both another value and another decision.
        flip: Of one row, the smallest intervention that changes the decision; `None` if none does.
        rows: The rows that were explained.
        images: The images that the predictor reads, by title, for the picture.
    """

    outputs: Tensor
    decisions: Tensor | None
    effects: tuple[CauseEffect, ...]
    causes: Mapping[str, Causes]
    flip: Action | None
    rows: Rows
    images: Mapping[str, Tensor]

    def agreement(self, truth: Explanation) -> float:
        """Return the rank correlation (Spearman) of the effects with those of another explanation.

        Args:
            truth: Of the same rows and interventions, such as that by the world they come from.

        Raises:
            ValueError: If they have fewer than two interventions in common.
        """
        from scipy.stats import spearmanr

        others = {one.label: float(one.total.effect) for one in truth.effects}
        pairs = [
            (float(e.total.effect), others[e.label]) for e in self.effects if e.label in others
        ]
        if len(pairs) < 2:
            raise ValueError(
                f"agreement: {len(pairs)} interventions in common; give both the same do="
            )
        return float(spearmanr(*zip(*pairs, strict=True)).statistic)

    def __str__(self) -> str:
        n = len(self.outputs)
        text = f"prediction {float(self.outputs.mean()):.4g}" + (f", mean of {n} rows" * (n > 1))
        if self.decisions is not None and n == 1:
            text += f": decides for {int(self.decisions[0])}"
        lines = [text, *(f"  {effect}" for effect in self.effects)]
        lines += [
            f"{name}: necessary {cause.necessity}, sufficient {cause.sufficiency}"
            for name, cause in self.causes.items()
        ]
        if self.decisions is not None and n == 1:
            lines.append(f"flips with: {self.flip or 'nothing within usual values'}")
        return "\n".join(lines)

    def figure(self, beside: Mapping[str, Tensor] = MappingProxyType({})) -> Any:
        """Draw the largest effects, split by way, as a matplotlib figure.

        Args:
            beside: Attributions to draw beside them, by variable, `(n, *shape)`, as
                `rung3.effects.predictors.attributions.attributions` gives them: numbers as the mean
                over rows, of images how far each pixel of the first row counts.
        """
        from rung3.effects.predictors.drawing import draw_parts

        panels = {
            one.label: {"total": one.total, **(one.parts if len(one.parts) > 1 else {})}
            for one in self.effects[:SHOWN]
        }
        pixels = {name: share for name, share in beside.items() if share.ndim > 2}
        means = {name: share.mean() for name, share in beside.items() if name not in pixels}
        if means:
            panels["attributions"] = {k: Estimate(mean, mean, mean) for k, mean in means.items()}
        drawn = {f"attribution: {name}": _picture(share[0]) for name, share in pixels.items()}
        images = {**self.images, **drawn}
        return draw_parts(panels, "change of the prediction", images, shared=True)


def _picture(share: Tensor) -> Tensor:
    """Return how far each pixel counts, from 0 to 1, `(1, H, W)`."""
    size = share.abs().mean(0, keepdim=True)
    return size / size.max().clamp_min(TINY)
