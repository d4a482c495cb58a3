"""Identification, against exact tables of random models and a second writing of the algorithm."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from graphs import Tables, random_graph

from rung3 import SCM, Binary, Categorical, Continuous, effects, identify
from rung3.graph import CausalGraph, CausalQuery, evaluate
from rung3.graph.identification.estimand import Probability, variables
from rung3.mechanisms import Equation, Flow, GumbelMax

BOW = CausalGraph("x -> y; x <-> y")
FRONT = CausalGraph("x -> m -> y; x <-> y")


def line_by_line(graph, y, x):
    """Whether P(y | do(x)) is identified, by the lines of ID in Shpitser and Pearl (2006)."""
    nodes = set(graph.nodes)
    if not x:  # 1
        return True
    above = y | graph.ancestors(y)
    if nodes - above:  # 2
        return line_by_line(graph.subgraph(above), y, x & above)
    cut = graph.do(*x)
    free = nodes - x - y - cut.ancestors(y)
    if free:  # 3
        return line_by_line(graph, y, x | free)
    parts = graph.subgraph(nodes - x).districts
    if len(parts) > 1:  # 4
        return all(line_by_line(graph, set(part), nodes - set(part)) for part in parts)
    part = set(parts[0])
    if len(graph.districts) == 1:  # 5
        return False
    whole = next(set(one) for one in graph.districts if part <= set(one))
    return whole == part or line_by_line(graph.subgraph(whole), y, x & whole)  # 6, 7


@pytest.mark.parametrize("size", [4, 5, 6])
def test_every_query_is_answered_exactly_or_refused_rightly(size):
    refused = 0
    for seed in range(60):
        graph = random_graph(seed, size, hidden=True)
        if len(graph.bidirected) > 4:
            continue
        names = random.Random(seed).sample(graph.nodes, size)
        x, y = set(names[: 1 + seed % 2]), {names[-1]}
        z = {names[2]} if seed % 3 == 0 and names[2] not in x | y else set()
        identified = identify(graph, CausalQuery(tuple(y), tuple(x), tuple(z)))
        if not z:
            assert bool(identified) is line_by_line(graph, y, x), (graph, x, y)
        refused += not identified
        if not identified:
            assert "(a hedge)" in identified.reason
            assert identified.formula is None
            continue
        model = Tables(graph, seed)
        assert identified.formula is not None
        answer = evaluate(identified.formula, model.observed(), graph.nodes)
        for at in product((0, 1), repeat=len(x)):
            set_to = dict(zip(sorted(x), at, strict=True))
            values = model.values(set_to)
            truth = model.table([values[name] for name in sorted(y | z)])
            truth = truth / truth.sum(sorted(y | z).index(min(y)), keepdims=True)
            where = tuple(set_to.get(name, slice(None)) for name in graph.nodes)
            mine = np.broadcast_to(answer, [2] * size)[where].squeeze()
            others = [name for name in graph.nodes if name not in x]
            spread = [others.index(name) for name in sorted(y | z)]
            shown = np.moveaxis(mine, spread, range(len(spread)))
            for cell in np.ndindex(truth.shape):
                np.testing.assert_allclose(shown[cell], truth[cell], atol=1e-9)
    assert refused >= 2


def test_counterfactuals_of_random_models():
    """P(y_{x} | e) of models whose noise is known, against the formula where there is one."""
    methods = set()
    for seed in range(250):
        rng = random.Random(seed)
        graph = random_graph(seed, 4, hidden=True)
        if len(graph.bidirected) > 3:
            continue
        x, y = rng.sample(graph.nodes, 2)
        seen = sorted(
            {name for name in graph.nodes if rng.random() < 0.4} | ({x} if seed % 2 else set())
        )
        unaffected = y not in graph.descendants(x)
        if not seen or (unaffected and y in seen):
            continue
        identified = identify(graph, CausalQuery((y,), (x,), tuple(seen), factual=True))
        if not identified:
            continue
        methods.add(identified.method)
        model = Tables(graph, seed)
        fact = model.values()
        assert identified.formula is not None
        answer = evaluate(identified.formula, model.observed(), graph.nodes)
        axes = [
            *graph.nodes,
            *(f"{k}'" for k in graph.nodes if f"{k}'" in variables(identified.formula)),
        ]
        for was in product((0, 1), repeat=len(seen)):
            evidence = dict(zip(seen, was, strict=True))
            rows = np.logical_and.reduce([fact[name] == value for name, value in evidence.items()])
            for value in (0, 1):
                chance = model.chance[rows & (model.values({x: value})[y] == 1)].sum()
                known = evidence | {x: value, y: 1}
                known |= {f"{name}'": seen_value for name, seen_value in evidence.items()}
                at = tuple(
                    min(known.get(name, 0), n - 1)
                    for name, n in zip(axes, answer.shape, strict=True)
                )
                np.testing.assert_allclose(
                    answer[at],
                    chance / model.chance[rows].sum(),
                    atol=1e-9,
                    err_msg=str(identified),
                )
    assert methods >= {"no effect", "back-door", "ID* algorithm"}


def test_what_is_seen_is_not_set_where_it_acts_on_other_evidence():
    """Were c set, not seen, d would tell no longer of w given that c; m tells of nothing."""
    graph = CausalGraph("x -> {m y}; c -> {y d}; d <-> w; w -> y")
    identified = identify(graph, "P(y_{x} | c, d, m)")
    one = identify(graph, "P(y | do(x), c, d)")
    model = Tables(graph, 3)
    fact, imagined = model.values(), model.values({"x": 1})
    assert identified.formula is not None
    assert one.formula is not None
    answers = [
        evaluate(f, model.observed(), graph.nodes) for f in (identified.formula, one.formula)
    ]
    for c, d in product((0, 1), repeat=2):
        rows = (fact["c"] == c) & (fact["d"] == d) & (fact["m"] == 1)
        truth = model.chance[rows & (imagined["y"] == 1)].sum() / model.chance[rows].sum()
        at = {"x": 1, "m": 1, "y": 1, "c": c, "d": d, "w": 0}
        for answer in answers:
            cell = tuple(min(at[k], n - 1) for k, n in zip(graph.nodes, answer.shape, strict=True))
            assert answer[cell] == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize(
    ("graph", "query", "method", "formula"),
    [
        ("z -> {x y}; x -> y", "P(y | do(x))", "back-door", "Σ_z P(y | z, x) P(z)"),
        ("z -> {x y}; x -> y", "P(y | do(x), z)", "back-door", "P(y | z, x)"),
        ("x -> y; c -> y", "P(y | do(x))", "back-door", "P(y | x)"),
        ("y -> x; x <-> y", "P(y | do(x))", "no effect", "P(y)"),
        (FRONT, "P(y | do(x))", "front-door", "Σ_m P(m | x) Σ_x' P(y | x', m) P(x')"),
        (
            "x -> a -> b -> y; x <-> b; a <-> y",
            "P(y | do(x))",
            "ID algorithm",
            "Σ_{a, b} P(a | x) P(y | x, a, b) Σ_x' P(x') P(b | x', a)",
        ),
        (FRONT, "P(y)", "observation", "P(y)"),
        ("z -> {x y}; x -> y", "P(y_{x} | x)", "back-door", "Σ_z P(y | z, x) P(z | x')"),
        (FRONT, "P(y_{x} | x)", "ID* algorithm", "Σ_m P(y | x', m) P(m | x)"),
        ("x -> y; z", "P(z_{x} | x, y)", "no effect", "P(z | x', y)"),
    ],
)
def test_textbook_formulas(graph, query, method, formula):
    answer = identify(CausalGraph(graph), query)
    assert answer.identified
    assert (answer.method, str(answer.formula)) == (method, formula)
    assert f"is identified: {method}" in str(answer)


def test_what_is_not_identified_says_why():
    answer = identify(BOW, "P(y | do(x))")
    assert not answer
    assert str(answer).splitlines() == [
        "P(y | do(x)) is not identified",
        "  hidden common causes (x <-> y) join {x, y}, all of which act on {y}: what x does to it "
        "cannot be told from what they share (a hedge)",
    ]
    chain = identify(CausalGraph("x -> m -> y"), "P(y_{x} | x, y)")
    assert not chain
    assert list(chain.assumptions) == ["m", "y"]
    assert "enters both as it was and as it would have been" in chain.reason
    assert "what carries it" in str(chain)
    hidden = identify(BOW, "P(y_{x} | x, y)")
    assert "P(y | do(x)) is not" in hidden.obstacles[0]
    assert "what carries it" not in str(hidden)


def test_a_set_of_ones_own_to_adjust_for():
    graph = CausalGraph("u -> {x c}; v -> {c y}; x -> y; z -> {x y}")
    answer = identify(graph, "P(y | do(x))", adjust=["z", "u"])
    assert str(answer.formula) == "Σ_{u, z} P(y | u, x, z) P(u, z)"
    with pytest.raises(ValueError, match="it opens the path x <- u -> c <- v -> y, by the coll"):
        identify(graph, "P(y | do(x))", adjust=["z", "c"])
    with pytest.raises(ValueError, match=r"adjust: expected a query such as P\(y \| do\(x\)\)"):
        identify(graph, "P(y | z)", adjust=["z"])


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("P(q | do(x))", "no variable 'q'"),
        ("P(y | do(x), x)", "'x' is in both do and given"),
        ("P(x_{x} | y)", "'x' is in both outcome and do"),
        ("P(y_{x} | q)", "no variable 'q'"),
        ("P(y, m_{x})", "several worlds"),
    ],
)
def test_bad_queries(query, says):
    with pytest.raises(ValueError, match=says):
        identify(FRONT, query)


def test_the_formula_needs_its_variables():
    with pytest.raises(ValueError, match="the table lacks 'z'"):
        evaluate(Probability(("z",)), np.ones((2, 2)) / 4, ["x", "y"])
    empty = evaluate(Probability(("y",), ("x",)), np.array([[0.5, 0.5], [0, 0]]), ["x", "y"])
    assert np.isnan(empty[1]).all()


# What a model refuses


def model(graph, **mechanisms):
    kinds = {"x": Binary(), "y": Categorical(3)}
    nodes = CausalGraph(graph).nodes
    return SCM(
        graph, variables={k: v for k, v in kinds.items() if k in nodes}, mechanisms=mechanisms
    )


ROW = {"x": 1, "m": 0.1, "y": 2, "z": 0.0}


def test_a_model_refuses_what_is_not_identified():
    refused = model("x -> m -> y; x <-> m; z -> y", m=Flow(), y=GumbelMax())
    assert refused.sample(3, seed=0).n == 3
    assert refused.do(z=1.0).sample(3, seed=0).n == 3
    assert refused.do(m=1.0).sample(3, seed=0).n == 3
    with pytest.raises(ValueError, match=r"P\(m, y, z \| do\(x\)\) is not identified") as error:
        refused.do(x=1).sample(3)
    assert "hidden common causes (x <-> m)" in str(error.value)
    assert "identified by themselves are: z." in str(error.value)
    with pytest.raises(ValueError, match="counterfactual is not identified: m: its mechanism"):
        refused.counterfactual(ROW, do={"x": 0})
    noise = refused.abduct(ROW, seed=0)
    with pytest.raises(ValueError, match="counterfactual is not identified: m: its mechanism"):
        refused.do(x=0).predict(noise)
    assert refused.counterfactual(ROW, do={"z": 1.0}, seed=0)["m"] == torch_like(0.1)


def test_effects_and_densities_are_refused_like_samples():
    kinds = {"x": Binary(), "y": Continuous(), "m": Continuous()}
    refused = SCM("x -> {y m}; x <-> m", kinds)
    row = {"x": [1], "y": [0.0], "m": [0.1]}
    assert effects.average(refused, {"x": 1}, "y", n=5, seed=0).n == 5
    for ask in (
        lambda: effects.average(refused, {"x": 1}, "m", n=5, seed=0),
        lambda: refused.do(x=1).log_prob(row),
        lambda: refused.do(x=1).sample(5),
    ):
        with pytest.raises(ValueError, match=r"m \| do\(x\)\) is not identified"):
            ask()
    through = SCM("x -> m -> y; x -> y; m <-> y")
    assert effects.average(through, {"x": 1.0}, "y", n=5, seed=0).n == 5
    with pytest.raises(ValueError, match="m and y: of a recanting district"):
        effects.natural(through, {"x": 1.0}, "y", "m", n=5, seed=0)
    with pytest.raises(ValueError, match="not identified: y: its mechanism is not identified"):
        effects.mediate(through, dict.fromkeys("xmy", 0.0), {"x": 1.0}, "y", "m")
    through.unidentified = "allow"
    assert effects.natural(through, {"x": 1.0}, "y", "m", n=5, seed=0).total.n == 5


def torch_like(value):
    return pytest.approx(value, rel=1e-6)


def test_a_model_that_is_told_to_answers():
    permitted = model("x -> m -> y; x <-> m; z -> y", m=Flow(), y=GumbelMax())
    permitted.unidentified = "allow"
    assert permitted.do(x=1).sample(3, seed=0).n == 3
    assert permitted.counterfactual(ROW, do={"x": 0}, seed=0)["x"] == 0


def test_known_mechanisms_and_markovian_models_are_not_refused():
    known = SCM(
        CausalGraph("x -> y; x <-> y"),
        mechanisms={"x": Equation("u"), "y": Equation("x + u")},
        world="bow-arc",
    )
    assert known.do(x=1.0).sample(2, seed=0).n == 2
    assert known.counterfactual({"x": 0.0, "y": 1.0}, do={"x": 2.0})["y"] == 3
    markov = model("x -> m -> y", m=Flow(), y=GumbelMax())
    assert markov.do(x=1).sample(2, seed=0).n == 2


def test_shifts_and_noise_that_others_tell_of():
    shared = SCM(CausalGraph("x -> m -> y; x <-> y"))
    with pytest.raises(ValueError, match=r"do\(x=function of itself\) is not identified: x <-> y"):
        shared.do(x=lambda x: x + 1).sample(2)
    beside = model("x -> y; y <-> w", y=GumbelMax())
    row = {"x": 1, "y": 2, "w": 0.0}
    with pytest.raises(ValueError, match=r"w tells of its noise too \(y <-> w\)"):
        beside.counterfactual(row, do={"x": 0})


def test_a_model_says_which_assumption_carries_a_counterfactual():
    answer = identify(model("x -> m -> y", m=Flow(), y=GumbelMax()), "P(y_{x} | x, m, y)")
    assert answer.method == "assumption"
    assert answer.assumptions["m"].startswith("monotone in Gaussian noise")
    assert answer.assumptions["y"].startswith("Gumbel-max noise")
    assert not answer.obstacles
    repeated = identify(model("x -> m -> y", m=Flow(), y=GumbelMax()).do(m=1.0), "P(y_{x} | x, y)")
    assert repeated.assumptions["m"].startswith("set by intervention")
