"""What every way to estimate an effect from a table hands back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rung3.data.printed import Printed
from rung3.effects.estimate import Estimate
from rung3.effects.tables.influence import Influence

__all__ = ["Answer", "Curve", "of_means"]


@dataclass(frozen=True)
class Curve(Printed):
    """A dose-response curve `E[Y | do(t)]`, with a band that holds all of it at the level.

    Attributes:
        doses: Values t of the treatment, in its unit.
        means: The mean outcome at each, with its end of the band.
    """

    doses: tuple[float, ...]
    means: tuple[Estimate[float], ...]

    def __str__(self) -> str:
        return "\n".join(
            f"    {dose:.4g}: {mean}" for dose, mean in zip(self.doses, self.means, strict=True)
        )


@dataclass(frozen=True)
class Answer:
    """The effect in each group, and what else is known of it.

    Attributes:
        contrast: The effect in each group, `(k,)`; all rows are the first group.
        means: `E[Y | do]` and `E[Y | versus]` of all rows; `None` where only the effect is known.
        curve: Of a continuous treatment, the means at the doses, `(m,)`.
        doses: The doses.
        least: Smallest estimated probability of an arm in any row; NaN where there are no arms.
        interval: Ends of the interval, where it is not Student's.
        strength: First-stage F of instruments.
        notes: What must be said beside the numbers.
    """

    contrast: Influence
    means: Influence | None = None
    curve: Influence | None = None
    doses: tuple[float, ...] = ()
    least: float = float("nan")
    interval: tuple[float, float] | None = None
    strength: float | None = None
    notes: tuple[str, ...] = ()


def of_means(means: Influence, least: float, notes: tuple[str, ...] = ()) -> Answer:
    """Return the effects that means `(2 k,)` give: of each group, with and without treatment."""
    count = len(means.values) // 2
    difference = torch.kron(torch.eye(count), torch.tensor([[1.0, -1.0]])).double()

    def contrast(values: Tensor) -> Tensor:
        return difference @ values

    first = means.then(lambda values: values[:2])
    return Answer(means.then(contrast), first, least=least, notes=notes)
