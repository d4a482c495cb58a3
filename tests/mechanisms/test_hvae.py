from __future__ import annotations

from typing import Any

import pytest
import torch
from bars import NOISE, Bars, learn
from hierarchies import IMAGE, PARENTS, STAGES, bound, draw, mediate, other
from noises import levels
from torch import Tensor

from rung3 import Image
from rung3.mechanisms import HVAE, Stage
from rung3.mechanisms.autoencoder import Autoencoder
from rung3.mechanisms.hvae import Prior
from rung3.testing.contract import check_mechanism

# The contract -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("prior", ["exogenous", "conditional"])
@pytest.mark.parametrize("image", [IMAGE, Image(1, 6, 7, 6)])
def test_a_stage_that_moves_the_finer_ones_keeps_the_contract(prior: Prior, image: Image) -> None:
    mechanism = HVAE(prior, stages=STAGES, moving=2)
    check_mechanism(mechanism, image, PARENTS)
    moving = bound(image, prior=prior, moving=2)  # with weights that move
    x, parents = draw(image=image)
    noise = moving.abduct(x, parents)
    assert torch.equal(moving.predict(noise, parents), x)
    again = moving.abduct(x, parents, particles=2)
    assert isinstance(again, dict)
    assert again["eps"].shape == (2, 5, *image.shape)
    assert HVAE(**moving.config()).moving == 2


def test_fine_latents_move_when_a_parent_moves_the_image() -> None:
    mechanism = bound(moving=2, by=0.0)
    motion: Any = mechanism.decoder.motion
    x, parents = draw()
    noise = mechanism.abduct(x, parents)
    assert isinstance(noise, dict)
    still = mechanism.mean(noise, parents)
    # A velocity to the right, the same everywhere: half the image's width.
    motion.velocity.bias.data[: 2**2] = 1.0
    torch.testing.assert_close(
        mechanism.mean(noise, parents)[..., :5], still[..., 6:11], atol=0.02, rtol=0
    )


def test_under_autocast_the_posterior_and_the_pixels_are_in_single_precision() -> None:
    mechanism = bound(prior="conditional").train()
    x, parents = draw()
    parts = []
    for enabled in (True, False):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            inferred = mechanism.infer(x, parents)
            loss = mechanism.objective(x, inferred)
        parts.append([inferred.raw, *inferred.noise.values(), *inferred.kl.values(), loss])
    for low, full in zip(*parts, strict=True):
        assert low.dtype == torch.float32
        torch.testing.assert_close(low, full, rtol=0.1, atol=0.1)


# Bad input ----------------------------------------------------------------------------------------


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
        ({"moving": 4}, r"scan: moving=4: .* a stage below the first, one of \[2\]"),
        ({"prior": "conditional"}, "scan: a conditional prior needs parents, and scan has none"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HVAE(**{"stages": STAGES, **options}).bind("scan", Image(1, 8, 8), {})


# The loss -----------------------------------------------------------------------------------------


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


# Memory -------------------------------------------------------------------------------------------


def saved_bytes(mechanism: HVAE, x: Tensor, parents: dict[str, Tensor]) -> tuple[int, list[Tensor]]:
    """Bytes of activations kept for the backward pass, and the gradients."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in mechanism.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
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
    plain, checkpointed = (
        saved_bytes(bound(image, stages, by=0.01, prior=prior, checkpointing=on), x, parents)
        for on in (False, True)
    )
    for one, two in zip(plain[1], checkpointed[1], strict=True):
        torch.testing.assert_close(one, two, atol=1e-5 * one.abs().max().item(), rtol=0)
    assert checkpointed[0] < plain[0] / 2


# A known world ------------------------------------------------------------------------------------


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
