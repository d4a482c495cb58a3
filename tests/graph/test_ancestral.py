"""Partial ancestral graphs against enumeration of their members; effects against all of them."""

from __future__ import annotations

import random
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from graphs import Tables, random_graph

from rung3.graph import (
    CausalGraph,
    ancestral_class,
    evaluate,
    identify_in_ancestral_class,
    read_ancestral,
)


def independencies(graph: CausalGraph) -> frozenset[Any]:
    names = graph.nodes
    return frozenset(
        (pair, known)
        for pair in combinations(names, 2)
        for rest in [[k for k in names if k not in pair]]
        for size in range(len(rest) + 1)
        for known in combinations(rest, size)
        if graph.d_separated(*pair, known)
    )


def ancestral(graph: CausalGraph) -> bool:
    """Whether no bidirected arrow joins a cause with its effect."""
    above = {name: graph.ancestors(name) - {name} for name in graph.nodes}
    return not any(a in above[b] or b in above[a] for a, b in graph.bidirected)


def members(graph: CausalGraph, known: Any = None) -> list[CausalGraph]:
    """All ancestral graphs with the independencies of a graph; of a class, those with its marks."""
    pairs = [pair for pair in combinations(graph.nodes, 2) if pair in ancestral_class(graph).marks]
    independent, found = independencies(graph), []
    allowed = [
        [kind for kind, ends in KINDS.items() if known is None or fits(known, pair, ends)]
        for pair in pairs
    ]
    for kinds in product(*allowed):
        text = [f"{a} {kind} {b}" for (a, b), kind in zip(pairs, kinds, strict=True)]
        try:
            one = CausalGraph("; ".join([*text, *graph.nodes]))
        except ValueError:  # a cycle
            continue
        one = CausalGraph.of(graph.nodes, one.edges, one.bidirected)
        if ancestral(one) and independencies(one) == independent:
            found.append(one)
    return found


KINDS = {"->": ("tail", "arrow"), "<-": ("arrow", "tail"), "<->": ("arrow", "arrow")}


def fits(known: Any, pair: tuple[str, str], ends: tuple[str, str]) -> bool:
    said = known.marks[pair[::-1]], known.marks[pair]
    return all(one in ("circle", end) for one, end in zip(said, ends, strict=True))


def mark(graph: CausalGraph, a: str, b: str) -> str:
    return "tail" if (b, a) in graph.edges else "arrow"


def with_hidden(graph: CausalGraph) -> list[CausalGraph]:
    """The graph, and it with a hidden cause beside each arrow that is not visible."""
    edges = [f"{a} -> {b}" for a, b in graph.edges] + [f"{a} <-> {b}" for a, b in graph.bidirected]
    same = read_ancestral("; ".join([*edges, *graph.nodes]))
    pairs = [pair for pair in graph.edges if not same.is_visible(*pair)]
    more = [CausalGraph.of(graph.nodes, graph.edges, [*graph.bidirected, pair]) for pair in pairs]
    return [graph, *more]


def agree_on_marks(seeds: range, size: int) -> int:
    circles = 0
    for seed in seeds:
        graph = random_graph(seed, size, hidden=True)
        known, all_members = ancestral_class(graph), members(graph)
        for (a, b), said in known.marks.items():
            seen = {mark(one, a, b) for one in all_members}
            assert seen == ({"arrow", "tail"} if said == "circle" else {said}), (seed, str(known))
            circles += said == "circle"
        assert read_ancestral(str(known)).marks == known.marks
    return circles


def test_a_class_has_the_marks_that_its_members_share() -> None:
    assert agree_on_marks(range(4), 4) > 5


@pytest.mark.slow
def test_many_classes_have_the_marks_that_their_members_share() -> None:
    assert agree_on_marks(range(4, 250), 4) > 200
    assert agree_on_marks(range(1_000, 1_012), 5) > 20


def agree_on_effects(seeds: range, size: int) -> dict[bool, int]:
    """The formula beside the truth in all members; if there is none, members that differ."""
    counts = {True: 0, False: 0}
    for seed in seeds:
        rng = random.Random(seed)
        graph = random_graph(seed, size, hidden=True)
        x, y = rng.sample(graph.nodes, 2)
        known = ancestral_class(graph)
        found = identify_in_ancestral_class(known, x, y)
        counts[bool(found)] += 1
        worlds = [w for one in members(graph, known) for w in with_hidden(one)]
        if found.formula is not None:
            for world in worlds:
                tables = Tables(world, seed)
                told = evaluate(found.formula, tables.observed(), world.nodes)
                assert_true(told, tables, x, y, world.nodes)
        else:
            assert any(x in one.ancestors(y) and not one.d_separated(x, y) for one in worlds), (
                seed,
                str(known),
                x,
                y,
            )
    return counts


def assert_true(told: Any, tables: Tables, x: str, y: str, names: tuple[str, ...]) -> None:
    full = np.broadcast_to(told, [2] * len(names))
    for value in (0, 1):
        truth = tables.table([tables.values({x: value})[y]])
        index: list[Any] = [0] * len(names)
        index[names.index(x)], index[names.index(y)] = value, slice(None)
        np.testing.assert_allclose(full[tuple(index)], truth, atol=1e-9)


def test_a_class_answers_what_holds_in_all_of_its_members() -> None:
    counts = agree_on_effects(range(8), 4)
    assert min(counts.values()) > 1


@pytest.mark.slow
def test_many_classes_answer_what_holds_in_all_of_their_members() -> None:
    counts = agree_on_effects(range(100, 400), 4)
    assert min(counts.values()) > 40


def test_what_is_said_of_them() -> None:
    """The published example of Jaber et al. (2019), Figure 1, and edges that may be anything."""
    known = read_ancestral("a o-> x; b o-> x; x -> y; y <-> z")
    assert str(known) == "a o-> x; b o-> x; x -> y; y <-> z"
    found = identify_in_ancestral_class(known, "x", "y")
    assert str(found).endswith("= P(y | x)")
    assert str(identify_in_ancestral_class(known, "y", "x")).endswith("= P(x)")
    differ = identify_in_ancestral_class(ancestral_class(CausalGraph("x -> y")), "x", "y")
    assert not differ
    assert "differs among the graphs of the class: x o-o y may be a cause" in str(differ)
    confounded = ancestral_class(CausalGraph("i -> x -> y; c -> x; c -> y; j -> c"))
    given = identify_in_ancestral_class(confounded, "x", "y")
    assert str(given).endswith("= Σ_c P(c) P(y | x, c)") or "Σ_c P(y | x, c) P(c)" in str(given)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a -- b", "cannot read"), ("a o-> b; b o-> a", "joined twice"), ("a o-> a", "joined twice"),
     ("a o->", "lacks a variable")],
)  # fmt: skip
def test_text_that_is_no_class(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_ancestral(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a->b<->c; d", "a -> b; b <-> c; d"), ("a<-b<-o c", "b -> a; c o-> b"),
     ("a o->b o-o c", "a o-> b; b o-o c"), ('"a->b" o-> "c <-> d"', '"a->b" o-> "c <-> d"'),
     ("x<-oy", "oy -> x")],
)  # fmt: skip
def test_arrows_need_no_spaces_but_beside_a_circle(text: str, says: str) -> None:
    assert str(read_ancestral(text)) == says
