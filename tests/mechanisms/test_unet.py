from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from rung3.mechanisms.networks.unet import PRESETS, UNet, UNetOptions, unet_options

TINY = UNetOptions(width=16, head=8)


def perturbed(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize(
    ("channels", "size", "patch"),
    [(1, (32, 32), 2), (3, (20, 31), 2), (2, (1, 50), 2), (1, (9, 8), 4), (1, (8, 12, 6), 2)],
)
def test_it_gives_a_field_of_the_same_shape_that_hangs_on_all_its_parameters(
    channels: int, size: tuple[int, ...], patch: int
) -> None:
    network = perturbed(UNet(channels, size, 5, UNetOptions(width=16, head=8, patch=patch)))
    image, features = torch.randn(2, channels, *size), torch.randn(2, 5)
    field = network(image, features)
    assert field.shape == image.shape
    field.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_it_starts_at_zero_and_rows_do_not_mix() -> None:
    network = UNet(1, (16, 16), 5, TINY)
    image, features = torch.randn(3, 1, 16, 16), torch.randn(3, 5)
    assert not network(image, features).any()
    perturbed(network)
    alone = network(image[1:2], features[1:2])
    torch.testing.assert_close(network(image, features)[1:2], alone, rtol=1e-4, atol=1e-5)


def test_features_act_on_every_pixel() -> None:
    network = perturbed(UNet(1, (16, 16), 5, TINY))
    image = torch.randn(1, 1, 16, 16)
    change = network(image, torch.zeros(1, 5)) - network(image, torch.ones(1, 5))
    assert (change != 0).all()


def test_attention_only_where_sides_are_short_enough() -> None:
    def levels(side: int) -> list[int]:
        network = UNet(1, (32, 32), 5, UNetOptions(width=16, head=8, attention=side))
        return [len(stack.attention) for stack in network.down]  # type: ignore[arg-type]

    assert (levels(16), levels(8), levels(0)) == ([1, 1, 1], [0, 1, 1], [0, 0, 0])


def test_checkpointing_changes_nothing() -> None:
    plain = perturbed(UNet(1, (16, 16), 5, TINY))
    saving = perturbed(UNet(1, (16, 16), 5, TINY, checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    image, features = torch.randn(2, 1, 16, 16), torch.randn(2, 5)
    grads = []
    for network in (plain, saving):
        network.zero_grad()
        network(image, features).square().mean().backward()
        grads.append([p.grad for p in network.parameters()])
    for one, other in zip(*grads, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other)


def test_options_by_name_and_by_fields() -> None:
    assert unet_options("medium") == PRESETS["medium"] == unet_options({})
    assert unet_options({"width": 32, "factors": [1, 2]}).config() == {
        "width": 32,
        "factors": [1, 2],
    }


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("huge", "network='huge' must be one of 'small', 'medium', 'large'"),
        ({"widht": 3}, "a mapping of width, factors, .* got {'widht': 3}"),
        ({"width": 20}, "width=20 must be a multiple of 16"),
        ({"blocks": 0}, "blocks=0 must be at least 1"),
        ({"attention": -1}, "attention=-1 must be at least 0"),
        ({"factors": []}, r"factors=\(\) must be whole numbers of at least 1"),
        (3, "network: expected 'small'"),
    ],
)
def test_bad_options_are_refused(network: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unet_options(network)


def test_a_size_of_one_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("size=(7,): expected two sides of an image")):
        UNet(1, (7,), 5, TINY)
