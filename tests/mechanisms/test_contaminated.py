"""The contaminated Gaussian: its contract, its density, and the posterior of its noise."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from scipy import integrate, stats

from rung3 import SCM, Categorical, Continuous, load
from rung3.data.variables import Variable
from rung3.mechanisms import Contaminated, Equation
from rung3.testing import CHECKS, prepare

HUE = Continuous(lower=0, upper=1, circular=True)
SHARE = Continuous(lower=0, upper=1)
DIGIT: dict[str, Variable] = {"digit": Categorical(10)}

CASES: dict[str, tuple[Contaminated, Continuous]] = {
    "circle": (Contaminated("digit/10 + 0.05", 0.05, 0.2), HUE),
    "circle, wide": (Contaminated("digit/10 + 0.05", 0.9, 0.2), HUE),
    "circle, no outliers": (Contaminated("digit/10 + 0.05", 0.05), HUE),
    "real": (Contaminated("1.5 + 0.45*digit", 0.2, 0.3, (1.5, 6)), Continuous(unit="px")),
    "clipped": (Contaminated("0.3 + 0.7*digit/9", 0.2, 0.1, (0.3, 1)), SHARE),
    "outliers alone": (Contaminated("digit/10", 0.1, 1.0), SHARE),
}


def bound(case: str) -> Contaminated:
    mechanism, variable = CASES[case]
    return mechanism.bind("x", variable, DIGIT)


@pytest.mark.filterwarnings("ignore:ks_2samp")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("check", CHECKS)
def test_contract(case: str, check: str) -> None:
    if (case, check) == ("clipped", "density"):
        pytest.skip("its ends have a probability: see the test of its distribution")
    mechanism, variable = CASES[case]
    CHECKS[check](prepare(mechanism, variable, DIGIT))


def test_what_it_draws_follows_the_formula() -> None:
    mechanism, digit = bound("real"), torch.full((20_000,), 4)
    noise = mechanism.sample_noise(20_000, {"digit": digit}, torch.Generator().manual_seed(0))
    drawn = mechanism.predict(noise, {"digit": digit})
    usual, far = stats.norm(3.3, 0.2), stats.uniform(1.5, 4.5)
    test = stats.kstest(drawn, lambda x: 0.7 * usual.cdf(x) + 0.3 * far.cdf(x))
    assert test.pvalue > 1e-3


def test_the_density_is_that_of_the_formula() -> None:
    x = torch.linspace(0.01, 0.99, 50)
    nine = {"digit": torch.full((50,), 9)}
    usual = sum(stats.norm(0.95 + k, 0.05).pdf(x) for k in (-1, 0, 1))
    expected = torch.as_tensor(0.8 * usual + 0.2)
    torch.testing.assert_close(
        bound("circle").log_prob(x, nine).exp().double(), expected, rtol=1e-4, atol=1e-6
    )


def test_the_clipped_ends_have_the_probability_that_lies_beyond() -> None:
    mechanism, nine = bound("clipped"), {"digit": torch.tensor([9])}
    one = mechanism.log_prob(torch.tensor([1.0]), nine).exp().item()
    assert one == pytest.approx(0.9 * 0.5, abs=1e-4)
    inside, _ = integrate.quad(
        lambda x: mechanism.log_prob(torch.tensor([x]), nine).exp().item(), 0, 1, points=[0.3]
    )
    zero = mechanism.log_prob(torch.tensor([0.0]), nine).exp().item()
    assert zero + inside + one == pytest.approx(1, abs=1e-4)


def test_outliers_are_told_by_their_posterior() -> None:
    mechanism, zero = bound("real"), {"digit": torch.zeros(4000, dtype=torch.long)}
    x = torch.full((4000,), 2.1)  # three deviations away: 0.7 N(3) / 0.2 against 0.3 / 4.5
    usual, far = 0.7 * stats.norm.pdf(3) / 0.2, 0.3 / 4.5
    noise = mechanism.abduct(x, zero, None, torch.Generator().manual_seed(0))
    assert isinstance(noise, dict)
    assert noise["outlier"].mean().item() == pytest.approx(far / (far + usual), abs=0.03)
    outlier = noise["outlier"] > 0
    torch.testing.assert_close(noise["u"][~outlier], torch.full((int((~outlier).sum()),), 3.0))
    share = torch.special.ndtri(torch.tensor(0.6 / 4.5))
    torch.testing.assert_close(noise["u"][outlier], share.expand(int(outlier.sum())))


def test_a_counterfactual_keeps_the_deviation_and_an_outlier_stays_where_it_is() -> None:
    model = SCM(
        "digit -> hue",
        {"digit": Categorical(10), "hue": HUE},
        {"hue": Contaminated("digit/10 + 0.05", 0.05, 0.01)},
    )
    near = model.counterfactual({"digit": 9, "hue": 0.97}, {"digit": 1}, seed=0)["hue"]
    assert near.item() == pytest.approx(0.17, abs=1e-5)
    around = model.counterfactual({"digit": 9, "hue": 0.01}, {"digit": 1}, seed=0)["hue"]
    assert around.item() == pytest.approx(0.21, abs=1e-5)
    outlier = model.counterfactual({"digit": 9, "hue": 0.5}, {"digit": 1}, seed=0)["hue"]
    assert outlier.item() == pytest.approx(0.5, abs=1e-5)


def test_what_cannot_be_is_refused() -> None:
    never = bound("outliers alone").bind("x", Continuous(lower=-1, upper=2), DIGIT)
    low = Contaminated("digit", 0.1, 1.0, (0, 1)).bind("x", never.variable, DIGIT)
    with pytest.raises(ValueError, match=r"x: evidence has probability zero: 1\.5 is never drawn"):
        low.abduct(torch.tensor([1.5]), {"digit": torch.tensor([1])})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale=0.0 must be positive"),
        ({"scale": math.inf}, "scale=inf must be positive"),
        ({"outliers": 1.5}, "outliers=1.5 must be a probability"),
        ({"outliers": -0.1}, "outliers=-0.1 must be a probability"),
        ({"between": (2, 1)}, r"between=\(2, 1\) must be two numbers"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contaminated("digit", **({"scale": 0.1} | options))


@pytest.mark.parametrize(
    ("variable", "parents", "message"),
    [
        (Categorical(2), DIGIT, "x: Contaminated models a real number, and it is Categorical"),
        (Continuous(dim=2), DIGIT, "x: Contaminated models a real number"),
        (SHARE, {"size": SHARE}, r"the names in its centre are ['digit'], but .* are ['size']"),
        (Continuous(), DIGIT, "x: its support is unbounded; say what outliers lie between"),
    ],
)
def test_what_it_cannot_model_is_refused(
    variable: Variable, parents: dict[str, Variable], message: str
) -> None:
    pattern = message.replace("['", re.escape("['")).replace("']", re.escape("']"))
    with pytest.raises(ValueError, match=pattern):
        Contaminated("digit", 0.1, 0.2).bind("x", variable, parents)
    with pytest.raises(ValueError, match="outliers between 0 and 2 lie outside its support"):
        Contaminated("digit", 0.1, 0.2, (0, 2)).bind("x", SHARE, DIGIT)


def test_it_is_saved(tmp_path: Any) -> None:
    model = SCM(
        variables={"hue": HUE},
        mechanisms={"size": Equation("u"), "hue": Contaminated("size", 0.1, 0.1, (0.2, 0.4))},
    )
    loaded = load(model.save(tmp_path / "model"))
    assert loaded.variables["hue"] == HUE
    assert loaded.mechanisms["hue"].config() == model.mechanisms["hue"].config()
    assert torch.equal(loaded.sample(50, seed=1)["hue"], model.sample(50, seed=1)["hue"])
