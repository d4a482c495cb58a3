"""The lecture's worlds, with the lecture's numbers."""

from __future__ import annotations

import math

import pytest
import torch
from noises import whole
from scipy import stats

from rung3 import Continuous, worlds
from rung3.testing.integration import integrate


def test_the_counterfactual_of_the_lecture_step_by_step() -> None:
    """Section 1.7.1: given x1 = 2 and x2 = 4, what would x2 have been had x1 been 5?"""
    world = worlds.lecture()
    noise = world.abduct({"x1": 2.0, "x2": 4.0})
    assert torch.equal(torch.as_tensor(noise["x1"]), torch.tensor([1.0]))
    assert torch.equal(torch.as_tensor(noise["x2"]), torch.tensor([-2.0]))
    acted = world.do(x1=5.0)
    assert acted.graph.parents("x1") == world.graph.parents("x1") == ()
    imagined = acted.predict(noise)
    assert (imagined["x1"].item(), imagined["x2"].item()) == (5.0, 13.0)
    once = world.counterfactual({"x1": 2.0, "x2": 4.0}, do={"x1": 5.0})
    assert once["x2"].item() == 13.0
    assert once.explain().abductions == {"x2": "exact"}


def test_setting_the_effect_leaves_the_cause() -> None:
    imagined = worlds.lecture().counterfactual({"x1": 2.0, "x2": 4.0}, do={"x2": 0.0})
    assert (imagined["x1"].item(), imagined["x2"].item()) == (2.0, 0.0)


def test_seeing_is_not_doing() -> None:
    """`E[x1 | x2 = 13] = 1 + 3 (13 - 3) / 10 = 4`; under do(x2 = 13) it is still 1."""
    world = worlds.lecture()
    seen = world.sample(4000, given={"x2": 13.0}, seed=0)["x1"]
    done = world.do(x2=13.0).sample(4000, seed=0)["x1"]
    assert seen.mean().item() == pytest.approx(4, abs=0.05)
    assert done.mean().item() == pytest.approx(1, abs=0.07)


def test_the_observational_distribution_of_the_lecture() -> None:
    """`x1 ~ N(1, 1)`, `x2 ~ N(3, 10)`, covariance 3."""
    rows = worlds.lecture().sample(50_000, seed=0)
    both = torch.stack([rows["x1"], rows["x2"]])
    assert both.mean(1).tolist() == pytest.approx([1, 3], abs=0.06)
    assert both.cov().flatten().tolist() == pytest.approx([1, 3, 3, 10], abs=0.25)
    head = rows[:20]
    truth = stats.multivariate_normal([1, 3], [[1, 3], [3, 10]]).logpdf(both[:, :20].T.numpy())
    assert worlds.lecture().log_prob(head).tolist() == pytest.approx(truth.tolist(), abs=1e-3)


def test_rows_of_the_lecture_remember_their_noise() -> None:
    rows = worlds.lecture().sample(10, seed=0)
    assert rows.noise is not None
    assert rows.world == "lecture"
    torch.testing.assert_close(rows["x1"], whole(rows.noise["x1"]) + 1)
    torch.testing.assert_close(rows["x2"], 3 * rows["x1"] + whole(rows.noise["x2"]))
    assert worlds.lecture().abduct(rows).kinds == {"x1": "known", "x2": "known"}


@pytest.mark.parametrize("x", [1.0, 1.5, 2.0, 2.999, 3.0])
def test_the_density_of_figure_17_is_one_half(x: float) -> None:
    """`p(x) = p(u) |du/dx| = 1 * 1/2` at `u = (x - 1) / 2`."""
    world = worlds.uniform()
    assert world.log_prob({"x": x}).item() == pytest.approx(math.log(1 / 2), abs=1e-6)
    assert whole(world.abduct({"x": x})["x"]).item() == pytest.approx((x - 1) / 2, abs=1e-6)


def test_the_density_of_figure_17_integrates_to_one_and_its_rows_follow_it() -> None:
    world = worlds.uniform()
    x = world.sample(20_000, seed=0)["x"]
    assert stats.kstest(x.numpy(), stats.uniform(1, 2).cdf).pvalue > 0.01
    density, variable = world.mechanisms["x"], world.variables["x"]
    assert isinstance(variable, Continuous)
    mass = integrate(lambda v: density.log_prob(v.float(), {}).double().exp(), x, variable)
    assert mass == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("x", [0.9, 3.1])
def test_what_lies_outside_figure_17_is_refused(x: float) -> None:
    for ask in (worlds.uniform().log_prob, worlds.uniform().abduct, worlds.uniform().do):
        with pytest.raises(ValueError, match=rf"x: {x} is outside its support \[1, 3\]"):
            ask({"x": x})
