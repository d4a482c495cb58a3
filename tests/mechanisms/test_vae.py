from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from bars import NOISE, Bars, learn
from noises import levels
from torch import Tensor

from rung3 import Binary, Categorical, Continuous, Image
from rung3.data.variables import Variable
from rung3.mechanisms import VAE
from rung3.mechanisms.autoencoder import Autoencoder
from rung3.mechanisms.networks.convolutional import Pyramid
from rung3.testing.contract import check_mechanism

PARENTS: dict[str, Variable] = {"digit": Categorical(3), "thickness": Continuous(lower=0)}


def bound(image: Image, **options: Any) -> VAE:
    options = {"latent": 3, "width": 4, "depth": 1} | options
    if options.get("likelihood") == "gaussian":
        image = replace(image, bits=None)
    mechanism = VAE(**options).bind("image", image, PARENTS)
    # Away from the start, where the parents' part is zero.
    for parameter in mechanism.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return mechanism


def draw(image: Image, n: int = 6) -> tuple[Tensor, dict[str, Tensor]]:
    levels = 2 ** (image.bits or 8) - 1
    x = torch.randint(levels + 1, (n, *image.shape)) / levels
    x[:, :, :2] = 0
    x[:, :, -2:] = 1
    return x, {"digit": torch.randint(3, (n,)), "thickness": 1 + torch.rand(n)}


@pytest.mark.parametrize("likelihood", ["discretised", "gaussian", "mixture"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 31), (2, 8, 9), (1, 3, 50), (1, 1, 1)])
def test_shapes_and_round_trip(shape: tuple[int, int, int], likelihood: str) -> None:
    image = Image(*shape)
    mechanism = bound(image, likelihood=likelihood)
    x, parents = draw(image)
    noise = levels(mechanism.abduct(x, parents))
    assert {k: v.shape for k, v in noise.items()} == {"z": (6, 3), "eps": (6, *shape)}
    repeated = mechanism.predict(noise, parents)
    if likelihood != "gaussian":
        assert torch.equal(repeated, x)
    else:
        torch.testing.assert_close(repeated, x, atol=1e-5, rtol=0)
    assert mechanism.mean(noise, parents).shape == x.shape
    assert mechanism.log_prob(x, parents).shape == (6,)
    drawn = mechanism.predict(mechanism.sample_noise(6, parents), parents)
    assert drawn.shape == x.shape
    assert 0 <= drawn.min() <= drawn.max() <= 1


def test_a_pyramid_halves_to_fewer_than_eight_pixels_and_crops_what_it_padded() -> None:
    pyramid = Pyramid(Image(1, 192, 224), width=16)
    assert (pyramid.widths, pyramid.grid) == ([16, 32, 64, 64, 64], (6, 7))
    odd = Pyramid(Image(3, 20, 31), width=8)
    image = torch.rand(2, 3, 20, 31)
    assert odd.enter(image).shape == (2, 12, 10, 16)
    assert torch.equal(odd.leave(odd.enter(image)), image)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("likelihood", "gamma"), [("discretised", 0.0), ("gaussian", 0.0), ("mixture", 0.5)]
)
def test_without_weights_and_cooling_the_loss_is_the_negative_bound(
    training: bool, likelihood: str, gamma: float
) -> None:
    """A mixture has no sigma to weigh by, whatever gamma is."""
    image = Image(1, 8, 8)
    mechanism = bound(image, likelihood=likelihood, gamma=gamma, cooling=0)
    x, parents = draw(image)
    torch.manual_seed(1)
    loss = mechanism.train(training).loss(x, parents)
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -mechanism.log_prob(x, parents).mean() / 64)


def test_beta_falls_by_equal_factors_in_training_alone_and_is_saved() -> None:
    image = Image(1, 8, 8)
    hot, plain = bound(image, cooling=4, gamma=0.0), bound(image, cooling=0, gamma=0.0)
    plain.load_state_dict(hot.state_dict())
    x, parents = draw(image)

    def loss(mechanism: VAE) -> float:
        torch.manual_seed(1)
        return mechanism.loss(x, parents).item()

    kl = (loss(hot) - loss(plain)) / 99
    falling = [(loss(hot) - loss(plain)) / kl + 1 for _ in range(5)]
    assert falling == pytest.approx([100**0.75, 10, 100**0.25, 1, 1], rel=1e-2)
    assert loss(hot.eval()) == loss(plain.eval())
    assert hot.state_dict()["steps"] == 6


def test_beta_falls_in_a_share_of_the_training_and_does_not_rise_when_it_goes_on() -> None:
    mechanism, kl = bound(Image(1, 8, 8), beta=2.0, cooling=0.5), {"z": torch.ones(3)}
    weights = []
    for done in (0.0, 0.25, 0.5, 1.0, 0.1):  # the last of another training
        mechanism.after_step(seed=0, done=done)
        weights.append(float(mechanism._penalty(kl)))
    assert weights == pytest.approx([200, 20, 2, 2, 2])
    state = mechanism.state_dict()
    assert state.pop("done") == 1
    fresh = bound(Image(1, 8, 8), beta=2.0, cooling=0.5)
    fresh.load_state_dict(state)  # as it was saved before there were shares
    assert float(fresh._penalty(kl)) == pytest.approx(2)


def test_the_same_seed_gives_the_same_noise_and_another_seed_another() -> None:
    image = Image(1, 8, 8)
    mechanism = bound(image)
    x, parents = draw(image)

    def noise(seed: int) -> dict[str, Tensor]:
        return levels(mechanism.abduct(x, parents, generator=torch.Generator().manual_seed(seed)))

    first, repeated, other = noise(0), noise(0), noise(1)
    for part in ("z", "eps"):
        assert torch.equal(first[part], repeated[part])
        assert not torch.equal(first[part], other[part])


def test_particles_are_draws_of_both_parts_and_each_reproduces_the_image() -> None:
    image = Image(1, 8, 10)
    mechanism = bound(image)
    x, parents = draw(image)
    noise = levels(mechanism.abduct(x, parents, particles=4))
    assert {k: v.shape for k, v in noise.items()} == {"z": (4, 6, 3), "eps": (4, 6, 1, 8, 10)}
    for k in range(4):
        assert torch.equal(mechanism.predict({p: v[k] for p, v in noise.items()}, parents), x)
    assert (noise["z"].std(0) > 0).all()


def test_the_mean_is_that_of_predictions_over_draws_of_eps() -> None:
    image = Image(1, 8, 8)
    mechanism = bound(image)
    x, parents = draw(image)
    noise = levels(mechanism.abduct(x, parents))
    other = parents | {"thickness": parents["thickness"] + 1}
    mean = mechanism.mean(noise, other)
    generator = torch.Generator().manual_seed(0)
    eps = mechanism.pixels.sample_noise((500 * len(x), *image.shape), generator, x.device)
    tiled = {name: part.repeat(500) for name, part in other.items()}
    drawn = mechanism.predict({"z": noise["z"].repeat(500, 1), "eps": eps}, tiled).detach()
    many = drawn.view(500, *x.shape)
    error = many.std(0) / 500**0.5
    assert ((many.mean(0) - mean).abs() < 5 * error).all()
    assert torch.equal(mechanism.mean({"z": noise["z"], "eps": x}, other), mean)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mixture_of_logistics_passes_every_check_of_a_mechanism(channels: int) -> None:
    mechanism = VAE(latent=2, width=4, likelihood="mixture")
    report = check_mechanism(mechanism, Image(channels, 8, 9), {"s": Continuous()})
    assert "round trip" in report.passed


def test_works_without_parents() -> None:
    mechanism = VAE(latent=2, width=4).bind("image", Image(1, 8, 8), {})
    x = torch.rand(3, 1, 8, 8).mul(255).round() / 255
    assert torch.equal(mechanism.predict(mechanism.abduct(x, {}), {}), x)


def test_every_argument_is_kept_under_its_name() -> None:
    options: dict[str, Any] = {
        "latent": 3,
        "likelihood": "gaussian",
        "width": 5,
        "depth": 1,
        "beta": 2.0,
        "cooling": 10,
        "gamma": 0.125,
        "min_log_scale": -5.0,
    }
    mechanism = VAE(**options)
    assert mechanism.config() == options
    assert VAE(latent=16).describe() == "VAE(latent=16)"


def test_state_reproduces_the_mechanism() -> None:
    image = Image(1, 8, 8)
    one, other = bound(image), bound(image)
    x, parents = draw(image)
    one.calibrate(x, parents)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    noise = one.sample_noise(6, parents)
    assert torch.equal(one.predict(noise, parents), other.predict(noise, parents))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "bernoulli"}, "likelihood='bernoulli' must be one of 'discretised', "),
        ({"latent": 0}, "latent=0 must be at least 1"),
        ({"beta": -1}, "beta=-1 must be at least 0 and finite"),
        ({"beta": float("nan")}, "beta=nan must be at least 0 and finite"),
        ({"gamma": -0.25}, "gamma=-0.25 must be at least 0 and finite"),
        ({"gamma": float("inf")}, "gamma=inf must be at least 0 and finite"),
        ({"cooling": -1}, "cooling=-1 must be a whole number of steps, at least 0, or a share"),
        ({"cooling": 1.5}, "cooling=1.5 must be a whole number of steps"),
        ({"cooling": True}, "cooling=True must be a whole number of steps"),
        ({"cooling": "half"}, "cooling='half' must be a whole number of steps"),
        ({"min_log_scale": 1.0}, r"min_log_scale=1\.0 must lie between"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(**options).bind("image", Image(1, 8, 8), {})


def test_other_variables_and_real_pixels_under_a_discretised_likelihood_are_refused() -> None:
    with pytest.raises(ValueError, match="sick: VAE models images"):
        VAE().bind("sick", Binary(), {})
    for likelihood in ("discretised", "mixture"):
        with pytest.raises(ValueError, match=f"scan: its pixels are real-valued.*{likelihood}"):
            VAE(likelihood=likelihood).bind("scan", Image(1, 8, 8, bits=None), {})
    with pytest.raises(ValueError, match="scan: bits=16 must lie between 1 and 12"):
        VAE(likelihood="mixture").bind("scan", Image(1, 8, 8, bits=16), {})
    VAE(likelihood="gaussian").bind("scan", Image(1, 8, 8, bits=None), {})


@pytest.fixture(
    scope="module", params=["discretised", pytest.param("gaussian", marks=pytest.mark.slow)]
)
def learned(request: pytest.FixtureRequest) -> Autoencoder:
    return learn(VAE(8, request.param, width=8, depth=1, cooling=320))


@torch.no_grad()
def test_learned_counterfactuals_are_those_of_a_known_world(learned: Autoencoder) -> None:
    world = Bars(300, seed=1)
    other = world.s.flip(0)
    noise = learned.abduct(world.x, {"s": world.s})
    truth = world.render(other)
    nothing = (world.x - truth).abs().mean()
    individual = learned.predict(noise, {"s": other})
    alone = learned.mean(noise, {"s": other})
    assert 1 - (individual - truth).abs().mean() / nothing > 0.9
    assert (alone - truth).abs().mean() < 1.25 * NOISE * (2 / math.pi) ** 0.5


@torch.no_grad()
def test_learned_noise_is_standard_normal_and_the_bound_near_the_truth(
    learned: Autoencoder,
) -> None:
    world = Bars(300, seed=2)
    parents = {"s": world.s}
    eps = levels(learned.abduct(world.x, parents))["eps"]
    assert abs(eps.mean()) < 0.1
    assert eps.std().item() == pytest.approx(1, abs=0.15)
    truth = -world.entropy(learned.likelihood == "discretised")
    bound = learned.log_prob(world.x, parents).mean()
    assert truth - 12 < bound < truth + 2


@pytest.mark.slow
def test_a_mixture_learns_each_pixels_distribution_whatever_z_holds() -> None:
    """Both templates fit into a pixel's mixture: z may be left empty, at a bit a pixel."""
    learned = learn(VAE(8, "mixture", width=8, depth=1, cooling=320))
    with torch.no_grad():
        world = Bars(300, seed=1)
        other, parents = world.s.flip(0), {"s": world.s}
        truth = world.render(other)
        noise = levels(learned.abduct(world.x, parents))
        individual = learned.predict(noise, {"s": other})
        bound = learned.log_prob(world.x, parents).mean()
    nothing = (world.x - truth).abs().mean()
    assert 1 - (individual - truth).abs().mean() / nothing > 0.9
    assert noise["eps"].std().item() == pytest.approx(1, abs=0.1)
    assert bound > -world.entropy(True) - 63 * math.log(2) - 6  # a bit more in every other pixel
