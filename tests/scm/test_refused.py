"""Models, rows and questions that do not fit are refused, and impossible evidence too."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from models import ROWS, chain, same, wrong

from rung3 import SCM, Binary, Categorical, Continuous, Image
from rung3.data.rows import Exogenous
from rung3.effects import mediate
from rung3.mechanisms import VAE, Equation, Flow, GumbelMax

# What is refused ----------------------------------------------------------------------------------


def categories() -> SCM:
    variables = {"a": Categorical(3), "b": Continuous(lower=0, unit="px", missing=True)}
    return SCM(graph="a -> b", variables=variables)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCM(a=Equation("b + u"), b=Equation("a + u")), "cycle: b -> a -> b"),
        (lambda: SCM(graph="a -> b; b -> a"), "cycle"),
        (lambda: SCM(b=Equation("a + u")), "argument: unknown variable 'a'.*are .'b'."),
        (lambda: SCM(graph="a -> b", variables={"bb": Binary()}), "'bb'.*did you mean 'b'"),
        (lambda: SCM(graph="a -> b", mechanisms={"bb": Flow()}), "'bb'.*did you mean 'b'"),
        (lambda: SCM(graph="a -> b", mechanisms={"b": Equation("u")}),
         "b: the equation's arguments are .., but the graph's parents of b are .'a'."),
        (lambda: SCM(graph="a", variables={"a": Binary()}, mechanisms={"a": Flow()}),
         "a: Flow models numbers, and a is Binary"),
        (lambda: SCM(graph="a", mechanisms={"a": GumbelMax()}), "a: GumbelMax models categories"),
        (lambda: SCM(a=Flow()), "graph: not given, and .'a'. does not say its parents"),
        (lambda: SCM(graph="a", mechanisms=wrong(Flow)),
         r"a: expected a mechanism, such as Flow\(\), got <class"),
        (lambda: SCM(graph="a", variables=wrong("continuous")),
         r"a: expected a variable, such as Binary\(\), got 'continuous'"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit_together_are_refused(make: Callable[[], SCM], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": [0, 1]}, r"b: not given; abduction needs a value of every variable.*\['a'\]"),
        ({"a": [0], "b": [1.0], "c": [0]}, r"unknown variable 'c'; the variables are \['a', 'b'\]"),
        ({"a": [0, 3], "b": [1.0, 1.0]}, "a: 3 is not a category; expected .* from 0 to 2"),
        ({"a": [0.5], "b": [1.0]}, "a: 0.5 is not a category"),
        ({"a": [-1], "b": [1.0]}, "a: -1 is not a category"),
        ({"a": [0, 1], "b": [1.0, -2.0]}, r"b: -2 is outside its support \[0, inf\] px"),
        ({"a": [0], "b": [np.inf]}, "b: 1 values are infinite"),
        ({"a": [np.nan], "b": [1.0]}, "a: 1 values are NaN; declare .* missing=True"),
        ({"a": [0, 0, 0], "b": [1.0, 1.0, np.nan]}, r"b: missing in 1 rows \(first: row 2\)"),
        ({"a": [0, 1], "b": [1.0]}, "differ in number of rows: {'a': 2, 'b': 1}"),
        ({"a": 0, "b": [1.0]}, r"\['a'\] are single values but \['b'\] are batches"),
        ({"a": [0], "b": [[1.0]]}, r"b: expected shape \(\) or \(n,\), got \(1, 1\)"),
        ({"a": [0], "b": ["much"]}, "b: expected numbers, got values of type"),
        ({}, "no values were given"),
        (3, "expected a mapping from variable to values, got int"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_any_work(rows: Any, message: str) -> None:
    model = categories()
    for ask in (model.abduct, lambda r: model.counterfactual(r, do={"a": 1})):
        with pytest.raises(ValueError, match=message):
            ask(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do": {"aa": 1}}, "do: unknown variable 'aa'.*did you mean 'a'"),
        ({"do": {"a": 3}}, "a: 3 is not a category; expected a whole number from 0 to 2"),
        ({"do": {"a": 1}, "hold": ["bb"]}, "no variable 'bb'; did you mean 'b'"),
        ({"do": {"a": 1}, "hold": ["a"]}, "a: cannot both be set and held"),
        ({"do": {"a": 1}, "particles": 0}, "particles: .* whole number of at least 1, got 0"),
        ({"do": {"a": 1}, "particles": 2.5}, "particles: .* whole number of at least 1, got 2.5"),
        ({"do": {"a": 1}, "particles": True}, "particles: .* whole number .*, got True"),
        ({"do": {"a": [0, 1, 2]}}, "a=...: 3 values for 2 rows"),
    ],
)
def test_questions_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("...:", r"\.\.\.\):")):
        categories().counterfactual({"a": [0, 1], "b": [1.0, 2.0]}, **options)


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "3"])
def test_what_is_no_number_of_rows_is_refused(n: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"at least 1, got {n!r}")):
        chain().sample(n)


def test_densities_name_a_parent_that_is_not_given_and_a_value_that_is_missing() -> None:
    with pytest.raises(ValueError, match=r"c: its parents \['b'\] are not given"):
        chain().log_prob({"a": [0.0], "c": [1.0]})
    for values in ({"a": [0, 1], "b": [1.0, np.nan]}, {"b": [1.0, np.nan], "a": [0, 1]}):
        with pytest.raises(ValueError, match=r"b: missing in 1 rows \(first: row 1\)"):
            categories().log_prob(values)


def test_a_mechanism_that_cannot_be_inverted_says_so_and_is_not_asked_without_need() -> None:
    model = SCM(a=Equation("u**2"), b=Equation("a + u"), c=Equation("b + sin(u)"))
    rows = {"a": [1.0], "b": [2.0], "c": [2.5]}
    with pytest.raises(ValueError, match=r"a: its equation is not monotone in u.*inverse="):
        model.abduct(rows)
    with pytest.raises(ValueError, match="c: its equation is not monotone in u"):
        model.counterfactual(rows, do={"a": 2.0})
    assert model.counterfactual(rows, do={"a": 2.0}, hold=["c"])["b"].item() == 3.0


def test_evidence_that_cannot_be_is_refused() -> None:
    model = SCM(a=Equation("u", noise="Uniform(0, 1)"), b=Equation("2*a"))
    with pytest.raises(ValueError, match="a: evidence has probability zero"):
        model.abduct({"a": 2.0, "b": 4.0})
    with pytest.raises(ValueError, match="b: evidence has probability zero: 3 is not what"):
        model.abduct({"a": 0.5, "b": 3.0})


def test_noise_that_is_needed_and_not_there_is_named() -> None:
    model = chain()
    with pytest.raises(ValueError, match="b: its noise is needed, and was not abducted"):
        model.predict({"a": torch.zeros(2)})
    noise = model.abduct(ROWS)
    without = Exogenous(
        {k: v for k, v in noise.items() if k != "c"},
        n=noise.n,
        factual=noise.factual,
        mechanisms=noise.mechanisms,
    )
    assert same(model.do(d=1.0).predict(without), model.do(d=1.0).predict(noise))
    with pytest.raises(ValueError, match="c: its noise is needed"):
        model.do(a=1.0).predict(without)


# Impossible evidence ------------------------------------------------------------------------------


@pytest.mark.parametrize("particles", [None, 2])
@pytest.mark.parametrize(
    "do",
    [
        {"c": 1.0},
        {"c": 2.0},
        {"x": lambda x: x + 1},
        {"x": lambda x, u: x + u},
        {"c": lambda u: u},
        {"c": 0.0, "y": lambda y: y},
    ],
)
def test_impossible_evidence_is_refused_by_counterfactuals_too(
    do: dict[str, Any], particles: int | None
) -> None:
    model = SCM(c=Equation("u"), x=Equation("c"), y=Equation("x + u"))
    rows = {"c": [1.0, 1.0], "x": [1.0, 5.0], "y": [5.0, 5.0]}
    message = "x: evidence has probability zero in row 1: 5 is not what its deterministic equation"
    with pytest.raises(ValueError, match=message):
        model.abduct(rows)
    with pytest.raises(ValueError, match=message):
        model.counterfactual(rows, do, particles=particles)
    single = {name: values[1] for name, values in rows.items()}
    with pytest.raises(ValueError, match="x: evidence has probability zero: 5 is not"):
        model.counterfactual(single, do, particles=particles)
    held = model.counterfactual(rows, {"c": 2.0}, hold=["x"], particles=particles)
    assert torch.equal(held["y"], torch.tensor([5.0, 5.0]).expand_as(held["y"]))
    possible = {**rows, "x": [1.0, 1.0]}
    null = model.counterfactual(possible, {"c": 1.0}, particles=particles)
    assert torch.equal(null["y"], torch.tensor([5.0, 5.0]).expand_as(null["y"]))


def test_impossible_evidence_under_a_function_that_was_set_is_refused() -> None:
    model = SCM(c=Equation("u"), x=Equation("c + u"), y=Equation("x + u")).do(x=lambda c: 2 * c)
    rows = {"c": [1.0, 1.0], "x": [2.0, 5.0], "y": [0.0, 0.0]}
    with pytest.raises(ValueError, match="x: evidence has probability zero in row 1"):
        model.counterfactual(rows, {"c": 1.0})


def test_effects_refuse_impossible_evidence() -> None:
    model = SCM(c=Equation("u"), x=Equation("c"), y=Equation("x + u"))
    rows = {"c": [1.0, 1.0], "x": [1.0, 5.0], "y": [5.0, 5.0]}
    with pytest.raises(ValueError, match="x: evidence has probability zero in row 1"):
        mediate(model, rows, {"c": 2.0}, "y", [])


# What cannot be answered --------------------------------------------------------------------------


@pytest.mark.parametrize("far", [1e15, 1e30])
def test_an_answer_that_is_no_number_is_flagged_with_its_causes(far: float) -> None:
    model = SCM(t=Equation("u"), y=Equation(lambda t, u: u + 0 * (1e300 * t)))
    rows = model.sample(3, seed=0)
    for answer, n in (
        (model.counterfactual(rows, do={"t": far}), 3),
        (model.counterfactual(rows, do={"t": far}, particles=2), 6),
        (model.do(t=far).sample(3), 3),
    ):
        provenance = answer.explain()
        assert provenance.undefined == {"y": f"{n} of {n} rows, such as at t={far:.4g}"}
        assert f"NOT A NUMBER in {n} of {n} rows" in str(provenance)
    some = model.counterfactual(rows, do={"t": 2.0})
    assert some["y"].equal(rows["y"])
    assert some.explain().undefined == {}


@pytest.mark.parametrize("particles", [None, 10**9])
def test_what_memory_cannot_hold_is_refused_before_it_is_made(particles: int | None) -> None:
    model = SCM("t -> i", {"i": Image(3, 64, 64)}, {"i": VAE(latent=2, width=2, depth=1)}).eval()
    rows = model.sample(2, seed=0)
    size = r"would take some [\d,]+ GiB of memory, and \d+ are free; ask for fewer at once"
    if particles is None:
        with pytest.raises(ValueError, match=rf"10,000,000,000 rows {size}"):
            model.sample(10**10)
        return
    for ask in (
        lambda: model.abduct(rows, particles=particles),
        lambda: model.counterfactual(rows, do={"t": 0.0}, particles=particles),
    ):
        with pytest.raises(ValueError, match=rf"2 rows with particles=1,000,000,000 {size}"):
            ask()
