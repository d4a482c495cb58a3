"""Colour digits: their equations, their pictures, and their exact counterfactuals."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from scipy import stats
from torch import Tensor

from rung3 import SCM, Categorical, Continuous, Image, Rows, worlds
from rung3.scm.propagation import generate
from rung3.worlds.strokes.colorimetry import grey, measure_hue, measure_saturation, paint
from rung3.worlds.strokes.painting import DrawnColour
from rung3.worlds.strokes.scenarios import CENTRES, RANGES, Scenario

SCENARIOS: list[Scenario] = list(get_args(Scenario))
N = 2000


def causes(world: SCM, n: int = N, seed: int = 0) -> dict[str, Tensor]:
    """The causes of the image, without drawing any."""
    return generate(world, n, seed, only=set(world.variables) - {"image"})[0]


def centre(scenario: Scenario, name: str, rows: dict[str, Tensor]) -> Tensor:
    match scenario, name:
        case (_, "hue") if "digit" in rows:
            return rows["digit"] / 10 + 0.05
        case (_, "hue"):
            return (rows["thickness"] - 1.5) / 4.5
        case (_, "thickness"):
            return 1.5 + 0.45 * rows["digit"]
        case _:
            return 0.3 + 0.7 * rows["hue"]


CONFOUNDED = [(s, name) for s in SCENARIOS for name in CENTRES[s]]


@pytest.mark.parametrize(("scenario", "name"), CONFOUNDED)
def test_what_is_confounded_follows_the_stated_formula(scenario: Scenario, name: str) -> None:
    world = worlds.colour(scenario, outliers=0.2)
    rows = causes(world)
    variable, scale = world.variables[name], CENTRES[scenario][name][2]
    assert isinstance(variable, Continuous)
    off = variable.difference(rows[name], centre(scenario, name, rows))
    inside = rows[name] < 1 if name == "saturation" else torch.ones(N, dtype=torch.bool)
    near = off.abs() < 2 * scale
    low, high = RANGES[name]
    # Outliers are uniform: 4s of the range, where all of it lies inside.
    expected = 0.8 * 0.9545 + 0.2 * 4 * scale / (high - low)
    assert (near | ~inside).float().mean().item() == pytest.approx(expected, abs=0.04)
    standardised = off[near & inside] / scale
    if name != "saturation":  # clipped above, so not symmetric
        assert standardised.mean().item() == pytest.approx(0, abs=0.08)
        assert standardised.std().item() == pytest.approx(0.88, abs=0.08)  # a Gaussian cut at 2 s


@pytest.mark.parametrize(("scenario", "name"), CONFOUNDED)
def test_without_outliers_there_is_no_full_support(scenario: Scenario, name: str) -> None:
    world = worlds.colour(scenario, outliers=0)
    rows = causes(world)
    variable, scale = world.variables[name], CENTRES[scenario][name][2]
    assert isinstance(variable, Continuous)
    off = variable.difference(rows[name], centre(scenario, name, rows)).abs()
    assert off.max() < 5 * scale
    full = causes(worlds.colour(scenario, outliers=0.2))
    assert variable.difference(full[name], centre(scenario, name, full)).abs().max() > 8 * scale


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_unconfounded_causes_are_independent_and_uniform(scenario: Scenario) -> None:
    world = worlds.colour(scenario, confounded=False)
    names = scenario.split("-")
    assert {(a, b) for a, b in world.graph.edges} == {(name, "image") for name in names}
    rows = causes(world)
    for name in names:
        if name == "digit":
            shares = rows["digit"].bincount(minlength=10) / N
            torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.03, rtol=0)
        else:
            low, high = RANGES[name]
            assert stats.kstest(rows[name], stats.uniform(low, high - low).cdf).pvalue > 1e-3
    first, last = rows[names[0]], rows[names[-1]]
    assert abs(stats.spearmanr(first, last).statistic) < 0.07


def test_the_density_of_a_hue_is_that_of_the_mixture() -> None:
    world = worlds.colour("digit-hue", outliers=0.1)
    seen = {"digit": [9, 9, 0], "hue": [0.95, 0.5, 0.98]}
    density = world.log_probs(seen)["hue"].exp()
    near = [0.0, None, -0.07]
    expected = [
        0.1 + (0 if off is None else 0.9 * stats.norm.pdf(off / 0.05) / 0.05) for off in near
    ]
    torch.testing.assert_close(
        density, torch.tensor(expected, dtype=density.dtype), rtol=1e-4, atol=0
    )


# Pictures -----------------------------------------------------------------------------------------


def test_paint_is_hsv() -> None:
    shape, hue, saturation = torch.rand(40), torch.rand(40), torch.rand(40)
    pixels = paint(shape.view(-1, 1, 1, 1), hue, saturation).flatten(1)
    given = zip(hue.tolist(), saturation.tolist(), shape.tolist(), strict=True)
    expected = torch.tensor([colorsys.hsv_to_rgb(h, s, v) for h, s, v in given])
    torch.testing.assert_close(pixels, expected, atol=0.51 / 255, rtol=0)


def test_hue_one_is_hue_zero_and_measures_are_total() -> None:
    white = torch.ones(1, 1, 4, 4)
    one = torch.ones(1)
    assert torch.equal(paint(white, one, one), paint(white, torch.zeros(1), one))
    blank = torch.zeros(2, 3, 4, 4)
    assert measure_hue(blank).tolist() == measure_saturation(blank).tolist() == [0, 0]
    assert measure_hue(torch.ones(1, 3, 4, 4)).item() == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_colours_are_measured_on_the_image(scenario: Scenario) -> None:
    world = worlds.colour(scenario)
    rows = world.sample(30, seed=0)
    image = rows["image"]
    assert image.shape == (30, 3, 32, 32)
    torch.testing.assert_close(255 * image, (255 * image).round(), atol=1e-4, rtol=0)
    assert world.measures.keys() == set(scenario.split("-")) - {"digit"}
    tolerance = {"hue": 0.004, "saturation": 0.004, "thickness": 0.6}
    for name, measure in world.measures.items():
        variable = world.variables[name]
        assert isinstance(variable, Continuous)
        off = variable.difference(measure(image), rows[name]).abs()
        assert off.mean() < tolerance[name]


def test_measures_want_colour_images() -> None:
    world = worlds.colour("digit-hue")
    with pytest.raises((ValueError, TypeError)):
        world.measures["hue"](torch.zeros(2, 1, 8, 8))


# Counterfactuals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("confounded", [True, False])
def test_null_interventions_change_nothing(scenario: Scenario, confounded: bool) -> None:
    world = worlds.colour(scenario, confounded=confounded)
    rows = world.sample(40, seed=0)
    for name in scenario.split("-"):
        same = world.counterfactual(rows, do={name: rows[name]})
        assert torch.equal(same["image"], rows["image"])
        assert all(torch.equal(same[k], rows[k]) for k in rows)


def test_another_hue_changes_the_colour_and_not_the_shape() -> None:
    world = worlds.colour("digit-hue-saturation")
    rows = world.sample(40, seed=0)
    turned = world.counterfactual(rows, do={"hue": lambda hue: hue + 0.5}, hold=["saturation"])
    assert torch.equal(grey(turned["image"]), grey(rows["image"]))
    off = measure_hue(turned["image"]) - measure_hue(rows["image"])
    torch.testing.assert_close(off.abs(), torch.full((40,), 0.5), atol=0.02, rtol=0)
    assert torch.equal(turned["digit"], rows["digit"])


def test_another_digit_keeps_hue_and_handwriting_if_the_hue_is_held() -> None:
    world = worlds.colour("digit-hue")
    rows = world.sample(40, seed=0)
    held = world.counterfactual(rows, do={"digit": 3}, hold=["hue"])
    assert torch.equal(held["hue"], rows["hue"])
    threes = rows["digit"] == 3
    assert torch.equal(held["image"][threes], rows["image"][threes])
    assert (held["image"] != rows["image"])[~threes].flatten(1).any(1).all()


def test_the_hue_follows_the_digit_but_for_outliers() -> None:
    world = worlds.colour("digit-hue", outliers=0.3)
    rows = world.sample(200, seed=0)
    assert rows.noise is not None
    noise = rows.noise["hue"]
    assert isinstance(noise, dict)
    outlier = noise["outlier"] > 0
    assert 30 < outlier.sum() < 90
    other = world.counterfactual(rows, do={"digit": (rows["digit"] + 3) % 10})
    assert torch.equal(other["hue"][outlier], rows["hue"][outlier])
    variable = world.variables["hue"]
    assert isinstance(variable, Continuous)
    moved = variable.difference(other["hue"], rows["hue"] + 0.3)[~outlier]
    torch.testing.assert_close(moved, torch.zeros_like(moved), atol=1e-5, rtol=0)


def test_saturation_that_was_clipped_comes_back() -> None:
    world = worlds.colour("digit-hue-saturation", outliers=0)
    rows = world.sample(400, seed=0)
    clipped = rows["saturation"] == 1
    assert 5 < clipped.sum() < 100
    away = world.counterfactual(rows, do={"hue": 0.0})
    assert (away["saturation"] < 0.6).all()
    back = world.counterfactual(rows, do={"hue": rows["hue"]})
    assert torch.equal(back["saturation"], rows["saturation"])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_baselines_give_images_and_repainting_is_exact_for_colour(scenario: Scenario) -> None:
    world = worlds.colour(scenario)
    rows = world.sample(4, seed=0)
    for function in world.baselines.values():
        image = function(rows["image"], dict(rows), dict(rows))
        world.variables["image"].validate("image", image)
    if "hue" in scenario and "thickness" not in scenario:
        hold = [name for name in ("saturation",) if name in rows]
        blue = world.counterfactual(rows, do={"hue": 2 / 3}, hold=hold)
        edited = world.baselines["repainting"](rows["image"], dict(rows), dict(blue))
        assert torch.equal(edited, blue["image"])
    assert ("re-morphing" in world.baselines) == ("thickness" in scenario)


def test_rows_of_another_world_carry_no_noise_for_this_one() -> None:
    rows = worlds.colour("digit-hue", outliers=0.1).sample(3, seed=0)
    for other in (worlds.colour("digit-hue", outliers=0), worlds.colour("digit-hue")):
        with pytest.raises(ValueError, match="image: noise unknown"):
            other.counterfactual(rows, do={"hue": 0.5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario": "digit-colour"}, "scenario: expected one of .*'digit-hue'.*'digit-colour'"),
        ({"outliers": 1.0}, "outliers: expected a probability of at least 0 and below 1"),
        ({"outliers": -0.1}, "outliers: expected a probability"),
        ({"outliers": math.nan}, "outliers: expected a probability"),
        ({"root": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        worlds.colour(**({"scenario": "digit-hue"} | options))


def test_a_colour_digit_has_no_other_causes() -> None:
    with pytest.raises(ValueError, match=r"image: its parents may be .* got \['size'\]"):
        DrawnColour().bind("image", Image(3, 32, 32), {"size": Categorical(2)})


# Over MNIST ---------------------------------------------------------------------------------------


def test_mnist_is_painted(mnist_root: Path) -> None:
    world = worlds.colour("digit-hue", root=mnist_root, split="test")
    rows = world.sample(24, seed=0)
    assert rows.noise is not None
    noise = rows.noise["image"]
    assert isinstance(noise, dict)
    assert torch.equal(noise["label"], rows["digit"])
    raw = 255 * grey(rows["image"])[..., 2:30, 2:30]
    torch.testing.assert_close(raw, noise["raw"].float(), atol=1e-3, rtol=0)
    green = world.counterfactual(rows, do={"hue": 1 / 3})
    assert torch.equal(grey(green["image"]), grey(rows["image"]))
    torch.testing.assert_close(
        measure_hue(green["image"]), torch.full((24,), 1 / 3), atol=0.003, rtol=0
    )
    with pytest.raises(ValueError, match="what it would have been as a 3 is not known"):
        world.counterfactual(rows, do={"digit": 3})
    drawn: Rows = worlds.colour("digit-hue").sample(2, seed=0)
    with pytest.raises(ValueError, match="image: noise unknown"):
        world.counterfactual(drawn, do={"hue": 0.5})


def test_mnist_digits_get_thicker(mnist_root: Path) -> None:
    world = worlds.colour("thickness-hue", root=mnist_root, split="test")
    rows = world.sample(8, seed=0)
    thick = world.counterfactual(rows, do={"thickness": 6.0}, hold=["hue"])
    assert (grey(thick["image"]) > 0.5).sum() > (grey(rows["image"]) > 0.5).sum()
    unchanged = world.counterfactual(rows, do={"thickness": rows["thickness"]})
    assert torch.equal(unchanged["image"], rows["image"])
