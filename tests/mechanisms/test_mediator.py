"""Latents that parents cause, as a mediator: effects, the chain and the mixture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hierarchies import IMAGE, STAGES, bound, draw, mediate, other
from noises import levels
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from rung3 import SCM, Categorical, Continuous, effects, load
from rung3.data.seeding import base_seed
from rung3.mechanisms import HVAE, Equation, Stage
from rung3.mechanisms.networks.hierarchy import Latent

# Whole models -------------------------------------------------------------------------------------


def whole(**options: Any) -> SCM:
    """`digit -> s`, and both cause the image."""
    model = SCM(
        graph="digit -> s; {digit s} -> scan",
        variables={"digit": Categorical(3), "s": Continuous(), "scan": IMAGE},
        mechanisms={"s": Equation("digit + u"), "scan": HVAE("conditional", STAGES, **options)},
    )
    for parameter in model.mechanisms["scan"].parameters():
        parameter.data += 0.15 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("particles", [None, 3])
@pytest.mark.parametrize("through", ["latent", ["s", "latent"], "s"])
def test_every_effect_of_a_null_intervention_is_zero_in_a_model(
    through: str | list[str], particles: int | None
) -> None:
    x, parents = draw()
    ask = partial(effects.mediate, whole(), {"scan": x, **parents}, outcome="scan", seed=0)
    null = ask(do={"digit": parents["digit"].clone()}, through=through, particles=particles)
    changed = ask(do={"digit": other(parents)["digit"]}, through=through, particles=particles)
    for name in ("direct", "indirect", "total"):
        nothing, something = getattr(null, name), getattr(changed, name)
        assert nothing.shape == ((5, *IMAGE.shape) if particles is None else (3, 5, *IMAGE.shape))
        torch.testing.assert_close(nothing, torch.zeros_like(nothing), atol=1e-6, rtol=0)
        assert something.abs().mean() > 1e-3


@torch.no_grad()
def test_the_total_effect_is_the_same_by_whatever_way_it_comes() -> None:
    model, (x, parents) = whole(), draw()
    rows, do = {"scan": x, **parents}, {"digit": other(parents)["digit"]}
    scan = model.mechanisms["scan"]
    noise = model.abduct(rows, seed=base_seed(0, "effects"))["scan"]
    there = do | {"s": parents["s"] + do["digit"] - parents["digit"]}
    expected = scan.mean(noise, there) - scan.mean(noise, parents)
    for through in ("latent", ["s", "latent"], "s"):
        effect = effects.mediate(model, rows, do, "scan", through, seed=0)
        torch.testing.assert_close(effect.total, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"mediator": "mixture", "alpha": 0.3}])
def test_a_model_is_saved_with_its_stages_for_people_to_read(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    model = whole(**options)
    model.save(tmp_path / "model")
    assert {f.name for f in (tmp_path / "model").iterdir()} == {"model.yaml", "weights.safetensors"}
    text = (tmp_path / "model" / "model.yaml").read_text()
    assert "!" not in text.replace("!=", "")  # no tags of Python objects
    assert yaml.safe_load(text)["mechanisms"]["scan"] == {
        "kind": "HVAE",
        "prior": "conditional",
        "stages": [
            {"resolution": 4, "width": 6, "latents": 1},
            {"resolution": 2, "width": 6, "layers": 2, "latents": 2},
        ],
        **options,
    }
    loaded = load(tmp_path / "model")
    x, parents = draw()
    rows, do = {"scan": x, **parents}, {"s": 2.0, "digit": 1}
    one, two = (m.counterfactual(rows, do, seed=0)["scan"] for m in (model, loaded))
    assert torch.equal(one, two)


# The mediator -------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("alpha", [None, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_null_intervention_has_no_effect_on_a_perturbed_network(
    seed: int, alpha: float | None
) -> None:
    options: dict[str, Any] = {} if alpha is None else {"mediator": "mixture", "alpha": alpha}
    mechanism = bound(prior="conditional", seed=seed, **options)
    x, parents = draw()
    noise = levels(mechanism.abduct(x, parents))
    same = {name: value.clone() for name, value in parents.items()}
    for name, effect in mediate(mechanism, noise, parents, same).items():
        torch.testing.assert_close(effect, torch.zeros_like(x), atol=1e-6, rtol=0, msg=name)
    changed = mediate(mechanism, noise, parents, other(parents))
    assert changed["direct"].abs().mean() > 1e-3
    assert changed["total"].abs().mean() > 1e-3
    assert (changed["indirect"].abs().mean() > 1e-3) == (alpha is None)


@torch.no_grad()
def test_the_outcome_under_its_own_latents_is_the_mean() -> None:
    mechanism = bound(prior="conditional")
    x, parents = draw()
    noise = levels(mechanism.abduct(x, parents))
    z = mechanism.latents(noise, parents)
    assert {name: part.shape for name, part in z.items()} == {
        "z1": (5, 2, 2, 3), "z2": (5, 2, 2, 3), "z3": (5, 1, 4, 6),
    }  # fmt: skip
    torch.testing.assert_close(mechanism.outcome(z, parents), mechanism.mean(noise, parents))


def watch(monkeypatch: pytest.MonkeyPatch, method: str) -> list[tuple[str, tuple[Tensor, Tensor]]]:
    """What a method of `Latent` gives, layer after layer."""
    seen: list[tuple[str, tuple[Tensor, Tensor]]] = []
    original: Callable[..., tuple[Tensor, Tensor]] = getattr(Latent, method)

    def watched(self: Latent, *given: Tensor) -> tuple[Tensor, Tensor]:
        value = original(self, *given)
        seen.append((self.name, value))
        return value

    monkeypatch.setattr(Latent, method, watched)
    return seen


@torch.no_grad()
def test_the_chain_is_the_prior_moved_by_the_noise_and_the_identity_under_the_same_parents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`z_i = m_i(z_>i, pa) + s_i(z_>i, pa) u_i`, and with abducted noise the posterior's z."""
    mechanism = bound(prior="conditional")
    x, parents = draw()
    posterior = watch(monkeypatch, "posterior")
    prior = watch(monkeypatch, "prior")
    noise = levels(mechanism.abduct(x, parents))
    drawn = dict(prior)
    assert [name for name, _ in posterior] == ["u1", "u2", "u3"]
    for changed in (parents, other(parents)):
        prior.clear()
        z = mechanism.latents(noise, changed)
        for name, (m, s) in prior:
            torch.testing.assert_close(z[name.replace("u", "z")], m + s * noise[name])
            if changed is parents:
                torch.testing.assert_close((m, s), drawn[name])
            else:
                assert (m - drawn[name][0]).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"mediator": "mixture"}])
def test_divergence_in_noise_space_is_that_of_the_latents(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """`KL(q(z|.) || p(z|.))` with `q = N(m + s a, s b)` and `p = N(m, s)`."""
    mechanism = bound(prior="conditional", **options)
    x, parents = draw()
    posterior, prior = watch(monkeypatch, "posterior"), watch(monkeypatch, "prior")
    kl = mechanism.infer(x, parents).kl
    moments = dict(prior)
    assert list(kl) == ["u1", "u2", "u3"]
    for name, (a, log_b) in posterior:
        m, s = moments[name]
        q, p = Normal(m + s * a, s * log_b.exp()), Normal(m, s)
        assert (s - 1).abs().max() > 1e-2
        torch.testing.assert_close(kl[name], kl_divergence(q, p).sum((1, 2, 3)))


def moments(z: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return z["z1"].mean(0), z["z1"].std(0)


@torch.no_grad()
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_published_mixture_has_the_moments_of_its_formula(alpha: float) -> None:
    """Those of q and p are found by drawing, from the same network under the chain."""
    n, stages = 4000, (Stage(2, 6, latents=2),)
    chain = bound(stages=stages, prior="conditional")
    mixture = bound(stages=stages, prior="conditional", mediator="mixture", alpha=alpha)
    mixture.load_state_dict(chain.state_dict())
    x, parents = draw(1)
    x, pa = x.expand(n, -1, -1, -1), {k: v.expand(n) for k, v in parents.items()}
    pa_ = other(pa)
    m_q, s_q = moments(chain.latents(chain.abduct(x, pa), pa))
    m_p, s_p = moments(chain.latents(chain.sample_noise(n, pa_), pa_))
    assert (m_q - m_p).abs().max() > 0.5  # else the test could not tell them apart
    mean, deviation = moments(mixture.latents(mixture.abduct(x, pa), pa_))
    expected = (alpha**2 * s_q**2 + (1 - alpha) ** 2 * s_p**2).sqrt()
    close = {"rtol": 0.06, "atol": 5 * expected.max().item() / n**0.5}
    torch.testing.assert_close(mean, alpha * m_q + (1 - alpha) * m_p, **close)
    torch.testing.assert_close(deviation, expected, rtol=0.06, atol=0)


@torch.no_grad()
def test_at_alpha_one_the_mixture_holds_the_mediator_and_at_zero_forgets_the_image() -> None:
    held = bound(prior="conditional", mediator="mixture", alpha=1.0)
    drawn = bound(prior="conditional", mediator="mixture", alpha=0.0)
    x, parents = draw()
    noise = levels(held.abduct(x, parents))
    z, z_ = held.latents(noise, parents), held.latents(noise, other(parents))
    for name in z:
        torch.testing.assert_close(z[name], z_[name])
    # At zero its own noise moves the prior under the new parents, whatever the image's posterior.
    chain = bound(prior="conditional")
    own_parts = {name: part for name, part in noise.items() if " " not in name}
    prior = chain.latents(own_parts, other(parents))
    forgetful = drawn.latents(noise, other(parents))
    for name in z:
        torch.testing.assert_close(forgetful[name], prior[name])


@torch.no_grad()
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_samples_are_the_models_own_under_a_mixture_too(alpha: float) -> None:
    chain = bound(prior="conditional")
    mixture = bound(prior="conditional", mediator="mixture", alpha=alpha)
    _, parents = draw()
    one, two = (
        m.latents(m.sample_noise(5, parents, torch.Generator().manual_seed(0)), parents)
        for m in (chain, mixture)
    )
    for name in one:
        torch.testing.assert_close(one[name], two[name])


@torch.no_grad()
def test_latents_of_the_exogenous_prior_are_noise_and_no_mediator() -> None:
    mechanism = bound(prior="exogenous")
    x, parents = draw()
    assert not mechanism.has_latent_mediator
    assert bound(prior="conditional").has_latent_mediator
    noise = levels(mechanism.abduct(x, parents))
    message = r"scan: its mechanism has no latent mediator; use HVAE\(prior='conditional'\)"
    with pytest.raises(ValueError, match=message):
        mechanism.latents(noise, parents)
    with pytest.raises(ValueError, match=message):
        mechanism.outcome({"z1": noise["u1"]}, parents)
    one, two = (
        levels(mechanism.sample_noise(5, pa, torch.Generator().manual_seed(0)))
        for pa in (parents, other(parents))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    drawn = levels(mechanism.sample_noise(500, draw(500)[1]))["u3"]
    assert stats.kstest(drawn.flatten(), "norm")[1] > 1e-3
    # A null intervention changes nothing; another acts through the decoder alone.
    mean = mechanism.mean(noise, parents)
    assert torch.equal(mean, mechanism.mean(noise, {k: v.clone() for k, v in parents.items()}))
    assert (mean - mechanism.mean(noise, other(parents))).abs().mean() > 1e-3
