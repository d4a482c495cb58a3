r"""Influence: one form for the error of every estimate, from which all intervals are made.

An estimate theta of n rows is, up to terms that vanish faster than its error, a mean,

    theta - truth = mean_i phi(o_i),        Var(theta) = sum_i phi_i phi_i' / n^2,

with `phi` the influence function. Repeated subjects are added up before they are squared (clusters:
Liang and Zeger, Biometrika 1986). A smooth function f of estimates has the influence `f' phi` (the
delta method), so that ratios and differences of means need nothing of their own. Several intervals
hold all together at a level if each has the half-width `c se`, with c the quantile of the greatest
of their correlated t statistics (Hothorn, Bretz and Westfall, Biometrical Journal 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rung3.effects.estimate import PROPORTION, Estimate, Form

__all__ = ["Influence"]

DRAWS = 40_000
"""Draws of the greatest t statistic: its 95 % quantile is known to about 0.3 %."""


@dataclass(frozen=True)
class Influence:
    """Estimates, and what each row did to them.

    Attributes:
        values: The estimates, `(k,)`, in double.
        scores: Their influence functions, `(n, k)`.
        freedom: Degrees of freedom of the t statistics.
        clusters: Code of the subject of each row, `(n,)`, where rows repeat subjects.
        more: Covariance `(k, k)` that is not of the rows: of imputations.
        counts: How many rows of a table each row stands for, `(n,)`, if for more than itself. Its
            score is that of one of them, times its weight.

    Example:
        >>> y = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
        >>> mean = Influence(y.mean()[None], (y - y.mean())[:, None], 3)
        >>> print(mean.intervals(0.95)[0])
        3.000 [0.023, 5.977]
    """

    values: Tensor
    scores: Tensor
    freedom: float
    clusters: Tensor | None = None
    more: Tensor | None = None
    counts: Tensor | None = None

    @property
    def covariance(self) -> Tensor:
        """Covariance of the estimates, `(k, k)`."""
        return self._of_rows() if self.more is None else self._of_rows() + self.more

    def _of_rows(self) -> Tensor:
        scores, n = self.scores, len(self.scores)
        if self.counts is not None:  # c rows of score s weigh c s^2, and not (c s)^2
            return scores.T @ (scores / self.counts[:, None]) / n**2
        if self.clusters is None:
            return scores.T @ scores / n**2
        count = int(self.clusters.max()) + 1
        sums = torch.zeros(count, scores.shape[1], dtype=scores.dtype)
        sums.index_add_(0, self.clusters, scores)
        return sums.T @ sums / n**2 * count / max(1, count - 1)

    @property
    def errors(self) -> Tensor:
        """Standard errors, `(k,)`."""
        return self.covariance.diagonal().clamp_min(0).sqrt()

    @property
    def t_freedom(self) -> float:
        """Degrees of freedom; of clusters, one less than there are."""
        if self.clusters is None:
            return max(1.0, self.freedom)
        return max(1.0, float(self.clusters.max()))

    def then(self, function: Callable[[Tensor], Tensor]) -> Influence:
        """Return a smooth function of the estimates, `(k,)` to `(m,)`."""
        slopes = torch.func.jacrev(function)(self.values)
        more = None if self.more is None else slopes @ self.more @ slopes.T
        scores = self.scores @ slopes.T
        return replace(self, values=function(self.values), scores=scores, more=more)

    def beside(self, other: Influence) -> Influence:
        """Return these estimates and those of another, of the same rows."""
        return replace(
            self,
            values=torch.cat([self.values, other.values]),
            scores=torch.cat([self.scores, other.scores], 1),
        )

    def reach(self, level: float, simultaneous: bool = False) -> float:
        """Return the half-width of the intervals, in standard errors."""
        from scipy.stats import t

        if not simultaneous or len(self.values) == 1:
            return float(t.ppf((1 + level) / 2, self.t_freedom))
        errors = self.errors.clamp_min(1e-300)
        correlation = (self.covariance / errors[:, None] / errors).numpy()
        generator = np.random.default_rng(0)
        values, vectors = np.linalg.eigh(correlation)
        root = vectors * np.sqrt(np.clip(values, 0, None))
        draws = np.abs(generator.standard_normal((DRAWS, len(errors))) @ root.T).max(1)
        spread = np.sqrt(generator.chisquare(self.t_freedom, DRAWS) / self.t_freedom)
        return float(np.quantile(draws / spread, level))

    def intervals(
        self, level: float, *, simultaneous: bool = False, n: int = 0, form: Form = PROPORTION
    ) -> list[Estimate[float]]:
        """Return each estimate with its interval of Student's t.

        Args:
            level: Nominal coverage, of each; or of all at once, if they are simultaneous.
            simultaneous: Whether all hold the truth together.
            n: Number of rows, to be kept with the estimates.
            form: How they are printed.
        """
        half = self.reach(level, simultaneous) * self.errors
        return [
            Estimate(float(v), float(v - h), float(v + h), n, level, form=form)
            for v, h in zip(self.values, half, strict=True)
        ]
