"""What an answer rests on: kinds of abduction, statuses, and what is flagged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models import chain, every_kind

from rung3 import SCM, Binary, Categorical, Continuous, Image, Rows
from rung3.mechanisms import VAE, Equation, Flow, GumbelMax, InverseCDF, Mechanism

# What an answer rests on --------------------------------------------------------------------------


def test_explain_says_what_was_done_to_each_variable_and_what_it_rests_on() -> None:
    model = every_kind()
    rows = model.sample(5, seed=0)
    do = {"dose": lambda dose: dose + 1, "sick": 1}
    answer = model.counterfactual(rows, do, hold=["place"]).explain()
    assert answer.rung == "imagining"
    assert answer.status == {
        "site": "observed",
        "dose": "intervened",
        "stage": "propagated",
        "sick": "intervened",
        "place": "held",
        "scan": "propagated",
    }
    assert answer.names("propagated") == ["stage", "scan"]
    assert answer.interventions == {
        "dose": "set to a function of dose",
        "sick": "set to 1",
        "place": "held at its factual value",
    }
    assert answer.abductions["stage"] == "posterior"
    assert answer.abductions["scan"] == "approximate"
    assert "not known from data" in answer.assumptions["stage"]
    text = str(answer)
    for line in (
        "rung: imagining",
        "  site: observed",
        "  sick: intervened; set to 1",
        "  stage: propagated; abduction posterior; monotone in uniform noise, not known from data",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("mechanism", "variable", "kind"),
    [
        (Equation("a + u"), Continuous(), "exact"),
        (Flow(), Continuous(), "exact"),
        (GumbelMax(), Categorical(3), "posterior"),
        (InverseCDF(), Binary(), "posterior"),
        (VAE(latent=2, width=4), Image(1, 8, 8), "approximate"),
    ],
)
def test_kinds_of_abduction(mechanism: Mechanism, variable: Any, kind: str) -> None:
    model = SCM(
        graph="a -> x",
        variables={"x": variable},
        mechanisms={"a": Equation("u"), "x": mechanism},
    )
    answer = model.counterfactual(model.sample(2, seed=0), do={"a": 1.0}, seed=0)
    assert answer.explain().abductions == {"x": kind}
    assert answer.explain().assumptions == {"x": model.mechanisms["x"].assumption}


def test_rungs_and_statuses_of_samples() -> None:
    model = chain()
    assert model.sample(2).explain().rung == "seeing"
    doing = model.do(b=1.0).sample(2, given={"a": 0.0}).explain()
    assert doing.rung == "doing"
    assert doing.status == {
        "a": "observed", "b": "intervened", "c": "sampled", "d": "sampled",
    }  # fmt: skip
    with pytest.raises(ValueError, match="these rows are data"):
        Rows({"a": torch.zeros(2)}).explain()


def test_answers_outside_the_training_range_are_given_and_flagged() -> None:
    model = SCM(graph="a -> b", mechanisms={"a": Flow(), "b": Equation("2*a + u")})
    seen = {"a": torch.linspace(-1, 1, 100), "b": torch.linspace(-3, 3, 100)}
    for name, mechanism in model.mechanisms.items():
        mechanism.calibrate(seen[name], {parent: seen[parent] for parent in mechanism.parents})
    rows = {"a": torch.zeros(4), "b": torch.zeros(4)}
    far = torch.tensor([0.0, 0.5, 2.0, 1000.0])
    answer = model.counterfactual(rows, do={"a": far})
    torch.testing.assert_close(answer["b"], 2 * far)
    assert answer.explain().outside == {"a": 0.5, "b": 0.5}
    assert "outside the training range in 50% of rows" in str(answer.explain())
    assert model.do(a=50.0).sample(2).explain().outside == {"a": 1.0}
    assert model.sample(2, given={"a": 50.0}).explain().outside == {"a": 1.0}
    assert model.counterfactual(rows, do={"a": 0.1}).explain().outside == {}
