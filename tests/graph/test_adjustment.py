"""Adjustment with reasons, front doors, instruments and roles, against their definitions."""

from __future__ import annotations

import random
import time
from itertools import combinations, pairwise

import pytest
from graphs import minimal, moral_separated, random_graph, reachable, subsets, valid_adjustments

from rung3.graph import CausalGraph, check_adjustment
from rung3.graph.adjustment import minimal_adjustments


def test_a_set_that_fails_says_why():
    graph = CausalGraph("u -> {x c}; v -> {c y}; x -> m -> y; m -> d; z -> {x y}")
    faults = check_adjustment(graph, "x", "y", given=["c", "d", "m"])
    assert not faults
    assert str(faults).splitlines() == [
        "adjusting for c, m, d does not give the effect of x on y:",
        "  m is on a causal path from treatment to outcome: x -> m",
        "  d is below a causal path from treatment to outcome: x -> m -> d",
        "  it leaves open the path x <- z -> y",
        "  it opens the path x <- u -> c <- v -> y, by the collider c",
    ]
    with pytest.raises(ValueError, match=r"it opens the path x <- u -> c <- v -> y"):
        faults.require()
    good = check_adjustment(graph, "x", "y", given="z")
    good.require()
    assert str(good) == "adjusting for z gives the effect of x on y"
    assert not check_adjustment(CausalGraph("x -> y; x <-> y"), "x", "y")


def test_faults_are_there_exactly_where_a_set_is_not_valid():
    opened = 0
    for seed in range(25):
        graph = random_graph(seed, 5, hidden=True)
        x, y = random.Random(seed).sample(graph.nodes, 2)
        valid = valid_adjustments(graph, x, y)
        for known in subsets(set(graph.nodes) - {x, y}):
            faults = check_adjustment(graph, x, y, known)
            assert bool(faults) is (known in valid)
            opened += any("it opens the path" in fault for fault in faults.faults)
    assert opened > 5


def test_adjustment_beside_what_is_given():
    for seed in range(80):
        graph = random_graph(3000 + seed, 6, hidden=True)
        x, y, z = random.Random(seed).sample(graph.nodes, 3)
        if z in graph.descendants(x):
            continue
        valid = [known - {z} for known in valid_adjustments(graph, x, y) if z in known]
        sets = list(minimal_adjustments(graph, {x}, {y}, {z}))
        assert sorted(map(sorted, sets)) == sorted(map(sorted, minimal(valid)))


def front_doors(graph, x, y):
    """All sets that satisfy the criterion as Pearl (1995) words it."""
    inert = CausalGraph([e for e in graph.edges if e[0] != x], bidirected=graph.bidirected)
    inert = CausalGraph(inert, nodes=graph.nodes)
    sets = []
    for known in subsets(set(graph.nodes) - {x, y}):
        rest = [edge for edge in graph.edges if not known & set(edge)]
        meets = y not in reachable(rest, x)
        cut = CausalGraph(
            [e for e in graph.edges if e[0] not in known],
            nodes=graph.nodes, bidirected=graph.bidirected,
        )  # fmt: skip
        if (
            meets
            and all(moral_separated(inert, {x}, {z}, set()) for z in known)
            and all(moral_separated(cut, {z}, {y}, {x}) for z in known)
        ):
            sets.append(known)
    return sets


def mediated(seed):
    """A graph in which front doors are likely: x acts on y by two layers of others."""
    rng = random.Random(seed)
    chances = [(m, n, 0.6) for m, n in ("xa", "xb", "ac", "ad", "bc", "bd", "cy", "dy")]
    chances += [(m, n, 0.07) for m, n in ("ab", "cd", "xc", "xd", "ay", "by")]
    edges = [(cause, effect) for cause, effect, chance in chances if rng.random() < chance]
    hidden = [("x", "y"), *(pair for pair in combinations("xabcdy", 2) if rng.random() < 0.07)]
    return CausalGraph(edges, nodes="xabcdy", bidirected=hidden)


def test_front_doors_by_trying_all():
    some = several = 0
    for seed in range(60):
        graph, x, y = mediated(seed), "x", "y"
        truth = sorted(minimal(front_doors(graph, x, y)), key=lambda one: (len(one), sorted(one)))
        assert graph.front_door_sets(x, y) == truth, (graph, x, y)
        some += any(truth)
        several += len(truth) > 1
    assert some > 15
    assert several > 3


def test_the_first_front_door_is_minimal_on_any_graph():
    some = 0
    for seed in range(80):
        graph, x, y = mediated(1000 + seed), "x", "y"
        if seed % 2:
            graph = random_graph(seed, 6, hidden=True)
            x, y = random.Random(seed).sample(graph.nodes, 2)
        truth = minimal(front_doors(graph, x, y))
        sets = graph.front_door_sets(x, y, limit=1)
        assert (sets[0] in truth) if truth else (sets == []), graph
        some += any(truth)
    assert some > 10


def test_a_front_door_of_a_long_chain_is_found_in_linear_time():
    """At 4,000 nodes: .3 s; minutes where every node is tried."""
    names = ["x", *(f"m{k}" for k in range(4000)), "y"]
    graph = CausalGraph(list(pairwise(names)), bidirected=[("x", "y")])
    begun = time.perf_counter()
    assert graph.front_door_sets("x", "y", limit=1) == [{"m3999"}]
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("x -> m -> y; x <-> y", ["m"]),
        ("x -> {m n} -> y; x <-> y", ["mn"]),
        ("x -> m -> n -> y; x <-> y", ["m", "n"]),
        ("x -> m -> y; x <-> y; m <-> y", []),
        ("x -> m -> y; x <-> y; x <-> m", []),
        ("x -> m -> y; x -> y; x <-> y", []),
        ("x; y", [""]),
    ],
)
def test_textbook_front_doors(text, sets):
    assert CausalGraph(text).front_door_sets("x", "y") == [set(names) for names in sets]


def instrumental(graph, x, y, z, known):
    """Pearl (2009, section 7.4.5), Z and W being no effects of X."""
    inert = CausalGraph(
        [e for e in graph.edges if e[0] != x], nodes=graph.nodes, bidirected=graph.bidirected
    )
    return moral_separated(inert, {z}, {y}, known) and not moral_separated(graph, {z}, {x}, known)


def test_instruments_by_trying_all():
    found_some = conditional = 0
    for seed in range(80):
        graph = random_graph(seed, 6, hidden=True)
        x, y = random.Random(seed).sample(graph.nodes, 2)
        inert = graph.without_outgoing(x)
        after = {x, y} | graph.descendants([x, y])
        conditions = {one.name: one.given for one in graph.instruments(x, y)}
        assert all(instrumental(graph, x, y, z, set(known)) for z, known in conditions.items())
        for z in set(graph.nodes) - after:
            ancestral = inert.ancestors([z, y]) - after - {z}
            exists = any(instrumental(graph, x, y, z, known) for known in subsets(ancestral))
            assert (z in conditions) is exists, (graph, x, y, z)
        found_some += bool(conditions)
        conditional += any(conditions.values())
    assert found_some > 10
    assert conditional > 2


def test_an_instrument_given_another_variable():
    graph = CausalGraph("c -> {z y}; z -> x -> y; x <-> y")
    assert [str(one) for one in graph.instruments("x", "y")] == ["z given c"]
    assert [str(one) for one in CausalGraph("z -> x -> y; x <-> y").instruments("x", "y")] == ["z"]
    with pytest.raises(ValueError, match="'x' is in both treatment and outcome"):
        graph.instruments("x", "x")


def test_roles_by_name_and_hidden_confounders():
    graph = CausalGraph("c -> {t y}; t -> m -> y; {t y} -> s; t <-> y; a -> t; a <-> y; t <-> m")
    roles = graph.roles("t", "y")
    assert (roles.confounders, roles.mediators, roles.colliders) == (("c",), ("m",), ("s",))
    assert roles.hidden == (("t", "y"), ("t", "m"), ("y", "a"))
    assert "hidden confounder: t <-> y" in str(roles)
    assert "confounder: c" in str(roles).splitlines()


def test_hidden_confounders_are_those_of_the_graph_that_shows_them():
    for seed in range(60):
        graph = random_graph(seed, 5, hidden=True)
        shown = CausalGraph(
            [*graph.edges, *((f"{a}{b}", c) for a, b in graph.bidirected for c in (a, b))],
            nodes=graph.nodes,
        )
        y, x = sorted(random.Random(seed).sample(graph.nodes, 2), key=graph.order.index)[::-1]
        confounders = {a + b for a, b in graph.roles(x, y).hidden}
        roles = shown.roles(x, y)
        assert confounders <= set(roles.confounders)
        for a, b in graph.bidirected:  # and the others confound by one end alone
            if a + b in set(roles.confounders) - confounders:
                assert any(roles.get(end) == "confounder" for end in (a, b))


def test_hiding_keeps_separation():
    for seed in range(40):
        graph = random_graph(seed, 6, hidden=seed % 2 == 1)
        gone = set(random.Random(seed).sample(graph.nodes, 2))
        rest = graph.hide(*gone)
        assert rest.nodes == tuple(name for name in graph.nodes if name not in gone)
        assert rest == graph.hide(*sorted(gone)) == graph.hide(max(gone)).hide(min(gone))
        for x, y in combinations(rest.nodes, 2):
            for known in subsets(set(rest.nodes) - {x, y}):
                assert rest.d_separated(x, y, known) is moral_separated(graph, {x}, {y}, known)
        assert all(rest.ancestors(k) == graph.ancestors(k) - gone for k in rest.nodes)


def test_two_hundred_nodes():
    rng = random.Random(1)
    names = [f"v{i}" for i in range(200)]
    edges = [pair for pair in combinations(names, 2) if rng.random() < 0.02]
    graph = CausalGraph(edges, nodes=names, bidirected=[("v10", "v190")])
    assert all(graph.roles("v10", "v190").values())
    assert check_adjustment(graph, "v20", "v190", graph.minimal_adjustment_set("v20", "v190") or ())
