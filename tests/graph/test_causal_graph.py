"""CausalGraph, against definitions of its own: all paths, all subsets, linear effects."""

from __future__ import annotations

import random
import re
from itertools import combinations, pairwise, permutations

import networkx as nx
import numpy as np
import pytest
from graphs import (
    is_open,
    marked_paths,
    minimal,
    moral_separated,
    random_graph,
    subsets,
    valid_adjustments,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rung3.graph import CausalGraph

SIZE_TOUR = "size -> treatment; size -> recovery; treatment -> recovery"


# Reading


@pytest.mark.parametrize(
    ("text", "nodes", "edges", "bidirected"),
    [
        ("", "", "", ""),
        ("a -> b", "ab", "ab", ""),
        ("a->b<-c", "abc", "ab cb", ""),
        ("a <- b", "ab", "ba", ""),
        ("a <-> b", "ab", "", "ab"),
        ("a -> b -> c", "abc", "ab bc", ""),
        ("{a b} -> {c d}", "abcd", "ac ad bc bd", ""),
        ("{a, b} <-> c", "abc", "", "ac bc"),
        ("{a\n b} -> c", "abc", "ac bc", ""),
        ("a; b -> c", "abc", "bc", ""),
        ("{a b}; {c}", "abc", "", ""),
        ("\n a -> b\r\n\n c ;; d -> c ;", "abcd", "ab dc", ""),
        ("a -> b; a -> b; b <-> a; a <-> b", "ab", "ab", "ab"),
        ("b -> c; a -> c", "bca", "bc ac", ""),
        ("a -> {b c} -> d <-> a", "abcd", "ab ac bd cd", "ad"),
    ],
)
def test_text_is_read(text, nodes, edges, bidirected):
    graph = CausalGraph(text)
    assert graph.nodes == tuple(nodes)
    assert set(graph.edges) == {tuple(pair) for pair in edges.split()}
    assert len(graph.edges) == len(edges.split())
    assert graph.bidirected == tuple(tuple(pair) for pair in bidirected.split())


def test_names_of_any_kind():
    graph = CausalGraph(
        r'''"blood pressure" -> age_2; x-ray -> 'a -> b'; größe -> "say \"hi\" \\"; v1.2 -> "{;}"'''
    )
    assert graph.parents("age_2") == ("blood pressure",)
    assert graph.parents("a -> b") == ("x-ray",)
    assert graph.parents('say "hi" \\') == ("größe",)
    assert graph.parents("{;}") == ("v1.2",)
    assert CausalGraph(str(graph)) == graph


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a -> b; b => c", "'=> c' in the graph 'b => c'"),
        ("a --> b", "'--> b' in the graph 'a --> b'"),
        ("a -> ", "'a ->': it ends with an arrow"),
        ("a -> ; b", "'a ->': it ends with an arrow"),
        ("-> b", "'-> b': a variable is missing at '->'"),
        ("digraph {\n a -> b; }", "this is Graphviz's text, digraph { ... }"),
        ("strict digraph G { a -> b }", "this is Graphviz's text, digraph { ... }"),
        ("dag { a -> b }", "this is DAGitty's text, dag { ... }: read it with"),
        ("a -> -> b", "'a -> -> b': a variable is missing at '->'"),
        (
            "x -> y\nblood pressure -> age",
            "'blood pressure -> age': an arrow or a semicolon is missing",
        ),
        ("a, b -> c", "'a, b -> c': .* at ','"),
        ("{a b -> c", "'{a b -> c': a variable is missing at '->'"),
        ("{a b; c", "'{a b': a brace is not closed"),
        ("a} -> c", "'a} -> c': .* at '}'"),
        ("{} -> c", "'{} -> c': a variable is missing at '}'"),
        ("{a {b}} -> c", "at '{'"),
        ('a -> "b', "'\"b' in the graph .* closing quote is missing"),
        ('a -> ""', "a string that is not empty"),
        ("a <-> a", "'a' <-> itself: .* two variables"),
    ],
)
def test_text_that_cannot_be_read(text, says):
    with pytest.raises(ValueError, match=says):
        CausalGraph(text)


@pytest.mark.parametrize(
    ("text", "cycle"),
    [
        ("a -> b -> a", "a -> b -> a"),
        ("z; c -> a -> b -> c; z -> c", "c -> a -> b -> c"),
        ("a -> a", "a -> a"),
        ("{a b} -> {b c}", "b -> b"),
        ('"my x" -> y -> "my x"', '"my x" -> y -> "my x"'),
    ],
)
def test_cycles_are_spelt_out(text, cycle):
    with pytest.raises(ValueError, match="cycle: " + re.escape(cycle) + ";"):
        CausalGraph(text)


def test_every_kind_of_input_gives_the_same_graph():
    graph = CausalGraph("a -> b -> c; d; a <-> c")
    pairs = [("a", "b"), ("b", "c")]
    dag = nx.DiGraph(pairs)
    dag.add_node("d")
    assert CausalGraph(pairs, nodes=["d"], bidirected=[("c", "a")]) == graph
    assert CausalGraph(iter(pairs), nodes="d", bidirected=iter([("a", "c")])) == graph
    assert CausalGraph(dag, bidirected=[("a", "c")]) == graph
    assert CausalGraph(graph) == graph == CausalGraph(graph.to_networkx())
    assert CausalGraph("a -> b", nodes=["c", "a"]).nodes == ("a", "b", "c")
    assert graph != CausalGraph("a -> b -> c; d")
    assert graph != "a -> b -> c; d; a <-> c"
    assert len({graph, CausalGraph(graph), CausalGraph("c <-> a; d; a -> b -> c")}) == 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (["ab"], "pairs such as .* got 'ab'"),
        ([("a", "b", "c")], r"got \('a', 'b', 'c'\)"),
        ([("a", 1)], "a string that is not empty, got 1"),
        ({"a": ["b"]}, "got 'a'"),
        (nx.Graph([("a", "b")]), "expected a directed networkx graph"),
        (nx.DiGraph([(0, 1)]), "got 0"),
        (None, "text, pairs or a networkx graph, got None"),
    ],
)
def test_input_of_the_wrong_kind(spec, says):
    with pytest.raises(ValueError, match=says):
        CausalGraph(spec)


def test_changing_the_networkx_copy_leaves_the_graph():
    graph = CausalGraph("a -> b")
    graph.to_networkx().add_edge("b", "c")
    assert graph == CausalGraph("a -> b")


# Structure and surgery


def test_structure_keeps_the_order_of_mention():
    graph = CausalGraph("thickness -> intensity; {digit thickness intensity} -> image; hat")
    assert graph.nodes == ("thickness", "intensity", "digit", "image", "hat")
    assert graph.order == ("thickness", "intensity", "digit", "image", "hat")
    assert graph.parents("image") == ("thickness", "intensity", "digit")
    assert graph.children("thickness") == ("intensity", "image")
    assert graph.roots == ("thickness", "digit", "hat")
    assert graph.ancestors("image") == {"thickness", "intensity", "digit"}
    assert graph.descendants("digit") == {"image"}
    assert graph.descendants(["thickness", "intensity"]) == {"image"}
    assert "image" in graph
    assert "picture" not in graph
    assert 3 not in graph
    assert CausalGraph("c -> b; a -> b").order == ("c", "a", "b")


def test_districts():
    graph = CausalGraph("a -> b -> c -> d; b <-> d; d <-> a; e")
    assert graph.districts == (("a", "b", "d"), ("c",), ("e",))
    assert graph.spouses("d") == ("a", "b")


def test_do_removes_both_kinds_of_arrow():
    graph = CausalGraph("a -> b -> c; a <-> b; b <-> c; a <-> c")
    assert graph.do("b") == CausalGraph("a; b -> c; a <-> c")
    assert graph.do("b", "c") == CausalGraph("a; b; c")
    assert graph.do() == graph == CausalGraph("a -> b -> c; a <-> b; b <-> c; a <-> c")
    assert graph.without_outgoing("b") == CausalGraph("a -> b; c; a <-> b; b <-> c; a <-> c")
    assert graph.subgraph(["c", "a"]) == CausalGraph("a; c; a <-> c")
    assert CausalGraph("c -> a; b -> a").do("a").nodes == ("c", "a", "b")


def test_unknown_and_overlapping_names():
    graph = CausalGraph(SIZE_TOUR)
    for ask in (
        graph.parents,
        graph.children,
        graph.spouses,
        graph.ancestors,
        graph.do,
        graph.subgraph,
    ):
        with pytest.raises(ValueError, match="no variable 'treatmnt'; did you mean 'treatment'"):
            ask("treatmnt")
    with pytest.raises(ValueError, match="its variables are \\['size', 'treatment', 'recovery'\\]"):
        graph.d_separated("size", "zzz")
    with pytest.raises(ValueError, match="'size' is in both x and given"):
        graph.d_separated("size", "recovery", given=["size"])
    with pytest.raises(ValueError, match="'size' is in both treatment and outcome"):
        graph.adjustment_sets("size", "size")
    with pytest.raises(ValueError, match="'size' is in both treatment and given"):
        graph.is_adjustment_set("size", "recovery", "size")
    with pytest.raises(ValueError, match="'size' is in both x and y"):
        graph.paths("size", "size")
    with pytest.raises(ValueError, match="'size' is in both ends and given"):
        next(graph.paths("size", "recovery")).is_open("size")


# The textbook


@pytest.mark.parametrize(
    ("text", "marginally", "given_m"),
    [
        ("x -> m -> y", False, True),
        ("x <- m -> y", False, True),
        ("x -> m <- y", True, False),
        ("x -> z <- y; z -> m", True, False),
        ("x <-> m <-> y", True, False),
        ("x <-> m -> y", False, True),
    ],
)
def test_chain_fork_collider(text, marginally, given_m):
    graph = CausalGraph(text)
    assert graph.d_separated("x", "y") is marginally
    assert graph.d_separated("x", "y", given="m") is given_m
    assert graph.d_separated("y", ["x"], given={"m"}) is given_m


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("z -> {x y}; x -> y", ["z"]),  # kidney stones
        ("x -> m -> y", [""]),  # nothing to do, mediator left alone
        ("x -> y -> s; x -> s", [""]),  # collider left alone
        ("u -> {x m}; v -> {m y}; x -> y", [""]),  # M-bias
        ("u -> {x m}; v -> {m y}; m -> {x y}; x -> y", ["mu", "mv"]),  # butterfly
        ("x -> m -> y; x <-> y", []),  # front door
        ("x -> y; x <-> y", []),  # hidden confounding
        ("x -> m -> y; m <-> y", [""]),  # the hidden cause joins m and y, not x and y
        ("z -> x -> y; x <-> y", []),  # instrument
        ("z -> x -> y; z <-> y", ["z"]),
        ("a -> b -> x; a -> c -> y; x -> y", ["a", "b", "c"]),
        ("y -> x", []),
        ("x; y", [""]),
        ("x <- c -> y; x -> m -> y; m -> d; d <-> y", ["c"]),
    ],
)
def test_textbook_adjustment_sets(text, sets):
    graph = CausalGraph(text)
    adjusting = graph.adjustment_sets("x", "y")
    assert adjusting == [set(names) for names in sets]
    minimal = graph.minimal_adjustment_set("x", "y")
    assert minimal in adjusting if adjusting else minimal is None


def test_the_tour():
    graph = CausalGraph(SIZE_TOUR)
    assert graph.d_separated("treatment", "recovery", given=["size"]) is False
    assert graph.adjustment_sets("treatment", "recovery") == [{"size"}]
    assert graph.is_adjustment_set("treatment", "recovery", {"size"})
    assert not graph.is_adjustment_set("treatment", "recovery", set())


def test_several_treatments():
    graph = CausalGraph("c -> {x z y}; x -> z; {x z} -> y; z <-> c")
    assert graph.adjustment_sets(["x", "z"], "y") == [{"c"}]
    confounded = CausalGraph("x -> z -> y; x -> y; x <-> z")
    assert confounded.adjustment_sets(["x", "z"], "y") == [set()]
    assert confounded.adjustment_sets("x", "y") == []


def test_roles():
    graph = CausalGraph(
        "i -> t -> m -> y; c -> {t y}; o -> y; {t y} -> s; y -> f; t -> e; k -> t; k <-> y; w"
    )
    assert graph.roles("t", "y") == {
        "i": "instrument",
        "m": "mediator",
        "c": "confounder",
        "o": "cause of outcome",
        "s": "collider",
        "f": "effect of outcome",
        "e": "effect of treatment",
        "k": "cause of treatment",
        "w": "unrelated",
    }


# Paths


def test_paths_print_and_block():
    graph = CausalGraph(
        "treatment -> recovery; {treatment recovery} <- size; treatment <-> recovery;"
        "{treatment recovery} -> cost -> debt"
    )
    paths = {str(path): path for path in graph.paths("treatment", "recovery")}
    assert set(paths) == {
        "treatment -> recovery",
        "treatment <- size -> recovery",
        "treatment <-> recovery",
        "treatment -> cost <- recovery",
    }
    fork, collider = paths["treatment <- size -> recovery"], paths["treatment -> cost <- recovery"]
    assert fork.backdoor
    assert not fork.directed
    assert fork.blocked_by("size") == ("size",)
    assert fork.is_open(given="cost")
    assert collider.colliders == ("cost",)
    assert collider.blocked_by() == ("cost",)
    assert collider.is_open("debt")
    assert [str(path) for path in graph.causal_paths("treatment", "recovery")] == [
        "treatment -> recovery"
    ]
    assert {str(path) for path in graph.backdoor_paths("treatment", "recovery")} == {
        "treatment <- size -> recovery",
        "treatment <-> recovery",
    }
    assert (
        str(next(CausalGraph('"blood sugar" -> age').paths("age", "blood sugar")))
        == 'age <- "blood sugar"'
    )
    assert list(CausalGraph("a; b").paths("a", "b")) == []


@pytest.mark.parametrize("seed", range(40))
def test_paths_are_all_paths(seed):
    graph = random_graph(seed, 5, hidden=seed % 2 == 1)
    for x, y in permutations(graph.nodes, 2):
        mine = list(graph.paths(x, y))
        ends = {"->": (False, True), "<-": (True, False), "<->": (True, True)}
        links = [zip(p.nodes, p.arrows, p.nodes[1:], strict=False) for p in mine]
        marks = {
            tuple((a, ends[arrow][0], b, ends[arrow][1]) for a, arrow, b in path) for path in links
        }
        truth = marked_paths(graph, x, y)
        assert len(mine) == len(truth)
        assert marks == {tuple(path) for path in truth}
        assert set(graph.causal_paths(x, y)) == {path for path in mine if path.directed}
        assert set(graph.backdoor_paths(x, y)) == {path for path in mine if path.backdoor}


def test_paths_of_a_big_graph_come_one_at_a_time():
    layers = [[f"l{i}_{j}" for j in range(4)] for i in range(40)]
    edges = [(a, b) for up, down in pairwise(layers) for a in up for b in down]
    dead_end = [("l0_0", f"d{j}") for j in range(15)] + [
        (f"d{i}", f"d{j}") for i in range(15) for j in range(i)
    ]
    graph = CausalGraph(edges + dead_end)
    assert len(next(graph.paths("l0_0", "l39_0")).nodes) >= 40
    assert next(graph.backdoor_paths("l1_0", "l39_0")).nodes[1].startswith("l0_")
    assert next(graph.causal_paths("l0_0", "l39_0")).directed


# Against the definitions


@pytest.mark.parametrize("hidden", [False, True])
def test_separation_by_blocked_paths(hidden):
    for seed in range(60):
        graph = random_graph(seed, 5, hidden)
        for x, y in combinations(graph.nodes, 2):
            paths = marked_paths(graph, x, y)
            objects = list(graph.paths(x, y))
            for known in subsets(set(graph.nodes) - {x, y}):
                separated = not any(is_open(graph, path, known) for path in paths)
                assert graph.d_separated(x, y, known) is separated, (graph, x, y, known)
                assert any(path.is_open(known) for path in objects) is not separated


@pytest.mark.parametrize("hidden", [False, True])
def test_separation_of_sets_by_moralisation(hidden):
    rng = random.Random(0)
    for seed in range(300):
        graph = random_graph(seed, 8, hidden)
        names = rng.sample(graph.nodes, 8)
        i, j, k = rng.randint(1, 2), rng.randint(3, 4), rng.randint(4, 7)
        x, y, known = set(names[:i]), set(names[i:j]), set(names[j:k])
        assert graph.d_separated(x, y, known) is moral_separated(graph, x, y, known), (
            graph,
            x,
            y,
            known,
        )


@pytest.mark.parametrize("hidden", [False, True])
def test_adjustment_sets_by_trying_all(hidden):
    found_some = 0
    for seed in range(150):
        graph = random_graph(1000 + seed, 6, hidden)
        x, y = random.Random(seed).sample(graph.nodes, 2)
        valid = valid_adjustments(graph, x, y)
        truth = sorted(minimal(valid), key=lambda one: (len(one), sorted(one)))
        assert graph.adjustment_sets(x, y) == truth, (graph, x, y)
        one = graph.minimal_adjustment_set(x, y)
        assert one in truth if truth else one is None
        for known in subsets(set(graph.nodes) - {x, y}):
            assert graph.is_adjustment_set(x, y, known) is (known in valid), (graph, x, y, known)
        found_some += len(truth) > 1
    assert found_some >= 5


def test_adjustment_sets_give_the_effect():
    """In a linear model the slope of x given Z is the total effect if Z is valid, else not."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        graph = random_graph(2000 + seed, 6, hidden=True)
        names = list(graph.nodes)
        columns = {name: i for i, name in enumerate([*names, *graph.bidirected])}
        weights = np.zeros((len(columns), len(columns)))
        hidden = [(pair, end) for pair in graph.bidirected for end in pair]
        for cause, effect in [*graph.edges, *hidden]:
            weights[columns[effect], columns[cause]] = rng.choice([-1, 1]) * rng.uniform(0.5, 1.5)
        total = np.linalg.inv(np.eye(len(columns)) - weights)
        covariance = total @ np.diag(rng.uniform(0.5, 2, len(columns))) @ total.T
        x, y = rng.permutation(names)[:2].tolist()
        for known in subsets(set(names) - {x, y}):
            at = [columns[name] for name in (x, *sorted(known))]
            slopes = np.linalg.solve(covariance[np.ix_(at, at)], covariance[at, columns[y]])
            exact = abs(slopes[0] - total[columns[y], columns[x]]) < 1e-9
            assert graph.is_adjustment_set(x, y, known) is bool(exact), (graph, x, y, known)


def test_the_minimal_set_lies_among_the_parents_of_the_causal_nodes():
    """It is part of O = pa(causal nodes) - forbidden, the optimal set (Henckel et al., 2022)."""
    checked = 0
    for seed in range(200):
        graph = random_graph(3000 + seed, 7, hidden=False)
        x, y = random.Random(seed).sample(graph.nodes, 2)
        causal = {name for path in graph.causal_paths(x, y) for name in path.nodes[1:]}
        one = graph.minimal_adjustment_set(x, y)
        if causal:
            forbidden = causal | graph.descendants(causal) | {x}
            assert one is not None
            assert one <= {cause for name in causal for cause in graph.parents(name)} - forbidden
            checked += bool(one)
    assert checked >= 15


def test_limit():
    graph = CausalGraph("; ".join(f"x <- a{i} -> b{i} -> y" for i in range(12)) + "; x -> y")
    assert len(graph.adjustment_sets("x", "y", limit=7)) == 7
    assert graph.minimal_adjustment_set("x", "y") == {f"b{i}" for i in range(12)}
    assert graph.adjustment_sets("x", "y", limit=1) == [{f"b{i}" for i in range(12)}]
    fork = CausalGraph("; ".join(f"x <- a{i} -> b{i} -> y" for i in range(6)) + "; x -> y")
    assert len(fork.adjustment_sets("x", "y")) == 2**6


def test_two_hundred_nodes():
    rng = random.Random(0)
    names = [f"v{i}" for i in range(200)]
    edges = [pair for pair in combinations(names, 2) if rng.random() < 0.05]
    hidden = [pair for pair in combinations(names[:60], 2) if rng.random() < 0.02]
    graph = CausalGraph(edges, nodes=names, bidirected=hidden)
    one = graph.minimal_adjustment_set("v100", "v199")
    assert one
    assert graph.is_adjustment_set("v100", "v199", one)
    assert not any(graph.is_adjustment_set("v100", "v199", one - {name}) for name in one)


# Properties

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@st.composite
def any_graph(draw):
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    pairs = list(combinations(draw(st.permutations(names)), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    hidden = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return {"spec": edges, "nodes": names, "bidirected": hidden}


@settings(max_examples=150)
@given(any_graph())
def test_text_round_trip(drawn):
    graph = CausalGraph(**drawn)
    repeated = CausalGraph(graph.to_text())
    assert repeated == graph
    assert hash(repeated) == hash(graph)
    assert repeated.nodes == graph.nodes
    assert repeated.edges == graph.edges
    assert all(repeated.parents(name) == graph.parents(name) for name in graph.nodes)
    assert CausalGraph(graph.to_networkx()).nodes == graph.nodes
    assert repr(graph) == f"CausalGraph({str(graph)!r})"


@given(any_graph(), st.data())
def test_local_markov_and_surgery(drawn, data):
    graph = CausalGraph(**drawn)
    place = {name: i for i, name in enumerate(graph.order)}
    assert set(place) == set(graph.nodes)
    assert all(place[cause] < place[effect] for cause, effect in graph.edges)
    for name in graph.nodes:
        before = graph.subgraph(set(graph.nodes) - graph.descendants(name))
        district = next(part for part in before.districts if name in part)
        blanket = {*district, *(cause for one in district for cause in before.parents(one))} - {
            name
        }
        rest = set(before.nodes) - blanket - {name}
        assert before.d_separated(name, rest, blanket)
        assert (name in graph.ancestors(graph.children(name))) is bool(graph.children(name))
    cut = data.draw(st.sets(st.sampled_from(graph.nodes))) if graph.nodes else set()
    done = graph.do(*cut)
    assert done.nodes == graph.nodes
    assert set(done.edges) == {edge for edge in graph.edges if edge[1] not in cut}
    assert done.do(*cut) == done
    assert all(not done.parents(name) and not done.spouses(name) for name in cut)
