"""An adversary: z is trained to tell nothing about discrete parents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rung3 import Binary, Categorical, Continuous, Image, Ordinal
from rung3.data.variables import Variable
from rung3.mechanisms import VAE
from rung3.mechanisms.networks.adversary import Adversary
from rung3.testing.contract import check_mechanism

SCAN = Image(1, 8, 8)


def bound(adversary: float = 30.0, **options: Any) -> VAE:
    torch.manual_seed(0)
    mechanism = VAE(2, width=4, depth=1, cooling=0, adversary=adversary, **options)
    return mechanism.bind("scan", SCAN, {"sick": Binary(), "age": Continuous()})


def test_guesses_go_down_their_loss_and_latents_go_up_it_so_many_times() -> None:
    kinds: dict[str, Variable] = {"keys": Categorical(3), "a.b": Ordinal(4), "age": Continuous()}
    adversary = Adversary(2, kinds, weight=5.0)
    parents = {
        "keys": torch.tensor([0, 2, 1]), "a.b": torch.tensor([3, 0, 1]), "age": torch.ones(3),
    }  # fmt: skip
    z = torch.randn(3, 2, requires_grad=True)
    losses = [
        F.cross_entropy(guess(z), parents[name], reduction="none")
        for name, guess in zip(["keys", "a.b"], adversary.guesses, strict=True)
    ]
    assert len(losses) == 2
    loss = losses[0] + losses[1]
    torch.testing.assert_close(adversary(z, parents), loss)
    wanted = (z, *adversary.parameters())
    plain = torch.autograd.grad(loss.sum(), wanted)
    upside_down, *same = torch.autograd.grad(adversary(z, parents).sum(), wanted)
    torch.testing.assert_close(upside_down, -5 * plain[0])
    torch.testing.assert_close(same, list(plain[1:]))


def test_it_counts_in_training_alone() -> None:
    mechanism, plain = bound(), bound(0.0)
    assert plain.guesser is None
    mechanism.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randint(256, (5, 1, 8, 8)) / 255
    parents = {"sick": torch.tensor([0, 1, 1, 0, 1]), "age": torch.randn(5)}

    def loss(mechanism: VAE) -> Tensor:
        torch.manual_seed(1)
        return mechanism.loss(x, parents)

    assert loss(mechanism.eval()) == loss(plain.eval())
    more = 64 * (loss(mechanism.train()) - loss(plain.train()))  # of 64 pixels
    assert float(more.detach()) == pytest.approx(0.69, abs=0.2)  # it knows nothing yet


def test_latents_that_hold_a_parent_come_to_hold_the_rest_alone() -> None:
    """They are a linear map of a parent and of a second bit; what reads them is told the parent."""

    def held(weight: float) -> list[float]:
        torch.manual_seed(0)
        parent, rest = torch.randint(2, (2, 500))
        signs = 2.0 * torch.stack([parent, rest], 1) - 1
        into, out = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(3, 2)
        into.weight.data = torch.eye(2)
        adversary = Adversary(2, {"sick": Binary()}, weight)
        learned = [*into.parameters(), *out.parameters(), *adversary.parameters()]
        optimizer = torch.optim.Adam(learned, lr=0.01, betas=(0.9, 0.99))
        for _ in range(200):
            mean = into(signs)
            z = mean + 0.5 * torch.randn(500, 2)
            error = (out(torch.cat([z, signs[:, :1]], 1)) - signs).square().sum(1)
            cost = 4 * error + mean.square().sum(1) / 2 + adversary(z, {"sick": parent})
            optimizer.zero_grad()
            cost.mean().backward()
            optimizer.step()
        norms: list[float] = into.weight.norm(dim=0).tolist()
        return norms

    (before, _), (parent, rest) = held(0.0), held(3.0)
    assert parent < 0.2 < 0.5 < before
    assert rest > 1


def test_it_is_a_mechanism_as_any() -> None:
    report = check_mechanism(bound(), SCAN, {"sick": Binary(), "age": Continuous()})
    assert "VAE" in str(report)


@pytest.mark.parametrize(
    ("weight", "parents", "message"),
    [
        (-1.0, {"sick": Binary()}, "adversary=-1.0 must be at least 0 and finite"),
        (float("nan"), {"sick": Binary()}, "adversary=nan must be at least 0 and finite"),
        (True, {"sick": Binary()}, "adversary=True must be at least 0 and finite"),
        (30.0, {"age": Continuous()}, "adversary=30: it guesses discrete parents.* they are age"),
        (30.0, {}, "adversary=30: it guesses discrete parents.* there are none; leave it out"),
    ],
)
def test_bad_adversaries_are_refused(weight: float, parents: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(2, width=4, depth=1, adversary=weight).bind("scan", SCAN, parents)
