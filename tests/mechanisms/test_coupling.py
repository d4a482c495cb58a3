from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3 import Binary, Categorical, Continuous
from rung3.data.variables import Variable
from rung3.mechanisms.coupling import Dependence, Transport

N = 256


def pairs(
    parent: Variable, value: Tensor, weight: float | None, batches: int = 30
) -> tuple[float, float]:
    """R^2 of the parent from the noise that goes with it, and the mean squared length of pairs."""
    transport = Transport("x", {"a": parent}, weight)
    dependence = Dependence((2,), {"a": parent})
    generator = torch.Generator().manual_seed(0)
    length = 0.0
    for start in range(batches):
        a = value[start * N : (start + 1) * N]
        x = torch.randn(N, 2, generator=generator) + 2 * a.float()[:, None]
        u = torch.randn(N, 2, generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start)
            matched = transport(u, x, {"a": a})
        assert torch.equal(matched.sort(0).values, u.sort(0).values)  # the same noise, reordered
        dependence.add(matched, {"a": a})
        length += float((matched - x).square().sum(1).mean()) / batches
    return dependence.r_squared(), length


def binary(seed: int = 1) -> Tensor:
    return torch.randint(2, (30 * N,), generator=torch.Generator().manual_seed(seed))


def number(seed: int = 1) -> Tensor:
    return torch.randn(30 * N, generator=torch.Generator().manual_seed(seed))


def test_within_discrete_parents_the_noise_tells_nothing_of_them_and_pairs_are_near() -> None:
    r_squared, length = pairs(Binary(), binary(), None)
    assert abs(r_squared) < 0.01
    _, apart = pairs(Continuous(), torch.zeros(30 * N), 1.0)
    assert length < 5  # independent pairs: 2 (1 + 1) + 4 = 8
    assert apart < 0.5


def test_across_parents_the_noise_tells_them() -> None:
    """The published fault: R^2 of .58 and .64 with plain transport over the batch."""
    r_squared, _ = pairs(Continuous(), number(), 1e-9, batches=10)
    assert r_squared > 0.4


def test_the_larger_the_weight_the_less_the_noise_tells_of_a_number() -> None:
    measured = [pairs(Continuous(), number(), weight, batches=10) for weight in (1, 10, 1000)]
    r_squared, length = zip(*measured, strict=True)
    assert r_squared[0] > r_squared[1] > r_squared[2]
    assert r_squared[2] < 0.02
    assert length[0] < length[1] < length[2]  # the price: pairs lie further apart


def test_a_parent_that_is_not_discrete_needs_a_weight() -> None:
    parents = {"d": Categorical(3), "age": Continuous(), "size": Continuous()}
    with pytest.raises(ValueError, match=r"age, size are not discrete; state .* parent_weight=100"):
        Transport("x", parents, None)


def test_r_squared_is_that_of_a_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(5000, 3, generator=generator)
    a = 2 * u[:, 0] + torch.randn(5000, generator=generator)
    dependence = Dependence((3,), {"a": Continuous(), "b": Binary()})
    dependence.calibrate({"a": a, "b": (u[:, 1] > 9).long()})
    dependence.add(u[:2000], {"a": a[:2000], "b": torch.zeros(2000).long()})
    dependence.add(u[2000:], {"a": a[2000:], "b": torch.zeros(3000).long()})
    assert dependence.r_squared() == pytest.approx(0.8, abs=0.02)


def test_r_squared_of_too_few_rows_is_not_known() -> None:
    dependence = Dependence((3,), {"a": Continuous()})
    dependence.add(torch.randn(4, 3), {"a": torch.randn(4)})
    assert dependence.r_squared() != dependence.r_squared()


def test_mixed_precision_leaves_the_sums_alone() -> None:
    u, a = torch.randn(2, 64, 2, generator=torch.Generator().manual_seed(0))
    plain, mixed = (Dependence((2,), {"a": Continuous(dim=2)}) for _ in range(2))
    plain.add(u, {"a": a})
    with torch.autocast("cpu", torch.bfloat16):
        mixed.add(u, {"a": a})
    assert torch.equal(plain.products, mixed.products)
