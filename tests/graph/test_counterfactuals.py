"""ID* and IDC*, against random models whose noise is enumerated, and cases from the literature."""

from __future__ import annotations

import random
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pytest
from graphs import Tables, random_graph
from queries import experiments, holds, truth, values_in

from rung3.graph import (
    CausalGraph,
    CounterfactualQuery,
    counterfactual_graph,
    identify_counterfactual,
    read_counterfactual,
)
from rung3.graph.identification.events import Event, World


def random_world(rng, graph, depth=0):
    """One or two variables set, of those that cause something, sometimes as in another world."""
    causes = [name for name in graph.nodes if graph.children(name)]
    names = rng.sample(causes, min(len(causes), rng.choice([1, 1, 2])))
    nested = [not depth and rng.random() < 0.2 for _ in names]
    settings = {
        name: random_world(rng, graph, 1) if inner else f"{rng.randrange(2)}"
        for name, inner in zip(names, nested, strict=True)
    }
    return World(tuple((name, settings[name]) for name in graph.in_order(settings)))


def random_query(rng, graph):
    """Events in one to three worlds, with values."""
    worlds = [World(), *(random_world(rng, graph) for _ in range(rng.choice([1, 2, 2])))]

    def events(most, fewest):
        values: dict = {}
        for _ in range(rng.randint(fewest, most)):
            world = rng.choice(worlds)
            free = [name for name in graph.nodes if name not in world]
            event = Event(rng.choice(free), world, f"{rng.randrange(2)}")
            values.setdefault((event.variable, event.world), event)
        return tuple(values.values())

    return CounterfactualQuery(events(2, 1), events(2, 0))


def agree(seeds, sizes=(3, 4)):
    """How many queries were identified and refused; those identified are checked."""
    counts = {"identified": 0, "refused": 0, "contradictory": 0}
    for seed in seeds:
        rng = random.Random(seed)
        graph = random_graph(seed, rng.choice(sizes), hidden=True)
        if len(graph.bidirected) > 3:
            continue
        query = random_query(rng, graph)
        model = Tables(graph, seed)
        every = bool(seed % 2)
        try:
            answer = identify_counterfactual(graph, query, experiments="all" if every else ())
        except ValueError as fault:
            counts["contradictory"] += "contradicts itself" in str(fault)
            right = truth(model, query)
            assert np.isnan(right), str(query)
            continue
        if not answer:
            counts["refused"] += 1
            continue
        counts["identified"] += 1
        right = truth(model, query)
        if not np.isnan(right):
            tables = experiments(model) if every else model.observed()
            estimate = answer.evaluate(tables, graph.nodes)
            assert estimate == pytest.approx(right, abs=1e-9), (str(graph), str(answer))
    return counts


def test_formulas_agree_with_enumeration_of_random_models():
    counts = agree(range(150))
    assert counts["identified"] > 50
    assert counts["refused"] > 15


@pytest.mark.slow
def test_formulas_agree_with_enumeration_of_a_thousand_random_models():
    counts = agree(range(1000, 3000), sizes=(3, 4, 5))
    assert counts["identified"] + counts["refused"] > 1000
    assert counts["identified"] > 500


@pytest.mark.parametrize(
    ("graph", "query", "formula"),
    [
        # Shpitser and Pearl 2008, Figure 9 (a)
        (
            "X -> W -> Y; D -> Z -> Y; X <-> Y",
            "P(Y[x=1]=1 | X=0, Z[d=0]=1, D=0)",
            "Σ_W P(Y=1 | X=0, W, Z=1) P(W | X=1)",
        ),
        ("x -> y; x <-> y", "P(y[x=1]=1, x=1)", "P(x=1, y=1)"),  # consistency
        ("z -> {x y}; x -> y", "P(y[x=1] | x=0)", "Σ_z P(z | x=0) P(y | z, x=1)"),
        ("x -> y; x <-> y", "P(x[y=1]=0)", "P(x=0)"),  # y causes nothing
        ("x -> y", "P(x[x=1]=1)", "1"),
        ("x -> m -> y; x <-> y", "P(y[m=1] | x=0)", "P(y | x=0, m=1)"),
    ],
)
def test_formulas_of_the_literature(graph, query, formula):
    assert identify_counterfactual(graph, query).text == formula


def test_events_that_contradict_each_other():
    answer = identify_counterfactual("x -> y", "P(y[x=1]=1 | x=1, y=0)")
    assert answer.text == "0"
    assert "y[x=1]=1 and y=0 are one variable" in answer.reason
    assert answer.evaluate(np.ones((2, 2)) / 4, "xy") == 0
    with pytest.raises(ValueError, match=r"contradicts itself: y=0 and y\[x=1\]=1 are"):
        identify_counterfactual("x -> y", "P(x=0 | x=1, y=0, y[x=1]=1)")
    assert identify_counterfactual("x -> y", "P(x[x=1]=0)").text == "0"


def test_what_was_seen_determines_the_outcome():
    answer = identify_counterfactual("x -> y; x <-> y", "P(y[x=1] | x=1, y=0)")
    assert "y is 0 by what was seen" in str(answer)
    np.testing.assert_array_equal(answer.evaluate(np.ones((2, 2)) / 4, "xy"), [1, 0])


def test_values_left_open_are_axes():
    joint = np.random.default_rng(0).dirichlet([1] * 8).reshape(2, 2, 2)
    graph = "z -> {x y}; x -> y"
    answer = identify_counterfactual(graph, "P(y[x] | x)")
    assert answer.axes == ("y", "x", "x'")
    every = answer.evaluate(joint, "zxy")
    for y, x, was in product((0, 1), repeat=3):
        one = identify_counterfactual(graph, f"P(y[x={x}]={y} | x={was})").evaluate(joint, "zxy")
        assert every[y, x, was] == pytest.approx(float(one), abs=1e-12)


def test_labels_name_values():
    joint = np.array([[0.3, 0.1], [0.2, 0.4]])
    answer = identify_counterfactual("drug -> cured", "P(cured[drug=yes]=no)")
    labels = {"drug": ["no", "yes"], "cured": ["no", "yes"]}
    assert answer.evaluate(joint, ["drug", "cured"], labels) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="drug=yes: its values are 0, 1"):
        answer.evaluate(joint, ["drug", "cured"])


def test_experiments_identify_more():
    bow = "x -> y; x <-> y"
    assert not identify_counterfactual(bow, "P(y[x=1])")
    assert identify_counterfactual(bow, "P(y[x=1])", experiments=["x"]).text == "P(y | do(x=1))"
    hedge = identify_counterfactual(bow, "P(y[x=1])")
    assert "(a hedge)" in hedge.reason
    with pytest.raises(ValueError, match="is not identified"):
        hedge.evaluate(np.ones((2, 2)) / 4, "xy")


def test_the_counterfactual_graph_merges_what_is_the_same():
    graph = counterfactual_graph("x -> m -> y; z -> y", "P(y[x=1] | x=1, z=0)")
    assert set(graph.nodes) == {"x", "m", "y", "z"}
    apart = counterfactual_graph("x -> m -> y; m <-> y", "P(y[x=1] | x=0, y=0)")
    assert "m[x=1]" in apart
    assert ("y", "y[x=1]") in apart.bidirected
    with pytest.raises(ValueError, match="are one variable"):
        counterfactual_graph("x -> y", "P(y[x=1]=1 | x=1, y=0)")


@pytest.mark.parametrize(
    ("query", "spelt"),
    [
        ("Y[x=1] | X=0, Y=0", "P(y[x=1] | x=0, y=0)"),
        ("P(y_{x=1}=1.0, y=0)", "P(y[x=1]=1, y=0)"),
        ("P(y | do(x=1), x)", "P(y[x=1] | x[x=1])"),
        ("y[x=1, m[x=0]]", "P(y[x=1, m[x=0]])"),
        ("y[m[]]", "P(y[m[]])"),
        ('"y"[x="a b"]=-0.5', "P(y[x=a b]=-0.5)"),
    ],
)
def test_queries_are_read(query, spelt):
    graph = CausalGraph("x -> m -> y; x -> y")
    assert str(read_counterfactual(query).on(graph)) == spelt


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("P(y[x=1]", "the closing bracket is missing"),
        ("y[x=1", "a ']' is missing at 'the end'"),
        ("y | do(x), z[x=1]", r"do\(...\) sets variables for all terms"),
        ("y | ", "a variable is missing"),
        ("y x", "nothing was expected after it, and there is 'x'"),
        ("y; x", "what is '; x'"),
        ("y[x=1, x=0]", "x is set twice"),
        ("q[x=1]", "no variable 'q'"),
        ("y, y[x=1] | x=1", "two of these are the same variable"),
        ("y[x=1] | x=1, y", "it is what y is anyway"),
        ("y=1 | y", "give both a value"),
    ],
)
def test_bad_queries(query, says):
    with pytest.raises(ValueError, match=says):
        identify_counterfactual("x -> m -> y; x -> y", query)


def test_primes_are_kept_for_second_values():
    with pytest.raises(ValueError, match="ends with a prime"):
        identify_counterfactual(CausalGraph([("x'", "y")]), "y")


# What is refused


class Smooth:
    """A random model of many responses, with derivatives in the chances of its noise."""

    def __init__(self, graph, seed):
        rng = np.random.default_rng(seed)
        self.graph = graph
        size = [2] * len(graph.bidirected) + [14] * len(graph.nodes)
        self.grid = np.indices(size).reshape(len(size), -1)
        self.chances = [rng.dirichlet([2] * n) for n in size]
        parts = [p[column] for p, column in zip(self.chances, self.grid, strict=True)]
        self.chance = np.prod(parts, axis=0)
        hidden = len(graph.bidirected)
        self.hidden = dict(zip(graph.bidirected, self.grid[:hidden], strict=True))
        self.private = dict(zip(graph.nodes, self.grid[hidden:], strict=True))
        self.functions = {}
        for name in graph.nodes:
            inputs = len(graph.parents(name)) + sum(name in pair for pair in graph.bidirected)
            self.functions[name] = rng.integers(0, 2, (2,) * inputs + (14,))

    def slope(self, where):
        """The derivative of an event's probability in all chances."""
        return np.concatenate(
            [
                np.bincount(column[where], self.chance[where], len(p)) / p
                for p, column in zip(self.chances, self.grid, strict=True)
            ]
        )

    def seen(self, do):
        """The slopes of all cells of an experiment's table."""
        for at in product((0, 1), repeat=len(do)):
            world = World(tuple((k, str(v)) for k, v in zip(do, at, strict=True)))
            model: Any = self
            values = values_in(model, world)
            code = sum(values[name] * 2**k for k, name in enumerate(self.graph.nodes))
            yield from (self.slope(code == cell) for cell in np.unique(code))


def moves_unseen(graph, query, every, seed):
    """How far a query's derivative is from those of all that is observed."""
    model: Any = Smooth(graph, seed)
    given = holds(model, query.given)
    both = given & holds(model, query.outcome)
    known, share = model.chance[given].sum(), model.chance[both].sum()
    if not known:
        return 0.0
    change = (model.slope(both) * known - share * model.slope(given)) / known**2
    names = graph.nodes
    sets = [one for size in range(3) for one in combinations(names, size)] if every else [()]
    sums = np.zeros((len(model.chances), len(change)))
    ends = np.cumsum([0, *map(len, model.chances)])
    for row, (start, end) in enumerate(pairwise(ends)):
        sums[row, start:end] = 1
    basis = np.array([*sums, *(slope for one in sets for slope in model.seen(one))]).T
    solution, *_ = np.linalg.lstsq(basis, change, rcond=1e-10)
    return float(np.abs(basis @ solution - change).max())


@pytest.mark.slow
def test_what_is_refused_differs_between_models_that_look_alike():
    """But for a few queries, which two values tell: P(y_1, x = 0) = P(y_1) - P(y, x = 1)."""
    shown = {True: 0, False: 0}
    for seed in range(500):
        rng = random.Random(seed)
        graph = random_graph(seed, 3, hidden=True)
        query, every = random_query(rng, graph), bool(seed % 2)
        try:
            answer = identify_counterfactual(graph, query, experiments="all" if every else ())
        except ValueError:
            continue
        moved = [moves_unseen(graph, query, every, k) for k in range(1 if answer else 3)]
        if answer:
            assert max(moved) < 1e-7, str(answer)
        else:
            shown[max(moved) > 1e-6] += 1
    assert shown == {True: 75, False: 3}
