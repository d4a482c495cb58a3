"""Realism and interventional distance: against other implementations, and how they rank."""

from __future__ import annotations

from typing import Any

import answers
import blobs
import numpy as np
import pytest
import torch
from scipy import linalg, stats
from scipy.spatial.distance import cdist
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from rung3 import SCM, Binary, Continuous, Image
from rung3.evaluation import Oracle, Oracles
from rung3.evaluation.measures.interventional import interventional
from rung3.evaluation.measures.realism import FeatureDistances, features
from rung3.evaluation.two_sample import Apart, Kernel, compare, energy, gaussian, mmd, polynomial
from rung3.mechanisms import Equation

# Two samples


def test_polynomial_discrepancy_is_torchmetrics() -> None:
    x, y = torch.randn(2, 40, 6).double()
    y = 0.5 * y + 0.3
    assert mmd(x, y, polynomial) == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)


def test_gaussian_discrepancy_is_the_mean_over_pairs() -> None:
    x, y = torch.randn(2, 30, 3).double()
    width = np.median(cdist(y, y)[np.triu_indices(30, 1)])
    # torch's median of an odd number of pairs is numpy's
    assert 30 * 29 // 2 % 2 == 1

    def k(a: Tensor, b: Tensor) -> np.ndarray:
        return np.exp(-(cdist(a, b) ** 2) / (2 * width**2))

    off = ~np.eye(30, dtype=bool)
    expected = k(x, x)[off].mean() + k(y, y)[off].mean() - 2 * k(x, y).mean()
    assert mmd(x, y, gaussian(y)) == pytest.approx(expected, abs=1e-9)


def test_energy_distance_is_scipys_but_for_the_bias() -> None:
    x, y = torch.randn(200, 1).double(), torch.randn(200, 1).double() + 1
    biased = stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy()) ** 2
    within = sum(float(-energy(z, z).sum()) / 200**2 for z in (x, y))
    assert mmd(x, y, energy) == pytest.approx(biased - within / 199, abs=1e-9)


@pytest.mark.parametrize("kernel", [polynomial, energy])
def test_discrepancy_is_unbiased_and_chance_is_its_quantile(kernel: Kernel) -> None:
    draw = torch.Generator().manual_seed(1)
    distances = [
        compare(x, y, kernel, 100, draw) for x, y in torch.randn(200, 2, 20, 3, generator=draw)
    ]
    values = np.array([apart.value for apart in distances])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(200)
    beyond = np.mean([apart.value > apart.chance for apart in distances])
    assert beyond == pytest.approx(0.05, abs=0.05)


def test_one_row_is_no_sample() -> None:
    with pytest.raises(ValueError, match="at least two rows each, got 1"):
        mmd(torch.zeros(1, 2), torch.zeros(1, 2), energy)


# Realism


def frechet(x: Tensor, y: Tensor) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(c @ d).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root))


def fed(x: Tensor, y: Tensor, *sizes: int) -> dict[str, float]:
    realism = FeatureDistances()
    for real, imagined in zip(x.split(list(sizes)), y.split(list(sizes)), strict=True):
        realism.update(real, imagined)
    return realism.compute()


def test_fid_and_kid_are_the_published_ones_whatever_the_batches() -> None:
    x, y = torch.randn(250, 5), 1.3 * torch.randn(250, 5) + 0.4
    distances = fed(x, y, 250)
    assert distances["fid"] == pytest.approx(frechet(x, y), rel=1e-4)
    blocks = [poly_mmd(x[k : k + 100].double(), y[k : k + 100].double()) for k in (0, 100)]
    assert distances["kid"] == pytest.approx(torch.stack(blocks).mean().item(), rel=1e-9)
    assert distances["n"] == 250
    other = fed(x, y, 30, 170, 50)
    assert other["fid"] == pytest.approx(distances["fid"], rel=1e-6)
    assert other["kid"] == pytest.approx(distances["kid"], rel=1e-9)


def test_the_standard_error_of_kid_is_its_deviation_over_samples() -> None:
    draw = torch.Generator().manual_seed(0)
    distances = [fed(*torch.randn(2, 500, 4, generator=draw), 500) for _ in range(60)]
    deviation = np.std([f["kid"] for f in distances])
    assert np.mean([f["kid error"] for f in distances]) == pytest.approx(deviation, rel=0.3)
    assert abs(np.mean([f["kid"] for f in distances])) < 4 * deviation / np.sqrt(60)


def test_fid_falls_with_the_size_of_the_sets_and_kid_does_not() -> None:
    draw = torch.Generator().manual_seed(0)
    small, many = (fed(*torch.randn(2, n, 16, generator=draw), n) for n in (200, 3200))
    assert small["fid"] == pytest.approx(16 * many["fid"], rel=0.3)
    assert abs(many["kid"]) < 4 * many["kid error"]


@pytest.fixture(scope="module")
def oracles() -> Oracles:
    """Their features of random weights are enough to tell these images apart."""
    torch.manual_seed(0)
    image = Image(1, 12, 12)
    oracles = {("image", "position"): Oracle(image, Continuous(), width=8)}
    return Oracles(oracles)


def test_features_are_what_the_last_layer_sees(oracles: Oracles) -> None:
    oracle = oracles["image", "position"]
    images = blobs.world().sample(5, seed=0)["image"]
    two = features([oracle, oracle], images)
    assert two.shape == (5, 128)
    assert torch.equal(oracle.head[-1](two[:, :64])[:, 0], oracle(images))
    with pytest.raises(ValueError, match="at least one oracle"):
        features([], images)


def test_realism_ranks_answers(oracles: Oracles) -> None:
    """Doing nothing and noise of other rows are as real as the truth; broken images are not."""
    rows, _, true = answers.question(400)
    real = features(oracles.values(), blobs.world().sample(400, seed=9)["image"])
    distances = {
        name: fed(real, features(oracles.values(), image), 400)
        for name, image in answers.images(rows, true).items()
    }
    floor = fed(real, features(oracles.values(), blobs.world().sample(400, seed=8)["image"]), 400)
    for measure in ("kid", "fid"):
        score = {name: values[measure] for name, values in distances.items()}
        assert score["true"] < score["far"] < score["wrong sign"]
        assert max(score["nothing"], score["shuffled"]) < score["wrong sign"] / 3
    assert distances["true"]["fid"] < 3 * floor["fid"]
    assert abs(distances["true"]["kid"]) < 4 * distances["true"]["kid error"]


def test_sets_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"as many real as imagined images, got \(3, 2\)"):
        FeatureDistances().update(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="at least two images of each kind, got 0"):
        FeatureDistances().compute()


# Interventional distance


def table(slope: float = 1.0, joint: float = 1.0, **more: Any) -> SCM:
    mechanisms = {
        "a": Equation("u"),
        "b": Equation(f"{slope}*a + u"),
        "c": Equation(f"{joint}*b + 0.5*u"),
    }
    return SCM("a -> b; b -> c", mechanisms=mechanisms, **more)


def apart(model: SCM) -> dict[str, Apart]:
    return interventional(model, table(), {"a": 2.0}, n=300, seed=0)


@pytest.mark.parametrize("measure", ["mmd", "energy"])
def test_interventional_distance_ranks_models(measure: str) -> None:
    models = [table(), table(0.8), table(0.0), table(-1.0)]
    distances = [apart(model)[measure] for model in models]
    values = [f.value for f in distances]
    assert sorted(values) == values
    assert distances[0].value < distances[0].chance
    assert all(f.value > f.chance for f in distances[1:])


def test_a_wrong_dependence_shows_though_every_variable_alone_is_right() -> None:
    """`c := b + u/2` beside `c := 2 (2 - b) + ...`: the same means and deviations."""
    flipped = SCM(
        "a -> b; {a b} -> c",
        mechanisms={
            "a": Equation("u"),
            "b": Equation("a + u"),
            "c": Equation("2*a - b + 0.5*u"),
        },
    )
    distances = apart(flipped)
    assert all(f.value > 3 * f.chance for f in distances.values())


def test_categories_and_images_are_compared_too(oracles: Oracles) -> None:
    world, wrong = blobs.world(), blobs.scm(blobs.wrong_sign)
    options: dict[str, Any] = {"names": ["image"], "oracles": oracles, "n": 200, "seed": 0}
    do = {"position": 1.0}
    right = interventional(world, world, do, **options)["mmd"]
    off = interventional(wrong, world, do, **options)["mmd"]
    assert right.value < right.chance < off.value
    with pytest.raises(ValueError, match="image is an image, and has no oracle"):
        interventional(world, world, do, n=10)

    def coin(odds: str) -> SCM:
        return SCM("a -> b", {"b": Binary()}, {"a": Equation("u"), "b": Equation(odds)})

    fair, loaded = coin("(a + u) > 0"), coin("(a + u) > 1")
    assert interventional(loaded, fair, {"a": 0.0}, seed=0)["energy"].value > 0.1


def test_nothing_left_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="every variable is set"):
        interventional(table(), table(), {"a": 0.0, "b": 0.0, "c": 0.0})
