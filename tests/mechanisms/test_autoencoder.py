"""What every variational image mechanism shares, whatever its networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from noises import levels
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from rung3 import Binary, Categorical, Continuous, Image
from rung3.data.variables import Variable
from rung3.mechanisms import HVAE, VAE, Stage, autoencoder
from rung3.mechanisms.arguments import check_counts
from rung3.mechanisms.autoencoder import Autoencoder, gaussian_kl

IMAGE = Image(1, 8, 12)
PARENTS: dict[str, Variable] = {"digit": Categorical(3), "s": Continuous()}
STAGES = (Stage(4, 6, latents=1), Stage(2, 6, layers=2, latents=2))
FAMILIES: dict[str, Callable[..., Autoencoder]] = {
    "vae": lambda **options: VAE(latent=3, width=4, depth=1, **options),
    "exogenous": lambda **options: HVAE("exogenous", STAGES, **options),
    "conditional": lambda **options: HVAE("conditional", STAGES, **options),
    "mixture": lambda **options: HVAE(
        "conditional", STAGES, mediator="mixture", alpha=1, **options
    ),
}
LAYERS = {name: ["z"] if name == "vae" else ["u1", "u2", "u3"] for name in FAMILIES}


def perturbed(mechanism: Autoencoder, image: Image = IMAGE) -> Autoencoder:
    """Bound, with weights away from their start, where the parents' part is zero."""
    bound = mechanism.bind("scan", image, PARENTS)
    for parameter in bound.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return bound.eval()


def draw(n: int = 5, image: Image = IMAGE) -> tuple[Tensor, dict[str, Tensor]]:
    x = torch.randint(256, (n, *image.shape)) / 255
    x[:, :, :2] = 0
    return x, {"digit": torch.randint(3, (n,)), "s": torch.randn(n)}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mechanism(family: str) -> Autoencoder:
    return perturbed(FAMILIES[family]())


class Calls:
    """How often the networks ran, and on how many rows."""

    def __init__(self, mechanism: Autoencoder) -> None:
        self.encoded: list[int] = []
        self.decoded: list[int] = []
        networks: Any = mechanism
        networks.encoder.register_forward_hook(lambda _m, given, _o: self.encoded.append(given))
        networks.decoder.register_forward_hook(lambda _m, _g, out: self.decoded.append(len(out)))


@pytest.mark.parametrize("particles", [None, 1, 5])
def test_abduction_encodes_once_and_its_pass_decodes(
    mechanism: Autoencoder, particles: int | None
) -> None:
    x, parents = draw()
    calls = Calls(mechanism)
    noise = levels(mechanism.abduct(x, parents, particles))
    assert (len(calls.encoded), calls.decoded) == (1, [5 * (particles or 1)])
    lead = (5,) if particles is None else (particles, 5)
    assert all(part.shape[: len(lead)] == lead for part in noise.values())
    assert noise["eps"].shape == (*lead, 1, 8, 12)


def test_that_pass_yields_the_factual_reconstruction(mechanism: Autoencoder, family: str) -> None:
    x, parents = draw()
    inferred = mechanism.infer(x, parents)
    repeated = mechanism.mean(inferred.noise | {"eps": x}, parents)
    seen = mechanism.pixels.mean(mechanism.pixels.params(inferred.raw))
    torch.testing.assert_close(seen, repeated, atol=1e-6, rtol=0)
    assert list(inferred.kl) == LAYERS[family]
    assert {*inferred.kl} <= {*inferred.noise}


def test_many_particles_are_decoded_a_few_at_a_time(
    mechanism: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, parents = draw(3)
    monkeypatch.setattr(autoencoder, "CHUNK_ROWS", 7)
    calls = Calls(mechanism)
    noise = levels(mechanism.abduct(x, parents, particles=5))
    assert (len(calls.encoded), calls.decoded) == (1, [6, 6, 3])
    for k in range(5):
        assert torch.equal(mechanism.predict({p: v[k] for p, v in noise.items()}, parents), x)
    monkeypatch.setattr(autoencoder, "CHUNK_ROWS", 2)
    assert levels(mechanism.abduct(x, parents, particles=2))["eps"].shape == (2, 3, 1, 8, 12)


@torch.no_grad()
def test_particles_in_a_batch_are_distributed_as_draws_one_by_one(mechanism: Autoencoder) -> None:
    x, parents = draw(2)
    together = levels(mechanism.abduct(x, parents, particles=400))
    singly = [levels(mechanism.abduct(x, parents)) for _ in range(80)]
    for name, part in together.items():
        other = torch.stack([draw[name] for draw in singly])
        assert part.shape[1:] == other.shape[1:]
        for row in range(2):
            for at in (0, -1):  # what does not vary agrees but for rounding
                one, two = (t[:, row].flatten(1)[:, at].mul(1e5).round() for t in (part, other))
                assert stats.ks_2samp(one.numpy(), two.numpy()).pvalue > 1e-4
        if "mean" not in name and "scale" not in name:
            assert (part.flatten(2).std(0) > 0).all()


def test_the_bound_is_the_likelihood_less_the_divergences(
    mechanism: Autoencoder, family: str
) -> None:
    x, parents = draw()
    torch.manual_seed(3)
    bound = mechanism.log_prob(x, parents)
    torch.manual_seed(3)
    inferred = mechanism.infer(x, parents)
    params = mechanism.pixels.params(inferred.raw)
    likelihood = mechanism.pixels.log_prob(x, params).sum((1, 2, 3))
    torch.testing.assert_close(bound, likelihood - sum(inferred.kl.values()))
    assert list(inferred.kl) == LAYERS[family]
    assert all((part > 0).all() for part in inferred.kl.values())


def test_the_loss_in_evaluation_is_the_negative_bound_and_takes_no_step(
    mechanism: Autoencoder,
) -> None:
    x, parents = draw()
    torch.manual_seed(3)
    loss = mechanism.loss(x, parents)
    torch.manual_seed(3)
    torch.testing.assert_close(loss, -mechanism.log_prob(x, parents).mean() / 96)
    assert mechanism.steps == 0
    mechanism.train().loss(x, parents)
    assert mechanism.steps == 1


def test_pixels_that_are_predicted_badly_weigh_more_without_moving_the_weights(
    family: str,
) -> None:
    """`sum_j w_j (-log p_j)` with `w_j ~ sigma_j^(2 gamma)`, of mean one."""
    weighted = perturbed(FAMILIES[family](gamma=0.7, beta=0.0)).train()
    x, parents = draw()
    torch.manual_seed(3)
    loss = weighted.loss(x, parents)
    torch.manual_seed(3)
    params = weighted.pixels.params(weighted.infer(x, parents).raw)
    w = (1.4 * params.log_scale).exp()
    log_prob = weighted.pixels.log_prob(x, params)
    torch.testing.assert_close(loss, -(w / w.mean() * log_prob).mean())
    assert not torch.isclose(loss, -log_prob.mean(), rtol=1e-3)


@pytest.mark.parametrize("likelihood", ["discretised", "logistic", "mixture", "gaussian"])
def test_gradients_reach_every_parameter_and_are_finite(family: str, likelihood: str) -> None:
    image = replace(IMAGE, bits=None if likelihood == "gaussian" else 8)
    mechanism = perturbed(FAMILIES[family](likelihood=likelihood), image).train()
    mechanism.loss(*draw()).backward()
    for name, parameter in mechanism.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_whole_levels_under_a_likelihood_of_real_pixels_are_refused(family: str) -> None:
    """Its answers would lie between the levels, where no image of the variable can."""
    with pytest.raises(ValueError, match=r"scan: its pixels are whole levels \(bits=8\).*gaussian"):
        FAMILIES[family](likelihood="gaussian").bind("scan", IMAGE, PARENTS)


@pytest.mark.parametrize("likelihood", ["discretised", "logistic", "mixture"])
def test_real_pixels_under_a_likelihood_of_levels_are_refused_with_one_that_works(
    family: str, likelihood: str
) -> None:
    real = Image(1, 8, 8, bits=None)
    with pytest.raises(ValueError, match=f"scan: its pixels are real-valued.*{likelihood}"):
        FAMILIES[family](likelihood=likelihood).bind("scan", real, PARENTS)
    bound = perturbed(FAMILIES[family](likelihood="gaussian"), real)
    _, parents = draw()
    x = torch.rand(5, 1, 8, 8)
    reconstruction = bound.predict(bound.abduct(x, parents), parents)
    torch.testing.assert_close(reconstruction, x, atol=1e-5, rtol=0)


def test_other_variables_and_noise_of_the_wrong_form_are_refused(family: str) -> None:
    with pytest.raises(ValueError, match=r"sick: H?VAE models images, and sick is"):
        FAMILIES[family]().bind("sick", Binary(), PARENTS)
    mechanism = perturbed(FAMILIES[family]())
    x, parents = draw()
    for wrong in (x, {"eps": x}, {"z": x}):
        with pytest.raises(ValueError, match="scan: expected noise as a dict of latents and eps"):
            mechanism.predict(wrong, parents)


def test_divergence_is_that_of_torch() -> None:
    mean, log_scale = torch.randn(4, 2, 3, 5), torch.randn(4, 2, 3, 5)
    prior = Normal(torch.zeros(()), torch.ones(()))
    expected = kl_divergence(Normal(mean, log_scale.exp()), prior).sum((1, 2, 3))
    torch.testing.assert_close(gaussian_kl(mean, log_scale), expected)
    assert torch.equal(gaussian_kl(0 * mean, 0 * mean), torch.zeros(4))


def test_counts_below_the_least_are_refused_by_name() -> None:
    check_counts(1, depth=1, width=5)
    with pytest.raises(ValueError, match="width=0 must be at least 1"):
        check_counts(1, depth=2, width=0)


class TestGuidance:
    def test_weight_one_is_the_plain_answer(self, mechanism: Autoencoder) -> None:
        x, parents = draw()
        noise = mechanism.abduct(x, parents)
        new = {**parents, "digit": (parents["digit"] + 1) % 3}
        plain = mechanism.predict(noise, new)
        assert torch.equal(mechanism.for_query({"digit"}, guidance=1).predict(noise, new), plain)
        assert not torch.equal(
            mechanism.for_query({"digit"}, guidance=3).predict(noise, new), plain
        )

    def test_without_weight_no_value_of_the_parent_is_told_from_another(
        self, mechanism: Autoencoder
    ) -> None:
        x, parents = draw(3)
        noise = mechanism.abduct(x, parents)
        blind = mechanism.for_query({"digit"}, guidance=0)
        answers = [blind.mean(noise, {**parents, "digit": torch.full((3,), k)}) for k in range(3)]
        torch.testing.assert_close(answers[0], answers[1])
        torch.testing.assert_close(answers[0], answers[2])

    def test_numbers_weigh_as_learned(self, mechanism: Autoencoder) -> None:
        x, parents = draw()
        noise = mechanism.abduct(x, parents)
        new = {**parents, "s": parents["s"] + 1}
        guided = mechanism.for_query({"s"}, guidance=3)
        assert torch.equal(guided.predict(noise, new), mechanism.predict(noise, new))

    def test_the_rest_has_a_weight_of_its_own(self, mechanism: Autoencoder) -> None:
        x, parents = draw()
        noise = mechanism.abduct(x, parents)
        changed = mechanism.for_query({"digit"}, guidance=2)
        rest = mechanism.for_query({"s"}, guidance={"rest": 2})
        assert torch.equal(rest.predict(noise, parents), changed.predict(noise, parents))

    def test_abduction_is_never_guided(self, family: str) -> None:
        mechanism = perturbed(FAMILIES[family](guidance=3))
        x, parents = draw()
        assert torch.equal(mechanism.predict(mechanism.abduct(x, parents), parents), x)
        assert "weight 3 of parents that changed" in mechanism.for_query().assumption

    def test_a_negative_weight_is_refused(self, family: str) -> None:
        with pytest.raises(ValueError, match="a weight of at least 0"):
            FAMILIES[family](guidance=-1)
