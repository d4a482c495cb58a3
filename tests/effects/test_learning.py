"""Intervals of fitted models that hold the learning."""

from __future__ import annotations

import warnings

import pytest
import torch

from rung3 import SCM, Binary, choose, effects, fit
from rung3.mechanisms import AdditiveNoise, Equation, Flow, InverseCDF

WORLD = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("x + m + u"))
GRAPH = "x -> m; {x m} -> y"


def chosen(seed: int = 0, n: int = 300) -> SCM:
    among = {name: [AdditiveNoise(degree=1)] for name in "xmy"}
    return choose(SCM(GRAPH), WORLD.sample(n, seed=seed), among=among, steps=2).model


@pytest.fixture(scope="module")
def model() -> SCM:
    return chosen()


def test_an_average_holds_the_learning_and_says_so(model: SCM) -> None:
    options = {"do": {"x": 1.0}, "outcome": "y", "versus": {"x": 0.0}, "n": 500, "seed": 0}
    alone = effects.average(model, **options, refits=0)  # type: ignore[arg-type]
    held = effects.average(model, **options, refits=6)  # type: ignore[arg-type]
    assert float(alone.high - alone.low) < 1e-4
    assert 0.1 < float(held.high - held.low) < 1.5
    assert held.low < 3 < held.high
    assert str(alone).endswith("(of the rows alone, not of learning the model)")
    assert str(held).endswith("(of rows and learning: 6 refits)")
    repeated = effects.average(model, **options, refits=6)  # type: ignore[arg-type]
    assert (held.low, held.high) == (repeated.low, repeated.high)


def test_refits_are_of_rows_drawn_anew_and_only_of_what_is_asked(model: SCM) -> None:
    first, second = effects.refits(model, 2, names=["y"], seed=0)
    row = {"x": 0.0, "m": 0.0, "y": 0.0}
    answers = [one.counterfactual(row, do={"m": 1.0})["y"] for one in (model, first, second)]
    assert len({round(float(answer), 5) for answer in answers}) == 3
    assert first.mechanisms["m"] is model.mechanisms["m"]
    assert first.fitted == model.fitted


def test_mediation_and_groups_hold_it_too(model: SCM) -> None:
    rows = WORLD.sample(100, seed=1)
    effect = effects.mediate(model, rows, {"x": 1.0}, "y", "m", versus={"x": 0.0})
    averages = effect.average(refits=5)
    for part in (averages.direct, averages.indirect, averages.total):
        assert part.refits == 5
        assert 0.1 < float(part.high - part.low) < 1.5
    natural = effects.natural(model, {"x": 1.0}, "y", "m", versus={"x": 0.0}, n=200, refits=5)
    assert natural.total.refits == 5
    others = [
        effects.mediate(one, rows, {"x": 1.0}, "y", "m", versus={"x": 0.0}).total
        for one in effects.refits(model, 5)
    ]
    groups = effects.heterogeneity(effect.total, rows, "x", bins=2, refits=others).groups
    assert all(float(one.high - one.low) > 0.1 for one in groups.values())
    with pytest.raises(ValueError, match="effects of two fits or more"):
        effects.heterogeneity(effect.total, rows, "x", bins=2, refits=others[:1])


def test_anything_may_be_asked(model: SCM) -> None:
    def slope(model: SCM) -> torch.Tensor:
        return model.counterfactual({"x": 0.0, "m": 0.0, "y": 0.0}, do={"x": 1.0})["m"]

    estimate = effects.hold_learning(slope, model, 5, seed=0)
    assert estimate.low < 2 < estimate.high
    shares = effects.hold_learning(lambda m: effects.average(m, {"x": 1.0}, "y", n=50), model, 5)
    assert shares.refits == 5


def test_where_rows_are_not_at_hand_it_is_said(model: SCM) -> None:
    done = model.do(x=1.0)
    assert effects.refits(done) == []
    with pytest.raises(ValueError, match="the rows that the model learned from are not at hand"):
        effects.refits(done, 5)
    with pytest.raises(ValueError, match="expected 0, or at least 2, got 1"):
        effects.refits(model, 1)
    estimate = effects.average(done, {"m": 1.0}, "y", n=50)
    assert estimate.refits == 0


def test_a_model_that_is_trained_is_refitted_only_when_told() -> None:
    mechanisms = {"x": Flow(), "y": Flow()}  # of y given x, there is nothing to solve
    model = SCM("x -> y", mechanisms=mechanisms)
    rows = SCM(x=Equation("u"), y=Equation("x + u")).sample(200, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model, rows, epochs=1, progress=False)
    assert effects.average(model, {"x": 1.0}, "y", n=50).learned
    estimate = effects.average(model, {"x": 1.0}, "y", n=50, refits=2)
    assert (estimate.refits, estimate.learned) == (2, False)
    fit(model, rows, epochs=1, progress=False)  # further: the same cannot be done again
    assert model.relearn is None


def test_a_model_in_double_is_refitted_in_double(model: SCM) -> None:
    double = model.exchange({})
    double.relearn = model.relearn
    double = double.double()
    try:
        averages = effects.natural(double, {"x": 1.0}, "y", "m", n=50, refits=2, seed=1)
        assert averages.total.low.dtype == torch.float64
        (one, _) = effects.refits(double, 2, names=["y"], seed=5)
        assert {p.dtype for p in one.mechanisms["y"].parameters()} == {torch.float64}
    finally:
        model.float()  # they share their parameters


def test_of_very_many_rows_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from rung3.training import relearning

    monkeypatch.setattr(relearning, "MOST_ROWS", 75)
    model = chosen(n=300)
    assert model.relearn is not None
    assert model.relearn.scale == pytest.approx(0.5)


YES_NO = {name: Binary() for name in "xmy"}
MEDIATED = SCM(
    GRAPH,
    YES_NO,
    {
        "x": InverseCDF(table=[0.5, 0.5]),
        "m": InverseCDF(table=[[0.7, 0.3], [0.3, 0.7]]),
        "y": InverseCDF(table=[[[0.8, 0.2], [0.5, 0.5]], [[0.6, 0.4], [0.2, 0.8]]]),
    },
)
PARTS = {"direct": 0.23, "indirect": 0.12, "total": 0.39}
"""Natural effects of x = 1 instead of 0, through m."""


def holding(n: int, studies: int) -> dict[str, int]:
    """Count the studies of n rows whose intervals of natural effects hold the truth."""
    held = dict.fromkeys(PARTS, 0)
    for seed in range(studies):
        counted = {name: InverseCDF(prior=0.01) for name in "xmy"}
        model = SCM(GRAPH, YES_NO, counted)
        fit(model, MEDIATED.sample(n, seed=seed), progress=False)
        effect = effects.natural(model, {"x": 1}, "y", "m", versus={"x": 0}, n=1_000, seed=seed)
        for name, truth in PARTS.items():
            part = getattr(effect, name)
            assert part.refits == 30
            held[name] += bool(part.low <= truth <= part.high)
    return held


@pytest.mark.slow  # 5 minutes
@pytest.mark.parametrize(("n", "least"), [(200, 920), (1_000, 930)])
def test_natural_effects_of_learned_models_hold_the_truth(n: int, least: int) -> None:
    """1,000 studies; the draws of rows are in the intervals too, which makes them wider."""
    assert all(least <= held <= 985 for held in holding(n, 1_000).values())


@pytest.mark.slow
def test_ninety_five_percent_hold_the_truth() -> None:
    """200 studies of 300 rows; 91 to 99 % is two and a half standard errors."""
    held = 0
    for seed in range(200):
        estimate = effects.average(
            chosen(seed), {"x": 1.0}, "y", versus={"x": 0.0}, n=500, seed=seed
        )
        held += bool(estimate.low < 3 < estimate.high)
    assert 182 <= held <= 198
