"""Separation with reasons: the same answer as by all paths, and reasons that are true."""

from __future__ import annotations

import random
from itertools import combinations, islice

import pytest
from graphs import random_graph, subsets

from rung3.graph import CausalGraph, separation
from rung3.graph.m_separation import connected, open_path


@pytest.mark.parametrize("hidden", [False, True])
def test_the_answer_and_all_its_reasons(hidden):
    for seed in range(10):
        graph = random_graph(seed, 5, hidden)
        for x, y in combinations(graph.nodes, 2):
            paths = set(graph.paths(x, y))
            for known in subsets(set(graph.nodes) - {x, y}):
                answer = separation(graph, x, y, known, limit=1000)
                assert bool(answer) is answer.separated is graph.d_separated(x, y, known)
                assert set(answer.open) == {path for path in paths if path.is_open(known)}
                assert {*answer.open, *answer.blocked} == paths
                assert answer.complete
                shortest = open_path(graph, x, y, known)
                assert (shortest is None) is answer.separated
                if shortest is not None:
                    assert shortest in answer.open
                    assert len(shortest.nodes) == len(answer.open[0].nodes)
                assert (y in connected(graph, x, known)) is not answer.separated


def test_sets_and_a_limit():
    for seed in range(80):
        graph = random_graph(500 + seed, 8, hidden=True)
        names = random.Random(seed).sample(graph.nodes, 8)
        x, y, known = names[:2], names[2:4], names[4:6]
        answer = separation(graph, x, y, known, limit=2)
        assert answer.separated is graph.d_separated(x, y, known)
        assert bool(answer.open) is not answer.separated
        assert all(path.is_open(known) for path in answer.open)
        assert not any(path.is_open(known) for path in answer.blocked)
        assert len({*answer.open, *answer.blocked}) <= 3


def test_paths_come_shorter_first():
    graph = random_graph(7, 7, hidden=True)
    for x, y in combinations(graph.nodes, 2):
        lengths = [len(path.nodes) for path in graph.paths(x, y)]
        assert lengths == sorted(lengths)


def test_it_prints_what_blocks_each_path():
    graph = CausalGraph("size -> {treatment recovery}; {treatment recovery} -> cost -> debt")
    graph = CausalGraph(graph.edges, bidirected=[("size", "cost")])
    text = str(separation(graph, "treatment", "recovery", given=["size", "debt"]))
    assert text.splitlines() == [
        "treatment and recovery are not separated given size, debt",
        "  open: treatment -> cost <- recovery, for cost (a collider) has an effect that is given",
        "  blocked: treatment <- size -> recovery, by size (a fork, given)",
        "  blocked: treatment -> cost <-> size -> recovery, by size (in a chain, given)",
        "  blocked: treatment <- size <-> cost <- recovery, by size (in a chain, given)",
    ]
    assert str(separation(CausalGraph("a; b"), "a", "b")).splitlines() == [
        "a and b are separated",
        "  no path joins them",
    ]
    answer = separation(CausalGraph("a -> {b1 b2 b3} -> c"), "a", "c", limit=2)
    assert str(answer).endswith("  and other paths")


def test_a_big_graph_is_answered_without_all_its_paths():
    rng = random.Random(0)
    names = [f"v{i}" for i in range(120)]
    graph = CausalGraph([pair for pair in combinations(names, 2) if rng.random() < 0.08])
    answer = separation(graph, "v0", "v110", given=["v50", "v60"])
    assert not answer.complete
    assert answer.separated is graph.d_separated("v0", "v110", ["v50", "v60"])
    assert len(list(islice(graph.paths("v0", "v110"), 5))) == 5


def test_unknown_names():
    with pytest.raises(ValueError, match="no variable 'z'"):
        separation(CausalGraph("x -> y"), "x", "y", given="z")
    with pytest.raises(ValueError, match="'x' is in both x and given"):
        separation(CausalGraph("x -> y"), "x", "y", given="x")
