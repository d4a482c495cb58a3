"""How far two samples are apart: maximum mean discrepancy, and energy distance.

With a kernel k, n rows x_i of P and n rows y_i of Q, each independent of all others,

    MMD^2(P, Q) = E k(x, x') + E k(y, y') - 2 E k(x, y)
                ~ 1/(n (n - 1)) sum_{i != j} [k(x_i, x_j) + k(y_i, y_j)] - 2/n^2 sum_ij k(x_i, y_j)

which is unbiased: zero on average for P = Q, at times below it. What chance gives is seen by
dealing the 2n rows again to two hands, many times; with s_i = 1 in one hand, -1 in the other, and
K the kernel of all rows with zeros on its diagonal, every deal is one quadratic form,

    MMD^2 = (S + s'Ks) / (2n (n - 1)) - (S - s'Ks) / (2n^2),      S = sum of K.

Kernels: Gaussian `exp(-|x - y|^2 / 2 b^2)`, b the median distance; `-|x - y|`, which makes it the
energy distance; and KID's polynomial `(x'y / d + 1)^3`.

Sources: Gretton et al. 2012 (JMLR 13), lemma 6; Székely and Rizzo 2013, energy statistics;
Bińkowski et al. 2018 (arXiv 1801.01401), KID.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor

__all__ = ["Apart", "Kernel", "compare", "energy", "gaussian", "mmd", "polynomial"]

Kernel: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Similarities `(n, m)` of rows `(n, d)` and `(m, d)`."""


class Apart(NamedTuple):
    """The distance of two samples, beside what chance gives.

    Attributes:
        value: The unbiased estimate.
        chance: The 95 % quantile of the same number where both are of one distribution.
    """

    value: float
    chance: float


def polynomial(x: Tensor, y: Tensor) -> Tensor:
    """Return `(x'y / d + 1)^3`."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def energy(x: Tensor, y: Tensor) -> Tensor:
    """Return `-|x - y|`: the squared discrepancy is then the energy distance."""
    return -torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def gaussian(sample: Float[Tensor, "n d"]) -> Kernel:
    """Return the Gaussian kernel whose bandwidth is the median distance between a sample's rows."""
    distances = torch.nn.functional.pdist(sample.double())
    width = distances[distances > 0].median() if bool((distances > 0).any()) else 1.0

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (-0.5 * (energy(x, y) / width).square()).exp()

    return kernel


def mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], kernel: Kernel) -> float:
    """Return the unbiased squared discrepancy of two samples of the same size.

    Raises:
        ValueError: If there are fewer than two rows each.

    Example:
        >>> x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
        >>> mmd(x, y, energy)  # 2 (1 + 5 + 1 + 3) / 4 - 2 - 4
        -1.0
    """
    K, n = _joint(x, y, kernel), len(x)
    return float(_discrepancy(K, _hands(n, K)[None])[0])


def compare(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "n d"],
    kernel: Kernel,
    deals: int = 200,
    generator: Generator | None = None,
) -> Apart:
    """Return the unbiased squared discrepancy beside what chance gives.

    Args:
        x: Rows of one sample, `(n, d)`.
        y: Rows of another, as many, `(n, d)`.
        kernel: The kernel.
        deals: Number of times that the rows are dealt again.
        generator: Of the deals, on the CPU.

    Raises:
        ValueError: If there are fewer than two rows each.

    Example:
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> near, far = compare(x[:25], x[25:], energy), compare(x[:25], x[25:] + 2, energy)
        >>> near.value < near.chance, far.value > far.chance
        (True, True)
    """
    K, n = _joint(x, y, kernel), len(x)
    hands = _hands(n, K)
    orders = torch.stack([torch.randperm(2 * n, generator=generator) for _ in range(deals)])
    dealt = _discrepancy(K, hands[orders.to(hands.device)])
    chance = torch.quantile(dealt, 0.95)
    return Apart(float(_discrepancy(K, hands[None])[0]), float(chance))


def _joint(x: Tensor, y: Tensor, kernel: Kernel) -> Tensor:
    """Return the kernel of all rows, `(2n, 2n)`, with zeros on its diagonal."""
    if len(x) < 2:
        raise ValueError(f"two samples: expected at least two rows each, got {len(x)}")
    both = torch.cat([x, y]).double()
    return kernel(both, both).fill_diagonal_(0)


def _hands(n: int, like: Tensor) -> Tensor:
    """Return the deal as it is: 1 for rows of the first sample, -1 for those of the second."""
    return torch.cat([like.new_ones(n), -like.new_ones(n)])


def _discrepancy(K: Tensor, s: Tensor) -> Tensor:
    """Return the discrepancy under each of some deals `(deals, 2n)`, as `(deals,)`."""
    n, S = len(K) // 2, K.sum()
    form = ((s @ K) * s).sum(1)
    return (S + form) / (2 * n * (n - 1)) - (S - form) / (2 * n**2)
