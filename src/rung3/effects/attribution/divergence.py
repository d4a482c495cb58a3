r"""How far two samples of one variable are apart: in mean, in variance, or altogether.

    mean        E_new - E_old
    variance    Var_new - Var_old
    kl          KL(P_old || P_new), in nats

The last is, for categories, that of their shares; for numbers, with `r_i` the distance of the i-th
of n old values to the next old one, and `s_i` to the nearest of m new ones,

    KL^ = mean log(s_i / r_i) + log(m / (n - 1))

(Wang, Kulkarni and Verdu 2009, IEEE Trans. Inf. Theory 55:2392-2405). Values that both samples have
are left out of the old ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rung3.data.variables import Discrete, Variable

__all__ = ["Difference", "difference_of"]

Difference: TypeAlias = Literal["mean", "variance", "kl"] | Callable[[Tensor, Tensor], float]


def difference_of(difference: Difference, variable: Variable) -> Callable[[Tensor, Tensor], float]:
    """Return the function of an old and a new sample, `(n,)` and `(m,)`, that a name stands for.

    Args:
        difference: The name, or the function itself.
        variable: The variable whose samples they are.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> from rung3.data.variables import Binary
        >>> kl = difference_of("kl", Binary())
        >>> round(kl(torch.tensor([0, 1]), torch.tensor([0, 0, 0, 1])), 3)
        0.144
    """
    if callable(difference):
        return lambda old, new: float(difference(old, new))
    match difference:
        case "mean":
            return lambda old, new: float(new.double().mean() - old.double().mean())
        case "variance":
            return lambda old, new: float(new.double().var() - old.double().var())
        case "kl" if isinstance(variable, Discrete):
            classes = variable.classes
            return lambda old, new: _of_shares(old, new, classes)
        case "kl":
            return _of_neighbours
    raise ValueError(f"expected 'mean', 'variance', 'kl' or a function, got {difference!r}")


def _of_shares(old: Tensor, new: Tensor, classes: int) -> float:
    """Return the divergence of categories; one that is never seen counts half a row."""
    shares = []
    for codes in (old, new):
        counts = torch.bincount(codes.long(), minlength=classes).double().clamp_min(0.5)
        shares.append(counts / counts.sum())
    p, q = shares
    return float((p * (p / q).log()).sum())


def _of_neighbours(old: Tensor, new: Tensor) -> float:
    """Return the divergence of numbers, by distances to the nearest ones."""
    p = old.double().unique()
    q = new.double().sort().values
    p = p[~torch.isin(p, q)]
    if len(p) < 2:
        return 0.0
    gaps = p.diff()
    none = gaps.new_full((1,), math.inf)
    spacing = torch.minimum(torch.cat([none, gaps]), torch.cat([gaps, none]))
    place = torch.searchsorted(q, p)
    below = (p - q[(place - 1).clamp_min(0)]).abs()
    above = (p - q[place.clamp_max(len(q) - 1)]).abs()
    ratio = torch.minimum(below, above) / spacing
    return float(ratio.log().mean() + math.log(len(q) / (len(p) - 1)))
