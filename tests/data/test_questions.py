"""Interventions in words."""

from __future__ import annotations

import pytest
import torch

from rung3 import SCM, Binary, Categorical, Continuous
from rung3.data.questions import interventions
from rung3.mechanisms import Equation, InverseCDF


@pytest.fixture
def model() -> SCM:
    return SCM(
        graph="a -> b; c",
        variables={"c": Binary(labels=("no", "yes"))},
        mechanisms={"a": Equation("u"), "b": Equation("2*a + u"), "c": InverseCDF()},
    )


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a=4", "a", 4.0),
        ("a = -1/2", "a", -0.5),
        ("b=b+2", "b", 5.0),
        ("b=a", "b", 1.0),
        ("c=yes", "c", 1.0),
        ("c=1-c", "c", 0.0),
        ('b="a"+1', "b", 2.0),
    ],
)
def test_a_question_in_words_is_answered(model: SCM, text: str, name: str, value: float) -> None:
    row = {"a": 1.0, "b": 3.0, "c": "yes"}
    answer = model.counterfactual(row, interventions([text], model.variables), seed=0)
    torch.testing.assert_close(answer[name].float(), torch.tensor(value))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a"], "expected name=value"),
        (["=3"], "expected name=value"),
        (["bb=3"], "unknown variable 'bb'.*did you mean 'b'"),
        (["a=1", "a=2"], "a is set twice"),
        (["a=__import__('os')"], "not allowed"),
        (["c=yez"], r"c: unknown category \['yez'\]; expected \['no', 'yes'\]; did you mean 'yes'"),
        (["c=New York"], r"c: unknown category \['New York'\]; expected \['no', 'yes'\]"),
    ],
)
def test_what_is_not_a_question_is_refused(model: SCM, texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interventions(texts, model.variables)


def test_an_expression_of_other_variables_than_the_parents_is_refused(model: SCM) -> None:
    do = interventions(["a=b+1"], {"a": Continuous(), "b": Continuous()})
    with pytest.raises(ValueError, match="must be parents, or the variable itself"):
        model.do(do)


def test_a_number_is_the_label_that_reads_like_it() -> None:
    kinds = {"school": Categorical(labels=("1", "2", "3"))}
    model = SCM("school", kinds)
    assert model.do(interventions(["school=2"], kinds)).sample(1)["school"].item() == 1
    with pytest.raises(ValueError, match="unknown category"):
        model.do(interventions(["school=0"], kinds))
