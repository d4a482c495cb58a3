"""Shapes of individuals: their law is learned, and an atlas is laid over an image by them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rung3 import Binary, Continuous, Image
from rung3.mechanisms import DeformedAtlas
from rung3.mechanisms.networks.registration import Laid, registered
from rung3.mechanisms.networks.shape import Shape


def shape(**options: object) -> Shape:
    settings = {"waves": 3, "gains": 2, "movers": 1, "lights": 1}
    return Shape((16, 20), **(settings | options))  # type: ignore[arg-type]


def test_the_law_is_learned_from_batches_of_shapes_and_a_wrong_fit_counts_less() -> None:
    law = shape()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 40, 2, generator=generator)
    scale = torch.linspace(0.01, 0.05, law.count)
    effect = torch.zeros(law.count, 2)
    effect[0, 0], effect[-1, 1] = 0.1, 0.2
    coefficients = features @ effect.T + scale * torch.randn(
        400, 40, law.count, generator=generator
    )
    coefficients[:, 0] *= 100  # one of 40 fits went wrong
    precise = 1e8 * torch.eye(law.count).expand(40, -1, -1)
    for batch, of_batch in zip(coefficients, features, strict=True):
        law.update(batch, of_batch, precise)
    assert law.mean[0, 1].item() == pytest.approx(0.1, abs=0.02)
    assert law.mean[-1, 2].item() == pytest.approx(0.2, abs=0.02)
    assert (law.covariance.diagonal().sqrt() / scale - 1).abs().max() < 0.6
    drawn = law.sample(4000, generator).std(0)
    assert (drawn / law.covariance.diagonal().sqrt() - 1).abs().max() < 0.1


def test_movers_displace_and_lights_brighten_and_neither_does_the_other() -> None:
    law = shape()
    law.mean += 1.0
    still, moved, lit = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    by_mover = law.caused(moved) - law.caused(still)
    by_light = law.caused(lit) - law.caused(still)
    displaced = torch.arange(law.count) < law.moving
    assert torch.equal(by_mover[0], displaced.float())
    assert torch.equal(by_light[0], (~displaced).float())


def test_one_feature_may_cause_either_and_is_counted_once() -> None:
    law = shape(both=1)
    law.mean += 1.0
    assert law.mean.shape[1] == 2
    assert (law.caused(torch.ones(1, 1)) - law.caused(torch.zeros(1, 1)) == 1).all()
    parents = {"age": Continuous(), "sex": Binary()}
    atlas = DeformedAtlas(moving=["age", "sex"], shading=["sex"], waves=2, gains=2)
    assert atlas.bind("x", Image(1, 8, 8), parents).shape.mean.shape[1] == 3


def test_displacements_across_a_slice_stay_within_its_atlas() -> None:
    law = shape(across=0.2)
    far = torch.zeros(32, law.count)
    far[:, 18:27] = torch.randn(32, 9, generator=torch.Generator().manual_seed(0))
    for _ in range(300):
        law.update(far, torch.zeros(32, 2), 1e8 * torch.eye(law.count).expand(32, -1, -1))
    across = law.displacement(law.sample(2000, torch.Generator().manual_seed(1)))[:, 2]
    assert 0.05 < across.std() < 0.1


def test_registration_finds_displacement_and_gain() -> None:
    law = shape(lights=0, movers=0)
    generator = torch.Generator().manual_seed(0)
    true = 0.02 * torch.randn(6, law.count, generator=generator)
    line = [(torch.arange(size) + 0.5) * (2 / size) - 1 for size in (16, 20)]
    y, x = torch.meshgrid(*line, indexing="ij")

    def laid(displacement: Tensor) -> Laid:
        at = torch.stack([x, y]) + displacement
        wave = 5 * at[:, 0] + 3 * at[:, 1]
        level = (0.5 + 0.3 * wave.sin() * (4 * at[:, 1]).cos())[:, None]
        along = 1.5 * wave.cos() * (4 * at[:, 1]).cos()
        down = 0.9 * wave.cos() * (4 * at[:, 1]).cos()
        down = down - 1.2 * wave.sin() * (4 * at[:, 1]).sin()
        return Laid(level, torch.stack([along, down], 1)[:, :, None], torch.full_like(level, 1e-6))

    image = law.gain(true) * laid(law.displacement(true)).level
    start = torch.zeros_like(true)
    fit = registered(image, torch.ones_like(image), laid, law, start, 12)
    seen = law.gain(fit.coefficients) * laid(law.displacement(fit.coefficients)).level
    assert (seen - image).abs().max() < 0.01
    assert (fit.coefficients - true).abs().max() < 0.02
    assert torch.linalg.eigvalsh(fit.precision).min() > 0


def test_a_volume_has_planes_of_its_own() -> None:
    with pytest.raises(ValueError, match="planes=3 is the thickness of a slice's atlas"):
        DeformedAtlas(planes=3).bind("scan", Image(1, 8, 8, 8), {})
