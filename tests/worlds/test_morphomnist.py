"""Morpho-MNIST as a world: against the published images and true counterfactuals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rung3 import SCM, Rows, data, worlds


@pytest.fixture(scope="module")
def world(mnist_root: Path) -> SCM:
    return worlds.morphomnist(mnist_root, "test")


@pytest.fixture(scope="module")
def test_rows(morphomnist_root: Path, mnist_root: Path) -> Rows:
    return data.morphomnist(morphomnist_root, "test", mnist=mnist_root)[:400]


@pytest.fixture(scope="module")
def truth(morphomnist_root: Path) -> dict[str, Tensor]:
    with np.load(morphomnist_root / "truth.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def grey_levels_apart(image: Tensor, levels: Tensor) -> Tensor:
    return (255 * image[:, 0] - levels).abs().mean((1, 2))


def check_counterfactuals(
    world: SCM, test_rows: Rows, truth: dict[str, Tensor], cause: str, rows: int
) -> None:
    target = truth[f"do_{cause}_{cause}"][:rows]
    answer = world.counterfactual(test_rows[:rows], do={cause: target})
    expected = truth[f"do_{cause}_intensity"][:rows].float()
    torch.testing.assert_close(answer["intensity"], expected, atol=1e-2, rtol=0)
    apart = grey_levels_apart(answer["image"], truth[f"do_{cause}_image"][:rows])
    assert apart.mean() <= 0.05
    assert apart.max() <= 1.5


@pytest.mark.parametrize("cause", ["thickness", "intensity"])
def test_counterfactuals_are_the_published_ones(
    world: SCM, test_rows: Rows, truth: dict[str, Tensor], cause: str
) -> None:
    check_counterfactuals(world, test_rows, truth, cause, rows=32)


@pytest.mark.slow
@pytest.mark.parametrize("cause", ["thickness", "intensity"])
def test_all_counterfactuals_are_the_published_ones(
    world: SCM, test_rows: Rows, truth: dict[str, Tensor], cause: str
) -> None:
    check_counterfactuals(world, test_rows, truth, cause, rows=400)


def test_null_intervention_redraws_the_published_images(world: SCM, test_rows: Rows) -> None:
    rows = test_rows[:32]
    same = world.counterfactual(rows, do={"thickness": rows["thickness"]})
    assert grey_levels_apart(same["image"], 255 * rows["image"][:, 0]).mean() <= 0.35


def test_log_densities_are_those_of_the_generator(world: SCM, morphomnist_root: Path) -> None:
    rows = data.morphomnist(morphomnist_root, "test")
    scalars = {name: rows[name] for name in ("thickness", "intensity")}
    log_probs = world.log_probs(scalars)
    assert log_probs["thickness"].mean().item() == pytest.approx(-0.9268, abs=5e-4)
    assert log_probs["intensity"].mean().item() == pytest.approx(-4.1955, abs=5e-4)


def test_samples_are_raw_digits_of_their_class(world: SCM) -> None:
    rows = world.sample(16, seed=0)
    assert rows["image"].shape == (16, 1, 32, 32)
    assert rows.noise is not None
    noise = rows.noise["image"]
    assert isinstance(noise, dict)
    assert torch.equal(noise["label"], rows["digit"])
    unchanged = world.counterfactual(rows, do={"intensity": rows["intensity"]})
    assert torch.equal(unchanged["image"], rows["image"])


def test_sampling_under_do_digit_draws_from_the_new_class(world: SCM) -> None:
    rows = world.do(digit=3).sample(5, seed=0)
    assert rows.noise is not None
    noise = rows.noise["image"]
    assert isinstance(noise, dict)
    assert noise["label"].eq(3).all()


def test_counterfactual_under_do_digit_is_refused(world: SCM, test_rows: Rows) -> None:
    message = r"the raw digit of row 0 is a 7, and what it would have been as a 3 is not known"
    with pytest.raises(ValueError, match=message):
        world.counterfactual(test_rows[:2], do={"digit": 3})


def test_rows_without_raw_digits_are_refused(world: SCM, morphomnist_root: Path) -> None:
    rows = data.morphomnist(morphomnist_root, "test")[:2]
    with pytest.raises(ValueError, match="image: noise unknown"):
        world.counterfactual(rows, do={"thickness": 3.0})


def test_particles_of_known_noise_are_equal(world: SCM, test_rows: Rows) -> None:
    answer = world.counterfactual(test_rows[:2], do={"thickness": 3.0}, particles=2)
    assert answer["image"].shape == (2, 2, 1, 32, 32)
    assert torch.equal(answer["image"][0], answer["image"][1])


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither train-images-idx3-ubyte"):
        worlds.morphomnist(tmp_path)
