"""Recourse: against enumeration on a small world, along the graph, within what is allowed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from rung3 import SCM, Binary, Categorical, Continuous, Ordinal, recourse
from rung3.mechanisms import Counts, Equation, GumbelMax, InverseCDF


def small() -> SCM:
    """b follows a unless it is set."""
    return SCM(
        "a -> b; {a b c} -> y",
        {"a": Ordinal(4), "b": Binary(), "c": Categorical(3), "y": Binary()},
        {
            "a": InverseCDF(table=[0.4, 0.3, 0.2, 0.1]),
            "b": Equation(lambda a: (a >= 2).long()),
            "c": InverseCDF(table=[0.5, 0.3, 0.2]),
            "y": Equation(lambda a, b, c: (a + 2 * b + 2 * (c == 1) >= 4).long()),
        },
    )


PRICES = {"a": 1.5, "b": 1.9, "c": 1.2}


def enumerated(row: dict[str, int], at_most: int) -> float:
    """Return the least cost by trying everything."""
    best = float("inf")
    for a, b, c in itertools.product(range(4), (None, 0, 1), range(3)):
        now_b = int(a >= 2) if b is None else b
        acted = [a != row["a"], b is not None and b != row["b"], c != row["c"]]
        if b is not None and b == row["b"]:
            continue  # to set b to what it was is no change, and is not tried
        if sum(acted) > at_most or not a + 2 * now_b + 2 * (c == 1) >= 4:
            continue
        cost = PRICES["a"] * abs(a - row["a"]) + PRICES["c"] * acted[2] + PRICES["b"] * acted[1]
        best = min(best, cost)
    return best


@pytest.mark.parametrize("at_most", [1, 2, 3])
def test_it_is_the_cheapest_by_enumeration(at_most: int) -> None:
    model = small()
    rows = model.sample(60, seed=0)
    for k in range(12):
        row = {name: int(rows[name][k]) for name in rows}
        best = 0.0 if row["y"] else enumerated(row, at_most)
        options: dict[str, Any] = {"cost": PRICES, "at_most": at_most, "seed": 0}
        if best == float("inf"):
            with pytest.raises(ValueError, match="no intervention"):
                recourse(model, row, "y", 1, ["a", "b", "c"], **options)
            continue
        found = recourse(model, row, "y", 1, ["a", "b", "c"], **options)
        assert found.cost == pytest.approx(best)
        assert int(found.rows["y"][0]) == 1


def test_only_allowed_directions_are_taken() -> None:
    model, row = small(), {"a": 3, "b": 1, "c": 0, "y": 1}
    low = recourse(model, row, "y", 0, ["a"], monotone={"a": "down"}, seed=0)
    assert (int(low.do["a"]), low.cost) == (1, 2.0)
    assert int(low.rows["b"][0]) == 0  # b followed
    with pytest.raises(ValueError, match="no intervention"):
        recourse(model, row, "y", 0, ["a"], monotone={"a": "up"}, seed=0)


def test_numbers_are_met_to_the_digit_and_prices_decide() -> None:
    model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("x + m + u"))
    row = {"x": 0.0, "m": 0.0, "y": 0.0}
    target: dict[str, Any] = {"event": lambda y: y >= 1.5, "seed": 0, "actionable": ["x", "m"]}
    by_x = recourse(model, row, "y", cost={"x": 1.0, "m": 1.0}, **target)
    assert float(by_x.do["x"]) == pytest.approx(0.5, abs=1e-4)  # x moves m: three for one
    by_m = recourse(model, row, "y", cost={"x": 4.0, "m": 1.0}, **target)
    assert float(by_m.do["m"]) == pytest.approx(1.5, abs=1e-4)
    square = recourse(model, row, "y", cost={"x": lambda old, new: 9 * (new - old) ** 2}, **target)
    assert square.cost <= 9 * 0.25 + 1e-6


def test_an_open_outcome_is_reached_with_the_probability_that_is_asked() -> None:
    model = SCM(
        "dose -> well",
        {"dose": Ordinal(3), "well": Binary()},
        {
            "dose": GumbelMax(table=[0.5, 0.3, 0.2]),
            "well": GumbelMax(table=[[0.8, 0.2], [0.4, 0.6], [0.05, 0.95]]),
        },
    )
    row = {"dose": 0, "well": 0}
    mild = recourse(model, row, "well", 1, ["dose"], probability=0.3, particles=400, seed=0)
    strong = recourse(model, row, "well", 1, ["dose"], probability=0.9, particles=400, seed=0)
    assert (int(mild.do["dose"]), int(strong.do["dose"])) == (1, 2)
    # it was not well under 0: P(well under 2 | not well under 0) is at least 0.75 / 0.8
    assert 0.9 <= float(strong.probability.effect) <= 1
    assert strong.probability.low < strong.probability.high


def test_the_probability_is_not_that_of_the_draws_that_chose() -> None:
    # On those an action always has what was asked for; on others, less about half of the time.
    model = SCM(
        "x -> y", {"x": Ordinal(9), "y": Binary()},
        {"x": GumbelMax(table=[1 / 9] * 9),
         "y": GumbelMax(table=[[1 - p / 10, p / 10] for p in range(1, 10)])},
    )  # fmt: skip
    row, reached = {"x": 0, "y": 0}, []
    for seed in range(12):
        action = recourse(model, row, "y", 1, ["x"], probability=0.5, particles=20, seed=seed)
        reached.append(float(action.probability.effect))
    assert min(reached) < 0.5


def test_a_predictor_decides() -> None:
    model = SCM(x=Equation("u"), y=Equation("x + u"))
    row = {"x": -1.0, "y": -1.0}
    found = recourse(
        model, row, "y", lambda score: score > 0.5, ["x"], predictor=lambda y: torch.sigmoid(y),
        decide=lambda p: p > 0.5, seed=0,
    )  # fmt: skip
    assert float(found.do["x"]) == pytest.approx(0, abs=1e-3)
    assert "x -1 -> " in str(found)


def test_what_holds_already_costs_nothing() -> None:
    found = recourse(small(), {"a": 3, "b": 1, "c": 0, "y": 1}, "y", 1, ["a"], seed=0)
    assert (found.cost, dict(found.do)) == (0, {})
    assert "nothing needs to change" in str(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actionable": ["q"]}, "actionable: .*'q'"),
        ({"actionable": []}, "actionable: empty"),
        ({"actionable": ["c"], "outcome": "b"}, "c causes nothing of b"),
        ({"cost": {"c": 1.0}}, "cost: c is not among"),
        ({"cost": {"a": -1.0}}, "must cost more than 0"),
        ({"monotone": {"a": "left"}}, "'up' or 'down'"),
        ({"actionable": ["c"], "monotone": {"c": "up"}}, "no order"),
        ({"probability": 0.0}, "probability"),
        ({"at_most": 0}, "at_most"),
        ({"event": 7}, "y: 7"),
        ({"row": {"a": 0, "b": 0, "c": 0}}, "y: not given"),
        ({"row": {"a": [0, 0], "b": [0, 0], "c": [0, 0], "y": [0, 0]}}, "one row"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    row = {"a": 0, "b": 0, "c": 0, "y": 0}
    defaults: dict[str, Any] = {
        "row": row,
        "outcome": "y",
        "event": 1,
        "actionable": ["a"],
        "seed": 0,
    }
    with pytest.raises(ValueError, match=message):
        recourse(small(), **(defaults | change))


def test_whole_numbers_stay_whole() -> None:
    model = SCM(
        "visits -> score",
        {"visits": Continuous(whole=True, lower=0)},
        {"visits": Counts(), "score": Equation("2*visits + u")},
    )
    usual = {"visits": torch.arange(31.0), "score": 2 * torch.arange(31.0)}
    found = recourse(
        model,
        {"visits": 3.0, "score": 6.0},
        "score",
        lambda score: score >= 47,
        ["visits"],
        cost={"visits": 1.0},
        typical=usual,
        seed=0,
    )
    assert float(found.do["visits"]) == 24.0
    assert found.cost == 21.0


def test_a_number_and_a_category_are_set_together() -> None:
    model = SCM(
        "{dose drug} -> y",
        {"dose": Continuous(), "drug": Binary(), "y": Binary()},
        {
            "dose": Equation("1 + u"),
            "drug": InverseCDF(table=[0.5, 0.5]),
            "y": Equation(lambda dose, drug: (dose + 2 * drug >= 4).long()),
        },
    )
    row = {"dose": 1.0, "drug": 0, "y": 0}
    prices = {"dose": 1.0, "drug": 1.0}
    found = recourse(model, row, "y", 1, ["dose", "drug"], cost=prices, at_most=2, seed=0)
    assert float(found.do["dose"]) == pytest.approx(2, abs=1e-2)
    assert int(found.do["drug"]) == 1
