"""Equivalence classes, against all graphs of four variables and the independencies they imply."""

from __future__ import annotations

import random
from itertools import combinations, islice, product
from typing import Any

import networkx as nx
import pytest
from graphs import random_graph, statements

from rung3.graph import CausalGraph, equivalence_class, equivalent


def all_graphs(names):
    """Every directed acyclic graph of these names."""
    pairs = list(combinations(names, 2))
    for choice in product((None, 0, 1), repeat=len(pairs)):
        dag = nx.DiGraph()
        dag.add_nodes_from(names)
        dag.add_edges_from(
            (pair[way], pair[1 - way])
            for pair, way in zip(pairs, choice, strict=True)
            if way is not None
        )
        if nx.is_directed_acyclic_graph(dag):
            yield CausalGraph(dag)


def test_all_classes_of_four_variables():
    classes: dict[Any, set[CausalGraph]] = {}
    for graph in all_graphs("abcd"):
        classes.setdefault(frozenset(statements(graph)), set()).add(graph)
    assert (sum(map(len, classes.values())), len(classes)) == (543, 185)
    for members in classes.values():
        for graph in islice(members, 2):
            pattern = equivalence_class(graph)
            listed = list(pattern)
            assert len(listed) == len(members)
            assert set(listed) == members
            assert set.intersection(*(set(one.edges) for one in members)) == set(pattern.directed)


def test_graphs_with_hidden_causes():
    graphs = [random_graph(seed, 4, hidden=True) for seed in range(120)]
    implied = [statements(graph) for graph in graphs]
    same = 0
    for i, j in combinations(range(len(graphs)), 2):
        if implied[i] == implied[j] or random.Random(f"{i} {j}").random() < 0.05:
            assert equivalent(graphs[i], graphs[j]) is (implied[i] == implied[j])
            same += implied[i] == implied[j] and graphs[i] != graphs[j]
    assert same > 20


def test_the_three_graphs_of_chocolate_and_prizes():
    one, other, hidden = (CausalGraph(f"chocolate {arrow} prizes") for arrow in ("->", "<-", "<->"))
    assert list(equivalence_class(one)) == [one, other]
    assert other in equivalence_class(one)
    assert hidden not in equivalence_class(one)  # it is of no directed graph ...
    assert equivalent(one, hidden)  # ... and implies the same
    assert not equivalent(one, CausalGraph("chocolate; prizes"))


def test_members_come_one_at_a_time():
    clique = CausalGraph(combinations([f"v{i:02}" for i in range(16)], 2))  # 16! members
    pattern = equivalence_class(clique)
    assert not pattern.directed
    assert all(one in pattern for one in islice(pattern, 3))


def test_as_text():
    pattern = equivalence_class(CausalGraph('b -> c <- "my a"; c -> d; e -> f; g'))
    assert str(pattern) == 'b -> c; c -> d; "my a" -> c; e -- f; g'
    assert "b -> c" not in pattern
    assert CausalGraph("x -> y") not in pattern


def test_bad_input():
    with pytest.raises(ValueError, match="this one has x <-> y; `equivalent` compares"):
        equivalence_class(CausalGraph("x <-> y"))
    with pytest.raises(ValueError, match=r"\['c'\] are in one of them only"):
        equivalent(CausalGraph("a -> b"), CausalGraph("a -> b -> c"))
