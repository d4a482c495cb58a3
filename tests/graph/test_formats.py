"""Graphs in the formats of other tools."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from rung3.graph import CausalGraph, from_adjacency, read_dot, read_gml


@pytest.mark.parametrize(
    ("text", "graph"),
    [
        ("digraph {}", ""),
        ("strict digraph G { a->b->c; a -> c [color=red]; }", "a -> b -> c; a -> c"),
        ('digraph "my graph" { rankdir=LR; node [shape=box]; "a b" -> {c d} }', '"a b" -> {c d}'),
        ("digraph { a -> b // a comment -> c\n /* a -> d */ # not one\n }", None),
        ("digraph { a -> b // a comment -> c\n /* a -> d */ \n# e -> f\n }", "a -> b"),
        ('digraph { a -> b [dir="both"] b -> c [dir=back] }', "a <-> b; c -> b"),
        ('digraph { subgraph cluster_0 { a b } -> c; "a -> b" }', '{a b} -> c; "a -> b"'),
        ("digraph { 1 -> 2.5 }", "1 -> 2.5"),
        (
            "digraph { subgraph s { label=x; a -> b [dir=both]; } -> c; d }",
            "a <-> b; {a b} -> c; d",
        ),
    ],
)
def test_dot(text, graph):
    if graph is None:
        with pytest.raises(ValueError, match="cannot read"):
            read_dot(text)
    else:
        assert read_dot(text) == CausalGraph(graph)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("graph { a -- b }", "has no direction"),
        ("a -> b", "of the form 'digraph"),
        ("digraph { a -> }", "a name is missing at 'the end'"),
        ("digraph { a -> b -> a }", "cycle: a -> b -> a"),
        ("digraph { a -> b [dir=none] }", "dir=none"),
        ("digraph { {a -> b }", "a name is missing|a closing brace is missing"),
    ],
)
def test_dot_that_cannot_be_read(text, says):
    with pytest.raises(ValueError, match=says):
        read_dot(text)


def test_gml_of_networkx_and_of_dowhy():
    dag = nx.DiGraph([("x", "y"), ("z", "y")])
    assert read_gml("\n".join(nx.generate_gml(dag))) == CausalGraph("x -> y; z -> y")
    nodes = 'node[ id "v0" label "v0"]node[ id "y" label "y"]'
    dowhy = f'graph[directed 1{nodes}edge[source "v0" target "y"]]'
    assert read_gml(dowhy) == CausalGraph("v0 -> y")
    hidden = """graph [ directed 1
      node [ id 0 label "x" ] node [ id 1 label "y" ]
      edge [ source 0 target 1 ] edge [ source 0 target 1 bidirected 1 ]
    ]"""
    assert read_gml(hidden) == CausalGraph("x -> y; x <-> y")
    with pytest.raises(ValueError, match="has no direction"):
        read_gml("\n".join(nx.generate_gml(dag.to_undirected())))
    with pytest.raises(ValueError, match="cannot read GML"):
        read_gml("graph [ node ")


def test_adjacency():
    frame = pd.DataFrame([[0, 2, 1], [0, 0, 1], [0, 0, 0]], list("abc"), list("abc"))
    assert from_adjacency(frame) == CausalGraph("a -> {b c}; b -> c")
    assert from_adjacency(np.array([[0, 1], [0, 0]]), ["x", "y"]) == CausalGraph("x -> y")
    with pytest.raises(ValueError, match="cycle: x -> y -> x"):
        from_adjacency(np.ones((2, 2)) - np.eye(2), ["x", "y"])
    with pytest.raises(ValueError, match="must be the same"):
        from_adjacency(frame.set_axis(list("abd")))
    with pytest.raises(ValueError, match="give names="):
        from_adjacency(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="a table of 2 by 2"):
        from_adjacency(np.zeros((2, 3)), ["x", "y"])
    with pytest.raises(ValueError, match="an entry of the table is missing"):
        from_adjacency(frame.where(frame > 0))
