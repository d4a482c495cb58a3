"""What parents cause is found from images that individuals' shapes hide it in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3 import Binary, Categorical, Continuous
from rung3.mechanisms.networks.caused import RISEN, CausedDisplacement
from rung3.mechanisms.networks.deformation import places
from rung3.mechanisms.networks.scores import Scores

SIZES = (24, 32)

RIGHT = torch.tensor([0.03, 0.0]).view(1, 2, 1, 1)


def ripples(at: Tensor) -> Tensor:
    return 0.5 + 0.2 * (9 * at[:, :1]).sin() + 0.2 * (7 * at[:, 1:] + 2 * at[:, :1]).cos()


def slopes(at: Tensor) -> Tensor:
    slope = -0.2 * (7 * at[:, 1:] + 2 * at[:, :1]).sin()
    return torch.stack([1.8 * (9 * at[:, :1]).cos() + 2 * slope, 7 * slope], 1)


def squeezed(at: Tensor, feature: Tensor) -> Tensor:
    """Return how far a parent moves places, most in the middle: too sharp a change for a shape."""
    near = (-((at[:, :1] / 0.25) ** 2)).exp()
    return 0.03 * feature.view(-1, 1, 1, 1) * torch.cat([at[:, :1] * near / 0.25, 0 * near], 1)


def test_an_effect_is_found_though_one_fit_of_many_goes_wrong() -> None:
    caused = CausedDisplacement(SIZES, features=1)
    generator = torch.Generator().manual_seed(0)
    grid = places(SIZES, torch.zeros(())).movedim(-1, 0)
    for _ in range(60):
        feature = torch.randn(64, 1, generator=generator)
        own = torch.zeros(64, 2, 2, 2)
        own[:, 0, 0, 0] = 0.02 * torch.randn(64, generator=generator)
        before = grid + own[:, :, 0, 0, None, None]
        lacking = squeezed(before, feature) + RIGHT * feature.view(-1, 1, 1, 1)
        now = before + caused.read(caused.field(feature), before)
        rest = lacking - (now - before)
        # Registration finds of it what a constant displacement can make up for.
        shift = rest[:, :1].mean((2, 3), keepdim=True)
        now[:, :1] += shift
        own[:, 0, 0, 0] += shift[:, 0, 0, 0]
        error = ripples(before + lacking) - ripples(now)
        error += 0.01 * torch.randn(error.shape, generator=generator)
        weight = torch.full_like(error, 1e4)
        usual = torch.ones(64)
        own[0], error[0], usual[0] = 5.0, 0.5, 1e-3
        caused.update(feature, own, before, slopes(now), error, weight, usual)
    one = torch.ones(1, 1)
    found = caused.read(caused.field(one), grid[None])
    true = squeezed(grid[None], one) + RIGHT
    assert true.abs().amax() > 0.04
    assert (found - true).abs().mean() < 0.15 * true.abs().mean()


def test_a_thick_atlas_is_displaced_otherwise_at_other_heights() -> None:
    caused = CausedDisplacement((8, 8), features=1, across=0.1)
    caused.mean.view(3, *caused.waves)[2, 0, 0, 1] = 1.0  # up below the middle, down above it
    at = torch.zeros(1, 3, 8, 8)
    at[:, 2, :, :4], at[:, 2, :, 4:] = -0.05, 0.05
    moved = caused.read(caused.field(torch.ones(1, 1)), at)
    assert torch.equal(moved[:, :2], torch.zeros(1, 2, 8, 8))
    assert (moved[0, 2, :, :4] > 0.05).all()
    assert (moved[0, 2, :, 4:] < -0.05).all()


def test_an_atlas_gets_its_height_before_parents_move_anything_across_it() -> None:
    caused = CausedDisplacement((8, 8), features=1, across=0.1)
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(16, 1, generator=generator)
    own = 0.01 * feature.view(16, 1, 1, 1).expand(16, 3, 2, 2)
    at = 0.5 * torch.rand(16, 3, 8, 8, generator=generator)
    still = torch.zeros(16, 3, 1, 8, 8)
    moved = []
    for _ in range(RISEN + 1):
        caused.update(feature, own, at, still, still[:, 0], still[:, 0], torch.ones(16))
        moved.append(caused.mean.view(3, -1).abs().amax(1))
    assert moved[-2][:2].min() > 0
    assert moved[-2][2] == 0
    assert moved[-1][2] > 0


@pytest.mark.parametrize("power", [1, 3])
def test_scores_are_normal_whatever_the_law_of_a_number(power: int) -> None:
    z = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    scores = Scores({"x": Continuous(), "sick": Binary()})
    scores.calibrate({"x": (1 + z.exp()) ** power, "sick": (z > 1).long()})
    asked = torch.tensor([-1.5, 0.3, 1.5])
    parents = {"x": (1 + asked.exp()) ** power, "sick": torch.tensor([0, 1, 0])}
    features = scores(parents, 3)
    assert (features[:, 0] - features[1, 0] - asked + asked[1]).abs().max() < 0.1
    assert (features[1, 1] - features[0, 1]).item() == pytest.approx(2)


@pytest.mark.parametrize("value", [torch.zeros(50), (torch.arange(50) > 40).float()])
def test_scores_of_numbers_that_hardly_vary_are_finite_and_rise(value: Tensor) -> None:
    scores = Scores({"x": Continuous(), "site": Categorical(3)})
    scores.calibrate({"x": value, "site": torch.arange(50) % 3})
    numbers = torch.linspace(-3, 3, 13)
    features = scores({"x": numbers, "site": torch.zeros(13, dtype=torch.long)}, 13)
    assert features.isfinite().all()
    assert (features[:, 0].diff() > 0).all()
