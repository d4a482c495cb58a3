from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from bars import NOISE, Bars, learn
from noises import levels
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from rung3 import SCM, Categorical, Continuous, Image, effects, load
from rung3.data.seeding import base_seed
from rung3.data.variables import Variable
from rung3.mechanisms import HVAE, Equation, Stage
from rung3.mechanisms.autoencoder import Autoencoder
from rung3.mechanisms.hvae import Prior
from rung3.mechanisms.networks.hierarchy import Latent
from rung3.testing.contract import check_mechanism

PARENTS: dict[str, Variable] = {"digit": Categorical(3), "s": Continuous()}
IMAGE = Image(1, 8, 12)
STAGES = (Stage(4, 6, latents=1), Stage(2, 6, layers=2, latents=2))


def bound(
    image: Image = IMAGE,
    stages: tuple[Stage, ...] = STAGES,
    seed: int = 0,
    by: float = 0.15,
    **options: Any,
) -> HVAE:
    """Bound, with weights away from their start, where the parents' part is zero."""
    torch.manual_seed(seed)
    mechanism = HVAE(stages=stages, **options).bind("scan", image, PARENTS)
    for parameter in mechanism.parameters():
        parameter.data += by * torch.randn_like(parameter)
    return mechanism.eval()


def draw(n: int = 5, image: Image = IMAGE) -> tuple[Tensor, dict[str, Tensor]]:
    levels = 2 ** (image.bits or 8) - 1
    x = torch.randint(levels + 1, (n, *image.shape)) / levels
    x[:, :, :2] = 0
    return x, {"digit": torch.randint(3, (n,)), "s": torch.randn(n)}


def other(parents: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"digit": (parents["digit"] + 1) % 3, "s": parents["s"] + 1}


# The contract ----


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image(1, 28, 28), {"prior": "exogenous", "likelihood": "logistic"}),
        (Image(1, 28, 28), {"prior": "conditional", "likelihood": "discretised"}),
        (Image(3, 8, 9), {"prior": "exogenous", "likelihood": "mixture"}),
        (Image(3, 64, 40), {"prior": "conditional", "likelihood": "logistic"}),
        (Image(3, 32, 32, bits=None), {"prior": "conditional", "likelihood": "gaussian"}),
        (Image(1, 13, 8, bits=4), {"prior": "conditional", "likelihood": "mixture"}),
        (Image(2, 64, 30), {"prior": "exogenous", "likelihood": "discretised"}),
        (Image(1, 28, 28), {"prior": "conditional", "mediator": "mixture", "alpha": 1}),
    ],
)
@pytest.mark.parametrize("how", ["as made", "perturbed"])
def test_it_keeps_the_contract_of_a_mechanism(
    image: Image, options: dict[str, Any], how: str
) -> None:
    finest = min(image.height, image.width) // 2
    stages = (Stage(finest, 3, latents=1), Stage(1, 4, layers=2, latents=2))
    given = (
        bound(image, stages, **options) if how == "perturbed" else HVAE(stages=stages, **options)
    )
    report = check_mechanism(given, image, PARENTS)
    assert {"round trip", "particles", "saving", "seed"} <= {*report.passed}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 50), (2, 9, 8), (3, 20, 31)])
@pytest.mark.parametrize("prior", ["exogenous", "conditional"])
def test_the_preset_models_images_of_any_size(shape: tuple[int, int, int], prior: Prior) -> None:
    mechanism = HVAE(prior).bind("scan", Image(*shape), PARENTS)
    x, parents = draw(2, Image(*shape))
    assert torch.equal(mechanism.predict(mechanism.abduct(x, parents), parents), x)


def test_large_images_and_deep_stages() -> None:
    image = Image(3, 256, 192)
    stages = tuple(Stage(r, 2, latents=1) for r in (48, 24, 12, 6, 3, 1))
    mechanism = bound(image, stages, prior="conditional")
    x, parents = draw(1, image)
    noise = levels(mechanism.abduct(x, parents))
    assert {name: tuple(part.shape[2:]) for name, part in noise.items()} == {
        "u1": (1, 1), "u2": (4, 3), "u3": (8, 6), "u4": (16, 12), "u5": (32, 24), "u6": (64, 48),
        "eps": (256, 192),
    }  # fmt: skip
    assert torch.equal(mechanism.predict(noise, parents), x)
    assert mechanism.mean(noise, other(parents)).shape == x.shape


@pytest.mark.parametrize("prior", ["exogenous", "conditional"])
@pytest.mark.parametrize(
    "stages",
    [
        (Stage(4, 5, latents=1),),
        (Stage(4, 5), Stage(2, 5, layers=2, latents=1)),
        (Stage(4, 5, latents=1), Stage(2, 5)),
        (Stage(4, 5), Stage(2, 5, latents=1), Stage(1, 6, blocks=2)),
    ],
)
def test_latents_may_stand_at_some_stages_alone(prior: str, stages: tuple[Stage, ...]) -> None:
    mechanism = bound(stages=stages, prior=prior).train()
    mechanism.loss(*draw()).backward()
    for name, parameter in mechanism.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_without_parents_the_exogenous_prior_works() -> None:
    mechanism = HVAE(stages=STAGES).bind("scan", IMAGE, {})
    x, _ = draw()
    assert torch.equal(mechanism.predict(mechanism.abduct(x, {}), {}), x)


def test_under_autocast_the_posterior_and_the_pixels_are_in_single_precision() -> None:
    mechanism = bound(prior="conditional").train()
    x, parents = draw()
    parts = []
    for enabled in (True, False):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found = mechanism.infer(x, parents)
            loss = mechanism.objective(x, found)
        parts.append([found.raw, *found.noise.values(), *found.kl.values(), loss])
    for low, full in zip(*parts, strict=True):
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, full, rtol=0.1, atol=0.1)


# Bad input ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": "endogenous"}, "prior='endogenous' must be 'exogenous' or 'conditional'"),
        ({"mediator": "mix"}, "mediator='mix' must be 'chain' or 'mixture'"),
        ({"mediator": "mixture"}, r"mediator='mixture' needs .*: prior='conditional'"),
        ({"alpha": 1.5}, r"alpha=1\.5 must lie between 0 and 1"),
        ({"alpha": -0.1}, r"alpha=-0\.1 must lie between 0 and 1"),
        ({"alpha": float("nan")}, "alpha=nan must lie between 0 and 1"),
        ({"likelihood": "bernoulli"}, "likelihood='bernoulli' must be one of"),
        ({"warmup": -1}, "warmup=-1 must be at least 0"),
        ({"beta": -1.0}, r"beta=-1\.0 .*must be at least 0"),
        ({"free_nats": float("nan")}, "free_nats=nan must be at least 0"),
        ({"min_log_scale": 1.0}, r"min_log_scale=1\.0 must lie between"),
        ({"stages": []}, "stages: expected at least one Stage"),
        ({"stages": [{"resolution": 4, "widht": 8}]}, "stages: .*resolution, width.*'widht': 8"),
        ({"stages": [{"width": 8}]}, r"stages: .*needed\), got {'width': 8}"),
        ({"stages": "32b3d2,16b3d2"}, "stages: expected a Stage .* got '3'"),
        ({"stages": [Stage(4, 8)]}, r"scan: no stage has latents, such as Stage\(16, 32, lat"),
        ({"stages": [Stage(20, 8, latents=1)]}, "scan: the first stage has resolution 20"),
        ({"stages": [*STAGES, Stage(4, 8)]}, "scan: a stage of resolution 4 cannot follow one"),
        ({"prior": "conditional"}, "scan: a conditional prior needs parents, and scan has none"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HVAE(**{"stages": STAGES, **options}).bind("scan", Image(1, 8, 8), {})


# Whole models ----


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
        found = effects.mediate(model, rows, do, "scan", through, seed=0)
        torch.testing.assert_close(found.total, expected, atol=1e-5, rtol=0)


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
    again = load(tmp_path / "model")
    x, parents = draw()
    rows, do = {"scan": x, **parents}, {"s": 2.0, "digit": 1}
    one, two = (m.counterfactual(rows, do, seed=0)["scan"] for m in (model, again))
    assert torch.equal(one, two)


# The mediator ----


def mediate(
    mechanism: HVAE, noise: dict[str, Tensor], pa: dict[str, Tensor], pa_: dict[str, Tensor]
) -> dict[str, Tensor]:
    z, z_ = mechanism.latents(noise, pa), mechanism.latents(noise, pa_)
    base = mechanism.outcome(z, pa)
    return {
        "direct": mechanism.outcome(z, pa_) - base,
        "indirect": mechanism.outcome(z_, pa) - base,
        "total": mechanism.outcome(z_, pa_) - base,
    }


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
        found = original(self, *given)
        seen.append((self.name, found))
        return found

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
    own = {name: part for name, part in noise.items() if " " not in name}
    prior = chain.latents(own, other(parents))
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


# The loss ----


def cost(mechanism: HVAE, x: Tensor, parents: dict[str, Tensor]) -> float:
    """The loss of one step, in nats a row, under the same draw from the posterior."""
    torch.manual_seed(1)
    return mechanism.train().loss(x, parents).item() * x[0].numel()


def test_beta_rises_by_equal_steps_in_training_alone_and_its_place_is_saved() -> None:
    x, parents = draw()
    plain, none, warm = (
        bound(gamma=0.0, beta=beta, warmup=warmup)
        for beta, warmup in ((2.0, 0), (0.0, 0), (2.0, 4))
    )
    kl = cost(plain, x, parents) - cost(none, x, parents)
    assert kl > 1
    shares = [(cost(warm, x, parents) - cost(none, x, parents)) / kl for _ in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1], abs=1e-3)
    assert warm.state_dict()["steps"] == 6
    assert cost(plain, x, parents) == pytest.approx(cost(none, x, parents) + kl)


def test_free_nats_cost_nothing_and_the_rest_of_a_layer_does() -> None:
    x, parents = draw()
    plain = bound(gamma=0.0, beta=0.0, warmup=0)
    torch.manual_seed(1)
    kl = [part.mean().item() for part in plain.infer(x, parents).kl.values()]
    low, _, high = sorted(kl)
    nothing = cost(plain, x, parents)
    for free in (0.0, (low + high) / 2, 2 * high):
        charged = cost(bound(gamma=0.0, warmup=0, free_nats=free), x, parents) - nothing
        assert charged == pytest.approx(sum(max(part, free) for part in kl), rel=1e-3)


def test_below_the_free_nats_the_divergence_has_no_gradient() -> None:
    x, parents = draw()

    def gradients(**options: Any) -> list[Tensor]:
        mechanism = bound(gamma=0.0, warmup=0, **options)
        cost(mechanism, x, parents)
        torch.manual_seed(1)
        mechanism.loss(x, parents).backward()
        return [p.grad for p in mechanism.parameters() if p.grad is not None]

    free, none, charged = gradients(free_nats=1e6), gradients(beta=0.0), gradients()
    assert all(torch.equal(one, two) for one, two in zip(free, none, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(free, charged, strict=True))


# Memory ----


def kept(mechanism: HVAE, x: Tensor, parents: dict[str, Tensor]) -> tuple[int, list[Tensor]]:
    """Bytes of activations kept for the backward pass, and the gradients."""
    own = {parameter.untyped_storage().data_ptr() for parameter in mechanism.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = mechanism.train().loss(x, parents)
    loss.backward()
    gradients = [p.grad for p in mechanism.parameters() if p.grad is not None]
    assert len(gradients) == len(list(mechanism.parameters()))
    return sum(sizes.values()), gradients


@pytest.mark.parametrize("prior", ["exogenous", "conditional"])
def test_checkpointing_halves_activations_and_leaves_gradients_as_they_are(prior: str) -> None:
    image = Image(1, 32, 32)
    stages = (
        Stage(16, 24, layers=2, latents=2),
        Stage(8, 32, layers=2, latents=4),
        Stage(4, 48, layers=2, latents=8),
    )
    x, parents = draw(4, image)
    plain, again = (
        kept(bound(image, stages, by=0.01, prior=prior, checkpointing=on), x, parents)
        for on in (False, True)
    )
    for one, two in zip(plain[1], again[1], strict=True):
        torch.testing.assert_close(one, two, atol=1e-5 * one.abs().max().item(), rtol=0)
    assert again[0] < plain[0] / 2


# A known world ----


@pytest.fixture(scope="module", params=["exogenous", "conditional"])
def learned(request: pytest.FixtureRequest) -> Autoencoder:
    stages = [Stage(4, 12, blocks=1), Stage(2, 24, layers=2, latents=4, blocks=1)]
    return learn(HVAE(request.param, stages, free_nats=1.0), 250)


@torch.no_grad()
def test_learned_counterfactuals_are_those_of_a_known_world(learned: Autoencoder) -> None:
    world = Bars(300, seed=1)
    parents, changed = {"s": world.s}, {"s": world.s.flip(0)}
    truth = world.render(changed["s"])
    noise = levels(learned.abduct(world.x, parents))
    nothing = (world.x - truth).abs().mean()
    assert 1 - (learned.predict(noise, changed) - truth).abs().mean() / nothing > 0.9
    alone = (learned.mean(noise, changed) - truth).abs().mean()
    assert alone < 1.25 * NOISE * (2 / torch.pi) ** 0.5


@torch.no_grad()
def test_the_learned_bound_is_near_the_truth(learned: Autoencoder) -> None:
    world = Bars(300, seed=2)
    bound = learned.log_prob(world.x, {"s": world.s}).mean()
    truth = -world.entropy(levels=True)
    assert truth - 16 < bound < truth + 2


@torch.no_grad()
def test_learned_effects_add_up_to_the_true_one(learned: Autoencoder) -> None:
    world = Bars(300, seed=1)
    parents, changed = {"s": world.s}, {"s": world.s.flip(0)}
    noise = levels(learned.abduct(world.x, parents))
    assert isinstance(learned, HVAE)
    if learned.prior == "exogenous":
        with pytest.raises(ValueError, match="image: its mechanism has no latent mediator"):
            mediate(learned, noise, parents, changed)
        return
    effect = mediate(learned, noise, parents, changed)
    true = world.render(changed["s"]) - world.x
    assert (effect["total"] - true).abs().mean() < 0.1 * true.abs().mean()
    rest = effect["total"] - effect["direct"] - effect["indirect"]
    assert rest.abs().mean() < 0.1 * true.abs().mean()
    for nothing in mediate(learned, noise, parents, parents).values():
        torch.testing.assert_close(nothing, torch.zeros_like(true), atol=1e-6, rtol=0)
