"""Chains, forks, colliders and M-structures: the lecture's figure, and by trying all paths."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any, cast

import pytest
from graphs import random_graph

from rung3.graph import CausalGraph, structures


@pytest.mark.parametrize(
    ("text", "kind", "marginally", "given_middle"),
    [
        ("x1 <- x3 -> x2", "fork", False, True),  # Figure 11 a
        ("x1 -> x3 <- x2", "collider", True, False),  # Figure 11 b
        ("x1 -> x3 -> x2", "chain", False, True),  # Figure 11 c
        ("x1 <- u -> x3 <- v -> x2", "M", True, False),
        ("x1 <-> x3 <-> x2", "M", True, False),
    ],
)
def test_figure_11(text, kind, marginally, given_middle):
    graph = CausalGraph(text)
    listed = [one for one in structures(graph, ends=("x1", "x2")) if one.kind == kind]
    assert [one.middle for one in listed] == ["x3"]
    assert set(listed[0].ends) == {"x1", "x2"}
    assert not listed[0].shielded
    assert graph.d_separated("x1", "x2") is marginally
    assert graph.d_separated("x1", "x2", given="x3") is given_middle
    first = "independent" if marginally else "dependent"
    assert f"are {first} by this path" in str(listed[0])
    joined = CausalGraph(f"{text}; x1 -> x2")
    assert all(one.shielded for one in structures(joined, kind, ends=("x1", "x2")))


def test_all_of_a_random_graph():
    for seed in range(30):
        graph = random_graph(seed, 6, hidden=True)
        listed = list(structures(graph))
        triples = Counter(
            (path.turns[path.nodes[1]], frozenset((path, path.nodes[1])))
            for x, y in combinations(graph.nodes, 2)
            for path in graph.paths(x, y)
            if len(path.nodes) == 3
        )
        kinds = Counter(one.kind for one in listed)
        assert {k: n for k, n in kinds.items() if k != "M"} == Counter(k for k, _ in triples)
        ems = {
            frozenset((str(path), _reverse(path)))
            for x, y in combinations(graph.nodes, 2)
            for path in graph.paths(x, y)
            if _is_m(path)
        }
        mine = {frozenset((str(s.path), _reverse(s.path))) for s in structures(graph, "M")}
        assert mine == ems
        assert kinds["M"] == len(ems)
        for kind in ("chain", "fork", "collider", "M"):
            assert list(structures(graph, kind)) == [one for one in listed if one.kind == kind]


def _is_m(path):
    """`a <- u -> m` or `a <-> m`, and the same on the other side."""
    sides = [["<-", "->"], ["<->"]]
    back = [["<-", "->"], ["<->"]]
    return any(
        list(path.arrows) == [*left, *right] for left in sides for right in back
    ) and len(set(path.nodes)) == len(path.nodes)  # fmt: skip


def _reverse(path):
    flipped = {"->": "<-", "<-": "->", "<->": "<->"}
    words = [path.nodes[-1]]
    for arrow, node in zip(reversed(path.arrows), reversed(path.nodes[:-1]), strict=True):
        words += [flipped[arrow], node]
    return " ".join(words)


def test_bad_input():
    graph = CausalGraph("a -> b -> c")
    with pytest.raises(ValueError, match="expected one of chain, fork, collider, M, got 'star'"):
        structures(graph, cast(Any, "star"))
    with pytest.raises(ValueError, match="no variable 'd'"):
        structures(graph, ends=("a", "d"))
