"""Attribution of anomalies against closed forms: tails of many distributions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import gamma, laplace, norm, uniform
from scipy.stats import t as student

from rung3 import SCM, Binary, Categorical, worlds
from rung3.effects.attribution import attribute_anomaly
from rung3.effects.attribution.shapley import shapley
from rung3.mechanisms import Equation, InverseCDF


def far(center: float, deviation: float, t: float) -> float:
    """`log P(|N(center, deviation^2)| >= t)`."""
    return math.log(norm.sf((t - center) / deviation) + norm.cdf((-t - center) / deviation))


def test_shares_of_an_unusual_row_in_closed_form() -> None:
    """`y = x + u`, both standard normal: all four values of v are Gaussian tails."""
    model = SCM(x=Equation("u"), y=Equation("x + u"))
    attribution = attribute_anomaly(model, {"x": [2.0], "y": [2.5]}, "y", draws=100_000, seed=0)
    none, x, y = far(0, math.sqrt(2), 2.5), far(2.0, 1, 2.5), far(0.5, 1, 2.5)
    assert attribution.scores.item() == pytest.approx(-none, abs=0.05)
    assert attribution.shares["x"].item() == pytest.approx(((x - none) + (0 - y)) / 2, abs=0.05)
    assert attribution.shares["y"].item() == pytest.approx(((y - none) + (0 - x)) / 2, abs=0.05)
    assert attribution.errors["x"].item() < 0.03
    assert "y is one in " in str(attribution)


def test_shares_sum_to_the_score_and_who_only_hands_on_is_not_blamed() -> None:
    model = SCM(x=Equation("u"), m=Equation("2*x + u/100"), y=Equation("m + u/100"))
    attribution = attribute_anomaly(model, {"x": [3.0], "m": [6.0], "y": [6.0]}, "y", seed=0)
    total = sum(share.item() for share in attribution.shares.values())
    assert total == pytest.approx(attribution.scores.item(), abs=1e-6)
    assert attribution.first() == "x"
    assert abs(attribution.shares["m"].item()) < 0.3 < attribution.shares["x"].item()


def exact(row: dict[str, float]) -> dict[str, float]:
    """Shares of `a = u, b = 2 a + u, c = a - b + u/2 = -u_a - u_b + u_c/2`, by Gaussian tails."""
    noise = {"a": -row["a"], "b": -(row["b"] - 2 * row["a"])}
    noise["c"] = row["c"] - noise["a"] - noise["b"]
    variance = {"a": 1.0, "b": 1.0, "c": 0.25}

    def v(team: frozenset[str]) -> torch.Tensor:
        left = sum(variance[k] for k in variance if k not in team) ** 0.5
        center = sum(noise[k] for k in team)
        if not left:
            return torch.tensor(0.0, dtype=torch.float64)
        t = abs(row["c"])
        logs = [norm.logsf((t - center) / left), norm.logcdf((-t - center) / left)]
        return torch.tensor(logs, dtype=torch.float64).logsumexp(0)

    return {k: float(share) for k, share in shapley("abc", v)[0].items()}


def test_shares_far_in_the_tail_are_those_of_the_closed_form() -> None:
    """Sets of noise that make the row one in e^75 are told as well as those that draws reach."""
    model = SCM(a=Equation("u"), b=Equation("2*a + u"), c=Equation("a - b + u/2"))
    rows = [{"a": 0.0, "b": 0.0, "c": 6.0}, {"a": 0.5, "b": 1.0, "c": 3.0},
            {"a": -1.0, "b": 1.0, "c": -5.0}, {"a": 3.0, "b": 6.0, "c": -2.9}]  # fmt: skip
    truth = [exact(row) for row in rows]
    assert truth[0] == pytest.approx({"a": -11.7, "b": -11.7, "c": 33.1}, abs=0.05)
    assert truth[1] == pytest.approx({"a": -2.01, "b": -2.16, "c": 7.26}, abs=0.01)
    table = {k: [row[k] for row in rows] for k in "abc"}
    attribution = attribute_anomaly(model, table, "c", seed=0)
    assert not attribution.bounded.any()
    for k in "abc":
        for row, expected in enumerate(truth):
            error = attribution.errors[k][row].item()
            assert attribution.shares[k][row].item() == pytest.approx(
                expected[k], abs=4 * error + 0.1
            )
            assert error < 0.02 * abs(truth[row]["c"]) + 0.2


@pytest.mark.parametrize("noise", ["Laplace(0, 1)", "Gamma(3, 2)", "Uniform(-1, 1)", "StudentT(4)"])
def test_tails_of_any_noise(noise: str) -> None:
    """`y = x + u`: given its own u, y is as extreme as where x is, of a tail that is known."""
    model = SCM(x=Equation("u", noise=noise), y=Equation("x + u/100"))
    quantile = {"Laplace(0, 1)": 15.0, "Gamma(3, 2)": 14.0, "StudentT(4)": 40.0}.get(noise, 0.99999)
    attribution = attribute_anomaly(model, {"x": [quantile], "y": [quantile]}, "y", seed=0)
    kind = {
        "Laplace(0, 1)": laplace(), "Gamma(3, 2)": gamma(3, scale=0.5),
        "Uniform(-1, 1)": uniform(-1, 2), "StudentT(4)": student(4),
    }[noise]  # fmt: skip
    middle = kind.median()
    sides = [kind.sf(quantile), kind.cdf(2 * middle - quantile)]
    if noise == "Uniform(-1, 1)":  # u/100 blurs the end
        assert attribution.scores.item() > 4
        return
    assert attribution.scores.item() == pytest.approx(-math.log(sum(sides)), rel=0.06)
    assert attribution.first() == "x"


def test_a_class_that_was_never_drawn_is_rarer_than_the_draws_can_tell() -> None:
    kinds = {"x": Binary(), "y": Categorical(4)}
    for last in ([0.9, 0.1, 0, 0], [0, 0, 0.9, 0.1]):
        tables = {"x": InverseCDF(table=[0.5, 0.5]), "y": InverseCDF(table=[last] * 2)}
        never = 3 if last[0] else 0
        model = SCM("x -> y", kinds, tables)
        attribution = attribute_anomaly(model, {"x": [0, 1], "y": [never, last.index(0.9)]}, "y")
        assert attribution.scores[0].item() >= math.log(5001) - 1e-6
        assert attribution.scores[1].item() == pytest.approx(0, abs=1e-3)
        assert attribution.bounded.tolist() == [True, False]
        assert "AT LEAST" in str(attribution).splitlines()[0]


def test_of_many_causes_what_draws_do_not_reach_is_said_to_be_a_bound() -> None:
    equations = {f"x{k}": Equation("u") for k in range(9)}
    model = SCM(mechanisms={**equations, "y": Equation(f"{' + '.join(equations)} + u")})
    rows = {name: [0.0, 0.5] for name in equations} | {"y": [20.0, 4.5]}
    attribution = attribute_anomaly(model, rows, "y", draws=1_000)
    assert attribution.bounded.tolist() == [True, False]
    assert attribution.first(0) == "y"


def test_rows_are_shared_together_as_one_by_one() -> None:
    model = SCM(x=Equation("u"), m=Equation("tanh(x) + u"), y=Equation("x*m + u"))
    rows = dict(model.sample(4, seed=0))
    attribution = attribute_anomaly(model, rows, "y", draws=500)
    for at in range(4):
        one = attribute_anomaly(model, {k: v[at : at + 1] for k, v in rows.items()}, "y", draws=500)
        assert one.scores[0].item() == pytest.approx(attribution.scores[at].item(), abs=0.3)


def test_the_stated_error_is_the_spread_over_seeds() -> None:
    model = SCM(x=Equation("u"), y=Equation("x + u"))
    attributions = [
        attribute_anomaly(model, {"x": [1.0], "y": [2.0]}, "y", draws=500, seed=s)
        for s in range(60)
    ]
    spread = torch.stack([f.shares["x"] for f in attributions]).std().item()
    stated = torch.stack([f.errors["x"] for f in attributions]).mean().item()
    assert 0.6 < spread / stated < 1.6


def test_a_rare_category_is_unusual_by_its_own_noise() -> None:
    kinds = {"x": Binary(), "y": Categorical(3)}
    tables = {
        "x": InverseCDF(table=[0.5, 0.5]),
        "y": InverseCDF(table=[[0.9, 0.09, 0.01]] * 2),
    }
    attribution = attribute_anomaly(
        SCM("x -> y", kinds, tables), {"x": [0], "y": [2]}, "y", draws=20_000
    )
    assert attribution.scores.item() == pytest.approx(-math.log(0.01), abs=0.3)
    assert attribution.shares["x"].item() == pytest.approx(0, abs=0.05)


def test_bad_input_is_refused() -> None:
    world = worlds.lecture()
    rows = {"x1": [1.0], "x2": [3.0]}
    with pytest.raises(ValueError, match="did you mean 'x2'"):
        attribute_anomaly(world, rows, "x22")
    with pytest.raises(ValueError, match="draws=5 must be at least 100"):
        attribute_anomaly(world, rows, "x2", draws=5)


def test_tails_of_long_tailed_noise_are_reached() -> None:
    """Of a Cauchy, x = 10^4 is one in 15,708; y adds next to nothing."""
    model = SCM(x=Equation("u", noise="Cauchy(0, 1)"), y=Equation("x + u"))
    rows = {"x": [1e4], "y": [1e4]}
    scores = [attribute_anomaly(model, rows, "y", seed=seed).scores.item() for seed in range(4)]
    assert sum(scores) / 4 == pytest.approx(math.log(math.pi / 2 * 1e4), abs=1)
