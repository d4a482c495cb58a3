"""Volumes: the image mechanisms in three dimensions, by the number of spatial axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import balls
import pytest
import torch
from torch.nn import functional as F

from rung3 import SCM, Binary, Continuous, Image, fit, load
from rung3.data.variables import Variable
from rung3.mechanisms import HVAE, VAE, Stage
from rung3.mechanisms.base import Mechanism
from rung3.mechanisms.networks.encoding import ParentEncoder
from rung3.mechanisms.networks.spatial import shuffle, unshuffle
from rung3.mechanisms.networks.stages import Grid, preset
from rung3.testing.contract import check_mechanism

PARENTS: dict[str, Variable] = {"radius": Continuous(lower=0), "lesion": Binary()}
STAGES = [Stage(4, 4, latents=2), Stage(2, 8, latents=2), Stage(1, 8, latents=2)]


def small(kind: str, **options: Any) -> Mechanism:
    if kind == "vae":
        return VAE(latent=3, width=4, depth=1, **options)
    return HVAE(stages=STAGES, prior="conditional" if kind == "conditional" else "exogenous")


@pytest.mark.parametrize("kind", ["vae", "hvae", "conditional"])
@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 11, 9)])
def test_the_contract_holds_for_volumes(kind: str, sizes: tuple[int, int, int]) -> None:
    report = check_mechanism(small(kind), Image(1, *sizes), PARENTS)
    assert {"shapes", "round trip"} <= report.passed.keys()


@pytest.mark.parametrize("likelihood", ["discretised", "logistic", "mixture", "gaussian"])
def test_every_likelihood_takes_voxels(likelihood: str) -> None:
    volume = Image(2, 5, 8, 7, bits=None if likelihood == "gaussian" else 8)
    mechanism = small("vae", likelihood=likelihood).bind("scan", volume, {})
    x = torch.randint(256, (3, *volume.shape)) / 255
    noise = mechanism.abduct(x, {}, particles=2)
    assert isinstance(noise, dict)
    assert noise["eps"].shape == (2, 3, 2, 5, 8, 7)
    assert mechanism.log_prob(x, {}).shape == (3,)
    repeated = mechanism.predict({k: part[1] for k, part in noise.items()}, {})
    torch.testing.assert_close(repeated, x, atol=1e-5, rtol=0)


def test_cubes_of_voxels_are_channels_as_squares_of_pixels_are() -> None:
    image = torch.randn(2, 3, 4, 6)
    deep = image[:, :, None].expand(2, 3, 2, 4, 6)
    cubes = unshuffle(deep, 2)
    assert cubes.shape == (2, 24, 1, 2, 3)
    squares = F.pixel_unshuffle(image, 2).view(2, 3, 4, 2, 3)
    assert torch.equal(cubes.view(2, 3, 2, 4, 2, 3), squares[:, :, None].expand(2, 3, 2, 4, 2, 3))
    assert torch.equal(shuffle(cubes, 2), deep)


def test_checkpointing_changes_memory_not_gradients() -> None:
    x, parents = torch.randint(256, (2, 1, 8, 8, 8)) / 255, {"radius": torch.rand(2)}
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        mechanism = small("vae", checkpointing=checkpointing)
        bound = mechanism.bind("scan", Image(1, 8, 8, 8), {"radius": Continuous()})
        bound.loss(x, parents).backward()
        gradients.append([p.grad for p in bound.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("size", [32, 48, 64, 96, 128, 160])
def test_presets_reach_from_32_to_160_voxels(size: int) -> None:
    stages = preset(Image(1, size, size, size))
    grid = Grid("scan", Image(1, size, size, size), stages)
    assert grid.sizes[0][0] <= 40
    assert 4 <= grid.sizes[-1][0] < 8
    assert grid.padding == (0, 0, 0)


def test_a_volume_can_be_a_parent() -> None:
    encoder = ParentEncoder({"scan": Image(1, 9, 8, 10)})
    scans = torch.rand(2, 1, 9, 8, 10)[[0, 0, 1]].requires_grad_()
    features = encoder({"scan": scans}, 3)
    assert features.shape == (3, encoder.width)
    assert torch.equal(features[0], features[1])
    assert (features[0] - features[2]).abs().max() > 1e-3
    (slope,) = torch.autograd.grad(features[0].square().sum(), scans)
    assert (slope[0].abs().amax((0, 2, 3)) > 0).all()  # every slice is looked at
    assert not slope[1:].any()


def test_a_model_of_volumes_is_saved_and_loaded(tmp_path: Path) -> None:
    world = balls.world(8)
    rows = world.sample(4, seed=0)
    model = SCM(world.graph, world.variables, {"volume": small("vae")})
    fit(model, rows, epochs=1, validation_share=0, progress=False)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.variables["volume"] == Image(1, 8, 8, 8)
    do = {"radius": rows["radius"].flip(0)}
    answers = [m.counterfactual(rows, do, seed=0)["volume"] for m in (model, loaded)]
    assert torch.equal(*answers)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "hvae"])
def test_counterfactual_balls_have_the_radius_that_was_asked_for(kind: str) -> None:
    world = balls.world(12)
    train, test = world.sample(600, seed=0), world.sample(64, seed=1)
    torch.manual_seed(0)
    vae = VAE(latent=6, width=8, depth=1, cooling=100)
    hvae = HVAE(stages=[Stage(6, 16), Stage(3, 32, layers=2, latents=4)])
    model = SCM(world.graph, world.variables, {"volume": vae if kind == "vae" else hvae})
    fit(model, train, epochs=40, batch_size=20, seed=0, progress=False)
    do = {"radius": test["radius"].flip(0)}
    true = world.counterfactual(test, do)["volume"]
    answer = model.counterfactual(test, do, seed=0)["volume"]
    error, still = (float((v - true).abs().mean()) for v in (answer, test["volume"]))
    assert 1 - error / still >= 0.4
