"""Lifetimes: the contract, coefficients from censored rows, counterfactuals of the censored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from rung3 import SCM, Binary, Categorical, Continuous, choose, fit, load
from rung3.data.variables import CensoredTime, from_config
from rung3.mechanisms import AdditiveNoise, Equation, Flow, Lifetime, default_mechanism
from rung3.testing.contract import check_mechanism

LIFE = CensoredTime(unit="years")
FAMILIES: Any = ["weibull", "log-logistic", "log-normal"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract(family: Any) -> None:
    parents = {"age": Continuous(), "ward": Categorical(3)}
    report = check_mechanism(Lifetime(family), LIFE, parents)
    assert "integrates to one" in report.passed["density"]


@pytest.mark.parametrize(
    ("family", "known"),
    [
        ("weibull", stats.weibull_min(1 / 0.5, scale=3)),
        ("log-logistic", stats.fisk(1 / 0.5, scale=3)),
        ("log-normal", stats.lognorm(0.5, scale=3)),
    ],
)
def test_densities_survival_and_quantiles_are_those_of_scipy(family: Any, known: Any) -> None:
    mechanism = Lifetime(family).bind("t", LIFE, {}).double()
    with torch.no_grad():
        list(mechanism.network.parameters())[-1].fill_(torch.tensor(3.0).log())
        mechanism.log_scale.fill_(torch.tensor(0.5).log())
        times = torch.tensor([0.3, 2.0, 11.0], dtype=torch.float64)
        density, survival = mechanism.log_prob(times, {}), mechanism.log_prob(-times, {})
        u = torch.tensor([-6.0, 0.3, 6.0], dtype=torch.float64)
        drawn = mechanism.predict(u, {}).double()
    torch.testing.assert_close(density, torch.from_numpy(known.logpdf(times)))
    torch.testing.assert_close(survival, torch.from_numpy(known.logsf(times)))
    shares = torch.from_numpy(known.ppf(stats.norm.cdf(u[:2])))
    torch.testing.assert_close(drawn[:2], shares, rtol=1e-5, atol=0)
    assert float(drawn[2]) == pytest.approx(known.isf(stats.norm.sf(6.0)), rel=1e-5)
    back = mechanism.abduct(drawn, {})
    torch.testing.assert_close(back, u, rtol=1e-4, atol=1e-4)


def followed(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weibull times, `log t = 1 + .7 x + .5 z`; two fifths are censored."""
    g = torch.Generator().manual_seed(seed)
    x, z = torch.randn(n, generator=g), torch.rand(n, generator=g).log().neg().log()
    life, end = (1 + 0.7 * x + 0.5 * z).exp(), 6 * torch.rand(n, generator=g) + 0.01
    return {"x": x, "t": LIFE.code(torch.minimum(life, end), life <= end)}


def test_coefficients_are_found_in_spite_of_censoring(tmp_path: Path) -> None:
    rows = followed(2_000)
    assert 0.3 < (rows["t"] < 0).double().mean() < 0.5
    model = SCM("x -> t", {"t": LIFE}, {"t": Lifetime()})
    fit(model, rows, epochs=1, lr=1e-4, progress=False)
    learned: Any = model.mechanisms["t"]
    middle = [learned._location({"x": torch.tensor([x])}, 1).item() for x in (0.0, 1.0)]
    assert middle[0] == pytest.approx(1.0, abs=0.06)
    assert middle[1] - middle[0] == pytest.approx(0.7, abs=0.06)
    assert learned.log_scale.exp().item() == pytest.approx(0.5, abs=0.03)
    again = load(model.save(tmp_path / "model"))
    assert again.variables["t"] == LIFE
    row = {"x": [0.0], "t": [-2.0]}
    for one in (model, again):
        drawn = one.counterfactual(row, do={"x": 1.0}, particles=1_000, seed=0)["t"][:, 0]
        # Given T > 2 at x = 0, T at x = 1 is exp(.7) as long.
        assert float(drawn.min()) > 2 * 0.97 * torch.tensor(0.7).exp()
        known = torch.from_numpy(
            stats.weibull_min(2, scale=2.718).isf(
                stats.weibull_min(2, scale=2.718).sf(2) * torch.linspace(0.0005, 0.9995, 1_000)
            )
        )
        assert float(drawn.mean()) == pytest.approx(float(known.mean()) * 2.01, rel=0.06)
    same = model.counterfactual(row, do={"x": 0.0}, particles=50, seed=0)["t"]
    assert (same == -2.0).all() or (same > 2).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_choose_knows_families(family: Any) -> None:
    world = Lifetime(family).bind("t", LIFE, {"x": Continuous()})
    with torch.no_grad():
        for part in world.network.parameters():
            part.fill_(0.7)
        world.log_scale.fill_(-0.7)
    g = torch.Generator().manual_seed(3)
    x, end = torch.randn(1_500, generator=g), 20 * torch.rand(1_500, generator=g) + 0.01
    life = world.predict(world.sample_noise(1_500, {}, g), {"x": x}).detach()
    rows = {"x": x, "t": LIFE.code(torch.minimum(life, end), life <= end)}
    among = {"t": Lifetime.candidates(LIFE, {"x": Continuous()})[0]}
    choice = choose(SCM("x -> t", {"t": LIFE}), rows, among=among)
    assert choice.chosen["t"] == Lifetime(family).describe(), str(choice)


def test_what_it_cannot_model_is_refused() -> None:
    assert isinstance(default_mechanism(LIFE), Lifetime)
    assert from_config("t", LIFE.config()) == LIFE
    with pytest.raises(ValueError, match="Lifetime models times that may be censored"):
        SCM("x -> t", mechanisms={"t": Lifetime()})
    for other in (Flow(), AdditiveNoise(degree=1), Equation("x + u")):
        with pytest.raises(ValueError, match="knows no censored times; use Lifetime"):
            SCM("x -> t", {"t": LIFE}, {"t": other})
    with pytest.raises(ValueError, match="is not a cause of anything"):
        SCM("t -> y", {"t": LIFE, "y": Binary()})
    with pytest.raises(ValueError, match="family='gamma'"):
        Lifetime("gamma")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="t: 0 is not a time"):
        LIFE.validate("t", [1.0, 0.0])
    with pytest.raises(ValueError, match="times: -1 is not a time"):
        LIFE.code([-1.0], [1])
    with pytest.raises(ValueError, match="seen: expected 1 where"):
        LIFE.code([1.0], [2])
    with pytest.raises(ValueError, match=r"expected unit and missing alone, got \['dim'\]"):
        CensoredTime(dim=2)
    assert LIFE.difference(torch.tensor(3.0), torch.tensor(-2.0)) == 1
