"""Effects in equivalence classes, against all of their members."""

from __future__ import annotations

import random

import numpy as np
import pytest
from graphs import Tables, random_graph

from rung3.graph import (
    CausalGraph,
    equivalence_class,
    evaluate,
    identify_in_class,
    read_class,
)
from rung3.graph.identification.id_algorithm import identified


def agree(seeds, size):
    """A class's answer beside those of its members, on the table of a random model."""
    counts = {True: 0, False: 0}
    for seed in seeds:
        rng = random.Random(seed)
        graph = random_graph(seed, size, hidden=False)
        members = equivalence_class(graph)
        if seed % 3 == 0 and members.undirected:
            a, b = sorted(sorted(map(sorted, members.undirected))[0], key=graph.order.index)
            members = members.knowing([(a, b)])
        names = rng.sample(graph.nodes, 3)
        x, y = {*names[: 1 + seed % 2]}, {names[2]}
        answer = identify_in_class(members, x, y)
        counts[bool(answer)] += 1
        spread = 0.0
        for model in range(1 if answer else 5):  # a random function may not depend on its cause
            joint, shape = Tables(graph, 1_000 * model + seed).observed(), [2] * size
            answers = [
                np.broadcast_to(evaluate(identified(one, y, x), joint, graph.nodes), shape)
                for one in members
            ]
            spread = max(spread, *(float(np.abs(answers[0] - other).max()) for other in answers))
        if answer.formula is not None:
            expected = np.broadcast_to(evaluate(answer.formula, joint, graph.nodes), shape)
            assert spread < 1e-9, (str(members), x, y)
            np.testing.assert_allclose(expected, answers[0], atol=1e-9)
        else:
            assert spread > 1e-6, (str(members), x, y)
            assert all(one in members for one in answer.members)
            assert answer.members[0] != answer.members[1]
    return counts


def test_a_class_answers_where_all_of_its_members_agree():
    counts = agree(range(60), 4)
    assert min(counts.values()) > 8


@pytest.mark.slow
def test_many_classes_answer_where_all_of_their_members_agree():
    counts = agree(range(100, 400), 5)
    assert min(counts.values()) > 50


def test_the_answer_says_which_members_differ():
    answer = identify_in_class(read_class("x -- z -- y"), "x", "y")
    assert not answer
    assert str(answer).splitlines() == [
        "P(y | do(x)) differs among the graphs of the class: x -- z points either way, and leads "
        "on to z ... y",
        "  = Σ_z P(z | x) P(y | z) where x -> z",
        "  = P(y) where z -> x",
    ]


def test_what_is_known_directs_more():
    members = equivalence_class(CausalGraph("a -> b -> c; a -> d"))
    known = members.knowing([("b", "a")])
    assert len(list(known)) < len(list(members))
    assert all(graph in known and ("b", "a") in graph.edges for graph in known)
    assert sum(graph in known for graph in members) == len(list(known))
    with pytest.raises(ValueError, match="a -> c: no member has an arrow between"):
        members.knowing([("a", "c")])
    with pytest.raises(ValueError, match="c -> b: no member has this arrow"):
        members.knowing([("b", "c"), ("c", "b")])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a <-> b", "without hidden causes"),
        ("a -- b; b -- c; c -- d; d -- a", "no directed graph"),
        ("a -> b -> c -> a", "cycle"),
        ("a - b", "cannot read"),
    ],
)
def test_text_that_is_no_class(text, says):
    with pytest.raises(ValueError, match=says):
        read_class(text)


def test_a_class_is_read_as_it_is_written():
    members = equivalence_class(CausalGraph("a -> b -> c; b -> d <- e; f"))
    assert read_class(str(members)) == members
    assert str(read_class("{a b} -- c")) == "a -- c; b -- c"
