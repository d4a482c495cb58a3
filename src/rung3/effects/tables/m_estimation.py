r"""M-estimation: one formula for the intervals of all estimates by adjustment.

Everything that is estimated, theta, solves `sum_i psi(o_i; theta) = 0`: the scores of the models
and the equations above, stacked. So one formula gives all the intervals (M-estimation: Stefanski
and Boos, The American Statistician 2002):

    V = A^-1 B A^-T / n,    A = mean_i d psi_i / d theta,    B = mean_i psi_i psi_i'.

Residuals `Y - m_t(Z)` are too small where few rows fit the model; in B they are divided by
`sqrt(1 - h_i)`, with h_i the leverage (HC2: MacKinnon and White, J. Econometrics 1985), which makes
the variance of a stratum's mean unbiased.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Equations", "Method"]

Method = Literal["standardise", "ipw", "aipw"]

MAX_STEPS = 50
"""Newton steps of a logistic model, at most; one that needs more does not converge."""

CONVERGED = 1e-9
"""Score, averaged over rows, that counts as zero: far below any standard error."""

MIN_PROBABILITY = 1e-7
"""Probability of an arm that counts as zero: its rows would weigh ten million times others."""


class Equations:
    """The stacked equations of both arms.

    Args:
        y: Outcomes `(n,)`.
        arms: Masks `(2, n)`.
        features: `(n, p)`.
        binary: Whether the outcome's model is logistic; else it is linear.
        method: How the means are estimated.
    """

    def __init__(
        self,
        y: Tensor,
        arms: Tensor,
        features: Tensor,
        binary: bool,
        method: Method,
    ) -> None:
        self.y, self.arms, self.features = y, arms.double(), features
        self.binary, self.method = binary, method
        self.width = features.shape[1]

    def psi(self, theta: Tensor, inflate: Tensor | float = 1.0) -> Tensor:
        """Return the equations `(n, 4 p + 2)` at theta: outcome models, propensities and means."""
        parts, means = [], []
        models, mu = theta[:-2].reshape(2, 2, self.width), theta[-2:]
        for arm, (beta, gamma), mean in zip(self.arms, models, mu, strict=True):
            m = torch.sigmoid(self.features @ beta) if self.binary else self.features @ beta
            e = torch.sigmoid(self.features @ gamma)
            residual = arm * (self.y - m) * inflate
            parts.append(self.features * residual[:, None])
            parts.append(self.features * (arm - e)[:, None])
            match self.method:
                case "standardise":
                    means.append(m - mean)
                case "ipw":
                    means.append(arm / e * (self.y - mean))
                case "aipw":
                    means.append(m + residual / e - mean)
        return torch.cat([*parts, torch.stack(means, 1)], 1)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Return the two means, and their covariance `(2, 2)`."""
        n, count = len(self.y), 4 * self.width + 2
        models = []
        for arm in self.arms:
            inside = arm > 0
            models.append(_fit(self.features[inside], self.y[inside], self.binary))
            models.append(_fit(self.features, arm, True))
        theta = torch.cat([*models, torch.zeros(2, dtype=torch.float64)])
        self.theta = theta
        if self.least() < MIN_PROBABILITY:
            raise ValueError(
                "what is adjusted for tells the treatment without error in some rows: there is "
                "nothing to compare them with (positivity); adjust for less"
            )
        # The means enter linearly, each with its own slope: one Newton step is exact.
        offset = self.psi(theta)[:, -2:].mean(0)
        slope = torch.ones(2, dtype=torch.float64)
        if self.method == "ipw":
            slope = (self.arms / torch.stack(self._arm_shares())).mean(1)
        theta = torch.cat([theta[:-2], offset / slope])
        jacobian = torch.func.jacrev(lambda t: self.psi(t).mean(0))(theta)
        scores = self.psi(theta, self._inflation())
        meat = scores.T @ scores / n
        bread = torch.linalg.solve(jacobian, torch.eye(count, dtype=torch.float64))
        return theta[-2:], (bread @ meat @ bread.T / n)[-2:, -2:]

    def _inflation(self) -> Tensor:
        """Return `1 / sqrt(1 - h)` of each row in its arm's outcome model, `(n,)`."""
        result = torch.ones(len(self.y), dtype=torch.float64)
        for arm, beta in zip(self.arms > 0, self.theta[:-2].reshape(2, 2, -1)[:, 0], strict=True):
            inside = self.features[arm]
            if self.binary:
                mean = torch.sigmoid(inside @ beta)
                inside = inside * (mean * (1 - mean)).sqrt()[:, None]
            q, _ = torch.linalg.qr(inside)
            result[arm] = (1 - q.square().sum(1)).clamp_min(0.5).rsqrt()
        return result

    def _arm_shares(self) -> list[Tensor]:
        gammas = self.theta[:-2].reshape(2, 2, self.width)[:, 1]
        return [torch.sigmoid(self.features @ gamma) for gamma in gammas]

    def least(self) -> float:
        """Return the smallest estimated probability of an arm."""
        return min(float(share.min()) for share in self._arm_shares())


def _fit(features: Tensor, y: Tensor, binary: bool) -> Tensor:
    """Fit least squares, or a logistic model by Newton's method: `sum_i x_i (y_i - m_i) = 0`."""
    if len(features) < features.shape[1]:
        raise ValueError(
            f"{len(features)} rows of an arm are too few for {features.shape[1]} terms"
        )
    if not binary:
        solution: Tensor = torch.linalg.lstsq(features, y[:, None], driver="gelsd").solution
        return solution[:, 0]
    beta = torch.zeros(features.shape[1], dtype=torch.float64)
    for _ in range(MAX_STEPS):
        mean = torch.sigmoid(features @ beta)
        score = features.T @ (y - mean) / len(y)
        if score.abs().max() < CONVERGED:
            return beta
        information = (features * (mean * (1 - mean))[:, None]).T @ features / len(y)
        step = torch.linalg.lstsq(information, score[:, None], driver="gelsd").solution[:, 0]
        beta = beta + step * min(1.0, 5.0 / float(step.abs().max()))
    raise ValueError(
        "a logistic model did not converge: what is adjusted for tells the treatment or the "
        "outcome without error; adjust for less"
    )
