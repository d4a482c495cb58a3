from __future__ import annotations

from typing import Any

import pytest
import torch

from rung3 import Binary, Categorical, Continuous, Image
from rung3.mechanisms import HVAE, VAE
from rung3.mechanisms.networks.parent_mean import ParentMean
from rung3.mechanisms.networks.stages import Stage

PARENTS = {"digit": Categorical(3), "sick": Binary(), "age": Continuous()}


def rows(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    sick = torch.randint(2, (n,), generator=random)
    digit = (torch.randint(2, (n,), generator=random) + sick) % 3  # they go together
    return {"digit": digit, "sick": sick, "age": torch.randn(n, generator=random)}


def test_each_discrete_parent_has_its_share_of_the_mean_and_numbers_have_none() -> None:
    mean, parents = ParentMean(PARENTS, {"z": (2,)}), rows(2000)
    by_digit, by_sick = torch.tensor([[1.0, 0], [4, -1], [-3, 2]]), torch.tensor([[0.0, 5], [2, 0]])
    true = by_digit[parents["digit"]] + by_sick[parents["sick"]]
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    mean.add({"z": true + noise + parents["age"][:, None]}, parents)
    assert not mean(parents, 2000)["z"].any()  # a loss changes no answer
    mean.renew()
    torch.testing.assert_close(mean(parents, 2000)["z"], true, atol=0.2, rtol=0)
    older = parents | {"age": parents["age"] + 9}
    assert torch.equal(mean(parents, 2000)["z"], mean(older, 2000)["z"])


def test_a_class_that_is_never_seen_has_the_mean_of_the_rest() -> None:
    mean = ParentMean({"digit": Categorical(3)}, {"z": (1,)})
    digit = torch.arange(1000) % 2
    mean.add({"z": 10.0 + 4 * digit[:, None]}, {"digit": digit})
    mean.renew()
    expected = torch.tensor([[10.0], [14], [12]])
    torch.testing.assert_close(
        mean({"digit": torch.arange(3)}, 3)["z"], expected, atol=0.02, rtol=0
    )


def test_old_batches_are_forgotten() -> None:
    mean, sick = ParentMean({"sick": Binary()}, {"z": (1,)}), torch.tensor([0, 1])
    for latents in [100.0] * 50 + [1.0] * 1000:
        mean.add({"z": torch.full((2, 1), latents)}, {"sick": sick})
    mean.renew()
    torch.testing.assert_close(mean({"sick": sick}, 2)["z"], torch.ones(2, 1), atol=0.02, rtol=0)


def test_without_parents_it_is_the_mean_of_all_rows() -> None:
    mean = ParentMean({}, {"z": (1,)})
    mean.renew()  # before any batch
    assert torch.equal(mean({}, 3)["z"], torch.zeros(3, 1))
    mean.add({"z": torch.tensor([[1.0], [3]])}, {})
    mean.renew()
    torch.testing.assert_close(mean({}, 2)["z"], torch.full((2, 1), 2.0))


def vae() -> Any:
    torch.manual_seed(0)
    mechanism: Any = VAE(latent=2, width=4, depth=1, pose=True, cooling=0)
    mechanism = mechanism.bind("x", Image(1, 9, 8), {"digit": Categorical(3)})
    for parameter in mechanism.parameters():  # away from the start, where parents do nothing
        parameter.data += 0.05 * torch.randn_like(parameter)
    return mechanism.eval()


@torch.no_grad()
def test_noise_is_what_the_mean_leaves_of_latents_and_another_class_has_another_mean() -> None:
    mechanism = vae()
    x = torch.randint(256, (6, 1, 9, 8), generator=torch.Generator().manual_seed(0)) / 255
    before, after = ({"digit": torch.arange(6).add(k) % 3} for k in (0, 1))
    latents = mechanism.abduct(x, before, None, torch.Generator().manual_seed(0))
    parts = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    parts[0] = 0
    mechanism.centre.parts.copy_(parts)
    noise = mechanism.abduct(x, before, None, torch.Generator().manual_seed(0))
    z, pose = parts[1 + before["digit"]].split([2, 6], dim=1)
    torch.testing.assert_close(noise["z"], latents["z"] - z)
    torch.testing.assert_close(noise["pose"], latents["pose"] - pose)
    torch.testing.assert_close(noise["eps"], latents["eps"], atol=1e-3, rtol=1e-3)
    assert torch.equal(mechanism.predict(noise, before), x)
    moved = parts[1 + after["digit"]] - parts[1 + before["digit"]]
    z, pose = moved.split([2, 6], dim=1)
    latents = latents | {"z": latents["z"] + z, "pose": latents["pose"] + pose}
    answer = mechanism.predict(noise, after)
    mechanism.centre.parts.zero_()
    torch.testing.assert_close(answer, mechanism.predict(latents, after), atol=0.01, rtol=0)


def test_training_takes_the_mean_of_latents_into_the_prior() -> None:
    mechanism = vae().train()
    mechanism.encoder.head[-1].weight.data.chunk(2)[0].mul_(30)  # so that it tells images apart
    digit = torch.arange(600) % 3
    x = (digit.view(-1, 1, 1, 1) * 60 + torch.randint(60, (600, 1, 9, 8))) / 255
    torch.manual_seed(0)
    plain = mechanism.loss(x, {"digit": digit})
    mechanism.after_step(0, 0.5)
    assert mechanism.centre.parts.abs().max() > 1.5
    torch.manual_seed(0)
    again = mechanism.loss(x, {"digit": digit})  # the objective is still that of latents themselves
    torch.testing.assert_close(again, plain)
    mechanism.eval()
    with torch.no_grad():
        noise = mechanism.abduct(x, {"digit": digit})
        bound = mechanism.log_prob(x, {"digit": digit}).mean()
        for k in range(3):
            for part in ("z", "pose"):
                assert noise[part][digit == k].mean(0).abs().max() < 0.4
        mechanism.centre.parts.zero_()
        assert mechanism.log_prob(x, {"digit": digit}).mean() < bound - 1


def test_weights_of_before_load_without_a_mean() -> None:
    mechanism, loaded = vae(), vae()
    loaded.centre.parts.fill_(1.0)
    state = {k: v for k, v in mechanism.state_dict().items() if not k.startswith("centre.")}
    loaded.load_state_dict(state)
    assert not loaded.centre.parts.any()


@pytest.mark.parametrize("mediator", ["chain", "mixture"])
@torch.no_grad()
def test_the_mean_moves_every_layer_of_a_hierarchy_but_not_the_published_mixture(
    mediator: Any,
) -> None:
    torch.manual_seed(0)
    stages = [Stage(8, 4, latents=2), Stage(4, 8, latents=2)]
    mechanism = HVAE("conditional", stages, mediator=mediator)
    mechanism = mechanism.bind("x", Image(1, 8, 8), {"digit": Categorical(3)}).eval()
    digit = {"digit": torch.arange(5) % 3}
    x = torch.randint(256, (5, 1, 8, 8)) / 255
    before = mechanism.abduct(x, digit, None, torch.Generator().manual_seed(0))
    latents = mechanism.latents(before, digit)
    mechanism.centre.parts.normal_()
    after = mechanism.abduct(x, digit, None, torch.Generator().manual_seed(0))
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    for name, mean in mechanism.centre(digit, 5).items():
        left = mean if mediator == "chain" else torch.zeros_like(mean)
        torch.testing.assert_close(after[name], before[name] - left)
    for name, part in mechanism.latents(after, digit).items():  # they are what they were
        torch.testing.assert_close(part, latents[name], atol=1e-4, rtol=1e-4)
    back = mechanism.predict(after, digit)  # of a mixture it is another image
    assert torch.equal(back, x) == (mediator == "chain")
