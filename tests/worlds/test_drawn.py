"""The world of drawn digits: its pictures, its equations, and its exact counterfactuals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3 import Rows, worlds
from rung3.worlds.strokes.drawn import draw, draw_noise, segment_distance
from rung3.worlds.strokes.morphometry import measure_intensity, measure_thickness


def same_handwriting(n: int) -> dict[str, Tensor]:
    one = draw_noise(1, torch.Generator().manual_seed(3))
    return {name: part.expand(n, *part.shape[1:]) for name, part in one.items()}


def test_sample_has_the_variables_and_its_noise() -> None:
    rows = worlds.digits().sample(50, seed=0)
    assert rows["image"].shape == (50, 1, 32, 32)
    assert rows.world == "digits"
    assert rows.noise is not None
    assert rows.noise.keys() == set(rows)


def test_images_are_eight_bit_on_black() -> None:
    image = worlds.digits().sample(200, seed=0)["image"]
    assert image.min() == 0
    assert image.max() <= 1
    torch.testing.assert_close(255 * image, (255 * image).round(), atol=1e-4, rtol=0)
    assert image[..., 0, :].mean() < 0.01


def test_digits_are_uniform_and_thickness_and_intensity_follow_the_equations() -> None:
    rows = worlds.digits().sample(1_000, seed=0)
    shares = rows["digit"].bincount(minlength=10) / rows.n
    torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.03, rtol=0)
    assert rows["thickness"].mean().item() == pytest.approx(2.5, abs=0.06)
    assert rows["thickness"].std().item() == pytest.approx(10**0.5 / 5, abs=0.06)
    e = 2 * (((rows["intensity"] - 64) / 191).logit() - 2 * rows["thickness"] + 5)
    assert e.mean().item() == pytest.approx(0, abs=0.1)
    assert e.std().item() == pytest.approx(1, abs=0.08)


def test_thickness_and_intensity_can_be_measured_on_the_image() -> None:
    rows = worlds.digits().sample(100, seed=1)
    off = measure_intensity(rows["image"]) - rows["intensity"]
    assert off.abs().max() <= 5  # the mean of two middle pixels, where few are bright
    assert off.abs().mean() <= 0.6
    off = measure_thickness(rows["image"]) - rows["thickness"]
    assert off.abs().mean() <= 0.3


@pytest.mark.parametrize("digit", range(10))
def test_thicker_strokes_hold_the_thinner_ones(digit: int) -> None:
    thickness = torch.arange(1.0, 7.0)
    digits, white = torch.full((6,), digit), torch.full((6,), 255.0)
    ink = draw(same_handwriting(6), digits, thickness, white).gt(0.5).flatten(1)
    assert (ink[1:] | ~ink[:-1]).all()
    assert (ink.sum(1).diff() > 0).all()


def test_one_handwriting_draws_ten_different_digits() -> None:
    images = draw(
        same_handwriting(10), torch.arange(10), torch.full((10,), 3.0), torch.full((10,), 255.0)
    )
    apart = torch.cdist(images.flatten(1), images.flatten(1)) + 100 * torch.eye(10)
    assert apart.min() > 5


def test_distance_to_a_segment_is_that_of_its_nearest_point() -> None:
    ends = 20 * torch.rand(3, 5, 2, 2) - 10
    line = torch.arange(32) - 15.5
    pixels = torch.cartesian_prod(line, line).flip(1)
    along = torch.linspace(0, 1, 2001)[:, None, None, None, None]
    points = (ends[:, :, 0] + along[..., 0] * (ends[:, :, 1] - ends[:, :, 0])).transpose(0, 1)
    expected = torch.stack([torch.cdist(pixels, p.reshape(-1, 2)).amin(1) for p in points])
    torch.testing.assert_close(segment_distance(ends), expected, atol=1e-2, rtol=0)


def test_drawing_in_parts_gives_the_same_images() -> None:
    rows = worlds.digits().sample(150, seed=0)
    assert rows.noise is not None
    noise = rows.noise["image"]
    assert isinstance(noise, dict)
    last = {name: part[149:] for name, part in noise.items()}
    image = draw(last, *(rows[name][149:] for name in ("digit", "thickness", "intensity")))
    torch.testing.assert_close(image, rows["image"][149:], atol=1.1 / 255, rtol=0)


def test_null_intervention_redraws_the_factual() -> None:
    world = worlds.digits()
    rows = world.sample(100, seed=0)
    same = world.counterfactual(rows, do={"digit": rows["digit"], "thickness": rows["thickness"]})
    torch.testing.assert_close(same["image"], rows["image"], atol=1.1 / 255, rtol=0)
    torch.testing.assert_close(same["intensity"], rows["intensity"], atol=1e-3, rtol=0)


def test_counterfactuals_keep_the_noise() -> None:
    world = worlds.digits()
    rows = world.sample(100, seed=0)
    thick = world.counterfactual(rows, do={"thickness": rows["thickness"] + 2})
    e = 2 * (((rows["intensity"] - 64) / 191).logit() - 2 * rows["thickness"] + 5)
    expected = 64 + 191 * torch.sigmoid(2 * thick["thickness"] - 5 + e / 2)
    torch.testing.assert_close(thick["intensity"], expected, atol=0.01, rtol=0)
    assert torch.equal(thick["digit"], rows["digit"])
    assert rows.noise is not None
    noise = rows.noise["image"]
    assert isinstance(noise, dict)
    image = draw(noise, rows["digit"], thick["thickness"], thick["intensity"])
    assert torch.equal(thick["image"], image)
    threes = world.counterfactual(rows[:20], do={"digit": 3})
    assert torch.equal(threes["thickness"], rows["thickness"][:20])
    assert (threes["image"] != rows["image"][:20]).flatten(1).any(1).sum() >= 16


def test_joint_intervention_on_thickness_and_intensity() -> None:
    world = worlds.digits()
    rows = world.sample(30, seed=0)
    both = world.counterfactual(rows, do={"thickness": 4.0, "intensity": 90.0})
    assert both["intensity"].eq(90).all()
    assert (measure_intensity(both["image"]) - 90).abs().max() <= 1


def test_without_its_noise_an_image_cannot_be_imagined() -> None:
    world = worlds.digits()
    rows = world.sample(3, seed=0)
    with pytest.raises(ValueError, match="image: noise unknown"):
        world.counterfactual(dict(rows), do={"thickness": 4.0})
    other = Rows(dict(rows), noise=rows.noise, world="another")
    with pytest.raises(ValueError, match="image: noise unknown"):
        world.counterfactual(other, do={"thickness": 4.0})


def test_density_of_images_is_not_known() -> None:
    world = worlds.digits()
    with pytest.raises(ValueError, match="image: the density of rendered images is not known"):
        world.log_prob(world.sample(3, seed=0))


def test_the_world_says_what_it_is() -> None:
    assert "image: Image(channels=1, height=32, width=32) := Handwriting()" in str(worlds.digits())
