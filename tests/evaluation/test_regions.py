"""Volumes of regions, change outside them, and the share of the true effect."""

from __future__ import annotations

import math

import pytest
import torch

from rung3 import evaluate, worlds
from rung3.evaluation import Oracles, Protocol
from rung3.evaluation.measures.regions import may_change, volume_error
from rung3.evaluation.measures.true_effect import true_effect


def test_the_truth_has_all_of_its_effect_and_nothing_else() -> None:
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    share, rest = true_effect(x, 0.5 * x, 0.5 * x)
    torch.testing.assert_close(share, torch.ones(3))
    torch.testing.assert_close(rest, torch.zeros(3), atol=1e-6, rtol=0)


def test_overshooting_is_effective_beyond_one_and_amplifies_nothing() -> None:
    x, true = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.2)
    share, rest = true_effect(x, 3 * true, true)
    assert share.item() == pytest.approx(3)
    assert rest.item() == pytest.approx(0, abs=1e-6)


def test_change_that_is_not_the_true_one_is_amplification() -> None:
    x, true = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.3, 0.0]]]])
    share, rest = true_effect(x, torch.tensor([[[[0.3, 0.4]]]]), true)
    assert share.item() == pytest.approx(1)
    assert rest.item() == pytest.approx(0.4 / math.sqrt(2))


def test_volume_errors_are_relative_to_the_truth() -> None:
    true, imagined = torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 2, 2), 0.4)
    true[1] = 0
    error = volume_error(lambda x: x.flatten(1).sum(1), imagined, true)
    assert error[0].item() == pytest.approx(0.2)
    assert error[1].isnan()


def test_pixels_change_with_their_neighbours() -> None:
    x, true = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    true[..., 0, 0] = 0.5
    true[..., 8, 8] = 0.01
    assert int(may_change(x, true).sum()) == 9


def test_a_world_is_right_in_every_region_and_doing_nothing_is_not() -> None:
    world = worlds.brain(32, template=False)
    rows = world.sample(6, seed=0)
    protocol = Protocol(measures=frozenset({"regions", "true effect"}))
    scores = evaluate(
        world, rows, truth=world, interventions=["ventricle"], protocol=protocol,
        oracles=Oracles({}), progress=False,
    ).metrics  # fmt: skip
    by_who = scores["regions"]["do(ventricle)"]["ventricle"]
    assert by_who["kept"]["on target"]["mean"] == 0
    assert by_who["doing nothing"]["on target"]["mean"] > 5
    assert scores["regions"]["do(ventricle)"]["brain"]["kept"]["off target"]["mean"] == 0
    effect = scores["true effect"]["do(ventricle)"]["image"]
    assert effect["kept"]["effectiveness"]["mean"] == pytest.approx(1)
    assert effect["doing nothing"]["effectiveness"]["mean"] == 0
    outside = scores["outside"]["do(ventricle)"]["image"]
    assert outside["kept"]["mean"] < 1.5
    assert outside["null intervention"]["mean"] == 0
