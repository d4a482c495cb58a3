"""Implied independencies: true, and enough for all others to follow from them."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from graphs import moral_separated, random_graph, statements, subsets

from rung3.graph import CausalGraph, implications


def closed(nodes, known):
    """All that follows by the axioms of compositional graphoids, for pairs and sets."""
    known = set(known)
    fresh = known
    while fresh:
        fresh = set()
        for pair, given in known:
            for i, j in (tuple(pair), tuple(pair)[::-1]):
                for k in set(nodes) - pair - given:
                    other = frozenset((i, k))
                    if (other, given) in known:  # composition
                        fresh |= {(pair, given | {k}), (other, given | {j})}
                    if (other, given | {j}) in known:  # contraction
                        fresh |= {(other, given), (pair, given | {k})}
                for k in given:
                    rest, other = given - {k}, frozenset((i, k))
                    if (other, rest | {j}) in known:  # intersection
                        fresh |= {(pair, rest), (other, rest)}
        fresh -= known
        known |= fresh
    return known


@pytest.mark.parametrize(("size", "count"), [(4, 100), (5, 30)])
def test_all_separations_follow_from_the_basis(size, count):
    for seed in range(count):
        graph = random_graph(seed, size, hidden=seed % 4 > 0)
        basis = {(frozenset((s.x, s.y)), frozenset(s.given)) for s in implications(graph)}
        truth = statements(graph)
        assert basis <= truth
        assert closed(graph.nodes, basis) == truth, graph


def test_one_for_each_pair_that_can_be_separated():
    for seed in range(60):
        graph = random_graph(100 + seed, 5, hidden=True)
        pairs = {frozenset((s.x, s.y)) for s in implications(graph)}
        assert len(pairs) == len(implications(graph))
        for x, y in combinations(graph.nodes, 2):
            rest = set(graph.nodes) - {x, y}
            separable = any(moral_separated(graph, {x}, {y}, known) for known in subsets(rest))
            assert (frozenset((x, y)) in pairs) is separable


def test_without_hidden_causes_it_is_the_markov_condition():
    graph = CausalGraph("a -> b -> c -> d; a -> d")
    assert [str(one) for one in implications(graph)] == ["c ⊥ a | b", "d ⊥ b | a, c"]
    assert implications(CausalGraph("a -> b; a <-> b")) == ()
    assert [str(one) for one in implications(CausalGraph("a; b"))] == ["b ⊥ a"]


def test_an_inducing_path_leaves_no_independence():
    graph = CausalGraph("a -> b -> c; b <-> c")  # a and c: b is a collider, and a cause of c
    assert implications(graph) == ()
    verma = CausalGraph("a -> b -> c -> d; b <-> d")
    assert [str(one) for one in implications(verma)] == ["c ⊥ a | b"]


def test_two_hundred_nodes():
    rng = random.Random(0)
    names = [f"v{i}" for i in range(200)]
    graph = CausalGraph(
        [pair for pair in combinations(names, 2) if rng.random() < 0.03],
        nodes=names,
        bidirected=[pair for pair in combinations(names, 2) if rng.random() < 0.005],
    )
    independencies = implications(graph)
    assert len(independencies) > 10_000
    for one in rng.sample(independencies, 40):
        assert graph.d_separated(one.x, one.y, one.given)
