r"""M-estimation: effects by adjustment from regressions, and the influence of each row.

Everything that is estimated solves an equation `sum_i w_i psi(o_i) = 0`: the scores of the models,
and the equations of the means, into which the models enter. Of the regression with scores psi and
the mean mu of g, with survey weights w of mean 1,

    phi_beta = H^-1 w psi,        H = -mean(w d psi / d beta),
    phi_mu = (w g + mean(w dg / d beta) phi_beta) / slope

(Stefanski and Boos, The American Statistician 2002). Residuals `Y - m(Z)` are too small where few
rows fit the model; they are divided by `sqrt(1 - h_i)`, with h_i the leverage (HC2: MacKinnon and
White, J. Econometrics 1985), which makes the variance of a stratum's mean unbiased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Equations", "Estimand", "Method", "Regression", "distance_of", "needed_arms", "regress"]

Method = Literal["standardise", "ipw", "aipw"]

Estimand = Literal["ATE", "ATT", "ATU"]

MAX_STEPS = 50
"""Newton steps of a logistic model, at most; one that needs more does not converge."""

CONVERGED = 1e-9
"""Score, averaged over rows, that counts as zero: far below any standard error."""

MIN_PROBABILITY = 1e-7
"""Probability of an arm that counts as zero: its rows would weigh ten million times others."""


@dataclass(frozen=True)
class Regression:
    """A regression, linear or logistic, of all rows or of some.

    Attributes:
        beta: Coefficients `(p,)`.
        scores: Influence of each row on them, `(n, p)`.
        features: `(n, p)`.
        logistic: Whether the mean is `sigmoid(features @ beta)`; else `features @ beta`.
        inflation: What each row's residual is multiplied by, `(n,)`.
    """

    beta: Tensor
    scores: Tensor
    features: Tensor
    logistic: bool
    inflation: Tensor

    def mean(self, beta: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the mean with these coefficients, of all rows or for other features."""
        linear = (self.features if features is None else features) @ beta
        return torch.sigmoid(linear) if self.logistic else linear


def regress(
    features: Tensor,
    y: Tensor,
    weights: Tensor,
    logistic: bool = False,
    inside: Tensor | None = None,
    inflate: bool = True,
    counts: Tensor | None = None,
) -> Regression:
    """Fit a regression, with the influence of every row.

    Args:
        features: `(n, p)`.
        y: `(n,)`.
        weights: `(n,)`.
        logistic: Whether it is logistic.
        inside: Mask `(n,)` of the rows that it is of; all if not given.
        inflate: Whether residuals are divided by `sqrt(1 - leverage)`.
        counts: How many rows each stands for, `(n,)`, if for more than itself.

    Raises:
        ValueError: If there are fewer rows than terms, or a logistic model does not converge.
    """
    everywhere = torch.ones(len(y), dtype=torch.bool)
    inside = everywhere if inside is None else inside
    x, w = features[inside], weights[inside]
    beta = _fit(x, y[inside], w, logistic)
    mean = x @ beta
    variance = torch.ones_like(mean)
    if logistic:
        mean = torch.sigmoid(mean)
        variance = mean * (1 - mean)
    information = (x * (w * variance)[:, None]).T @ x / len(y)
    inflation, scores = torch.ones_like(y), torch.zeros_like(features)
    if inflate:
        q, _ = torch.linalg.qr(x * (w * variance).sqrt()[:, None])
        leverage = q.square().sum(1)
        leverage = leverage if counts is None else leverage / counts[inside]
        inflation[inside] = (1 - leverage).clamp_min(0.5).rsqrt()
    residual = (y[inside] - mean) * inflation[inside]
    bread = torch.linalg.pinv(information, hermitian=True)
    scores[inside] = (x * (w * residual)[:, None]) @ bread
    return Regression(beta, scores, features, logistic, inflation)


def distance_of(y: Tensor) -> Tensor:
    """Return how far means are moved to see a slope, `()`: it does not vanish beside outcomes."""
    return y.abs().max().clamp_min(1)


class Equations:
    """The means of two arms, by adjustment.

    Args:
        y: Outcomes `(n,)`.
        arms: Masks `(2, n)`: rows that had the one treatment, and those that had the other.
        features: `(n, p)`.
        binary: Whether the outcome's model is logistic; else it is linear.
        method: How the means are estimated.
        weights: Survey weights `(n,)`, of mean 1; all 1 if not given.
        groups: Masks `(k, n)` of the rows whose effects are asked for; all rows if not given.
        estimand: Of these rows all (ATE), those of the first arm (ATT) or of the second (ATU).
        counts: How many rows each stands for, `(n,)`, if for more than itself.
        fitted: The four models, of both arms' outcomes and of both arms, where these rows are but
            a part of those that they are fitted to.
    """

    def __init__(
        self,
        y: Tensor,
        arms: Tensor,
        features: Tensor,
        binary: bool,
        method: Method,
        weights: Tensor | None = None,
        groups: Tensor | None = None,
        estimand: Estimand = "ATE",
        counts: Tensor | None = None,
        fitted: Sequence[Regression] | None = None,
    ) -> None:
        self.y, self.arms, self.method = y, arms.double(), method
        self.weights = torch.ones_like(y) if weights is None else weights
        self.groups = torch.ones(1, len(y)).double() if groups is None else groups.double()
        self.arm = {"ATE": None, "ATT": 0, "ATU": 1}[estimand]
        self.needed = needed_arms(estimand)
        if fitted is not None:
            self.models, self.shares = list(fitted[:2]), list(fitted[2:])
            return
        inside = arms.bool()
        self.models = [
            regress(features, y, self.weights, binary, arm, counts=counts) for arm in inside
        ]
        self.shares = [
            regress(features, arm, self.weights, True, inflate=False) for arm in self.arms
        ]
        if self.least() < MIN_PROBABILITY:
            raise ValueError(
                "what is adjusted for tells the treatment without error in some rows: there is "
                "nothing to compare them with (positivity)"
            )

    @property
    def theta(self) -> Tensor:
        """The coefficients of all models, `(4 p,)`."""
        return torch.cat([model.beta for model in (*self.models, *self.shares)])

    def probabilities(self, gammas: tuple[Tensor, ...] | None = None) -> list[Tensor]:
        """Return the probability of each arm in every row, `(n,)` each."""
        given = [model.beta for model in self.shares] if gammas is None else gammas
        return [model.mean(gamma) for model, gamma in zip(self.shares, given, strict=True)]

    def equations(self, theta: Tensor, mu: Tensor, inflate: bool = False) -> Tensor:
        """Return the equations of the means, `(n, 2 k)`: of each group both arms."""
        betas, gammas = theta.chunk(4)[:2], theta.chunk(4)[2:]
        shares = self.probabilities(gammas)
        columns = []
        for at, (group, (arm, beta)) in enumerate(self._pairs(betas)):
            m, e = self.models[arm].mean(beta), shares[arm]
            residual = (self.y - m) * (self.models[arm].inflation if inflate else 1.0)
            inside, ratio = group, group / e
            if self.arm is not None:
                inside, ratio = group * self.arms[self.arm], group * shares[self.arm] / e
            column = inside * (m - mu[at])
            match self.method:
                case "ipw":
                    column = self.arms[arm] * ratio * (self.y - mu[at])
                case "aipw":
                    column = column + self.arms[arm] * ratio * residual
            columns.append(self.weights * column)
        return torch.stack(columns, 1)

    def _pairs(self, betas: tuple[Tensor, ...]) -> list[tuple[Tensor, tuple[int, Tensor]]]:
        return [(group, pair) for group in self.groups for pair in enumerate(betas)]

    def solve(self) -> tuple[Tensor, Tensor]:
        """Return the means, `(2 k,)`, and the influence of each row on them, `(n, 2 k)`."""
        # From the mean outcome, as far from zero outcomes digits would cancel in the slope.
        start = self.y.mean().expand(2 * len(self.groups))
        # The means enter linearly, each with its own slope: one Newton step is exact.
        offset, distance = self.equations(self.theta, start).mean(0), distance_of(self.y)
        slope = (offset - self.equations(self.theta, start + distance).mean(0)) / distance
        mu = start + offset / slope
        gradient = torch.func.jacrev(lambda theta: self.equations(theta, mu).mean(0))(self.theta)
        scores = torch.cat([model.scores for model in (*self.models, *self.shares)], 1)
        return mu, (self.equations(self.theta, mu, True) + scores @ gradient.T) / slope

    def least(self) -> float:
        """Return the smallest estimated probability of an arm that every row needs."""
        shares = self.probabilities()
        return min(float(shares[arm].min()) for arm in self.needed)


def needed_arms(estimand: Estimand) -> tuple[int, ...]:
    """Return the arms whose probability must not be zero anywhere: those that are compared with.

    Of all rows both are; of those that had one arm, the other.
    """
    return {"ATE": (0, 1), "ATT": (1,), "ATU": (0,)}[estimand]


def _fit(features: Tensor, y: Tensor, weights: Tensor, logistic: bool) -> Tensor:
    """Fit weighted least squares, or a logistic model by Newton's method."""
    if len(features) < features.shape[1]:
        raise ValueError(
            f"{len(features)} rows of an arm are too few for {features.shape[1]} terms"
        )
    if not logistic:
        root = weights.sqrt()
        both = (features * root[:, None], (y * root)[:, None])
        solution: Tensor = torch.linalg.lstsq(*both, driver="gelsd").solution
        return solution[:, 0]
    beta = torch.zeros(features.shape[1], dtype=torch.float64)
    for _ in range(MAX_STEPS):
        mean = torch.sigmoid(features @ beta)
        score = features.T @ (weights * (y - mean)) / len(y)
        if score.abs().max() < CONVERGED:
            return beta
        variance = weights * mean * (1 - mean)
        information = (features * variance[:, None]).T @ features / len(y)
        step = torch.linalg.lstsq(information, score[:, None], driver="gelsd").solution[:, 0]
        beta = beta + step * min(1.0, 5.0 / float(step.abs().max()))
    raise ValueError(
        "a logistic model did not converge: what is adjusted for tells the treatment or the "
        "outcome without error"
    )
