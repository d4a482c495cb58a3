"""Bootstrap intervals over rows.

B times n rows are resampled from the n rows with replacement; a statistic's interval runs between
quantiles of its B values. Plain percentiles of a small sample are too narrow, because resampling
has variance (n - 1)/n and ignores that the spread itself is estimated; so the levels are widened,

    a' = Phi(-sqrt(n / (n - 1)) t_{1 - a/2, n - 1})        instead of        a / 2.

Source: Hesterberg 2015, *What teachers should know about the bootstrap*, section 3.3
(The American Statistician 69:4).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rung3.data.seeding import stream

__all__ = ["Bootstrap", "nothing"]

CHUNK = 1_000_000
"""Indices drawn, and counts weighed, at once."""


class Bootstrap:
    """Means, and ratios of means, with intervals; every statistic sees the same resamples.

    Args:
        n: Number of rows.
        resamples: Number B of resamples; 0 for no intervals.
        seed: Of the resamples.
        level: Share of intervals that should cover the truth.

    Example:
        >>> found = Bootstrap(100).mean(torch.arange(100.0))
        >>> found["mean"], found["low"] < 49.5 < found["high"]
        (49.5, True)
    """

    def __init__(self, n: int, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> None:
        if n < 1:
            raise ValueError(f"bootstrap: expected at least one row, got {n}")
        self.n = n
        self.wanted = resamples
        self.resamples = resamples if n > 1 else 0
        self.seed = seed
        self.level = level
        self._counts: Tensor | None = None
        self._others: dict[int, Bootstrap] = {}

    @property
    def counts(self) -> Tensor:
        """How often each resample holds each row, `(B, n)`, in bytes."""
        if self._counts is None:
            generator = stream(self.seed, "bootstrap")
            self._counts = torch.zeros(self.resamples, self.n, dtype=torch.uint8)
            one = torch.ones((), dtype=torch.uint8)
            for part in self._counts.split(self._at_once):
                drawn = torch.randint(self.n, part.shape, generator=generator)
                part.scatter_add_(1, drawn, one.expand(part.shape))
        return self._counts

    @property
    def _at_once(self) -> int:
        return max(1, CHUNK // self.n)

    def _resampled(self, scores: Tensor) -> Tensor:
        """Return the mean over rows of scores `(n,)` in each resample, `(B,)`."""
        parts = [part.float() @ scores for part in self.counts.split(self._at_once)]
        return torch.cat(parts) / self.n

    def of(self, n: int) -> Bootstrap:
        """Return the same for another number of rows."""
        if n == self.n:
            return self
        if n not in self._others:
            self._others[n] = Bootstrap(n, self.wanted, self.seed, self.level)
        return self._others[n]

    def mean(self, scores: Tensor, *, partial: bool = False) -> dict[str, Any]:
        """Return the mean of scores `(n,)`: `mean`, `low`, `high`; `None` if some are not finite.

        Then `undefined` says how many.

        Args:
            scores: The scores.
            partial: Whether NaN stands for rows that have none: the mean is then over the others,
                of those in a resample that has any.
        """
        valid = ~scores.isnan() if partial else torch.ones(len(scores), dtype=torch.bool)
        if not valid.any():
            return nothing("no rows")
        if not scores[valid].isfinite().all():
            return nothing(f"{int((~scores.isfinite()).sum())} of {len(scores)} rows not finite")
        centre = scores[valid].double().mean().item()
        if not self.resamples or int(valid.sum()) < 2:
            return {"mean": centre, "low": None, "high": None}
        resampled = self._resampled((scores.float() - centre).where(valid, 0.0))
        if not valid.all():
            resampled = resampled / self._resampled(valid.float())
        low, high = self._quantiles(centre + resampled[resampled.isfinite()], int(valid.sum()))
        return {"mean": centre, "low": low, "high": high}

    def skill(self, error: Tensor, baseline: Tensor) -> dict[str, Any]:
        """Return `1 - mean(error) / mean(baseline)`, rows resampled together.

        Args:
            error: Error of each row, `(n,)`.
            baseline: Error of doing nothing, `(n,)`.

        Returns:
            `mean`, `low`, `high`; all `None` where doing nothing has no error, or some error is not
            finite, and then `undefined` says why.
        """
        error, baseline = error.float(), baseline.float()
        if not (error.isfinite().all() and baseline.isfinite().all()):
            return nothing("an error is not finite")
        if baseline.max() == 0:
            return nothing("doing nothing has no error")
        value = 1 - error.double().mean().item() / baseline.double().mean().item()
        if not self.resamples:
            return {"mean": value, "low": None, "high": None}
        resampled = 1 - self._resampled(error) / self._resampled(baseline)
        low, high = self._quantiles(resampled[resampled.isfinite()], self.n)
        return {"mean": value, "low": low, "high": high}

    def _quantiles(self, values: Tensor, n: int) -> tuple[float, float]:
        from scipy.stats import norm, t

        widen = (n / (n - 1)) ** 0.5
        tail = float(norm.cdf(-widen * t.ppf((1 + self.level) / 2, n - 1)))
        at = torch.tensor([tail, 1 - tail], dtype=values.dtype)
        low, high = torch.quantile(values, at).tolist()
        return low, high


def nothing(why: str) -> dict[str, Any]:
    """Return no mean and no interval, and the reason."""
    return {"mean": None, "low": None, "high": None, "undefined": why}
