"""Spread of counterfactuals, and whether it holds the truth as often as it says."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from rung3 import SCM, Binary, Categorical, Image, Ordinal
from rung3.data.rows import Noise
from rung3.effects import Uncertainty, coverage, uncertainty
from rung3.effects.particles import Clouds
from rung3.mechanisms import VAE, Equation, GumbelMax, InverseCDF
from rung3.mechanisms.base import Abduction, Mechanism, Parents

SIZE = (1, 4, 5)


class TwoNoises(Mechanism):
    """`x := 1/2 + (a + p b) / 50` in each pixel, a and b standard normal; all black beside.

    The posterior of (a, b) is normal; its deviations are drawn `confidence` times too small.
    """

    abduction: ClassVar[Abduction] = "approximate"
    assumption: str = "none"

    def __init__(self, confidence: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.confidence = confidence
        self.offset = offset

    def build(self) -> None:
        self.most = 0

    def sample_noise(self, n: int, parents: Parents, generator: Generator | None = None) -> Noise:
        a, b = torch.randn(2, n, *self.variable.shape, generator=generator)
        return {"a": a, "b": b}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        assert isinstance(noise, Mapping)
        self.most = max(self.most, len(noise["a"]))
        p = parents["p"].reshape(-1, 1, 1, 1)
        image = 0.5 + (noise["a"] + p * noise["b"]) / 50
        image[..., 0, :] = 0
        return image

    def abduct(
        self,
        value: Tensor,
        parents: Parents,
        particles: int | None = None,
        generator: Generator | None = None,
    ) -> Noise:
        p = parents["p"].reshape(-1, 1, 1, 1)
        x, square = 50 * (value - 0.5), 1 + p**2
        lead = () if particles is None else (particles,)
        a, b = torch.randn(2, *lead, *value.shape, generator=generator)
        a, b = (part / self.confidence for part in (a, b))
        left = x - a - p * b  # (a, b) given x, by Matheron's rule
        a, b = a + left / square, b + p * left / square
        return {"a": a + self.offset, "b": b}

    def log_prob(self, value: Tensor, parents: Parents) -> Tensor:
        raise NotImplementedError


def world(mechanism: Mechanism | None = None, name: str | None = None) -> SCM:
    return SCM(
        graph="p -> scan",
        variables={"scan": Image(*SIZE, bits=None)},
        mechanisms={"p": Equation("u"), "scan": mechanism or TwoNoises()},
        world=name,
    )


def spread_of(model: SCM, rows: Any, **options: Any) -> Uncertainty:
    return uncertainty(model, rows, {"p": 2.0}, "scan", seed=0, **options)


# Maps


def test_the_spread_is_that_of_the_posterior() -> None:
    """Given x and p, `a + q b` is normal: mean (1 + q p) x / s, variance (q - p)^2 / s."""
    rows = world().sample(6, seed=0)
    spread = spread_of(world(), rows, particles=1000, quantiles=(0.1, 0.5))
    p, x = rows["p"].reshape(-1, 1, 1, 1), 50 * (rows["scan"] - 0.5)
    square = 1 + p**2
    mean = 0.5 + (1 + 2 * p) * x / square / 50
    std = ((2 - p).abs() / square.sqrt() / 50).expand_as(x)
    for map_, truth in ((spread.mean, mean), (spread.std, std)):
        torch.testing.assert_close(map_[..., 1:, :], truth[..., 1:, :], atol=4e-3, rtol=0.1)
    lower = mean - 1.2816 * std
    close = (spread.quantiles[0.1] - lower)[..., 1:, :].abs()
    assert close.max() < 9e-3  # a grey level is 4e-3
    for map_ in (spread.mean, spread.std, spread.quantiles[0.5]):
        assert not map_[..., 0, :].any()


def vae() -> SCM:
    model = SCM(
        graph="p -> scan",
        variables={"scan": Image(1, 8, 6)},
        mechanisms={"p": Equation("u"), "scan": VAE(2, width=4, depth=1)},
    )
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model.eval()


def test_maps_of_images_in_eight_bits_are_exact() -> None:
    model = vae()
    rows = model.sample(3, seed=0)
    levels = (0.01, 0.05, 0.5, 0.75, 0.95)
    with torch.no_grad():
        spread = spread_of(model, rows, particles=20, quantiles=levels)
        clouds = Clouds(model, rows, {"p": 2.0}, "scan", 20, 1.0, 0)
        draws = torch.cat([torch.cat(list(some)) for _, _, some in clouds])
    assert draws.shape == (20, 3, 1, 8, 6)
    torch.testing.assert_close(spread.mean, draws.mean(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(spread.std, draws.std(0), atol=1e-6, rtol=0)
    truth = np.quantile(draws.numpy(), levels, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(torch.stack(list(spread.quantiles.values())), truth, atol=1e-6)
    assert (spread.std > 0).any()


def test_no_more_is_held_for_more_particles() -> None:
    model = world()
    rows = model.sample(4, seed=0)
    most = []
    for particles in (8, 200):
        mechanism: Any = model.mechanisms["scan"]
        mechanism.most = 0
        spread_of(model, rows, particles=particles)
        most.append(mechanism.most)
    assert most == [32, 32]


def test_rows_are_taken_some_at_a_time_with_what_is_asked_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rung3.effects.particles.CHUNK_NUMBERS", 2 * 20)
    model = world()
    rows = model.sample(5, seed=0)
    targets = torch.linspace(-1, 1, 5)
    spread = uncertainty(model, rows, {"p": targets}, "scan", particles=160, seed=0)
    each = ((targets - rows["p"]).abs() / (1 + rows["p"] ** 2).sqrt() / 50).reshape(-1, 1, 1, 1)
    assert spread.std.shape == (5, *SIZE)
    found_each = spread.std[..., 1:, :].mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(found_each, each, atol=2e-3, rtol=0.15)


def test_numbers_and_single_rows() -> None:
    model = SCM(
        graph="dose -> cured",
        variables={"cured": Binary()},
        mechanisms={"dose": Equation("u")},
    )
    row = {"dose": -1.0, "cured": 0}
    model.requires_grad_(False)
    spread = uncertainty(model, row, {"dose": 2.0}, "cured", particles=400, seed=0)
    now, was = (model.log_probs({"dose": d, "cured": 1})["cured"].exp().item() for d in (2.0, -1.0))
    rise = max(0.0, now - was) / (1 - was)  # u is uniform above the chance of 0, and crosses
    assert spread.mean.shape == ()
    assert spread.mean.item() == pytest.approx(rise, abs=0.08)
    assert set(spread.quantiles) == {0.05, 0.5, 0.95}


def test_one_seed_gives_one_answer() -> None:
    model = world()
    rows = model.sample(3, seed=0)
    one, same = (spread_of(model, rows, particles=10) for _ in range(2))
    other = uncertainty(model, rows, {"p": 2.0}, "scan", particles=10, seed=1)
    assert torch.equal(one.std, same.std)
    assert not torch.equal(one.std, other.std)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 1}, "particles: expected a whole number of at least 2, got 1"),
        ({"particles": 2.0}, "particles: expected a whole number of at least 2, got 2.0"),
        ({"quantiles": [0.5, 1.0]}, "quantiles: expected levels between 0 and 1, got 1.0"),
    ],
)
def test_spreads_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spread_of(world(), world().sample(2), **options)
    with pytest.raises(ValueError, match="no variable 'scam'; did you mean 'scan'"):
        uncertainty(world(), world().sample(2), {"p": 1.0}, "scam")


# Coverage


@pytest.mark.parametrize("particles", [7, 99])
def test_the_right_posterior_holds_the_truth_as_often_as_it_says(particles: int) -> None:
    truth = world(name="two noises")
    rows = truth.sample(400, seed=1)
    calibration = coverage(world(), truth, rows, {"p": 1.0}, "scan", particles=particles, seed=0)
    for level, share in calibration.shares.items():
        assert share.low < level < share.high
        assert (share.high - share.low) < 0.04
    assert calibration.certain == pytest.approx(5 / 20)  # the black row


@pytest.mark.parametrize(
    ("model", "least", "most"),
    [
        (TwoNoises(confidence=4.0), 0.25, 0.45),
        (TwoNoises(confidence=0.25), 0.98, 1.0),
        (TwoNoises(offset=3.0), 0.0, 0.75),
    ],
)
def test_overconfident_timid_and_biased_models_are_found_out(
    model: Mechanism, least: float, most: float
) -> None:
    truth = world(name="two noises")
    rows = truth.sample(200, seed=1)
    calibration = coverage(world(model), truth, rows, {"p": 1.0}, "scan", seed=0)
    assert least <= calibration.shares[0.9].effect <= most
    assert not calibration.shares[0.9].low <= 0.9 <= calibration.shares[0.9].high


@pytest.mark.parametrize("mechanism", [InverseCDF, GumbelMax])
def test_ties_do_not_matter(mechanism: Any) -> None:
    """Categories that most particles agree on."""
    world = SCM(
        graph="dose -> grade",
        variables={"grade": Ordinal(3)},
        mechanisms={"dose": Equation("u"), "grade": mechanism(hidden=(8,))},
        world="grades",
    )
    for parameter in world.parameters():
        parameter.data *= 2  # so that the dose matters
    model = copy.deepcopy(world)
    model.world = None
    rows = world.sample(3000, seed=0)
    calibration = coverage(model, world, rows, {"dose": 1.5}, "grade", particles=19, seed=0)
    assert 0 < calibration.certain < 0.9
    for level, share in calibration.shares.items():
        assert share.effect.item() == pytest.approx(level, abs=0.04)
        assert str(calibration).count(f"{level:.0%} intervals hold the truth in {share}") == 1


def test_a_world_that_knows_everything_has_nothing_to_be_unsure_of() -> None:
    truth = world(name="two noises")
    calibration = coverage(truth, truth, truth.sample(5, seed=0), {"p": 1.0}, "scan", particles=3)
    assert (calibration.certain, calibration.shares) == (1.0, {})


def test_a_world_that_does_not_know_says_so() -> None:
    from rung3 import worlds

    digits = worlds.digits()
    rows = {name: value[:2] for name, value in digits.sample(2, seed=0).items()}
    with pytest.raises(ValueError, match="truth: image: noise unknown"):
        coverage(digits, digits, rows, {"thickness": 2.0}, "image", particles=2)
    with pytest.raises(ValueError, match="levels: expected numbers between 0 and 1, got 90"):
        coverage(digits, digits, rows, {"thickness": 2.0}, "image", levels=[90])


def test_categories_without_order_have_no_spread() -> None:
    model = SCM(graph="x -> kind", variables={"kind": Categorical(3)})
    with pytest.raises(ValueError, match="outcome: 'kind' is Categorical"):
        uncertainty(model, {"x": 0.0, "kind": 1}, {"x": 1.0}, "kind")
