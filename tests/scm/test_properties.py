"""What holds of every SCM: random graphs, mixed variables, random interventions."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rung3 import SCM, Binary, Categorical, CausalGraph, Continuous, Ordinal, Rows
from rung3.data.variables import Variable
from rung3.mechanisms import Equation, Flow, GumbelMax, InverseCDF, Mechanism

quick = settings(max_examples=25, suppress_health_check=list(HealthCheck))
N = 32


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Parents by name; the names are not in topological order."""
    names = draw(st.permutations("abcdef"[: draw(st.integers(2, 6))]))
    edges = [pair for pair in combinations(names, 2) if draw(st.integers(0, 2))]
    return {name: [cause for cause, effect in edges if effect == name] for name in sorted(names)}


def family(kind: str, parents: list[str]) -> tuple[Variable, Mechanism]:
    terms = " + ".join([f"{parent}/2" for parent in parents] or ["0"])
    match kind:
        case "additive":
            return Continuous(), Equation(f"tanh({terms}) + u")
        case "scaled":
            return Continuous(), Equation(f"exp(sin({terms})) * u")
        case "monotone":
            return Continuous(), Equation(f"{terms} + u + u**3")
        case "flow":
            return Continuous(), Flow(hidden=(8,))
        case "bounded flow":
            return Continuous(lower=0, upper=4), Flow(hidden=(8,))
        case "gumbel":
            return Categorical(4), GumbelMax(hidden=(8,))
        case "binary":
            return Binary(), InverseCDF(hidden=(8,))
        case _:
            return Ordinal(3), InverseCDF(hidden=(8,))


KINDS = ["additive", "scaled", "monotone", "flow", "bounded flow", "gumbel", "binary", "ordinal"]


@st.composite
def models(draw: st.DrawFn) -> SCM:
    """A random world: its rows remember their noise."""
    parents = draw(graphs())
    mechanisms = {
        name: family(draw(st.sampled_from(KINDS)), causes) for name, causes in parents.items()
    }
    torch.manual_seed(draw(st.integers(0, 99)))
    model = SCM(
        CausalGraph([(p, name) for name, causes in parents.items() for p in causes], nodes=parents),
        variables={name: variable for name, (variable, _) in mechanisms.items()},
        mechanisms={name: mechanism for name, (_, mechanism) in mechanisms.items()},
        world="random",
    )
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.requires_grad_(False)


def subset(draw: Any, names: Any) -> list[str]:
    return draw(st.lists(st.sampled_from(list(names)), min_size=1, unique=True))


def named(name: str, function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A function whose one argument has this name, which is what `do` goes by."""
    argument = inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)

    def renamed(**values: Tensor) -> Tensor:
        return function(values[name])

    renamed.__signature__ = inspect.Signature([argument])  # type: ignore[attr-defined]
    return renamed


def other_values(model: SCM, rows: Rows, name: str, how: int) -> Any:
    """An intervention of one of four forms, from the values of other rows."""
    forms = [
        rows[name][0],
        rows[name].flip(0),
        named(name, lambda value: value.flip(0)),
        rows[name].flip(0).numpy(),
    ]
    return forms[how]


def assert_same(model: SCM, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Equal for what is discrete; for what is continuous, to float precision."""
    for name, variable in model.variables.items():
        if isinstance(variable, Continuous):
            torch.testing.assert_close(one[name], other[name], atol=2e-4, rtol=2e-4)
        else:
            assert torch.equal(one[name], other[name]), name


@quick
@given(models(), st.data())
def test_a_null_intervention_is_the_identity(model: SCM, data: st.DataObject) -> None:
    rows = model.sample(N, seed=data.draw(st.integers(0, 9)))
    evidence = dict(rows)  # without its noise: what was drawn must be abducted
    do = {name: rows[name] for name in subset(data.draw, model.variables)}
    particles = data.draw(st.sampled_from([None, 2]))
    answer = model.counterfactual(evidence, do, particles=particles, seed=0)
    for k in range(particles or 1):
        one = answer if particles is None else {name: v[k] for name, v in answer.items()}
        assert_same(model, one, rows)


@quick
@given(models(), st.data())
def test_what_does_not_descend_from_an_intervention_is_bit_identical(
    model: SCM, data: st.DataObject
) -> None:
    rows = model.sample(N, seed=data.draw(st.integers(0, 9)))
    names = subset(data.draw, model.variables)
    do = {n: other_values(model, rows, n, data.draw(st.integers(0, 3))) for n in names}
    held = data.draw(st.sets(st.sampled_from(list(model.variables)))) - set(names)
    answer = model.counterfactual(dict(rows), do, hold=held, seed=0)
    touched = set(names) | model.graph.descendants(names)
    for name in model.variables:
        if name not in touched or name in held:
            assert torch.equal(answer[name], rows[name]), name
        status = answer.explain().status[name]
        expected = "propagated" if name in touched else "observed"
        expected = "intervened" if name in names else expected
        expected = "held" if name in held and name in touched else expected
        assert status == expected, name


@quick
@given(models(), st.data())
def test_a_counterfactual_under_known_noise_is_what_the_changed_world_draws(
    model: SCM, data: st.DataObject
) -> None:
    """Noise is shared between worlds for every kind of mechanism."""
    seed = data.draw(st.integers(0, 9))
    rows = model.sample(N, seed=seed)
    names = subset(data.draw, model.variables)
    do = {n: other_values(model, rows, n, data.draw(st.integers(0, 3))) for n in names}
    assert_same(model, model.counterfactual(rows, do), model.do(do).sample(N, seed=seed))


@quick
@given(models(), st.data())
def test_densities_factorise_over_the_variables(model: SCM, data: st.DataObject) -> None:
    rows = model.sample(N, seed=0)
    total = model.log_prob(rows)
    parts = model.log_probs(rows)
    torch.testing.assert_close(total, torch.stack([parts[k] for k in model.graph.order]).sum(0))
    (name,) = data.draw(st.permutations(list(model.variables)))[:1]
    fixed = model.do({name: rows[name]}).log_probs(rows)
    assert fixed[name].eq(0).all()
    assert all(torch.equal(fixed[k], parts[k]) for k in parts if k != name)


# Worlds of known equations, answered by hand


@st.composite
def equations(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Parents, and by name a shift, a weight for each parent and a scale of the noise."""
    parents = draw(graphs())
    rng = random.Random(draw(st.integers(0, 999)))
    numbers = {
        name: {
            "shift": round(rng.uniform(-2, 2), 2),
            "weights": {parent: round(rng.uniform(-2, 2), 2) for parent in causes},
            "scale": round(rng.uniform(0.3, 2), 2),
        }
        for name, causes in parents.items()
    }
    return parents, numbers


def text(numbers: dict[str, Any]) -> str:
    """`x := shift + sum w tanh(pa) + scale exp(sin(sum pa)) u`."""
    mean = " + ".join(
        [str(numbers["shift"]), *(f"({w})*tanh({p})" for p, w in numbers["weights"].items())]
    )
    inner = " + ".join(["0", *numbers["weights"]])
    return f"{mean} + {numbers['scale']}*exp(sin({inner}))*u"


def by_hand(
    numbers: dict[str, Any], values: Mapping[str, np.ndarray]
) -> tuple[np.ndarray | float, np.ndarray | float]:
    """Location and scale of a variable given its parents' values."""
    mean: np.ndarray | float = numbers["shift"]
    inner: np.ndarray | float = 0.0
    for parent, weight in numbers["weights"].items():
        mean = mean + weight * np.tanh(values[parent])
        inner = inner + values[parent]
    return mean, numbers["scale"] * np.exp(np.sin(inner))


@settings(quick, max_examples=40)
@given(equations(), st.data())
def test_joint_interventions_are_answered_as_by_hand(
    drawn: tuple[dict[str, list[str]], dict[str, Any]], data: st.DataObject
) -> None:
    """Some variables set, ancestors and descendants of one another among them."""
    parents, numbers = drawn
    model = SCM(mechanisms={name: Equation(text(numbers[name])) for name in parents})
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    factual = {name: rng.normal(size=N) for name in parents}
    names = subset(data.draw, parents)
    for name in list(names):  # an ancestor and its descendant at once, where there is a pair
        names += sorted(model.graph.descendants(name) - set(names))[:1]
    forms = {name: data.draw(st.sampled_from(["number", "row", "shift"])) for name in names}
    do: dict[str, Any] = {}
    truth: dict[str, np.ndarray] = {}
    for name in model.graph.order:
        mean, scale = by_hand(numbers[name], factual)
        u = (factual[name] - mean) / scale
        mean, scale = by_hand(numbers[name], truth)
        would_be = mean + scale * u
        match forms.get(name):
            case None:
                truth[name] = would_be
            case "number":
                do[name], truth[name] = 0.75, np.full(N, 0.75)
            case "row":
                do[name] = truth[name] = rng.normal(size=N)
            case "shift":
                do[name] = named(name, lambda value: value + 1)
                truth[name] = would_be + 1
    answer = model.counterfactual(factual, do)
    for name in parents:
        np.testing.assert_allclose(answer[name], truth[name], atol=1e-3, rtol=1e-3)
