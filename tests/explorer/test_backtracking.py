"""The explorer's fourth switch: rows by backtracking, beside the answer by intervention."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from rung3 import SCM, Continuous, Rows, worlds
from rung3.explorer import Opened, PageState, Session
from rung3.explorer import answers as view
from rung3.explorer.checks import run_checks
from rung3.explorer.export import command, python
from rung3.mechanisms import Equation


@pytest.fixture(scope="module")
def chain() -> Session:
    """x -> m -> y, x -> y: y = 13 u_x + 5 u_m + u_y."""
    model = SCM(x=Equation("u"), m=Equation("2*x + u"), y=Equation("3*x + 5*m + u"))
    rows = Rows({"x": torch.zeros(2), "m": torch.zeros(2), "y": torch.tensor([0.0, 3.0])})
    return Session([Opened("chain", model, rows, model)])


def query(**more: Any) -> PageState:
    return PageState(rung="backtracking", **more)


def test_the_nearest_noise_and_what_it_costs(chain: Session) -> None:
    # The gap of 39 is closed by 13 s, 5 s and s with s = 39 / (13^2 + 5^2 + 1^2).
    share = 39 / 195
    (model,) = view.answer(chain, query(do={"y": 39.0}))["models"]
    assert model["status"] == {"x": "moved", "m": "moved", "y": "antecedent"}
    values = {name: value["is"] for name, value in model["values"].items()}
    assert values == pytest.approx({"x": 13 * share, "m": 31 * share, "y": 39}, abs=1e-4)
    assert [model["values"][name]["intervened"] for name in "xmy"] == ["0", "0", "39"]
    cost = share * math.sqrt(195)
    assert model["moved"]["total"] == f"{cost:.3g} standard deviations"
    assert model["moved"]["notes"]["m"] == "noise moved by 1 standard deviations"


def test_nothing_asked_is_the_row_and_what_holds_moves_nothing(chain: Session) -> None:
    (nothing,) = view.answer(chain, query())["models"]
    assert nothing["moved"] is None
    assert nothing["values"]["y"]["old"] == nothing["values"]["y"]["new"]
    (same,) = view.answer(chain, query(row=1, do={"y": 3.0}))["models"]
    assert same["moved"]["total"] == "0 standard deviations"
    assert same["values"]["m"]["old"] == same["values"]["m"]["new"]


def test_draws_lie_around_the_nearest(chain: Session) -> None:
    (model,) = view.answer(chain, query(do={"y": 39.0}, particles=32, seed=1))["models"]
    assert model["values"]["x"]["is"] == pytest.approx(2.6, abs=0.6)
    assert model["values"]["y"]["new"].startswith("39")
    assert "in the mean over draws" in model["moved"]["total"]


def test_checks_tell_how_far_noise_moves(chain: Session) -> None:
    near, far = ([c for c in run_checks(chain, query(do={"y": y})) if c.name == "noise"]
                 for y in (13.0, 78.0))  # fmt: skip
    assert [check.good for check in near] == [True, True, True]
    assert [check.good for check in far] == [False, True, True]
    assert "few rows are so far apart" in far[0].text
    warnings = view.trust(chain, query(do={"y": 78.0}))["models"][0]["warnings"]
    assert any("noise of x moves by 5.2" in text for text in warnings)


def test_the_world_backtracks_too() -> None:
    world = worlds.digits()
    session = Session([Opened("world", world, world.sample(3, seed=1), world)])
    asked = query(row=1, do={"intensity": 200.0})
    true = session.truth(asked)
    assert true is not None
    expected = world.backtrack(session.rows[1], {"intensity": 200.0})
    assert torch.equal(true["image"], expected["image"])
    assert view.truth(session, asked)["errors"] == [{"image": 0.0}]
    assert session.truth(query(row=1, do={"intensity": 200.0}, particles=2)) is None


def test_code_backtracks(chain: Session) -> None:
    asked = query(row=1, do={"y": 5.0}, seed=3)
    assert "model.backtrack(before, to={'y': 5.0}, seed=3)" in python(chain, asked)
    assert command(chain, asked).endswith("--row 1 --do y=5.0 --backtrack --seed 3")
    several = query(do={"y": 5.0}, particles=4)
    assert "to={'y': 5.0}, solutions=4, seed=0)" in python(chain, several)
    assert command(chain, several).startswith("# the command gives the nearest noise alone")


def test_what_cannot_be_asked_is_refused() -> None:
    equations = {"a": Equation("u"), "b": Equation("2*a"), "c": Equation("exp(a) + exp(u)")}
    model = SCM("a -> b; a -> c", {"a": Continuous(missing=True)}, equations)
    a, c = torch.tensor([0.0, torch.nan]), torch.tensor([2.0, 2.0])
    rows = Rows({"a": a, "b": torch.zeros(2), "c": c})
    session = Session([Opened("model", model, rows)])
    for asked, message in [
        (query(do={"c": 3.0}, hold=("b",)), "b: cannot be held, as backtracking keeps"),
        (query(do={"c": -3.0}), "no noise was found with which it is -3"),
        (query(row=1, do={"c": 3.0}), "a: missing"),
        (query(do={"nobody": 1.0}), "nobody"),
    ]:
        with pytest.raises(ValueError, match=message):
            session.answer(asked)
