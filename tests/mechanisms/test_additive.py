"""Additive noise: the contract, least squares as an oracle, and counterfactuals that are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rung3 import SCM, Binary, Categorical, Continuous, Image, Rows, fit, worlds
from rung3.mechanisms import AdditiveNoise
from rung3.mechanisms.additive.losses import adaptive
from rung3.mechanisms.additive.regression import SCHEDULE, Regression
from rung3.testing.contract import check_mechanism

MIXED = {"age": Continuous(), "ward": Categorical(3), "sick": Binary()}


@pytest.mark.parametrize(
    "options",
    [{"degree": 2}, {"hidden": 8}, {"hidden": 8, "spread": True}, {"trees": 20}],
    ids=str,
)
@pytest.mark.parametrize(
    "variable", [Continuous(), Continuous(lower=0), Continuous(dim=2)], ids=str
)
def test_the_contract(options: dict[str, Any], variable: Continuous) -> None:
    torch.manual_seed(0)
    check_mechanism(AdditiveNoise(**options), variable, MIXED)


def test_a_polynomial_is_that_of_least_squares() -> None:
    x = torch.randn(500, generator=torch.Generator().manual_seed(0)) * 3 + 1
    y = 0.5 * x**2 - x + torch.randn(500, generator=torch.Generator().manual_seed(1))
    mechanism = AdditiveNoise(degree=2).bind("y", Continuous(), {"x": Continuous()})
    mechanism.calibrate(y, {"x": x})
    at = torch.linspace(-5, 7, 9)
    moved = mechanism.predict(torch.zeros(9), {"x": at}) - mechanism.predict(
        torch.zeros(9), {"x": torch.zeros(9)}
    )
    curve = np.polyfit(x.double().numpy(), y.double().numpy(), 2)
    expected = np.polyval(curve, at.numpy()) - np.polyval(curve, 0)
    assert moved.detach().numpy() == pytest.approx(expected, abs=3e-3)


def test_a_counterfactual_moves_every_row_alike() -> None:
    """Rows with the same parents move by the same amount, whatever their noise is."""
    torch.manual_seed(0)
    mechanism = AdditiveNoise(hidden=8).bind("y", Continuous(), {"x": Continuous()})
    seen = torch.linspace(-3, 3, 200)
    mechanism.calibrate(seen.sin() + torch.randn(200), {"x": seen})
    y, x = torch.tensor([-3.0, 0.0, 40.0]), torch.zeros(3)
    repeated = mechanism.predict(mechanism.abduct(y, {"x": x}), {"x": x + 2})
    assert (repeated - y).abs().min() > 0.1
    assert torch.allclose(repeated - y, (repeated - y)[:1].expand(3), atol=1e-4)


def test_a_spread_scales_the_noise_and_stays_within_what_was_seen() -> None:
    """`y = x + exp(x/2) u`: at x = 0 the noise is u, at 1 it is exp(1/2) u."""
    torch.manual_seed(0)
    x = torch.rand(4_000) * 4 - 2
    y = x + (x / 2).exp() * torch.randn(4_000)
    mechanism = AdditiveNoise(spread=True).bind("y", Continuous(), {"x": Continuous()})
    mechanism.calibrate(y, {"x": x})
    noise = mechanism.abduct(torch.tensor([1.0]), {"x": torch.zeros(1)})
    predicted = mechanism.predict(noise, {"x": torch.ones(1)})
    assert predicted.item() == pytest.approx(1 + math.exp(0.5), abs=0.2)
    far = {"x": torch.tensor([2.0, 1e3])}
    low, high = (mechanism.predict(torch.full((2,), u), far) for u in (-1.0, 1.0))
    assert (high - low)[1] < 2 * (high - low)[0]
    assert "spread" in mechanism.assumption


def test_the_networks_learn_a_curve_and_noise_that_is_not_normal() -> None:
    """`x3 = (x2 - 5)^3 / 15 + u`, of `worlds.suite("chain")`; doing nothing errs by 1.9."""
    world = worlds.suite("chain")
    rows, test = world.sample(4_000, seed=0), world.sample(500, seed=1)
    model = SCM("x2 -> x3", mechanisms={"x3": AdditiveNoise()})
    data = {"x2": rows["x2"], "x3": rows["x3"]}
    fit(model, data, epochs=12, seed=0, progress=False)
    truth = world.counterfactual(test, do={"x2": 2.0})["x3"]
    answer = model.counterfactual({k: test[k] for k in data}, do={"x2": 2.0})["x3"]
    assert (answer - truth).abs().mean() < 0.15 < 1 < (test["x3"] - truth).abs().mean()


@pytest.mark.parametrize("options", [{"degree": 1}, {}, {"spread": True}], ids=str)
def test_noise_with_edges_tells_more_than_its_variance(options: dict[str, Any]) -> None:
    """Of noise between bounds, the line errs by far less than least squares do (by 1 / n)."""
    errors, others = [], []
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(5_000, generator=g)
        y = 2 * x + torch.rand(5_000, generator=g)
        mechanism = AdditiveNoise(**options).bind("y", Continuous(), {"x": Continuous()})
        torch.manual_seed(seed)
        mechanism.calibrate(y, {"x": x})
        noise = mechanism.abduct(y[:1], {"x": x[:1]})
        low, high = (mechanism.predict(noise, {"x": torch.tensor([at])}) for at in (-1.0, 1.0))
        errors.append(abs((high - low).item() - 4))
        others.append(abs(2 * np.polyfit(x.numpy(), y.numpy(), 1)[0] - 4))
    assert sum(errors) < 0.4 * sum(others)


def test_of_normal_noise_squares_tell_all() -> None:
    mechanism = AdditiveNoise(degree=1).bind("y", Continuous(), {"x": Continuous()})
    x, e = torch.randn(2, 5_000, generator=torch.Generator().manual_seed(0))
    mechanism.calibrate(2 * x + e, {"x": x})
    residual = mechanism.rest.predict(mechanism.abduct(2 * x + e, {"x": x}), {})
    assert adaptive(lambda e: mechanism.rest.log_prob(e, {}), residual) is None
    assert adaptive(lambda e: mechanism.rest.log_prob(e, {}), residual**3) is not None


@pytest.mark.parametrize("options", [{"degree": 1}, {}], ids=str)
def test_many_levels_get_their_means(options: dict[str, Any]) -> None:
    """Of 200 levels with 20 rows each; units and products are left out, so it takes moments."""
    levels = torch.arange(4_000) % 200
    g = torch.Generator().manual_seed(0)
    y = 2 * torch.randn(200, generator=g)[levels] + torch.randn(4_000, generator=g)
    mechanism = AdditiveNoise(**options).bind("y", Continuous(), {"x": Categorical(200)})
    torch.manual_seed(0)
    mechanism.calibrate(y, {"x": levels})
    if not options:
        assert isinstance(mechanism.location, Regression)
        assert mechanism.location.hidden == 0
    standard, _ = mechanism.moments({"x": torch.arange(200)}, torch.zeros(200))
    means = y.reshape(20, 200).mean(0)
    assert (
        mechanism.standardise.inverse(standard) - means
    ).abs().mean() < 0.1  # shrunk by a tenth of their error, at most


def test_the_wider_the_parents_the_fewer_units() -> None:
    for inputs in (1, 4, 5, 30, 80, 300):
        networks = Regression(inputs, 16)
        assert networks.weights.shape[-1] <= max(SCHEDULE.max_weights, 1 + inputs)
        assert networks.hidden == 16 or networks.hidden < SCHEDULE.max_weights / inputs


def test_heavy_tails_are_met_with_a_loss_that_bears_them() -> None:
    """The line errs by far less than least squares do, from 300 rows."""
    from scipy.stats import t

    errors, others = [], []
    for seed in range(6):
        x, u = torch.randn(2, 300, generator=torch.Generator().manual_seed(seed)).double()
        y = (2 * x + torch.from_numpy(t.ppf(torch.special.ndtr(u).numpy(), 1.5))).float()
        x = x.float()
        mechanism = AdditiveNoise(degree=1).bind("y", Continuous(), {"x": Continuous()})
        mechanism.calibrate(y, {"x": x})
        low, high = (
            mechanism.predict(torch.zeros(1), {"x": torch.tensor([at])}) for at in (-1.0, 1.0)
        )
        errors.append(abs((high - low).item() - 4))
        others.append(abs(2 * np.polyfit(x.numpy(), y.numpy(), 1)[0] - 4))
    assert sum(errors) < 0.5 * sum(others)


def test_what_it_cannot_model_is_refused() -> None:
    with pytest.raises(ValueError, match="sick: AdditiveNoise models numbers"):
        AdditiveNoise().bind("sick", Binary(), {})
    with pytest.raises(ValueError, match="takes no image, and scan is one"):
        AdditiveNoise().bind("y", Continuous(), {"scan": Image(1, 8, 8)})
    with pytest.raises(ValueError, match="degree 3 in 40 features has 12341 terms"):
        AdditiveNoise(degree=3).bind("y", Continuous(), {"x": Continuous(dim=40)})
    with pytest.raises(ValueError, match="degree=1 must be at least 1, and without spread=True"):
        AdditiveNoise(degree=1, spread=True)
    with pytest.raises(ValueError, match="degree=0"):
        AdditiveNoise(degree=0)
    with pytest.raises(ValueError, match="hidden=0 must be a number of units, at least 1"):
        AdditiveNoise(hidden=0)


def test_a_model_with_it_is_saved(tmp_path: object) -> None:
    from rung3 import load

    rows = Rows({"x": torch.arange(50.0), "y": torch.arange(50.0) * 2})
    model = SCM("x -> y", mechanisms={"y": AdditiveNoise(degree=1)})
    fit(model, rows, epochs=1, progress=False)
    loaded = load(model.save(f"{tmp_path}/model"))
    one, other = (m.counterfactual(rows, do={"x": 0.0})["y"] for m in (model, loaded))
    assert torch.equal(one, other)
