"""Exact probabilities, against counting over many draws and against sums by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from rung3 import SCM, Binary, Categorical, Ordinal, worlds
from rung3.mechanisms import GumbelMax, InverseCDF
from rung3.scm.enumeration import joint, probability


def model(seed: int = 0) -> SCM:
    """A random model `a -> b -> c; a -> c` of two, three and four values."""
    generator = torch.Generator().manual_seed(seed)

    def table(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator).add(0.1).double().softmax(-1)

    return SCM(
        "a -> b -> c; a -> c",
        variables={"a": Binary(), "b": Categorical(3), "c": Ordinal(4)},
        mechanisms={
            "a": InverseCDF(table=table(2)),
            "b": GumbelMax(table=table(2, 3)),
            "c": InverseCDF(table=table(2, 3, 4)),
        },
    )


def test_the_joint_is_the_product_of_the_tables() -> None:
    chain = model()
    tables = [torch.tensor(chain.mechanisms[name].config()["table"]) for name in "abc"]
    table = joint(chain)
    for a, b, c in itertools.product(range(2), range(3), range(4)):
        expected = tables[0][a] * tables[1][a, b] * tables[2][a, b, c]
        assert table[a, b, c].item() == pytest.approx(expected.item(), abs=1e-6)
    assert table.sum().item() == pytest.approx(1, abs=1e-6)


def test_probabilities_are_shares_of_draws() -> None:
    chain = model().do(b=2)
    rows = chain.sample(100_000, seed=0)
    seen = (rows["a"] == 1)[rows["c"] >= 2].float().mean().item()
    exact = probability(chain, {"a": 1}, given={"c": [2, 3]})
    assert exact == pytest.approx(seen, abs=0.01)
    assert probability(chain, {"b": 2}) == pytest.approx(1, abs=1e-6)


def test_what_cannot_be_enumerated_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x1: is Continuous.*only discrete variables"):
        joint(worlds.lecture())
    with pytest.raises(ValueError, match="c: 7 is not a category"):
        probability(model(), {"c": 7})
    with pytest.raises(ValueError, match="has no variable 'd'"):
        probability(model(), {"d": 1})
    with pytest.raises(ValueError, match="has probability zero"):
        probability(model().do(b=2), {"a": 1}, given={"b": 1})
    many = SCM(nodes_of(25), variables={f"v{i}": Binary() for i in range(25)})
    with pytest.raises(ValueError, match="33,554,432 combinations"):
        joint(many)


def nodes_of(count: int) -> str:
    return "; ".join(f"v{i} -> v{i + 1}" for i in range(count - 1))
