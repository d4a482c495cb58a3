"""Path-specific effects, against products of coefficients, by hand, and against mediation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch

from rung3 import SCM, Binary, Categorical, CausalGraph
from rung3.effects import mediate, natural, path_specific
from rung3.effects.formulas import Along, Formulas
from rung3.mechanisms import Equation


def several() -> SCM:
    """x reaches y by itself, through a, through a and b, and through b."""
    return SCM(
        x=Equation("u"),
        a=Equation("2*x + u"),
        b=Equation("3*a + x + u"),
        y=Equation("x + 10*a + 100*b + u"),
    )


def curved() -> SCM:
    return SCM(
        x=Equation("u"),
        a=Equation("x**2 + u"),
        b=Equation("a*x + sin(a) + u"),
        y=Equation("x*a + tanh(b)*a + u"),
    )


WEIGHTS = {"x -> y": 1, "x -> a -> y": 20, "x -> a -> b -> y": 600, "x -> b -> y": 100}


@pytest.mark.parametrize("size", range(5))
def test_in_a_linear_model_paths_are_products_of_coefficients(size: int) -> None:
    row = {"x": 0.0, "a": 0.5, "b": -1.0, "y": 0.0}
    for paths in combinations(WEIGHTS, size):
        effect = path_specific(several(), row, {"x": 1.0}, "y", paths, recanting=True)
        assert effect.item() == pytest.approx(sum(WEIGHTS[p] for p in paths), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(
    ("through", "met"),
    [
        ("a", ["x -> a -> y", "x -> a -> b -> y"]),
        ("b", ["x -> a -> b -> y", "x -> b -> y"]),
        (["a", "b"], ["x -> a -> y", "x -> a -> b -> y", "x -> b -> y"]),
    ],
)
@pytest.mark.parametrize("particles", [None, 2])
def test_direct_and_indirect_effects_are_special_cases(
    through: Any, met: list[str], particles: int | None
) -> None:
    model = curved()
    rows = model.sample(30, seed=0)
    avoided = [path for path in WEIGHTS if path not in met]
    options: dict[str, Any] = {"recanting": True, "particles": particles}
    split = mediate(model, rows, {"x": 1.5}, "y", through, particles=particles)
    assert torch.equal(path_specific(model, rows, {"x": 1.5}, "y", met, **options), split.indirect)
    assert torch.equal(
        path_specific(model, rows, {"x": 1.5}, "y", avoided, **options), split.direct
    )
    assert torch.equal(path_specific(model, rows, {"x": 1.5}, "y", WEIGHTS, **options), split.total)
    assert not torch.equal(split.direct, split.total)


def test_one_path_of_a_curved_model_by_hand() -> None:
    model = curved()
    rows = model.sample(20, seed=1)
    x, a, b = (rows[name] for name in "xab")
    x_ = torch.full_like(x, 0.7)
    b_ = b - a * x + a * x_  # x -> b with a as it was
    effect = path_specific(model, rows, {"x": 0.7}, "y", ["x -> b -> y"])
    torch.testing.assert_close(effect, (b_.tanh() - b.tanh()) * a, atol=1e-5, rtol=1e-4)


def test_paths_may_be_text_names_or_paths_of_the_graph() -> None:
    model = several()
    row = {"x": 0.0, "a": 0.5, "b": -1.0, "y": 0.0}
    path = next(p for p in model.graph.causal_paths("x", "y") if p.nodes == ("x", "b", "y"))
    given: list[Any] = ["x -> b -> y", ["x -> b -> y"], [["x", "b", "y"]], [path], path]
    assert {path_specific(model, row, {"x": 1.0}, "y", one).item() for one in given} == {100.0}


def test_each_of_several_causes_starts_its_own_paths() -> None:
    model = several()
    row = {"x": 0.0, "a": 0.0, "b": 0.0, "y": 0.0}
    do = {"x": 1.0, "a": 1.0}
    for paths, effect in [
        (["x -> b -> y"], 100),
        (["a -> y"], 10),
        (["a -> b -> y", "x -> y"], 301),
        (["x -> y", "x -> b -> y", "a -> y", "a -> b -> y"], 411),
    ]:
        path_effect = path_specific(model, row, do, "y", paths, recanting=True)
        assert path_effect.item() == pytest.approx(effect, rel=1e-4)
    with pytest.raises(
        ValueError, match="'x -> a -> y' is not a causal path from a or x to y after"
    ):
        path_specific(model, row, do, "y", ["x -> a -> y"])


def test_effects_of_a_null_intervention_are_exactly_zero() -> None:
    rows = curved().sample(100, seed=0)
    for paths in (["x -> y"], ["x -> b -> y"], list(WEIGHTS)):
        assert not path_specific(curved(), rows, {"x": rows["x"]}, "y", paths).any()


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["x -> a -> y"],
            "'a' is a recanting witness: the change comes to it by x -> a, is to continue by "
            "a -> y and not by a -> b -> y.*Ask for x -> a -> b -> y as well",
        ),
        (["x -> y", "x -> a -> b -> y"], "'a' is a recanting witness.*and not by a -> y"),
        (["x -> c -> y"], "no variable 'c'"),
        (["x <- a"], "'a -> x' is not a causal path"),
        (["x -> y <- a"], "'x -> y <- a' is not one directed path"),
        ([["x", "y", "b"]], "'x -> y -> b' is not a causal path from x to y"),
        (["a -> y"], r"there are \['x -> y', 'x -> a -> y', "),
        (["y"], "'y' is not a causal path"),
    ],
)
def test_paths_that_make_no_sense_are_refused(paths: Sequence[str], message: str) -> None:
    row = {"x": 0.0, "a": 0.0, "b": 0.0, "y": 0.0}
    with pytest.raises(ValueError, match=message):
        path_specific(several(), row, {"x": 1.0}, "y", paths)


def test_a_witness_is_a_variable_that_one_world_has_twice() -> None:
    """Of random graphs and random paths: refused if and only if a formula repeats a variable."""
    chance = random.Random(0)
    answers = []
    for _ in range(60):
        names = [f"v{k}" for k in range(6)]
        edges = [pair for pair in combinations(names, 2) if chance.random() < 0.6]
        graph = CausalGraph(edges, nodes=names)
        every = [p.nodes for p in graph.causal_paths("v0", "v5")]
        if not every:
            continue
        sums = {name: Equation(" + ".join([*graph.parents(name), "u"])) for name in names}
        model = SCM(graph, mechanisms=sums)
        paths = chance.sample(every, chance.randint(1, len(every)))
        formulas = Formulas(model, {"v0": 1.0}, None, "v5")
        twice = formulas.witnesses([formulas(Along(frozenset(paths)))])
        rows = {name: torch.zeros(1) for name in names}
        if twice:
            with pytest.raises(ValueError, match=f"'({'|'.join(twice)})' is a recanting witness"):
                path_specific(model, rows, {"v0": 1.0}, "v5", paths)
        else:  # answered; and the paths' edges say it all
            path_specific(model, rows, {"v0": 1.0}, "v5", paths)
            along = {pair for path in paths for pair in pairwise(path)}
            spanned = [p for p in every if along.issuperset(pairwise(p))]
            assert sorted(spanned) == sorted(paths)
        answers.append(bool(twice))
    assert 10 < sum(answers) < len(answers) - 10


@pytest.mark.parametrize(
    ("text", "through", "paths", "children"),
    [
        ("x -> {m y}; m -> w -> y; m <-> y", ["m"], ["x -> y"], ("m", "y")),
        ("x -> {m w}; {m w} -> y; m <-> w", ["m"], ["x -> m -> y"], ("m", "w")),
        ("x -> {m w}; {m w} -> y; m <-> c; c <-> w; c -> y", ["w"], ["x -> w -> y"], ("m", "w")),
        ("x -> {m w}; {m w} -> y; m <-> w", ["m", "w"], ["x -> m -> y", "x -> w -> y"], ()),
        (
            "x -> {m w}; {m w} -> y; m <-> c; c <-> w",
            ["m"],
            ["x -> m -> y"],
            (),
        ),  # c is not a cause
        ("x -> {m y}; {m w} -> y; m <-> w", ["m"], ["x -> m -> y"], ()),  # w does not hear of x
        ("x -> m -> y; x <-> y", ["m"], ["x -> m -> y"], ()),  # y does not hear of x itself
    ],
)
@pytest.mark.parametrize("versus", [None, {"x": 0}])
def test_effects_across_a_recanting_district_are_refused(
    text: str, through: list[str], paths: list[str], children: tuple[str, ...], versus: Any
) -> None:
    """Shpitser 2013: the direct effect of the first is 0 or .453 in worlds that data confuse."""
    graph = CausalGraph(text)
    kinds: dict[str, Any] = {name: Binary() for name in graph.nodes}
    kinds |= {" <-> ".join(graph.in_order(pair)): Categorical(2) for pair in graph.bidirected}
    model = SCM(graph, kinds)
    row = dict.fromkeys(graph.nodes, 0)
    options: dict[str, Any] = {"versus": versus, "seed": 0}
    if not children:
        natural(model, {"x": 1}, "y", through, n=10, **options)
        model.unidentified = "allow"  # mechanisms of single rows need more
        path_specific(model, row, {"x": 1}, "y", paths, **options)
        assert mediate(model, row, {"x": 1}, "y", through, **options).witnesses == ()
        return
    reason = " and ".join(children) + ": of a recanting district"
    with pytest.raises(ValueError, match=reason):
        natural(model, {"x": 1}, "y", through, n=10, **options)
    with pytest.raises(ValueError, match=f"{reason}.*recanting=True"):
        path_specific(model, row, {"x": 1}, "y", paths, **options)
    model.unidentified = "allow"
    assert natural(model, {"x": 1}, "y", through, n=10, **options).witnesses == children
    assert mediate(model, row, {"x": 1}, "y", through, **options).witnesses == children
    path_specific(model, row, {"x": 1}, "y", paths, recanting=True, **options)
