"""Backtracking counterfactuals: mechanisms stay, the nearest noise makes the antecedent true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from models import every_kind
from scipy import optimize, stats

from rung3 import SCM, Binary, Categorical, Continuous, Image, Rows, worlds
from rung3.effects import with_predictor
from rung3.mechanisms import HVAE, Equation, Flow, FlowMatching, GumbelMax, Stage
from rung3.scm.backtracking import frugal
from rung3.scm.langevin import langevin
from rung3.scm.nearest import linear as linear_form
from rung3.scm.nearest import nearest
from rung3.scm.normal_scores import NormalScore
from rung3.scm.zoo import find_model
from rung3.study.folder import RunFolder
from rung3.training import fit


def linear() -> SCM:
    """`y` is 6 of x's noise and half of its own; z lies below, and a beside."""
    return SCM(
        x=Equation("2*u + 1"), y=Equation("3*x + 0.5*u"), z=Equation("y - x + u"), a=Equation("u")
    )


def test_of_a_linear_model_the_noise_moves_by_the_projection() -> None:
    model = linear()
    rows, target = model.sample(50, seed=0), torch.linspace(-20, 20, 50)
    answer = model.backtrack(rows, to={"y": target})
    slope = torch.tensor([6.0, 0.5])
    step = (target - rows["y"])[:, None] * slope / slope.square().sum()
    before: Any = model.abduct(rows)
    assert answer.noise is not None
    for k, name in enumerate("xy"):
        expected = before[name] + step[:, k]
        torch.testing.assert_close(answer.noise[name], expected, atol=1e-4, rtol=1e-4)
    x = rows["x"] + 2 * step[:, 0]
    torch.testing.assert_close(answer["x"], x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer["y"], target, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer["z"], target - x + before["z"], atol=1e-4, rtol=1e-4)
    assert torch.equal(answer["a"], rows["a"])
    one = model.backtrack(rows[3], to={"y": float(target[3])})
    assert one["x"].shape == ()
    assert float(one["x"]) == pytest.approx(float(answer["x"][3]))


def test_two_antecedents_hold_at_once() -> None:
    model = linear()
    rows = model.sample(20, seed=0)
    answer = model.backtrack(rows, to={"z": 4.0, "x": [0.5] * 20})
    torch.testing.assert_close(answer["z"].float(), torch.full((20,), 4.0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer["x"], torch.full((20,), 0.5), atol=1e-4, rtol=1e-4)
    # With x = 0.5 given, z = 1 + u_y / 2 + u_z: these two move by the projection.
    before: Any = model.abduct(rows)
    residual = 4 - 1 - (before["y"] / 2 + before["z"])
    assert answer.noise is not None
    moved = torch.stack([answer.noise[k] - before[k] for k in "yz"], 1)
    slope = torch.tensor([0.5, 1.0])
    expected = residual[:, None] * slope / slope.square().sum()
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)


def test_a_bent_model_agrees_with_a_general_solver() -> None:
    model = SCM(
        x=Equation("exp(u / 2)", noise="Uniform(-1, 2)"),
        y=Equation("x**2 + 0.3*u*x", noise="Gamma(3, 2)"),
        w=Equation("tanh(y) + 0.2*x + 0.5*u"),
    )
    rows = model.sample(4, seed=1)
    before: Any = model.abduct(rows)
    answer = model.backtrack(rows, to={"w": 1.6})
    assert answer.noise is not None
    priors = [stats.uniform(-1, 3), stats.gamma(3, scale=0.5), stats.norm()]

    def scores(noise: Any, row: int) -> Any:
        cumulative = [p.cdf(float(noise[k][row])) for p, k in zip(priors, "xyw", strict=True)]
        return stats.norm.ppf(cumulative)

    def w(z: Any) -> float:
        u = [p.ppf(stats.norm.cdf(v)) for p, v in zip(priors, z, strict=True)]
        x = np.exp(u[0] / 2)
        return float(np.tanh(x**2 + 0.3 * u[1] * x) + 0.2 * x + 0.5 * u[2])

    for row in range(4):
        start = scores(before, row)
        best = optimize.minimize(
            lambda z, start=start: ((z - start) ** 2).sum(),
            start,
            constraints={"type": "eq", "fun": lambda z: w(z) - 1.6},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        distances = scores(answer.noise, row)
        assert w(distances) == pytest.approx(1.6, abs=1e-4)
        assert ((distances - start) ** 2).sum() == pytest.approx(best.fun, rel=1e-3, abs=1e-5)


def test_of_fitted_flows_no_feasible_noise_near_by_is_nearer() -> None:
    world = SCM(a=Equation("u"), b=Equation("exp(a/2) * u"), c=Equation("a*b + 2*u"))
    model = SCM("a -> b -> c; a -> c", mechanisms={k: Flow(hidden=(16,)) for k in "abc"})
    fit(model, world.sample(400, seed=0), epochs=3, seed=0)
    rows, random = world.sample(6, seed=1), torch.Generator().manual_seed(0)
    target = rows["c"] + torch.tensor([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
    answer = model.backtrack(rows, to={"c": target})
    torch.testing.assert_close(answer["c"], target, atol=1e-3, rtol=1e-3)
    before: Any = model.abduct(rows)
    after: Any = answer.noise

    def stack(noise: Any) -> Any:
        return torch.stack([noise[k] for k in "abc"], 1).double()

    distance = (stack(after) - stack(before)).square().sum(1)
    # Any noise of a and b is feasible with the noise of c that its target then takes.
    beside: dict[str, Any] = {
        k: after[k].repeat(200) + 0.3 * torch.randn(1200, generator=random) for k in "ab"
    }
    values: dict[str, Any] = {"a": model.mechanisms["a"].predict(beside["a"], {})}
    values["b"] = model.mechanisms["b"].predict(beside["b"], values)
    beside["c"] = model.mechanisms["c"].abduct(target.repeat(200), values)
    away = (stack(beside) - stack(before).repeat(200, 1)).square().sum(1)
    assert not (away < distance.repeat(200) - 1e-3).any()


def test_an_antecedent_that_holds_already_gives_the_row_back() -> None:
    model = linear()
    rows = model.sample(10, seed=0)
    target = rows["y"].clone()
    target[4] += 1
    answer, before = model.backtrack(rows, to={"y": target}), model.abduct(rows)
    same = torch.arange(10) != 4
    for name in rows:
        assert torch.equal(answer[name][same], rows[name][same])
    assert answer["x"][4] != rows["x"][4]
    assert answer.noise is not None
    assert torch.equal(answer.noise["x"][same], before["x"][same])  # type: ignore[index]


def test_ancestors_that_are_categories_keep_their_values() -> None:
    model = SCM(
        "t -> s; {s t} -> y; y -> low",
        {"s": Binary(), "low": Binary()},
        {
            "t": Equation("u"),
            "s": GumbelMax(hidden=(4,)),
            "y": Equation("t + 3*s + u"),
            "low": GumbelMax(hidden=(4,)),
        },
    )
    rows = model.sample(40, seed=0)
    answer = model.backtrack(rows, to={"y": 2.0}, seed=0)
    assert torch.equal(answer["s"], rows["s"])
    step = (2 - rows["y"]) / 2
    torch.testing.assert_close(answer["t"], rows["t"] + step, atol=1e-4, rtol=1e-4)
    provenance = answer.explain()
    assert provenance.status["s"] == "held"
    assert "posterior" in provenance.backtracked["s"]
    assert "antecedent" in provenance.backtracked["y"]
    assert "noise moved by" in provenance.backtracked["t"]
    assert "low" not in provenance.backtracked
    assert "by backtracking" in str(provenance)
    assert answer.noise is not None
    again = model.mechanisms["s"].predict(answer.noise["s"], {"t": answer["t"]})
    assert torch.equal(again, rows["s"])  # its noise gives the category under the new parent


def test_images_and_vectors_follow() -> None:
    torch.manual_seed(0)
    model = every_kind()
    rows = model.sample(3, seed=0)
    answer = model.backtrack(rows, to={"dose": rows["dose"] * 1.1}, seed=0)
    torch.testing.assert_close(answer["dose"], rows["dose"] * 1.1, rtol=1e-3, atol=1e-3)
    assert torch.equal(answer["site"], rows["site"])
    assert answer["scan"].shape == rows["scan"].shape
    place = model.backtrack(rows, to={"place": torch.zeros(2)}, seed=0)["place"]
    torch.testing.assert_close(place, torch.zeros(3, 2), atol=1e-3, rtol=0)


def test_a_circle_is_gone_round_the_shorter_way() -> None:
    hour = Continuous(lower=0, upper=24, circular=True)
    model = SCM(variables={"hour": hour}, hour=Equation("23 + u", inverse="hour - 23"))
    answer = model.backtrack({"hour": 23.0}, to={"hour": 0.5})
    assert answer.noise is not None
    assert float(answer.noise["hour"]) == pytest.approx(1.5, abs=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prior", "noise"),
    [
        ("Uniform(-1, 2)", stats.uniform(-1, 3)),
        ("Gamma(3, 2)", stats.gamma(3, scale=0.5)),
        ("Beta(2, 3)", stats.beta(2, 3)),
        ("Exponential(2)", stats.expon(scale=0.5)),
        ("LogNormal(0.5, 2)", stats.lognorm(2, scale=np.exp(0.5))),
        ("StudentT(3, 1, 2)", stats.t(3, 1, 2)),
        ("Weibull(2, 3)", stats.weibull_min(3, scale=2)),
        ("Pareto(2, 3)", stats.pareto(3, scale=2)),
        ("HalfNormal(2)", stats.halfnorm(scale=2)),
        ("Normal(1, 3)", stats.norm(1, 3)),
    ],
)
def test_scores_of_a_stated_prior_go_there_and_back(prior: str, noise: Any) -> None:
    stated = Equation("u", noise=prior).noise_prior()
    scores = NormalScore.of(stated)
    assert scores is not None
    z = torch.linspace(-5, 5, 21).double().requires_grad_()
    u = scores.noise(z)
    np.testing.assert_allclose(u.detach(), noise.ppf(stats.norm.cdf(z.detach())), rtol=1e-8)
    torch.testing.assert_close(scores.score(u), z.detach(), rtol=1e-6, atol=1e-6)
    (slope,) = torch.autograd.grad(u.sum(), z)
    step = 1e-5
    numeric = (scores.noise(z.detach() + step) - scores.noise(z.detach() - step)) / (2 * step)
    torch.testing.assert_close(slope, numeric, rtol=1e-4, atol=1e-7)


def test_steps_are_halved_where_the_constraint_bends() -> None:
    start = torch.tensor([[3.0, 0.1]]).double()
    found = nearest(lambda z: z.square().sum(1, keepdim=True) - 1, start)
    torch.testing.assert_close(found.point, start / start.norm(), atol=1e-4, rtol=0)
    far = nearest(lambda z: torch.atan(z) - 1.5, torch.tensor([[-10.0]]).double())
    assert float(far.point) == pytest.approx(np.tan(1.5), rel=1e-6)


def test_a_first_step_into_a_flat_end_is_short() -> None:
    # From -2 the slope is 0.001: the full step leads to 670, where the probability is 1 and flat.
    found = nearest(lambda z: torch.sigmoid(4 * z) - 0.9, torch.tensor([[-2.0]]).double())
    assert float(found.point) == pytest.approx(np.log(9) / 4, rel=1e-6)
    many = nearest(lambda z: z - 1e6, torch.tensor([[-2.0]]).double())
    assert float(many.point) == pytest.approx(1e6)


def test_paths_of_images_take_few_steps_if_not_told_how_many() -> None:
    kinds = {"a": Continuous(), "image": Image(1, 8, 8)}
    hasty, patient = (
        SCM("a -> image", kinds, {"image": FlowMatching(steps=steps, network="small")})
        for steps in (3, 20)
    )
    assert frugal(patient, ["a", "image"], {}) == {"steps": 5}
    assert frugal(hasty, ["a", "image"], {}) == {"steps": 3}
    assert frugal(patient, ["image"], {"steps": 8}) == {"steps": 8}
    assert frugal(patient, ["a"], {"solver": "heun"}) == {"solver": "heun"}


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ({"q": 1.0}, "unknown variable 'q'"),
        ({}, "at least one variable"),
        ({"sick": 2}, "sick: 2 is not a category"),
        ({"scan": 0.5}, "scan: .*along slopes to a number"),
        ({"dose": -1.0}, "dose: .*-1"),
        ({"dose": float("nan")}, "dose"),
        ({"dose": float("inf")}, "dose"),
        ({"dose": [1.0, 2.0]}, "2 values of dose for 3 rows"),
        ({"dose": "much"}, "dose: expected numbers"),
    ],
)
def test_an_antecedent_that_cannot_be_is_refused(to: Any, message: str) -> None:
    model = every_kind()
    with pytest.raises(ValueError, match=message):
        model.backtrack(model.sample(3, seed=0), to=to)


def test_what_no_noise_moves_or_reaches_is_named() -> None:
    model = SCM(x=Equation("u"), y=Equation("tanh(x + u)"), k=Equation("2.0"))
    rows = model.sample(3, seed=0)
    with pytest.raises(ValueError, match="k: no noise moves it"):
        model.backtrack(rows, to={"k": 3.0})
    with pytest.raises(ValueError, match=r"y: no noise .* 1.5 in row 1; .* a gap of 0\.[5-9]"):
        model.backtrack(rows, to={"y": [0.1, 1.5, 0.2]})
    with pytest.raises(ValueError, match="x: no noise moves it"):
        model.do(x=1.0).backtrack({"x": 1.0, "y": 0.5, "k": 2.0}, to={"x": 3.0})
    with pytest.raises(ValueError, match="y"):
        model.backtrack({"x": 1.0}, to={"x": 3.0})


def test_noise_of_a_hidden_common_cause_is_left_to_interventions() -> None:
    model = SCM("x -> y; x <-> y")
    with pytest.raises(ValueError, match="hidden common causes"):
        model.backtrack({"x": 0.0, "y": 1.0}, to={"y": 2.0})


def test_the_model_of_the_lecture_answers_two_questions_differently() -> None:
    world, row = worlds.lecture(), {"x1": 2.0, "x2": 4.0}
    assert float(world.counterfactual(row, do={"x2": 14.0})["x1"]) == 2
    back = world.backtrack(row, to={"x2": 14.0})
    assert float(back["x1"]) == pytest.approx(5, abs=1e-4)  # noise by (3, 1): slopes 3 and 1
    fine = world.double().backtrack(row, to={"x2": 14.0})
    assert fine["x1"].dtype == torch.float64


def test_the_figures_of_the_page_on_effects_hold() -> None:
    model = SCM(
        salt=Equation("5 + 2*u"),
        pressure=Equation("100 + 5*salt + 5*u"),
        risk=Equation("pressure/10 - salt + u"),
    )
    row = {"salt": 8.0, "pressure": 145.0, "risk": 7.0}
    broken = model.counterfactual(row, do={"pressure": 120.0})
    back = model.backtrack(row, to={"pressure": 120.0})
    expected = [[8.0, 4.5], [4.0, 8.5]]
    found = [[float(answer[k]) for k in ("salt", "risk")] for answer in (broken, back)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_sparse_noise_moves_where_it_is_steepest() -> None:
    # y = 6 u_x + u_y / 2 + 3: with one variable it is cheapest by x alone.
    model = linear()
    rows = model.sample(20, seed=0)
    before: Any = model.abduct(rows)
    answer = model.backtrack(rows, to={"y": 30.0}, moves=1)
    assert answer.noise is not None
    moved: Any = answer.noise
    assert torch.equal(moved["y"], before["y"])
    expected = before["x"] + (30 - rows["y"]) / 6
    torch.testing.assert_close(moved["x"], expected, atol=1e-4, rtol=1e-4)
    both = model.backtrack(rows, to={"y": 30.0}, moves=2)
    torch.testing.assert_close(both["x"], model.backtrack(rows, to={"y": 30.0})["x"])
    with pytest.raises(ValueError, match="z: no noise"):
        model.backtrack(rows, to={"z": 4.0, "x": 0.5, "y": 9.0}, moves=1)


def test_draws_are_of_the_law_given_the_antecedent() -> None:
    # Given g = 6 u_x + u_y / 2 the law is the normal around the nearest noise, T (1 - n n^T).
    model = linear()
    row = {"x": 1.0, "y": 3.0, "z": 2.0, "a": 0.0}
    draws = model.backtrack(row, to={"y": 9.0}, solutions=400, temperature=0.25, seed=0)
    assert draws["x"].shape == (400,)
    torch.testing.assert_close(draws["y"].float(), torch.full((400,), 9.0), atol=1e-3, rtol=0)
    assert draws.noise is not None
    slope = torch.tensor([6.0, 0.5]).double()
    along = slope / slope.norm()
    across = torch.tensor([-along[1], along[0]])
    noise: Any = draws.noise
    z = torch.stack([noise[k] for k in "xy"], 1).double()
    assert float((z @ along).std()) < 1e-4
    assert float((z @ along).mean()) == pytest.approx(6 / float(slope.norm()), abs=1e-4)
    assert float((z @ across).mean()) == pytest.approx(0, abs=4 * 0.5 / 400**0.5)
    assert float((z @ across).std()) == pytest.approx(0.5, rel=0.1)
    nearest_one = model.backtrack(row, to={"y": 9.0})
    cold = model.backtrack(row, to={"y": 9.0}, solutions=3, temperature=1e-10, seed=0)
    expected = nearest_one["x"].double().expand(3)
    torch.testing.assert_close(cold["x"].double(), expected, atol=1e-3, rtol=0)


def test_draws_on_a_bent_surface_have_its_law() -> None:
    # On the circle |z| = 2 around 0 the normal law given |z| is uniform: half lies at z_0 > 0.
    generator = torch.Generator().manual_seed(0)
    start = torch.zeros(400, 2).double()
    start[:, 0] = 0.5
    found = langevin(lambda z: z.square().sum(1, keepdim=True) - 4, start, 1.0, generator)
    assert float(found.gap.abs().max()) < 1e-6
    angle = torch.atan2(found.point[:, 1], found.point[:, 0])
    # exp(-|z - z0|^2 / 2) on the circle is exp(2 * 0.5 cos angle): von Mises of concentration 1
    assert stats.kstest(angle.numpy(), stats.vonmises(1.0).cdf).pvalue > 0.01


@pytest.mark.parametrize("entries", [[1.0, 2.0], [1e9], [1.0, 0.0]])
def test_draws_do_not_depend_on_what_is_said_twice_or_in_other_units(entries: list[float]) -> None:
    def draws(factors: list[float]) -> torch.Tensor:
        def ellipse(z: torch.Tensor) -> torch.Tensor:
            gap = (z * torch.tensor([0.5, 1.0])).square().sum(1, keepdim=True) - 1
            return gap * torch.tensor(factors)

        start, generator = torch.full((20, 2), 0.5).double(), torch.Generator().manual_seed(0)
        return langevin(ellipse, start, 1.0, generator, steps=10).point

    torch.testing.assert_close(draws(entries), draws([1.0]), atol=1e-5, rtol=0)


def test_a_category_takes_its_value_by_its_own_noise() -> None:
    model = SCM(
        "t -> s -> y",
        {"s": Categorical(3)},
        {
            "t": Equation("u"),
            "s": GumbelMax(table=None, hidden=(4,)),
            "y": Equation(lambda s, u: 2.0 * s + u),
        },
    )
    rows = model.sample(40, seed=0)
    wanted = (rows["s"] + 1) % 3
    answer = model.backtrack(rows, to={"s": wanted}, seed=0)
    assert torch.equal(answer["s"], wanted)
    assert torch.equal(answer["t"], rows["t"])
    torch.testing.assert_close(answer["y"], rows["y"] + 2.0 * (wanted - rows["s"]))
    assert "exact posterior of its new value" in answer.explain().backtracked["s"]
    at_once = model.backtrack(rows, to={"s": 1, "t": 0.3}, seed=0)
    assert (at_once["s"] == 1).all()
    torch.testing.assert_close(at_once["t"], torch.full((40,), 0.3), atol=1e-4, rtol=0)
    assert at_once.noise is not None
    drawn = at_once.noise["s"]
    parents = {"t": at_once["t"]}
    assert (model.mechanisms["s"].predict(drawn, parents) == 1).all()


def test_an_impossible_category_is_named() -> None:
    model = SCM("s", {"s": Binary()}, {"s": GumbelMax(table=[1.0, 0.0])})
    with pytest.raises(ValueError, match=r"s: .*probability zero"):
        model.backtrack({"s": 0}, to={"s": 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moves": 0}, "moves"),
        ({"solutions": 0}, "solutions"),
        ({"solutions": 2, "temperature": 0.0}, "temperature"),
        ({"solutions": 2, "moves": 1}, "moves: give it without"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear().backtrack({"x": 1.0, "y": 3.0, "z": 2.0, "a": 0.0}, to={"y": 1.0}, **options)


def test_a_predictor_of_an_image_is_an_antecedent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = (Stage(8, 4, latents=2), Stage(4, 8, latents=2))
    model = SCM(
        "t -> scan",
        {"scan": Image(1, 16, 16, bits=None)},
        {"t": Equation("u"), "scan": HVAE(likelihood="gaussian", stages=stages)},
    )
    model = model.eval().requires_grad_(False)
    generator, counted = torch.Generator().manual_seed(0), list[int]()
    weights = torch.randn(256, generator=generator) / 4

    def judge(scan: Any) -> Any:
        return torch.sigmoid((scan - 0.5).flatten(1) @ weights)

    def counting(function: Any, z: Any) -> Any:
        counted.append(1)
        return linear_form(function, z)

    monkeypatch.setattr("rung3.scm.nearest.linear", counting)
    judged = with_predictor(model, judge)
    row = judged.sample(1, seed=0)
    for shift in (0.05, -0.1):  # past kinks, where pixels turn black or white
        counted.clear()
        target = row["prediction"] + shift
        answer = judged.backtrack(row, to={"prediction": target}, seed=0)
        torch.testing.assert_close(answer["prediction"], target, atol=1e-4, rtol=0)
        assert len(counted) <= 100


def bright(image: Any) -> Any:
    return torch.sigmoid(40 * (image.flatten(1).mean(1) - 0.12))


@pytest.fixture(scope="module")
def shipped() -> tuple[SCM, Rows]:
    """The model of drawn digits that comes with the library, and its test rows."""
    run = RunFolder(find_model("rung3/digits"))
    return run.model().requires_grad_(False), run.test()[0]


def test_an_image_of_whole_levels_meets_a_probability(shipped: tuple[SCM, Rows]) -> None:
    model, rows = shipped
    judged = with_predictor(model, bright)
    row = {**rows[2], "prediction": bright(rows[2]["image"][None])[0]}
    answer = judged.backtrack(row, to={"prediction": 0.3}, seed=0)
    level = answer["image"] * 255
    assert torch.equal(answer["image"], level.round() / 255)
    assert float(bright(answer["image"][None])[0]) == pytest.approx(0.3, abs=1e-3)
    assert answer.explain().backtracked["prediction"].rsplit(" ", 1)[0].endswith("met to")


def test_a_pixel_is_met_level_by_level(shipped: tuple[SCM, Rows]) -> None:
    model, rows = shipped
    judged = with_predictor(model, lambda image: image[:, 0, 16, 16])
    row = {**rows[2], "prediction": rows[2]["image"][0, 16, 16]}
    answer = judged.backtrack(row, to={"prediction": 128 / 255}, seed=0)
    assert float(answer["image"][0, 16, 16]) == pytest.approx(128 / 255, abs=1e-6)
    between = {"prediction": 0.5}  # halfway from 127 to 128
    with pytest.raises(ValueError, match=r"a gap of 0\.00196; .*tolerance="):
        judged.backtrack(row, to=between, seed=0)
    near = judged.backtrack(row, to=between, tolerance=0.002, seed=0)
    assert float(near["image"][0, 16, 16]) * 255 == pytest.approx(127.5, abs=0.51)


def test_a_probability_beyond_one_is_outside_the_support() -> None:
    judged = with_predictor(linear(), lambda y: torch.sigmoid(y))
    row = {"x": 1.0, "y": 3.0, "z": 2.0, "a": 0.0}
    row["prediction"] = float(torch.sigmoid(torch.tensor(3.0)))
    assert float(judged.backtrack(row, to={"prediction": 0.7})["prediction"]) == pytest.approx(
        0.7, abs=1e-3
    )
    with pytest.raises(ValueError, match=r"prediction: 1.5 is outside its support \[0, 1\]"):
        judged.backtrack(row, to={"prediction": 1.5})


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_means_nothing_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        linear().backtrack(
            {"x": 1.0, "y": 3.0, "z": 2.0, "a": 0.0}, to={"y": 1.0}, tolerance=tolerance
        )


@pytest.mark.slow  # 30 seconds of CPU
def test_images_of_the_trained_model_take_few_gradients(
    shipped: tuple[SCM, Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = shipped
    judged, counted = with_predictor(model, bright), list[int]()

    def counting(function: Any, z: Any) -> Any:
        counted.append(1)
        return linear_form(function, z)

    monkeypatch.setattr("rung3.scm.nearest.linear", counting)
    steps, gaps = [], []
    for k in range(12):
        row = {**rows[k], "prediction": bright(rows[k]["image"][None])[0]}
        for target in (0.1, 0.5, 0.9):
            counted.clear()
            answer = judged.backtrack(row, to={"prediction": target}, seed=0)
            gaps.append(abs(float(bright(answer["image"][None])[0]) - target))
            steps.append(len(counted))
            assert torch.equal(answer["image"], (answer["image"] * 255).round() / 255)
    assert max(steps) <= 100
    assert max(gaps) <= 1e-3
