"""Diffusion: its contract, its bound as a hierarchical VAE's, its solvers and its code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from rung3 import SCM, Binary, Categorical, Continuous, Image, fit, load
from rung3.data.rows import Rows
from rung3.data.variables import Variable
from rung3.evaluation.bootstrap import Bootstrap
from rung3.evaluation.measures.collapse import divergences
from rung3.mechanisms import Diffusion, FlowMatching
from rung3.mechanisms.diffusion import LEAST_LOG_SNR, MOST_LOG_SNR
from rung3.mechanisms.path import Path
from rung3.testing.contract import check_mechanism

PARENTS = {"a": Continuous(), "d": Categorical(3)}
IMAGE = Image(1, 12, 10)
TINY = {"width": 16, "head": 8}
FAMILIES = (Diffusion, FlowMatching)


def given(n: int = 4) -> dict[str, Tensor]:
    return {"a": torch.linspace(-1, 1, n), "d": torch.arange(n) % 3}


def perturbed(
    family: type[Path],
    variable: Variable,
    parents: Mapping[str, Variable] = PARENTS,
    size: float = 0.1,
    **options: Any,
) -> Any:
    """Bound, with random weights: at the start it is the identity."""
    own: dict[str, Any] = {"hidden": (16, 2), "network": TINY, "steps": 6}
    mechanism = family(**own | options).bind("x", variable, parents)
    generator = torch.Generator().manual_seed(0)
    for parameter in mechanism.parameters():
        parameter.data += size * torch.randn(parameter.shape, generator=generator)
    return mechanism.eval()


def values(variable: Variable, n: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(variable, Image):
        return torch.randint(256, (n, *variable.shape), generator=generator) / 255
    return torch.rand((n, *variable.shape), generator=generator) + 0.5


def apart(mechanism: Path, x: Tensor, parents: dict[str, Tensor]) -> float:
    """Return the greatest error of a round trip."""
    with torch.no_grad():
        noise = mechanism.abduct(x, parents, generator=torch.Generator().manual_seed(0))
        return float((mechanism.predict(noise, parents) - x).abs().max())


# The contract -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "parents", "options"),
    [
        (Continuous(lower=0), PARENTS, {}),
        (Continuous(lower=0, dim=2), PARENTS, {"solver": "o-belm", "steps": 4, "drop": 0.1}),
        (Continuous(), {}, {"latent": 2}),
        (IMAGE, PARENTS, {"latent": 3, "draws": 2, "solver": "o-belm"}),
    ],
)
def test_it_keeps_the_contract_of_a_mechanism(
    variable: Variable, parents: dict[str, Variable], options: dict[str, Any]
) -> None:
    own: dict[str, Any] = {"hidden": (16, 1), "network": TINY, "steps": 2, "draws": 4}
    rows = {"a": torch.linspace(-2, 2, 400), "d": torch.arange(400) % 3}
    few = rows if parents and isinstance(variable, Continuous) else None
    report = check_mechanism(Diffusion(**own | options), variable, parents, values=few)
    assert {"round trip", "particles", "saving", "seed"} <= {*report.passed}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("solver", ["heun", "o-belm"])
@pytest.mark.parametrize("variable", [Continuous(), Continuous(dim=3), IMAGE])
def test_a_round_trip_is_exact_to_one_in_a_hundred_thousand(
    family: type[Path], solver: str, variable: Variable
) -> None:
    mechanism = perturbed(family, variable, solver=solver)
    assert apart(mechanism, values(variable), given()) < 1e-5


# A hierarchical VAE -------------------------------------------------------------------------------


def elbo(mechanism: Diffusion, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The evidence bound of a hierarchical VAE with a fixed encoder, by its divergences.

    Layers have signals alpha_t and deviations sigma_t; the encoder is a chain,
    q(z_t | z_{t-1}) = N(r z_{t-1}, sigma_t^2 - r^2 sigma_{t-1}^2), r = alpha_t / alpha_{t-1}, and
    q(z_{t-1} | z_t, x) is Bayes' rule. The decoder has its form, with x as the network sees it.
    """
    layers = len(noise)
    log_snr = torch.linspace(MOST_LOG_SNR, LEAST_LOG_SNR, layers - 1, dtype=x.dtype)
    alpha = torch.cat([log_snr.sigmoid().sqrt(), torch.zeros(1, dtype=x.dtype)])
    sigma = (1 - alpha.square()).sqrt()
    context = mechanism.field.conditioning.context({}, len(x))

    def posterior(t: int, z: Tensor, value: Tensor) -> Normal:
        r = alpha[t] / alpha[t - 1]
        step = sigma[t].square() - r.square() * sigma[t - 1].square()
        precision = 1 / sigma[t - 1].square() + r.square() / step
        mean = (alpha[t - 1] * value / sigma[t - 1].square() + r * z / step) / precision
        return Normal(mean, precision.rsqrt())

    divergences = []
    for t in range(1, layers):
        z = alpha[t] * x + sigma[t] * noise[t]
        time = torch.atan2(alpha[t], sigma[t]).expand(len(x)) / (math.pi / 2)
        v = -mechanism.velocity(z, time, context) / (math.pi / 2)
        decoder = posterior(t, z, alpha[t] * z - sigma[t] * v)
        divergences.append(kl_divergence(posterior(t, z, x), decoder).flatten(1).sum(1))
    last = Normal(alpha[-1] * x, sigma[-1])
    prior = kl_divergence(last, Normal(torch.zeros_like(x), 1.0)).flatten(1).sum(1)
    decoder = Normal(x, sigma[0] / alpha[0])
    return decoder.entropy().flatten(1).sum(1), prior, torch.stack(divergences)


def test_the_bound_is_that_of_a_hierarchical_vae_term_by_term() -> None:
    mechanism = perturbed(Diffusion, Continuous(dim=3), {}, size=0.3).double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(12, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    terms = mechanism.layers(x, {}, noise)
    reconstruction, prior, divergences = elbo(mechanism, x, noise)
    torch.testing.assert_close(terms.divergences, divergences, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(terms.reconstruction, reconstruction)
    assert not terms.prior.any()
    assert not prior.any()
    torch.testing.assert_close(terms.bound, -(reconstruction + divergences.sum(0)))


def test_more_layers_make_the_bound_tighter_up_to_that_of_infinitely_many() -> None:
    mechanism = perturbed(Diffusion, Continuous(), {}, size=0.1, draws=100)
    x = torch.linspace(-2, 2, 200)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        means = [
            float(mechanism.layers(x, {}, torch.randn(t, 200)).bound.mean()) for t in (25, 100, 800)
        ]
        limit = float(mechanism.log_prob(x, {}).mean())
    assert means[0] < means[1] < means[2] < limit
    assert limit - means[2] < 0.2


def test_before_training_the_bound_is_the_normal_density_of_the_data() -> None:
    mechanism = Diffusion(hidden=(16, 1)).bind("x", Continuous(dim=2), {})
    x = 5 + 3 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    mechanism.calibrate(x, {})
    truth = Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(1)
    torch.testing.assert_close(mechanism.log_prob(x, {}), truth, rtol=1e-4, atol=1e-4)


def test_the_bound_of_levels_is_below_zero() -> None:
    mechanism = perturbed(Diffusion, Image(1, 4, 4, bits=1), {})
    x = (values(Image(1, 4, 4)) > 0.5).float()
    assert (mechanism.log_prob(x, {}) < 0).all()


def test_pure_noise_tells_nothing_of_the_value() -> None:
    """A signal that is left at the start would carry the parents into the noise."""
    a, s, da, _ = Diffusion().mix(torch.zeros(1))
    assert float(a) == 0
    assert float(s) == 1
    assert float(da) == pytest.approx(math.pi / 2)


# Solvers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_solvers_agree_on_counterfactuals_and_not_only_on_round_trips(family: type[Path]) -> None:
    mechanism = perturbed(family, Continuous(dim=2), size=0.2, steps=32, drop=0.1)
    x = values(mechanism.variable)
    other = {"a": given()["a"] + 1, "d": (given()["d"] + 1) % 3}
    heun, belm = (
        m.predict(m.abduct(x, given()), other)
        for m in (mechanism, mechanism.for_query(solver="o-belm"))
    )
    assert (heun - x).abs().max() > 0.1
    torch.testing.assert_close(heun, belm, rtol=0, atol=5e-3)


def test_the_residual_of_the_second_state_holds_nothing_that_the_first_tells() -> None:
    """The last two states hold the old parents, unless the second is told by the first."""
    mechanism = perturbed(Diffusion, Continuous(), size=0.2, solver="o-belm", steps=64, drop=0.1)
    noise = mechanism.abduct(values(mechanism.variable, 50), given(50))
    assert isinstance(noise, dict)
    assert noise["residual"].abs().max() < 1e-3


# The code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_answers_rest_on_both_on_the_code_or_on_the_state(family: type[Path]) -> None:
    mechanism = perturbed(family, IMAGE, latent=4, steps=2)
    x, changed = values(IMAGE), {**given(), "a": given()["a"] + 2}
    answers = {}
    for kind in ("both", "latent", "state"):
        view = mechanism.for_query(abducted=kind)
        noise = view.abduct(x, given(), generator=torch.Generator().manual_seed(0))
        answers[kind] = view.predict(noise, changed)
        other = {**noise, "z": noise["z"] + 1}
        assert torch.equal(view.predict(other, changed), answers[kind]) == (kind == "state")
        same = float((view.predict(noise, given()) - x).abs().max()) < 1e-5
        assert same == (kind != "latent")
    assert not torch.equal(answers["both"], answers["latent"])
    assert not torch.equal(answers["both"], answers["state"])
    assert "code alone" in mechanism.for_query(abducted="latent").assumption


@pytest.mark.slow
def test_a_code_tells_what_it_is_worth() -> None:
    """Two clusters that no parent tells apart: the code says which, at the cost of a bit."""
    sign = torch.randint(2, (400,), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    x = sign + 0.2 * torch.randn(400, generator=torch.Generator().manual_seed(1))
    mechanism = FlowMatching(hidden=(16, 1), latent=1, beta=0.1, steps=3)
    model = SCM("x", mechanisms={"x": mechanism})
    fit(model, {"x": x}, epochs=10, batch_size=16, lr=1e-2, ema=0.95, progress=False)
    fitted = model.mechanisms["x"].for_query(abducted="latent")
    with torch.no_grad():
        again = fitted.predict(fitted.abduct(x, {}, generator=torch.Generator().manual_seed(0)), {})
    assert float((again.sign() == x.sign()).float().mean()) > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_particles_have_codes_of_their_own(family: type[Path]) -> None:
    mechanism = perturbed(family, Continuous(dim=2), latent=2)
    x = values(mechanism.variable)
    noise = mechanism.abduct(x, given(), 3, torch.Generator().manual_seed(0))
    assert noise["z"].shape == (3, 4, 2)
    assert not torch.equal(noise["z"][0], noise["z"][1])


def test_the_report_says_what_the_code_holds() -> None:
    mechanism = Diffusion(network=TINY, latent=3)
    model = SCM("x", {"x": IMAGE}, {"x": mechanism}).eval()
    rows = Rows({"x": values(IMAGE)})
    held = divergences(model, rows, 4, Bootstrap(4, 10), 0)["x"]["z"]
    assert held["dimensions"] == 3
    assert held["mean"] > 0


# Queries and storage ------------------------------------------------------------------------------


def test_a_model_is_guided_saved_and_loaded(tmp_path: Any) -> None:
    rows = {"a": given(2)["a"], "c": torch.tensor([0, 1]), "x": values(IMAGE, 2)}
    mechanism = Diffusion(network=TINY, steps=2, drop=0.2, latent=2, solver="o-belm")
    model = SCM("{a c} -> x", {"c": Binary(), "x": IMAGE}, {"x": mechanism}).eval()
    for parameter in model.mechanisms["x"].parameters():
        parameter.data += 0.1 * torch.ones_like(parameter)
    query: dict[str, Any] = {"do": {"a": 1.0}, "seed": 0}
    plain = model.counterfactual(rows, **query)["x"]
    assert torch.equal(plain, model.counterfactual(rows, **query, guidance=1)["x"])
    query |= {"guidance": 3, "steps": 3, "abducted": "state"}
    guided = model.counterfactual(rows, **query)["x"]
    assert not torch.equal(plain, guided)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.mechanisms["x"].config() == mechanism.config()
    assert torch.equal(guided, again.counterfactual(rows, **query)["x"])


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(tmp_path: Any) -> None:
    rows = {"d": torch.arange(32) % 3, "x": values(IMAGE, 32)}
    options: dict[str, Any] = {"batch_size": 16, "progress": False, "schedule": "constant"}
    options |= {"precision": "bf16-mixed"}

    def model() -> SCM:
        torch.manual_seed(0)
        made = Diffusion(network=TINY, latent=2)
        return SCM("d -> x", {"d": Categorical(3), "x": IMAGE}, {"x": made})

    whole, parts = model(), model()
    fit(whole, rows, only=["x"], epochs=2, warmup=0, **options)
    for epochs in (1, 2):
        fit(parts, rows, only=["x"], epochs=epochs, warmup=0, checkpoints=tmp_path, **options)
    for one, other in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True):
        assert torch.equal(one, other)


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "eular"}, r"solver='eular': the solvers are \['heun', 'o-belm'\]"),
        ({"solver": "o-belm", "steps": 1}, "steps=1: solver='o-belm' needs at least 2"),
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"draws": 0}, "draws=0 must be at least 1"),
        ({"latent": -1}, "latent=-1 must be a whole number of at least 0"),
        ({"latent": 2, "beta": -1.0}, "beta=-1.0 must be at least 0 and finite"),
        ({"latent": 2, "abducted": "z"}, "abducted='z' must be 'both', 'latent' or 'state'"),
        ({"abducted": "state"}, r"there is no code; build it with Diffusion\(latent=16\)"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Diffusion(**options)


def test_variables_and_guidance_that_it_cannot_model_are_refused() -> None:
    with pytest.raises(ValueError, match="x: Diffusion models numbers and images, and x is Bin"):
        Diffusion().bind("x", Binary(), {})
    with pytest.raises(ValueError, match=r"x: guidance=2 compares .*Diffusion\(drop=0\.1\)"):
        Diffusion(guidance=2).bind("x", Continuous(), PARENTS)
