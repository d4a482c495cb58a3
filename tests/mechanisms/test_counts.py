"""Counts: the contract, distributions that are known, fits of known coefficients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats

from rung3 import SCM, Binary, Categorical, Continuous, choose, fit, load
from rung3.mechanisms import AdditiveNoise, AtBounds, Counts, default_mechanism
from rung3.testing.contract import check_mechanism

COUNT = Continuous(lower=0, whole=True)
MIXED = {"age": Continuous(), "ward": Categorical(3)}


@pytest.mark.parametrize(
    "mechanism",
    [Counts("poisson"), Counts(), Counts(zeros=True), Counts("poisson", zeros=True, hidden=(8,))],
    ids=str,
)
def test_the_contract(mechanism: Counts) -> None:
    report = check_mechanism(mechanism, COUNT, MIXED)
    assert "integrates to one" in report.passed["density"]


def known(family: Any, mean: float, size: float, zeros: float) -> Counts:
    """A mechanism without parents whose parameters are set."""
    mechanism = Counts(family, zeros=zeros > 0).bind("k", COUNT, {})
    values = [torch.tensor(mean).log()]
    values += [torch.tensor(zeros).logit()] if zeros else []
    with torch.no_grad():
        next(mechanism.network.parameters()).copy_(torch.stack(values))
        if family != "poisson":
            mechanism.log_size.copy_(torch.tensor(size).log())
    return mechanism


@pytest.mark.parametrize("family", ["poisson", "negative binomial"])
@pytest.mark.parametrize("mean", [0.05, 3.0, 400.0])
@pytest.mark.parametrize("zeros", [0.0, 0.3])
def test_probabilities_and_draws_are_those_of_the_distribution(
    family: str, mean: float, zeros: float
) -> None:
    size = 2.5
    mechanism = known(family, mean, size, zeros)
    truth = stats.poisson(mean) if family == "poisson" else stats.nbinom(size, size / (size + mean))
    k = torch.arange(int(mean * 12) + 20).float()
    log_p = mechanism.log_prob(k, {}).detach().double()
    expected = (1 - zeros) * truth.pmf(k.numpy())
    expected[0] += zeros
    assert log_p.exp().numpy() == pytest.approx(expected, rel=1e-4, abs=1e-9)
    noise = mechanism.sample_noise(20_000, {}, torch.Generator().manual_seed(0))
    drawn = mechanism.predict(noise, {})
    assert drawn.mean().item() == pytest.approx((1 - zeros) * mean, rel=0.08)
    assert (drawn == 0).double().mean().item() == pytest.approx(expected[0], abs=0.015)


def test_what_is_no_count_has_no_probability() -> None:
    log_p = known("poisson", 3.0, 1.0, 0.0).log_prob(torch.tensor([-1.0, 0.5, 2.0]), {})
    assert log_p.isfinite().tolist() == [False, False, True]


@pytest.mark.parametrize("family", ["poisson", "negative binomial"])
def test_counts_far_in_either_tail_come_back(family: str) -> None:
    mechanism = known(family, 900.0, 30.0, 0.0)
    k = torch.tensor([0.0, 1, 500, 899, 900, 2_000, 9_000, 80_000])
    noise = mechanism.abduct(k, {}, 5, torch.Generator().manual_seed(0))
    assert isinstance(noise, torch.Tensor)
    for one in noise:
        assert mechanism.predict(one, {}).tolist() == k.tolist()
        assert (one.diff() > 0).all()


def regression(n: int, dispersed: bool, zeros: bool) -> dict[str, torch.Tensor]:
    """`log m = 0.5 + 0.8 x`, with r = 2, and zeros of their own in a third of the rows."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, generator=g)
    mean = (0.5 + 0.8 * x).exp()
    if dispersed:
        with torch.random.fork_rng():
            torch.manual_seed(2)
            mean = mean * torch.distributions.Gamma(2.0, 2.0).sample((n,))
    k = torch.poisson(mean, generator=g)
    zeroed = torch.rand(n, generator=g) < 1 / 3
    return {"x": x, "k": torch.where(zeroed, 0.0, k) if zeros else k}


@pytest.mark.parametrize("dispersed", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
def test_coefficients_that_are_known_are_found(dispersed: bool, zeros: bool) -> None:
    rows = regression(10_000, dispersed, zeros)
    mechanism: Any = Counts("negative binomial" if dispersed else "poisson", zeros=zeros)
    model = SCM("x -> k", {"k": COUNT}, {"k": mechanism})
    fit(model, rows, epochs=1, lr=1e-4, progress=False)
    learned: Any = model.mechanisms["k"]
    for x in (-1.0, 0.0, 1.0):
        mean = learned.mean_count({"x": torch.tensor([x])}, 1).item()
        truth = float(torch.tensor(0.5 + 0.8 * x).exp()) * (2 / 3 if zeros else 1)
        assert mean == pytest.approx(truth, rel=0.07)
    if dispersed and not zeros:
        assert learned.log_size.exp().item() == pytest.approx(2, rel=0.12)


def test_a_counterfactual_count_is_a_count_and_keeps_its_rank(tmp_path: object) -> None:
    rows = regression(2_000, True, False)
    model = SCM("x -> k", {"k": COUNT}, {"k": Counts()})
    fit(model, rows, epochs=1, lr=1e-4, progress=False)
    row = {"x": [0.0, 0.0], "k": [1.0, 7.0]}
    same = model.counterfactual(row, do={"x": 0.0}, seed=0)["k"]
    more = model.counterfactual(row, do={"x": 1.0}, seed=0)["k"]
    assert same.tolist() == [1, 7]
    assert (more >= same).all()
    assert (more == more.round()).all()
    loaded = load(model.save(f"{tmp_path}/model"))
    assert torch.equal(loaded.counterfactual(row, do={"x": 1.0}, seed=0)["k"], more)


@pytest.mark.parametrize(
    ("dispersed", "zeros", "family"),
    [
        (False, False, "Counts(family='poisson')"),
        (True, False, "Counts()"),
        (False, True, "Counts(zeros=True)"),
    ],
)
def test_choose_knows_counts(dispersed: bool, zeros: bool, family: str) -> None:
    choice = choose(SCM("x -> k", {"k": COUNT}), regression(2_000, dispersed, zeros), seed=0)
    assert choice.chosen["k"] == family, str(choice)


def test_what_it_cannot_model_is_refused() -> None:
    assert isinstance(default_mechanism(COUNT), Counts)
    with pytest.raises(ValueError, match="Counts models whole numbers from 0"):
        SCM("x -> k", mechanisms={"k": Counts()})
    with pytest.raises(ValueError, match="family='gamma'"):
        Counts("gamma")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"k: 2.5 is not a whole number.*whole=True"):
        COUNT.validate("k", [1, 2.5])
    with pytest.raises(ValueError, match="whole numbers do not lie on a circle"):
        Continuous(lower=0, upper=24, circular=True, whole=True)
    assert not AdditiveNoise.candidates(COUNT, {"x": Binary()})
    with pytest.raises(ValueError, match=r"use Counts\(zeros=True\)"):
        SCM("x -> k", {"k": COUNT}, {"k": AtBounds()})


def test_the_average_effect_on_a_count() -> None:
    """Doubling the rate adds as many events as there were."""
    from rung3 import effects

    model = SCM("t -> k", {"t": Binary(), "k": COUNT}, {"k": Counts("poisson")})
    with torch.no_grad():
        weight, bias = model.mechanisms["k"].parameters()
        weight.fill_(0.5 * torch.log(torch.tensor(2.0)))  # t is coded -1 and 1
        bias.fill_(torch.log(torch.tensor(4.0)) + 0.5 * torch.log(torch.tensor(2.0)))
    estimate = effects.average(model, {"t": 1}, "k", versus={"t": 0}, n=20_000, seed=0)
    assert float(estimate.effect) == pytest.approx(4, abs=0.1)
