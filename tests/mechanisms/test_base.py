"""What a family says of itself: candidates, alternatives, and its noise at the opposite rank."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Exponential, Normal

from rung3 import Binary, Categorical, Continuous, Image, Ordinal
from rung3.data.variables import Variable
from rung3.mechanisms import HVAE, VAE, AdditiveNoise, Equation, Flow, GumbelMax, InverseCDF, Stage
from rung3.mechanisms.base import Mechanism
from rung3.training.candidates import FAMILIES, candidates

PARENTS: dict[str, Variable] = {"a": Continuous(), "b": Binary()}
CHAIN = (Stage(4, 4, latents=1),)


@pytest.mark.parametrize(
    "variable",
    [Continuous(), Continuous(lower=0, upper=24, circular=True), Continuous(dim=2), Binary(),
     Ordinal(3), Categorical(3)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("parent", [{}, {"scan": Image(1, 8, 8)}], ids=["", "image"])
def test_candidates_are_of_their_family_and_model_the_variable(
    variable: Variable, parent: dict[str, Variable]
) -> None:
    parents = PARENTS | parent
    named = {family: family.candidates(variable, parents) for family in FAMILIES}
    for family, groups in named.items():
        for mechanism in (one for group in groups for one in group):
            assert type(mechanism) is family
            assert mechanism.bind("y", variable, parents).variable == variable
    assert [str(group) for group in candidates(variable, parents)] == [
        str(group) for groups in named.values() for group in groups
    ]
    assert candidates(variable, parents)


def test_the_less_flexible_family_comes_first() -> None:
    groups = candidates(Continuous(), PARENTS)
    assert [type(group[0]) for group in groups] == [AdditiveNoise] * 3 + [Flow]


@pytest.mark.parametrize("family", [GumbelMax, InverseCDF])
def test_alternatives_have_the_same_probabilities_and_other_noise(
    family: type[GumbelMax | InverseCDF],
) -> None:
    torch.manual_seed(0)
    mechanism = family(hidden=(4,)).bind("y", Categorical(3), PARENTS)
    parents = {"a": torch.randn(9), "b": torch.randint(2, (9,))}
    value = torch.arange(9) % 3
    (other,) = mechanism.alternatives()
    assert {type(mechanism), type(other)} == {GumbelMax, InverseCDF}
    assert torch.equal(other.log_prob(value, parents), mechanism.log_prob(value, parents))
    assert not other.takes(mechanism)


@pytest.mark.parametrize(
    ("mechanism", "variable", "prior"),
    [
        (Flow(), Continuous(), Normal(0.0, 1.0)),
        (InverseCDF(), Binary(), torch.distributions.Uniform(0.0, 1.0)),
        (VAE(latent=2, width=4, depth=1), Image(1, 8, 8), Normal(0.0, 1.0)),
        (HVAE(stages=CHAIN), Image(1, 8, 8), Normal(0.0, 1.0)),
        (Equation("a + b + u", noise="Exponential(2)"), Continuous(), Exponential(2.0)),
    ],
    ids=["flow", "inverse CDF", "VAE", "HVAE", "equation"],
)
def test_reversed_noise_is_at_the_opposite_rank(
    mechanism: Mechanism, variable: Variable, prior: torch.distributions.Distribution
) -> None:
    noise = prior.sample((50,)).double()
    reverse = mechanism.bind("y", variable, PARENTS).reverse(noise)
    assert reverse is not None
    torch.testing.assert_close(prior.cdf(reverse), 1 - prior.cdf(noise), atol=1e-6, rtol=0)


def test_noise_of_unknown_quantiles_is_not_reversed() -> None:
    for mechanism, variable in (
        (GumbelMax(), Categorical(3)),
        (HVAE("conditional", CHAIN, mediator="mixture"), Image(1, 8, 8)),
        (Equation("a + b + u", noise="Beta(2, 3)"), Continuous()),
    ):
        assert mechanism.bind("y", variable, PARENTS).reverse(torch.full((2,), 0.5)) is None
