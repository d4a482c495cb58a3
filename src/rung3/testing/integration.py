"""Integrals of densities of which draws are at hand: they must be one.

In one dimension by Gauss-Legendre quadrature between quantiles of the draws, in more by importance
sampling, `E_q[p(x) / q(x)]`, from a wide Student's t distribution fitted to them; round circles,
over a Sobol sequence. Of whole numbers it is a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from rung3.data.variables import Continuous

__all__ = ["integrate"]

Density: TypeAlias = Callable[[Tensor], Tensor]


def integrate(density: Density, drawn: Tensor, variable: Continuous) -> float:
    """Return the integral of a density over the support of its variable.

    Args:
        density: `p(x)`, shape `(n,)`, of values `(n, *shape)`.
        drawn: Values drawn from it, `(n, *shape)`; they say where to look.
        variable: The variable, scalar or vector.
    """
    if variable.whole:
        return _sum(density, drawn, variable)
    return (_importance if variable.shape else _quadrature)(density, drawn, variable)


def _sum(density: Density, x: Tensor, v: Continuous) -> float:
    """Sum over the whole numbers of the support, far beyond those drawn."""
    reach = 10 * (x.max() - x.min() + 10)
    low, high = max(v.lower, float(x.min() - reach)), min(v.upper, float(x.max() + reach))
    return float(density(torch.arange(low, high + 1, dtype=x.dtype)).sum())


def _quadrature(density: Density, x: Tensor, v: Continuous) -> float:
    """Integrate by Gauss-Legendre between quantiles of the draws, and on doubling cells beyond."""
    import numpy as np

    order = x.double().sort().values
    inner = order[:: max(1, len(order) // 400)]
    steps = (order[-1] - order[0]) / len(order) * 2.0 ** torch.arange(20).double()
    edges = torch.cat([order[0] - steps, inner, order[-1:], order[-1] + steps])
    edges = edges.clamp(v.lower, v.upper).unique()
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(5))
    half = edges.diff()[:, None] / 2
    points = (edges[:-1, None] + half * (nodes + 1)).to(x.dtype)
    return float((density(points.flatten()).reshape(points.shape) * weights * half).sum())


def _importance(density: Density, x: Tensor, v: Continuous) -> float:
    """Estimate `E_q[p(x) / q(x)]` under a kernel estimate q of the drawn values, in the support."""
    d, n = x.shape[1], 20_000
    generator = torch.Generator().manual_seed(0)
    if v.circular:
        places = torch.quasirandom.SobolEngine(d, scramble=True, seed=0).draw(n)
        point = v.lower + (v.upper - v.lower) * places
        return float(density(point.to(x.dtype)).mean() * (v.upper - v.lower) ** d)
    centre, root = x.double().mean(0), torch.linalg.cholesky(x.double().T.cov())
    gauss = torch.randn(n, d, generator=generator, dtype=torch.float64)
    chi = torch.randn(n, 4, generator=generator, dtype=torch.float64).square().sum(1) / 4
    student = gauss / chi.sqrt()[:, None]
    point = centre + 1.2 * student @ root.T
    log_q = _log_student(student, 4) - d * torch.tensor(1.2).log() - root.diagonal().log().sum()
    inside = ((point >= v.lower) & (point <= v.upper)).all(1)
    ratio = density(point[inside].to(x.dtype)) / log_q[inside].exp()
    return float(ratio.sum() / n)


def _log_student(t: Tensor, degrees: float) -> Tensor:
    d, half = t.shape[1], torch.tensor((degrees + t.shape[1]) / 2, dtype=t.dtype)
    constant = half.lgamma() - torch.tensor(degrees / 2, dtype=t.dtype).lgamma()
    constant = constant - d / 2 * torch.tensor(degrees * torch.pi, dtype=t.dtype).log()
    return constant - half * (t.square().sum(1) / degrees).log1p()
