"""Positivity: targets out of the range, and targets in it where no row is like them."""

from __future__ import annotations

import pytest
import torch

from rung3 import SCM, Categorical, Continuous, Rows
from rung3.evaluation.positivity import positivity
from rung3.mechanisms import Equation, GumbelMax


@pytest.fixture
def model() -> SCM:
    """The age and the dose, which follow one another closely, and what they do."""
    return SCM(
        graph="age -> dose; {age dose} -> outcome",
        variables={"age": Continuous(), "dose": Continuous()},
        mechanisms={
            "age": Equation("u"),
            "dose": Equation("age + u/20"),
            "outcome": Equation("age + dose + u"),
        },
    )


def test_targets_like_the_data_are_seldom_far(model: SCM) -> None:
    train, rows = model.sample(4000, seed=0), model.sample(4000, seed=1)
    (result,) = positivity(model, train, rows, "dose", rows["dose"])
    assert result.outside < 0.005
    assert result.far < 0.03  # 1 % of the data's own rows are, by construction


def test_targets_in_range_can_be_far_jointly(model: SCM) -> None:
    train, rows = model.sample(4000, seed=0), model.sample(1000, seed=1)
    shuffled = rows["dose"][torch.randperm(1000)]
    (result,) = positivity(model, train, rows, "dose", shuffled)
    assert (result.outcome, result.jointly) == ("outcome", ("dose", "age"))
    assert result.outside < 0.01
    assert result.far > 0.5


def test_descendants_are_not_held_at_what_they_were(model: SCM) -> None:
    train, rows = model.sample(4000, seed=0), model.sample(1000, seed=1)
    result = positivity(model, train, rows, "age", rows["age"][torch.randperm(1000)])
    assert {p.outcome: p.jointly for p in result} == {"dose": ("age",), "outcome": ("age",)}
    assert all(p.far < 0.05 for p in result)


def test_a_category_that_was_never_seen() -> None:
    model = SCM(graph="kind -> size", variables={"kind": Categorical(3)})
    train = Rows({"kind": torch.tensor([0, 1] * 50), "size": torch.zeros(100)})
    target = torch.tensor([0, 1, 2, 2])
    (result,) = positivity(model, train, train[:4], "kind", target)
    assert (result.seen, result.outside, result.far) == ("2 of 3", 0.5, 0.5)


def test_a_variable_without_children() -> None:
    model = SCM(graph="a; b", mechanisms={"a": Equation("u"), "b": Equation("u")})
    (result,) = positivity(model, model.sample(200), model.sample(2), "a", torch.tensor([0.0, 9.0]))
    assert (result.outcome, result.jointly, result.outside) == (None, ("a",), 0.5)


def test_rows_with_missing_values_are_left_out() -> None:
    variables = {"a": Continuous(missing=True), "kind": Categorical(2)}
    model = SCM(graph="{a kind} -> b", variables=variables, mechanisms={"kind": GumbelMax()})
    a = torch.tensor([0.0, torch.nan] * 50)
    train = Rows({"a": a, "kind": torch.tensor([0, 1] * 50), "b": torch.zeros(100)})
    (result,) = positivity(model, train, train[:1], "a", torch.tensor([0.0]))
    assert (result.seen, result.outside, result.far) == ("0 to 0", 0.0, 0.0)
