"""Formulas of mediation, against enumeration of random models, and who recants."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from graphs import Tables, random_graph
from queries import truth

from rung3.graph import CausalGraph, CounterfactualQuery, identify_path_effect, identify_treated


def agree(seeds):
    counts = {"identified": 0, "witness": 0, "district": 0, "refused": 0}
    for seed in seeds:
        rng = random.Random(seed)
        graph = random_graph(seed, 4, hidden=True)
        ways = list(graph.causal_paths(graph.order[0], graph.order[-1]))
        if len(graph.bidirected) > 2 or not ways:
            continue
        along = rng.sample(ways, rng.randint(1, len(ways)))
        answer = identify_path_effect(graph, graph.order[0], graph.order[-1], along=along)
        if not answer:
            kinds = [kind for kind in ("witness", "district") if f"recanting {kind}" in str(answer)]
            counts[kinds[0] if kinds else "refused"] += 1
            continue
        counts["identified"] += 1
        model = Tables(graph, seed)
        shares = answer.evaluate(model.observed(), graph.nodes)
        for value, share in enumerate(shares):
            outcome = replace(answer.query.outcome[0], value=str(value))
            right = truth(model, CounterfactualQuery((outcome,)))
            assert share == pytest.approx(right, abs=1e-9), (str(graph), str(answer))
    return counts


def test_formulas_along_paths_agree_with_enumeration():
    counts = agree(range(120))
    assert counts["identified"] > 20
    assert min(counts["witness"], counts["district"]) >= 2


@pytest.mark.slow
def test_many_formulas_along_paths_agree_with_enumeration():
    assert agree(range(200, 1600))["identified"] > 300


@pytest.mark.parametrize(
    ("graph", "ways", "formula"),
    [
        ("x -> m -> y; x -> y", {"through": "m"}, "Σ_m P(y | x=0, m) P(m | x=1)"),
        (  # with a confounder: Pearl's mediation formula
            "c -> {x m y}; x -> m -> y; x -> y",
            {"avoiding": "m"},
            "Σ_{c, m} P(c) P(m | c, x=0) P(y | c, x=1, m)",
        ),
        (  # two mediators in a row, one path only
            "x -> a -> b -> y; x -> y",
            {"along": "x -> a -> b -> y"},
            "Σ_{a, b} P(y | x=0, b) P(a | x=1) P(b | a)",
        ),
    ],
)
def test_mediation_formulas(graph, ways, formula):
    assert sorted(identify_path_effect(graph, "x", "y", **ways).text) == sorted(formula)


def test_who_recants_is_named():
    witness = identify_path_effect("x -> w; w -> {m y}; m -> y", "x", "y", avoiding="m")
    assert witness.reason.startswith("w is a recanting witness")
    district = identify_path_effect("x -> {m y}; m -> y; m <-> y", "x", "y", through="m")
    assert district.reason.startswith("{m, y} is a recanting district")


def test_all_paths_and_none_are_the_plain_effect():
    graph = CausalGraph("x -> m -> y; x -> y; x <-> m")
    assert str(identify_path_effect("x -> m -> y", "x", "y", through="m").query) == "P(y[x=1])"
    assert str(identify_path_effect("x -> m -> y", "x", "y", avoiding="m").query) == "P(y[x=0])"
    assert not identify_path_effect(graph, "x", "y", through="m").conflict


def test_the_effect_on_the_treated():
    assert identify_treated("z -> {x y}; x -> y", "x", "y").text == "Σ_z P(z | x=1) P(y | z, x=0)"
    bow = identify_treated("x -> y; x <-> y", "x", "y", experiments=["x"])
    assert not bow


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ({}, "expected one of through=, avoiding= and along="),
        ({"through": "m", "along": "x -> y"}, "expected one of"),
        ({"along": "x -> q -> y"}, "not a causal path from treatment to outcome: x -> m -> y"),
        ({"through": "q"}, "no variable 'q'"),
    ],
)
def test_bad_ways(ways, says):
    with pytest.raises(ValueError, match=says):
        identify_path_effect("x -> m -> y", "x", "y", **ways)
