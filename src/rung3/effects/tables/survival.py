r"""Times that were not seen to their end: restricted means, by pseudo-values.

Of a time T nobody may know more than that it is longer than the follow-up (censoring). With S the
Kaplan-Meier curve, N(t) the events at t, Y(t) the rows still at risk, and the mean up to a horizon

    theta = E[min(T, L)] = int_0^L S(t) dt,      A(t) = int_t^L S(u) du,

row i has the pseudo-value

    theta_i = theta - n sum_{t <= x_i} A(t) (dN_i(t) - N(t) / Y(t)) / (Y(t) - N(t)),

which is min(t_i, L) where nothing is censored. Its mean given any covariates is that of min(T, L),
as far as censoring is by chance within each stratum, so that it takes the time's place in every
estimate of a mean (Andersen, Hansen and Klein, Lifetime Data Analysis 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KaplanMeier", "pseudo_values"]


@dataclass(frozen=True)
class KaplanMeier:
    """The Kaplan-Meier curve of times some of which are censored.

    Attributes:
        times: The times at which there is an event, or an end of follow-up, in order, `(m,)`.
        events: Number of events at each.
        at_risk: Number of rows still at risk at each.
        survival: P(T > t) at each.
    """

    times: Tensor
    events: Tensor
    at_risk: Tensor
    survival: Tensor

    @classmethod
    def of(cls, times: Tensor, seen: Tensor) -> KaplanMeier:
        """Estimate the curve.

        Args:
            times: Times to the event, or to the end of follow-up, `(n,)`.
            seen: Whether the event was seen, `(n,)`.

        Example:
            >>> times = torch.tensor([1.0, 2.0, 2.0, 3.0])
            >>> KaplanMeier.of(times, torch.tensor([True, True, False, True])).survival
            tensor([0.7500, 0.5000, 0.0000])
        """
        distinct, at = times.unique(return_inverse=True)
        count = torch.zeros_like(distinct).index_add_(0, at, torch.ones_like(times))
        events = torch.zeros_like(distinct).index_add_(0, at, seen.to(times))
        at_risk = count.flip(0).cumsum(0).flip(0)
        return cls(distinct, events, at_risk, (1 - events / at_risk).cumprod(0))

    def areas(self, horizon: float) -> tuple[Tensor, Tensor]:
        """Return the area below the curve up to the horizon: in all, and from each time on."""
        ends = torch.cat([self.times, self.times.new_tensor([torch.inf])]).clamp_max(horizon)
        steps = self.survival * ends.diff()
        after = steps.flip(0).cumsum(0).flip(0)
        return ends[0] + after[0], after


def pseudo_values(times: Tensor, seen: Tensor, horizon: float, strata: Tensor) -> Tensor:
    """Return a value of each row whose mean is that of `min(T, horizon)`, `(n,)`.

    Args:
        times: Times to the event, or to the end of follow-up, `(n,)`, in double.
        seen: Whether the event was seen, `(n,)`.
        horizon: Time up to which the mean is restricted.
        strata: Code of the stratum of each row, within which censoring is by chance, `(n,)`.

    Raises:
        ValueError: If nobody in a stratum was followed up to the horizon.

    Example:
        >>> times = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
        >>> pseudo_values(times, torch.tensor([True, True, True]), 3.0, torch.zeros(3))
        tensor([1., 2., 3.], dtype=torch.float64)
    """
    values = torch.empty_like(times)
    for stratum in strata.unique():
        inside = strata == stratum
        values[inside] = _pseudo_values(times[inside], seen[inside], horizon)
    return values


def _pseudo_values(times: Tensor, seen: Tensor, horizon: float) -> Tensor:
    curve = KaplanMeier.of(times, seen)
    if float(curve.times[-1]) < horizon and float(curve.survival[-1]) > 0:
        raise ValueError(
            f"horizon: {horizon:g} is beyond {float(curve.times[-1]):g}, the longest follow-up of "
            "a treatment; give at most that"
        )
    whole, after = curve.areas(horizon)
    left = curve.at_risk - curve.events
    rate = torch.where(left > 0, after / left.clamp_min(1), 0.0)
    expected = (rate * curve.events / curve.at_risk).cumsum(0)
    at = torch.searchsorted(curve.times, times)
    values: Tensor = whole - len(times) * (rate[at] * seen.to(times) - expected[at])
    return values
