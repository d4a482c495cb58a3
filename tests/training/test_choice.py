"""Choosing and diagnosing: worlds whose right mechanism is known, and wrong ones that must show."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rung3 import SCM, Binary, Categorical, Continuous, choose, diagnose, fit, worlds
from rung3.mechanisms import AdditiveNoise, Equation, Flow, GumbelMax, InverseCDF
from rung3.training.choice import candidates

QUICK: dict[str, Any] = {"steps": 400, "batch_size": 256}


def test_a_parabola_with_additive_noise_is_found() -> None:
    world = SCM(x=Equation("u"), y=Equation("x**2 + 0.5*u"))
    rows = dict(world.sample(3_000, seed=0))
    among = {"y": [AdditiveNoise(degree=1), AdditiveNoise(degree=2), Flow(splines=0)]}
    choice = choose(SCM("x -> y"), rows, among=among, **QUICK)
    assert choice.chosen == {"x": "Flow()", "y": "AdditiveNoise(degree=2)"}
    line, parabola, _ = choice.trials["y"]
    assert not line.as_good
    assert not line.independent
    assert parabola.as_good
    assert parabola.independent
    assert "nothing simpler" in choice.reasons["y"] or "simplest" in choice.reasons["y"]
    assert "AdditiveNoise(degree=1): log p = " in str(choice)
    answer = choice.model.counterfactual({"x": 1.0, "y": 3.0}, do={"x": 2.0})["y"]
    assert answer.item() == pytest.approx(3 + 3, abs=0.15)


def test_what_a_simpler_one_explains_is_not_tried_for_again() -> None:
    """After a line with independent noise, a parabola that is no better; a cubic is not tried."""
    rows = dict(worlds.lecture().sample(3_000, seed=1))
    choice = choose(SCM("x1 -> x2"), {k: rows[k] for k in ("x1", "x2")})
    tried = [trial.mechanism for trial in choice.trials["x2"]]
    assert choice.chosen["x2"] == "AdditiveNoise(degree=1)"
    assert tried[:2] == ["AdditiveNoise(degree=1)", "AdditiveNoise(degree=2)"]
    assert len(tried) < 4


def test_noise_whose_size_depends_on_a_cause_is_not_called_additive() -> None:
    world = SCM(x=Equation("u"), y=Equation("x + exp(x/2)*u"))
    rows = dict(world.sample(3_000, seed=0))
    among = {"y": [AdditiveNoise(degree=1), Flow(splines=0)]}
    choice = choose(SCM("x -> y"), rows, among=among, **QUICK)
    assert choice.chosen["y"] == "Flow(splines=0)"
    assert choice.reasons["y"].startswith("the best likelihood")


def test_richer_noise_is_tried_only_where_the_parents_tell_the_simpler() -> None:
    world = SCM(x=Equation("u"), y=Equation("x**2 + 0.5*u"), z=Equation("x + exp(x/2)*u"))
    choice = choose(SCM("x -> y; x -> z"), dict(world.sample(3_000, seed=0)), **QUICK)
    assert choice.chosen["y"] == "AdditiveNoise(degree=2)"
    assert len(choice.trials["y"]) < 5  # lines, curves, a network
    assert choice.chosen["z"] == "AdditiveNoise(spread=True)"
    assert not any(trial.independent for trial in choice.trials["z"][:4])
    answer = choice.model.counterfactual({"x": 0.0, "y": 0.0, "z": 1.0}, do={"x": 2.0})["z"]
    assert answer.item() == pytest.approx(2 + math.e, abs=0.3)


def test_a_mechanism_that_was_brought_is_kept() -> None:
    class Line:
        def fit(self, features: object, target: object) -> None: ...

        def predict(self, features: object) -> object:
            return features[:, 0]  # type: ignore[index]

    rows = worlds.lecture().sample(500, seed=0)
    model = SCM("x1 -> x2", mechanisms={"x2": AdditiveNoise(regressor=Line())})
    assert "regressor" in choose(model, rows, **QUICK).chosen["x2"]


def test_if_every_candidates_noise_depends_on_the_parents_it_says_so() -> None:
    world = SCM(x=Equation("u"), y=Equation("x**2 + 0.5*u"))
    among = {"y": [AdditiveNoise(degree=1), AdditiveNoise(degree=1)]}
    choice = choose(SCM("x -> y"), dict(world.sample(1_000, seed=0)), among=among, **QUICK)
    assert "its noise depends on the parents" in choice.reasons["y"]


def test_what_the_user_named_is_kept() -> None:
    rows = worlds.lecture().sample(500, seed=0)
    model = SCM("x1 -> x2", mechanisms={"x2": Flow(splines=0, hidden=())})
    choice = choose(model, rows, **QUICK)
    assert choice.chosen["x2"] == "Flow(splines=0, hidden=())"
    assert choice.reasons["x2"] == "named by you"
    assert not model.fitted


def test_candidates_fit_their_variable() -> None:
    x = {"x": Continuous()}
    assert [type(m) for m in candidates(Binary(), x)[0]] == [InverseCDF, InverseCDF]
    assert [type(m) for m in candidates(Categorical(3), x)[0]] == [GumbelMax, GumbelMax]
    assert str(candidates(Continuous(), {})) == "[[Flow()]]"
    wide = {"x": Continuous(dim=30)}
    assert str(candidates(Continuous(), wide)) == (
        "[[AdditiveNoise(degree=1), AdditiveNoise()], [AdditiveNoise(spread=True)], "
        "[AdditiveNoise(trees=200)], [Flow()]]"
    )
    levels = candidates(Continuous(), {"x": Categorical(400)})
    assert str(levels[0]) == "[AdditiveNoise(degree=1), AdditiveNoise()]"
    clock = Continuous(lower=0, upper=24, circular=True)
    assert str(candidates(clock, x)) == "[[Flow(splines=0), Flow()]]"


def draw(seed: int, n: int, rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, n, generator=torch.Generator().manual_seed(seed))


def test_a_fast_wave_is_not_taken_for_a_line() -> None:
    """A line leaves all of `sin(8 a)` to the noise; to do nothing errs by 0.8."""
    a, u = draw(0, 3_000)
    choice = choose(SCM("a -> y"), {"a": a, "y": (8 * a).sin() + 0.2 * u}, **QUICK)
    assert choice.chosen["y"] == "AdditiveNoise()"
    line = choice.trials["y"][0]
    assert line.independence < 1e-6
    new = draw(1, 1_000, rows=3)
    y, want = ((8 * values).sin() + 0.2 * new[1] for values in new[[0, 2]])
    answer = choice.model.counterfactual({"a": new[0], "y": y}, do={"a": new[2]})["y"]
    assert (answer - want).abs().mean() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("teeth", ["saw", "square"])
def test_steps_are_found(teeth: str) -> None:
    """To do nothing errs by 0.64 and 1."""

    def f(a: torch.Tensor) -> torch.Tensor:
        return (4 * a).frac().add(1).frac() * 2 if teeth == "saw" else (4 * a).sin().sign()

    a, u = draw(0, 10_000)
    choice = choose(SCM("a -> y"), {"a": a, "y": f(a) + 0.2 * u})
    new = draw(1, 2_000, rows=3)
    answer = choice.model.counterfactual(
        {"a": new[0], "y": f(new[0]) + 0.2 * new[1]}, do={"a": new[2]}
    )["y"]
    assert (answer - f(new[2]) - 0.2 * new[1]).abs().mean() < 0.2
    if teeth == "saw":
        assert choice.chosen["y"] == "AdditiveNoise(trees=200)"


def test_an_effect_that_differs_between_groups_is_not_averaged_away() -> None:
    """Of `+.15` in one group and `-.15` in the other, in 2,000 rows: errors of .03."""
    u = torch.rand(3, 2_000, generator=torch.Generator().manual_seed(0))
    t, g = (u[:2] < 0.5).long()
    rows = {"t": t, "g": g, "y": (u[2] < 0.5 + 0.15 * (t - 0.5) * (2 * g - 1)).long()}
    model = choose(SCM("{t g} -> y", dict.fromkeys(rows, Binary())), rows, steps=100).model
    for group, truth in ((0, -0.15), (1, 0.15)):
        other, means = (model.do(t=v, g=group).sample(20_000, seed=0)["y"].double() for v in (0, 1))
        assert float(means.mean() - other.mean()) == pytest.approx(truth, abs=0.1)


def test_a_spread_is_found_in_few_rows() -> None:
    a, u = draw(0, 500)
    choice = choose(SCM("a -> y"), {"a": a, "y": a + (a / 2).exp() * u}, **QUICK)
    assert choice.chosen["y"] == "AdditiveNoise(spread=True)"


def test_outliers_do_not_make_a_curve_of_a_line() -> None:
    """With noise of 2 degrees of freedom, a line's slope is told to .05, a cubic seldom taken."""
    from scipy.stats import t

    lines, slopes = 0, []
    for seed in range(3):
        a, u = draw(seed, 500)
        y = 2 * a + torch.from_numpy(t.ppf(torch.special.ndtr(u.double()).numpy(), 2)).float()
        choice = choose(SCM("a -> y"), {"a": a, "y": y}, seed=seed, **QUICK)
        lines += choice.chosen["y"] == "AdditiveNoise(degree=1)"
        answer = choice.model.counterfactual({"a": [0.0], "y": [0.0]}, do={"a": 1.0})["y"]
        slopes.append(abs(answer.item() - 2))
    assert lines >= 2
    assert sorted(slopes)[1] < 0.1


def test_what_often_lies_at_a_bound_is_modelled_there() -> None:
    """Effects on the whole and on the share of zeros."""
    g = torch.Generator().manual_seed(0)
    t = torch.arange(2_000) % 2
    works = torch.rand(2_000, generator=g) < 0.6 + 0.2 * t
    pay = 3_000 + 1_000 * t + 800 * torch.randn(2_000, generator=g)
    rows = {"t": t, "pay": torch.where(works, pay.clamp_min(1), 0.0)}
    kinds = {"t": Binary(), "pay": Continuous(lower=0)}
    choice = choose(SCM("t -> pay", kinds), rows, steps=100)
    assert choice.chosen["pay"].startswith("AtBounds(")
    paid = [choice.model.do(t=v).sample(50_000, seed=0)["pay"] for v in (0, 1)]
    effect = float(paid[1].mean() - paid[0].mean())
    assert effect == pytest.approx(0.8 * 4_000 - 0.6 * 3_000, abs=200)
    assert [float((amount == 0).double().mean()) for amount in paid] == pytest.approx(
        [0.4, 0.2], abs=0.05
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 1.0}, "held_out=1.0"),
        ({"among": {"z": [Flow()]}}, "unknown variable 'z'"),
        ({"among": {"x2": []}}, "x2: expected at least one"),
        ({"steps": 1}, "steps=1 must be at least 2"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    rows = worlds.lecture().sample(300, seed=0)
    with pytest.raises(ValueError, match=message):
        choose(SCM("x1 -> x2"), rows, **options)


def test_too_few_rows_to_judge_by_are_refused() -> None:
    with pytest.raises(ValueError, match="x2: 20 rows are held out; at least 50"):
        choose(SCM("x1 -> x2"), worlds.lecture().sample(100, seed=0), steps=4)


# Diagnosis ----------------------------------------------------------------------------------------

CAUSED = "x + exp(x/2)*u"


@pytest.mark.parametrize(
    ("equation", "calibrated", "independent"),
    [
        (CAUSED, True, True),
        ("x + u*1.5", False, False),  # a spread that ignores its cause
        ("x**2 + exp(x/2)*u", False, False),  # a wrong mean
        ("x + exp(x/2)*(u + 0.3)", False, True),  # shifted alike everywhere
    ],
)
def test_wrong_mechanisms_show(equation: str, calibrated: bool, independent: bool) -> None:
    rows = dict(SCM(x=Equation("u"), y=Equation(CAUSED)).sample(2_000, seed=0))
    x, y = diagnose(SCM(x=Equation("u"), y=Equation(equation)), rows)
    assert x.calibrated
    assert math.isnan(x.independence)
    assert (y.calibrated, y.independent) == (calibrated, independent)
    assert ("DEPENDS" in str(y)) is not independent


def test_an_interaction_that_was_left_out_shows() -> None:
    """Neither parent alone tells the noise: only both together."""
    true = SCM(a=Equation("u"), b=Equation("u"), y=Equation("a*b + u"))
    rows = dict(true.sample(3_000, seed=0))
    wrong = SCM("a -> y; b -> y", mechanisms={"y": Flow(splines=0, hidden=())})
    fit(wrong, rows, epochs=3, progress=False)
    assert not next(d for d in diagnose(wrong, rows) if d.variable == "y").independent


def test_false_alarms_are_as_rare_as_stated() -> None:
    """200 right models at the level 0.1, two p-values each: binomial, four deviations."""
    world = SCM(x=Equation("u"), y=Equation("x + u"))
    alarms = [
        not (d.calibrated and d.independent)
        for seed in range(100)
        for d in diagnose(world, dict(world.sample(400, seed=seed)), level=0.1)
    ]
    assert sum(alarms) <= 100 * 0.2 + 4 * math.sqrt(100 * 0.2 * 0.8)


def test_any_false_alarm_is_as_rare_as_stated() -> None:
    """100 right models of three variables and two kinds of noise, at the level 0.1."""
    world = SCM(
        "{a b} -> y",
        {"b": Binary()},
        {"a": Equation("u"), "b": InverseCDF(table=[0.9, 0.1]), "y": Equation("a + b + u")},
    )
    alarms = [
        not all(
            d.calibrated and d.independent
            for d in diagnose(world, dict(world.sample(200, seed=seed)), level=0.1, seed=seed + 1)
        )
        for seed in range(100)
    ]
    assert sum(alarms) <= 100 * 0.1 + 4 * math.sqrt(100 * 0.1 * 0.9)


@pytest.mark.parametrize("missed", ["sin(8*a)", "sin(60*a)", "2*(sin(9*a) > 0)", "sin(5*a*b)"])
def test_what_a_smooth_mechanism_misses_shows_however_fast_it_turns(missed: str) -> None:
    noise, far = Equation("u"), {"a": Equation("u"), "b": Equation("u")}
    world = SCM("{a b} -> y", mechanisms=far | {"y": Equation(f"{missed} + 0*(a + b) + 0.2*u")})
    rows = dict(world.sample(2_000, seed=0))
    line = SCM("{a b} -> y", mechanisms={"a": noise, "b": noise, "y": AdditiveNoise(degree=1)})
    fit(line, dict(world.sample(2_000, seed=1)), epochs=1, progress=False)
    assert not next(d for d in diagnose(line, rows) if d.variable == "y").independent
    assert next(d for d in diagnose(world, rows) if d.variable == "y").independent


def test_categories_are_diagnosed_by_their_posterior_noise() -> None:
    table = [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]
    kinds = {"x": Binary(), "y": Categorical(3)}
    mechanisms = {"x": InverseCDF(table=[0.5, 0.5]), "y": GumbelMax(table=table)}
    world = SCM("x -> y", kinds, mechanisms)
    rows = dict(world.sample(3_000, seed=0))
    assert all(d.calibrated and d.independent for d in diagnose(world, rows, seed=1))
    flat = SCM("x -> y", kinds, mechanisms | {"y": GumbelMax(table=[[0.4, 0.2, 0.4]] * 2)})
    assert not diagnose(flat, rows, seed=1)[1].independent


def test_rows_with_gaps_test_what_they_can() -> None:
    kinds = {"x": Continuous(), "y": Continuous(missing=True)}
    world = SCM(None, kinds, x=Equation("u"), y=Equation("x + u"))
    rows = dict(world.sample(500, seed=0))
    rows["y"] = torch.where(torch.arange(500) < 200, torch.nan, rows["y"])
    assert [d.rows for d in diagnose(world, rows)] == [500, 300]


def test_bad_input_to_a_diagnosis_is_refused() -> None:
    world = worlds.lecture()
    rows = dict(world.sample(20, seed=0))
    with pytest.raises(ValueError, match="x1: 20 rows; a diagnosis needs at least 50"):
        diagnose(world, rows)
    with pytest.raises(ValueError, match=r"x1: set by do\(\)"):
        diagnose(world.do(x1=0.0), dict(world.sample(100, seed=0)))
    with pytest.raises(ValueError, match="level"):
        diagnose(world, rows, level=0)


# Bad input, of tables -----------------------------------------------------------------------------


def test_columns_that_do_not_agree_with_the_graph_are_named() -> None:
    rows = dict(worlds.lecture().sample(300, seed=0))
    with pytest.raises(ValueError, match="unknown variable 'x3'; the variables are"):
        choose(SCM("x1 -> x2"), rows | {"x3": rows["x1"]})
    with pytest.raises(ValueError, match="x2: not among the rows' columns"):
        choose(SCM("x1 -> x2"), {"x1": rows["x1"]})


def test_a_constant_column_is_refused() -> None:
    rows = dict(worlds.lecture().sample(300, seed=0))
    with pytest.raises(ValueError, match="x1: all its values are 2; leave the column out"):
        choose(SCM("x1 -> x2"), rows | {"x1": torch.full((300,), 2.0)})


def test_a_category_unseen_in_training_is_answered_and_flagged() -> None:
    kinds = {"x": Categorical(3), "y": Continuous()}
    rows = {"x": torch.arange(400) % 2, "y": torch.arange(400) / 100}
    model = SCM("x -> y", kinds)
    fit(model, rows, epochs=1, progress=False)
    answer = model.counterfactual({"x": [0], "y": [1.0]}, do={"x": 2})
    assert answer.explain().outside["x"] == 1.0
    assert "outside the training range in 100% of rows" in str(answer.explain())
