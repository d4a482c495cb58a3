"""Transport, fusion of data and recovery from selection, against enumeration of random models."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
from graphs import Tables, random_graph
from queries import experiment, truth

from rung3.graph import CausalGraph, Source, read_counterfactual, recover, transport


def elsewhere(model, differs, seed):
    """The model of a population in which the mechanisms of some variables differ."""
    rng = np.random.default_rng(seed)
    other = copy.deepcopy(model)
    for name in differs:
        drawn = rng.dirichlet([2] * 4)[other.private[name]]
        before = np.bincount(model.private[name], model.chance, 4)[model.private[name]]
        other.chance = other.chance / before * drawn
        other.functions[name] = rng.integers(0, 2, other.functions[name].shape)
        other.functions[name][..., :2] = 0, 1
    return other


def random_sources(rng, graph):
    """The rows as they are, perhaps, and one or two other populations, perhaps experiments."""
    sources = [Source()] if rng.random() < 0.6 else []
    for name in rng.sample(["trial", "abroad"], rng.choice([1, 2])):
        differs = [one for one in graph.nodes if rng.random() < 0.3]
        set_to = rng.sample(graph.nodes, rng.choice([0, 1, 1, 2]))
        sources.append(Source(name, do=graph.in_order(set_to), differs=differs))
    return sources


def random_effect(rng, graph):
    """A query of the second rung about the graph's variables."""
    names = list(graph.order)
    at = rng.randrange(1, len(names))
    x, y = rng.choice(names[:at]), names[at]
    z = rng.choice([name for name in names if name not in (x, y)])
    given = f" | {z}[{x}=1]=0" if rng.random() < 0.3 else ""
    return read_counterfactual(f"P({y}[{x}=1]=1{given})")


def agree(seeds):
    counts = {"identified": 0, "refused": 0}
    for seed in seeds:
        rng = random.Random(seed)
        graph = random_graph(seed, rng.choice([3, 4]), hidden=True)
        if len(graph.bidirected) > 3:
            continue
        query, sources = random_effect(rng, graph), random_sources(rng, graph)
        answer = transport(graph, query, sources)
        counts["identified" if answer else "refused"] += 1
        if not answer:
            continue
        model = Tables(graph, seed)
        tables = {
            one: experiment(elsewhere(model, one.differs, (seed, at)), one.do)
            for at, one in enumerate(sources)
        }
        estimate = answer.evaluate(tables, graph.nodes)
        right = truth(model, query)
        assert estimate == pytest.approx(right, abs=1e-9), (str(graph), sources, str(answer))
    return counts


def test_transport_agrees_with_enumeration():
    counts = agree(range(60))
    assert counts["identified"] > 20
    assert counts["refused"] > 10


@pytest.mark.slow
def test_transport_agrees_with_enumeration_on_300_formulas():
    counts = agree(range(100, 900))
    assert counts["identified"] > 300
    assert counts["refused"] > 100


def selected_table(model, graph):
    """The table of the rows in which s is 1."""
    values = model.values()
    chosen = values["s"] == 1
    table = np.zeros([2] * len(graph.nodes))
    np.add.at(table, tuple(values[name][chosen] for name in graph.nodes), model.chance[chosen])
    return table / table.sum()


def recovers(seeds):
    counts = {"identified": 0, "refused": 0}
    for seed in seeds:
        rng = random.Random(seed)
        inner = random_graph(seed, rng.choice([3, 4]), hidden=True)
        if len(inner.bidirected) > 2:
            continue
        causes = rng.sample(inner.nodes, rng.choice([1, 1, 2]))
        edges = [*inner.edges, *((name, "s") for name in causes)]
        graph = CausalGraph(edges, nodes=(*inner.nodes, "s"), bidirected=inner.bidirected)
        query = random_effect(rng, inner)
        census = Source(only=rng.sample(inner.nodes, 2))
        also = [census] if rng.random() < 0.5 else []
        answer = recover(graph, query, "s", also=also)
        counts["identified" if answer else "refused"] += 1
        if not answer:
            continue
        model = Tables(graph, seed)
        gone = tuple(at for at, name in enumerate(graph.nodes) if name not in census.only)
        tables = {Source(selected="s"): selected_table(model, graph)}
        tables |= {one: model.observed().sum(gone, keepdims=True) for one in also}
        estimate = answer.evaluate(tables, graph.nodes)
        assert estimate == pytest.approx(truth(model, query), abs=1e-9), (str(graph), str(answer))
    return counts


def test_recovery_agrees_with_enumeration():
    counts = recovers(range(60))
    assert counts["identified"] > 10
    assert counts["refused"] > 10


@pytest.mark.slow
def test_recovery_agrees_with_enumeration_on_many_formulas():
    counts = recovers(range(100, 900))
    assert counts["identified"] > 150
    assert counts["refused"] > 150


@pytest.mark.parametrize(
    ("graph", "query", "sources", "formula"),
    [
        (  # Pearl and Bareinboim 2011, Figure 3 (a): populations differ in age
            "z -> y; x -> y; x <-> y",
            "P(y | do(x))",
            [Source("trial", do="x", differs="z"), Source()],
            "Σ_z P(z) P_trial(y | do(x), z)",
        ),
        (  # Figure 3 (b): z is a proxy of what differs, and not a cause: direct
            "u -> z; u -> y; x -> y; x <-> y",
            "P(y | do(x))",
            [Source("trial", do="x")],
            "P_trial(y | do(x))",
        ),
        (  # Figure 3 (c): z is on the way
            "x -> z -> y; x <-> y",
            "P(y | do(x))",
            [Source("trial", do="x", differs="z"), Source()],
            "Σ_z P(z | x) P_trial(y | do(x), z)",
        ),
    ],
)
def test_transport_formulas_of_the_literature(graph, query, sources, formula):
    assert str(transport(graph, query, sources).formula) == formula


def test_what_cannot_be_transported_says_of_each_source_why():
    trial = Source("trial", do="x", differs="y")
    answer = transport("x -> y; x <-> y", "P(y | do(x))", [trial, Source()])
    assert not answer
    assert "trial under do(x), where y differs: y is otherwise caused there" in answer.reason
    assert "this population: hidden common causes (x <-> y)" in answer.reason


def test_bad_sources():
    with pytest.raises(ValueError, match="is another population: name it"):
        Source(differs="z")
    with pytest.raises(ValueError, match="no variable 'q'"):
        transport("x -> y", "P(y | do(x))", [Source("a", do="q")])
    with pytest.raises(ValueError, match="at least one, such as Source"):
        transport("x -> y", "P(y | do(x))", [])
    with pytest.raises(ValueError, match="this population is there twice"):
        transport("x -> y", "P(y | do(x))", [Source(), Source(only="x")])
    with pytest.raises(ValueError, match="there is no table of the population 'a' under do"):
        transport("x -> y", "P(y | do(x))", [Source("a", do="x")]).evaluate(
            np.ones((2, 2)) / 4, "xy"
        )
