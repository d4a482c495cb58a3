"""Every function of graphs takes a graph as it may be written, and refuses what is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from rung3 import graph as graphs

TEXT = "z -> {x y}; x -> y"
PAIRS = [("z", "x"), ("z", "y"), ("x", "y")]
ROWS = {"x": [k % 11 for k in range(60)], "y": [k % 7 for k in range(60)], "z": [1, 2, 3] * 20}

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "separation": lambda g: graphs.separation(g, "x", "y", "z"),
    "structures": lambda g: list(graphs.structures(g)),
    "check_adjustment": lambda g: graphs.check_adjustment(g, "x", "y", "z"),
    "implications": graphs.implications,
    "equivalence_class": graphs.equivalence_class,
    "equivalent": lambda g: graphs.equivalent(g, TEXT) and graphs.equivalent(TEXT, g),
    "identify_in_class": lambda g: graphs.identify_in_class(g, "x", "y"),
    "ancestral_class": graphs.ancestral_class,
    "identify_in_ancestral_class": lambda g: graphs.identify_in_ancestral_class(g, "x", "y"),
    "identify_counterfactual": lambda g: graphs.identify_counterfactual(g, "P(y[x=1])"),
    "counterfactual_graph": lambda g: graphs.counterfactual_graph(g, "P(y[x=1])"),
    "identify_path_effect": lambda g: graphs.identify_path_effect(g, "x", "y", through="y"),
    "identify_treated": lambda g: graphs.identify_treated(g, "x", "y"),
    "transport": lambda g: graphs.transport(g, "P(y | do(x))", [graphs.Source("trial", do="x")]),
    "recover": lambda g: graphs.recover(g, "P(y | do(x))", "z"),
    "falsify": lambda g: graphs.falsify(g, ROWS),
    "to_dagitty": graphs.to_dagitty,
    "to_mermaid": graphs.to_mermaid,
    "draw_graph": graphs.draw_graph,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_is_given_in_any_form(name: str) -> None:
    answer = FUNCTIONS[name]
    right = str(answer(graphs.CausalGraph(TEXT)))
    of_class = name.startswith("identify_in_")  # whose text is of the class, and says more
    for form in [PAIRS, nx.DiGraph(PAIRS), *([] if of_class else [TEXT])]:
        assert str(answer(form)).split(" object at")[0] == right.split(" object at")[0]
    with pytest.raises(ValueError, match=r"a graph is text, pairs or a networkx graph, got None"):
        answer(None)
    with pytest.raises(ValueError, match=r"cannot read"):
        answer("x ~> y")


def test_a_class_is_given_as_text() -> None:
    known = graphs.read_class("x -- y; x -> c; b -> c")
    text = graphs.identify_in_class(str(known), "x", "c")
    assert str(text) == str(graphs.identify_in_class(known, "x", "c"))
    pag = graphs.read_ancestral("a o-> x; b o-> x; x -> y")
    assert "P(y | x)" in str(graphs.identify_in_ancestral_class(str(pag), "x", "y"))
