from __future__ import annotations

import math

import torch

from rung3 import worlds


def test_counterfactuals_of_a_point_are_the_rest_of_its_ellipse() -> None:
    world = worlds.ellipse()
    rows = world.sample(50, seed=0)
    wide, high = (
        rows["point"] / (2 + torch.stack([rows["angle"].cos(), rows["angle"].sin()], dim=1))
    ).unbind(1)
    for angle in torch.linspace(0, 2 * math.pi, 9)[:-1]:
        x, y = world.counterfactual(dict(rows), do={"angle": angle})["point"].unbind(1)
        on_ellipse = (x / wide - 2).square() + (y / high - 2).square()
        torch.testing.assert_close(on_ellipse, torch.ones(50), rtol=1e-4, atol=1e-4)


def test_noise_is_uniform_and_gives_the_point_back() -> None:
    world = worlds.ellipse()
    rows = world.sample(4000, seed=1)
    noise = world.abduct(dict(rows))["point"]
    assert isinstance(noise, torch.Tensor)
    torch.testing.assert_close(noise.mean(0).float(), torch.full((2,), 0.5), atol=0.02, rtol=0)
    torch.testing.assert_close(noise.std(0).float(), torch.full((2,), 12**-0.5), atol=0.01, rtol=0)
    repeated = world.do(angle=rows["angle"]).predict(world.abduct(dict(rows)))
    torch.testing.assert_close(repeated["point"], rows["point"], rtol=1e-4, atol=1e-4)


def test_the_two_numbers_depend_on_each_other_at_every_angle() -> None:
    point = worlds.ellipse().do(angle=0.0).sample(4000, seed=2)["point"]
    assert torch.corrcoef(point.T)[0, 1] > 0.2
