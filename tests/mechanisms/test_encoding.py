"""Parents of every kind as features, entry by entry of the module's table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rung3 import Binary, Categorical, Continuous, Image, Ordinal
from rung3.data.variables import Variable
from rung3.mechanisms import Flow, GumbelMax, InverseCDF
from rung3.mechanisms.base import Mechanism
from rung3.mechanisms.networks.encoding import IMAGE_FEATURES, MLP, ParentEncoder, Standardise

MIXED: dict[str, Variable] = {
    "age": Continuous(lower=0, unit="years"),
    "place": Continuous(dim=2),
    "sick": Binary(),
    "stage": Ordinal(4),
    "site": Categorical(3),
    "scan": Image(2, 12, 9),
}


def draw(n: int) -> dict[str, Tensor]:
    return {
        "age": 60 + 20 * torch.randn(n),
        "place": torch.randn(n, 2) * torch.tensor([1e-3, 1e3]) + torch.tensor([5.0, -7e4]),
        "sick": torch.randint(2, (n,)),
        "stage": torch.randint(4, (n,)),
        "site": torch.randint(3, (n,)),
        "scan": torch.rand(n, 2, 12, 9),
    }


@pytest.mark.parametrize(
    ("variable", "value", "features"),
    [
        (Continuous(), [1.5, -2.0], [[1.5], [-2.0]]),
        (Continuous(dim=2), [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]),
        (Binary(), [0, 1], [[-1], [1]]),
        (Binary(missing=True), [0.0, 1.0], [[-1], [1]]),
        (Ordinal(3), [0, 1, 2], [[-1, -1], [1, -1], [1, 1]]),
        (Ordinal(3, missing=True), [0.0, 1.0, 2.0], [[-1, -1], [1, -1], [1, 1]]),
        (Categorical(3), [2, 0], [[0, 0, 1], [1, 0, 0]]),
        (Categorical(2, missing=True), [1.0, 0.0], [[0, 1], [1, 0]]),
    ],
)
def test_each_kind_has_the_features_of_the_table(
    variable: Variable, value: list[float], features: list[list[float]]
) -> None:
    encoder = ParentEncoder({"x": variable})
    encoded = encoder({"x": variable.validate("x", value)}, len(value))
    assert encoded.dtype == torch.get_default_dtype()
    assert encoded.tolist() == features
    assert encoder.width == len(features[0])


def test_features_stand_side_by_side_in_the_order_of_the_graph() -> None:
    encoder, parents = ParentEncoder(MIXED), draw(5)
    encoder.calibrate(parents)
    encoded = encoder(dict(reversed(parents.items())), 5)
    assert encoded.shape == (5, encoder.width) == (5, 1 + 2 + 1 + 3 + 3 + IMAGE_FEATURES)
    alone = [ParentEncoder({name: MIXED[name]}) for name in ("sick", "stage", "site")]
    discrete = [e({k: parents[k]}, 5) for e in alone for k in e.names]
    assert torch.equal(encoded[:, 3:10], torch.cat(discrete, 1))


def test_continuous_parents_are_standardised_whatever_their_unit() -> None:
    encoder, parents = ParentEncoder(MIXED), draw(4000)
    encoder.calibrate(parents)
    real = encoder(parents, 4000)[:, :3]
    torch.testing.assert_close(real.mean(0), torch.zeros(3), rtol=0, atol=2e-3)
    torch.testing.assert_close(real.std(0, correction=0), torch.ones(3), rtol=0, atol=2e-3)


def test_a_change_of_unit_changes_no_feature() -> None:
    metres = torch.randn(100) + 3
    features = []
    for unit in (1.0, 1000.0):
        encoder = ParentEncoder({"x": Continuous()})
        encoder.calibrate({"x": unit * metres})
        features.append(encoder({"x": unit * (metres + 1)}, 100))
    torch.testing.assert_close(*features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.3, 123.456, -70.07])
@pytest.mark.parametrize("n", [1, 1000, 4096])
def test_a_constant_has_scale_one_and_rounding_does_not_change_that(
    constant: float, n: int
) -> None:
    standardise = Standardise()
    standardise.calibrate(torch.full((n,), constant))
    assert standardise.scale.item() == 1
    moved = standardise(torch.tensor([constant + 2]))
    torch.testing.assert_close(moved, torch.tensor([2.0]), rtol=0, atol=1e-4)


def test_standardising_is_undone_and_constant_entries_of_a_vector_stand_alone() -> None:
    value = torch.stack([torch.randn(200) * 50 + 1000, torch.full((200,), 0.1)], dim=1)
    standardise = Standardise((2,))
    standardise.calibrate(value)
    torch.testing.assert_close(standardise.scale, torch.tensor([value[:, 0].std(correction=0), 1]))
    torch.testing.assert_close(standardise.inverse(standardise(value)), value)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 28, 28), (3, 5, 40), (2, 64, 33)])
def test_images_of_any_shape_have_the_same_number_of_features(shape: tuple[int, int, int]) -> None:
    encoder = ParentEncoder({"scan": Image(*shape)})
    images = torch.rand(3, *shape)
    features = encoder({"scan": images}, 3)
    assert features.shape == (3, IMAGE_FEATURES) == (3, encoder.width)
    assert (features[0] != features[1]).any()


def test_each_row_is_encoded_for_itself() -> None:
    encoder, parents = ParentEncoder(MIXED), draw(6)
    encoder.calibrate(parents)
    turned = encoder({k: v.flip(0) for k, v in parents.items()}, 6)
    torch.testing.assert_close(turned.flip(0), encoder(parents, 6), rtol=1e-4, atol=1e-5)


def test_statistics_and_weights_are_saved() -> None:
    encoder, parents = ParentEncoder(MIXED), draw(50)
    encoder.calibrate(parents)
    other = ParentEncoder(MIXED)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(parents, 50), encoder(parents, 50))


def test_without_parents_there_are_no_features_and_a_network_is_a_learned_constant() -> None:
    encoder = ParentEncoder({})
    encoder.calibrate({})
    assert encoder({}, 4).shape == (4, 0)
    network = MLP(encoder.width, 3)
    assert network(encoder({}, 4)).shape == (4, 3)
    assert sum(p.numel() for p in network.parameters()) == 3


def test_a_network_has_the_widths_that_it_is_given() -> None:
    network = MLP(4, 2, hidden=(8, 16))
    assert [tuple(p.shape) for p in network.parameters()] == [
        (8, 4), (8,), (16, 8), (16,), (2, 16), (2,),
    ]  # fmt: skip
    assert MLP(4, 2, hidden=())(torch.ones(3, 4)).shape == (3, 2)


@pytest.mark.parametrize(
    ("mechanism", "variable", "value"),
    [
        (Flow(), Continuous(), torch.linspace(-1, 1, 40)),
        (GumbelMax(), Categorical(3), torch.arange(40) % 3),
        (InverseCDF(), Ordinal(3), torch.arange(40) % 3),
    ],
    ids=["Flow", "GumbelMax", "InverseCDF"],
)
@pytest.mark.parametrize("parent", MIXED)
def test_every_parent_of_every_kind_is_heard(
    mechanism: Mechanism, variable: Variable, value: Tensor, parent: str
) -> None:
    """The density changes with each parent alone, images among them, and so do the gradients."""
    bound = mechanism.bind("x", variable, MIXED)
    parents = draw(40)
    bound.calibrate(value, parents)
    for parameter in bound.parameters():  # flows start as the identity, whatever the parents
        parameter.data += 0.1 * torch.randn_like(parameter)
    other = parents | {parent: draw(40)[parent]}
    differs = bound.log_prob(value, parents) != bound.log_prob(value, other)
    moved = (parents[parent] != other[parent]).flatten(1 if parents[parent].ndim > 1 else 0)
    assert torch.equal(differs, moved.any(1) if moved.ndim > 1 else moved)
    bound.loss(value, parents).backward()
    encoder: Any = bound.encoder
    encoder = encoder.encoders[list(MIXED).index(parent)]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
