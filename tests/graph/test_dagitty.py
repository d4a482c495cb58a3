"""DAGitty's text, as its page and R print it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rung3.graph import CausalGraph, read_dagitty, to_dagitty

PAGE = """dag {
bb="-5.07,-5.30,4.02,5.07"
"coffee cups" [exposure,pos="-2.2,-1.5"]
D [outcome,pos="1.2,-1.6"]
U [latent,pos="-0.3,0.1"]
W [adjusted]
"coffee cups" -> D [beta=0.5]
U -> "coffee cups"
U -> {D W} W <-> D
}
"""


def test_the_page():
    page = read_dagitty(PAGE)
    assert page.graph == CausalGraph('"coffee cups" -> D; U -> "coffee cups"; U -> {D W}; W <-> D')
    assert page.graph.nodes == ("coffee cups", "D", "U", "W")
    assert (page.exposures, page.outcomes) == (("coffee cups",), ("D",))
    assert (page.adjusted, page.latents) == (("W",), ("U",))
    assert page.positions == {"coffee cups": (-2.2, -1.5), "D": (1.2, -1.6), "U": (-0.3, 0.1)}
    assert page.observed == CausalGraph(
        '"coffee cups" -> D; "coffee cups" <-> D; "coffee cups" <-> W; D <-> W'
    )
    text = to_dagitty(
        page.graph,
        exposures=page.exposures,
        outcomes=page.outcomes,
        adjusted=page.adjusted,
        latents=page.latents,
        positions=page.positions,
    )
    assert read_dagitty(text) == page


def test_what_selects_rows_is_kept():
    page = read_dagitty("dag { a [selected] b -> a }")
    assert page.selected == ("a",)
    assert read_dagitty(to_dagitty(page.graph, selected=page.selected)) == page


@pytest.mark.parametrize(
    ("text", "graph"),
    [
        ("dag {}", ""),
        ("dag{x->y;z}", "x -> y; z"),
        ("dag { x -> y <- z x <-> z }", "x -> y <- z; x <-> z"),
        ('dag my_name { {a, b} -> "c d" -> e [pos="1,2"] }', '{a b} -> "c d" -> e'),
        ("dag { x [e] y [o] u [u,pos=\"1,1\"] u -> {x y} }", "u -> {x y}"),
    ],
)  # fmt: skip
def test_other_forms(text, graph):
    assert read_dagitty(text).graph == CausalGraph(graph)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
        unique=True,
        max_size=5,
    )
)
def test_round_trip_of_names(names):
    edges = list(pairwise(names))
    hidden = [(names[0], names[-1])] if len(names) > 1 else []
    graph = CausalGraph.of(names, edges, hidden)
    assert read_dagitty(to_dagitty(graph)).graph == graph


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pdag { a -- b }", "of the form 'dag { ... }', got 'pdag { a -- b }'"),
        ("a -> b", "of the form 'dag { ... }'"),
        ("dag { a -- b }", "cannot read '-- b' in DAGitty text"),
        ("dag { a -> b -> a }", "cycle: a -> b -> a"),
        ("dag { a -> }", "a variable is missing at 'the end'"),
        ("dag { -> a }", "a variable is missing at '->'"),
        ("dag { {a b -> c }", "a variable is missing at '->'"),
        ('dag { x [pos="here"] }', "pos of x: expected two numbers"),
    ],
)
def test_text_that_cannot_be_read(text, says):
    with pytest.raises(ValueError, match=says):
        read_dagitty(text)


def test_names_that_the_graph_lacks():
    with pytest.raises(ValueError, match="no variable 'z'"):
        to_dagitty(CausalGraph("x -> y"), exposures=["z"])
    with pytest.raises(ValueError, match="no variable 'z'"):
        to_dagitty(CausalGraph("x -> y"), positions={"z": (0, 0)})
