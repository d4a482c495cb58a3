"""Bounds, against truth by enumeration and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hidden import random_world

from rung3 import SCM, Binary, Categorical, CausalGraph, worlds
from rung3.effects import Estimate
from rung3.effects.bounds import bounds
from rung3.mechanisms import InverseCDF
from rung3.scm.enumeration import probability

CASES = {
    "bow-arc": "x -> y; x <-> y",
    "instrument": "z -> x -> y; x <-> y",
    "back door": "z -> x -> y; z -> y",
    "back door with a hidden cause": "z -> x -> y; z <-> y",
    "front door": "x -> m -> y; x <-> y",
    "confounded mediator": "x -> m -> y; x -> y; m <-> y",
    "napkin": "w -> z -> x -> y; w <-> x; w <-> y",
    "two hidden causes": "x -> y; x <-> w; w <-> y",
    "an effect beside it": "x -> y -> v; x <-> y; x -> v",
}
IDENTIFIED = ["back door", "back door with a hidden cause", "front door", "confounded mediator"]
PAIRS = [case for case in CASES if case not in ("napkin", "two hidden causes")]


def query_bounds(world: SCM, case: str) -> tuple[Estimate, float]:
    limits = bounds(world, CausalGraph(CASES[case]), {"y": 1}, do={"x": 1}, versus={"x": 0})
    truth = [probability(world.do(x=x), {"y": 1}) for x in (0, 1)]
    return limits, truth[1] - truth[0]


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_bounds_contain_the_truth(case: str, alpha: float) -> None:
    for seed in range(8):
        limits, truth = query_bounds(random_world(CASES[case], seed, alpha=alpha), case)
        assert -1 - 1e-6 <= limits.low <= truth + 1e-5
        assert truth - 1e-5 <= limits.high <= 1 + 1e-6


@pytest.mark.parametrize("case", IDENTIFIED)
def test_where_the_effect_is_identified_the_bounds_are_the_truth(case: str) -> None:
    for seed in range(8):
        limits, truth = query_bounds(random_world(CASES[case], seed, alpha=1.0), case)
        assert limits.identified
        assert limits.low == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize("case", ["bow-arc", "instrument", "an effect beside it"])
def test_where_it_is_not_there_is_something_between_them(case: str) -> None:
    limits, _ = query_bounds(random_world(CASES[case], 0, alpha=1.0), case)
    assert limits.high - limits.low > 0.05


def test_the_bow_arc_has_the_bounds_of_manski_and_robins() -> None:
    """`P(x, y) <= P(y | do(x)) <= 1 - P(x, y')`: the width is P(x')."""
    for seed in range(5):
        world = random_world(CASES["bow-arc"], seed)
        table = [probability(world, {"x": 1, "y": y}) for y in (0, 1)]
        limits = bounds(world, CausalGraph(CASES["bow-arc"]), {"y": 1}, do={"x": 1})
        assert limits.low == pytest.approx(table[1], abs=1e-6)
        assert limits.high == pytest.approx(1 - table[0], abs=1e-6)


def balke_and_pearl(p: dict[tuple[int, int, int], float]) -> tuple[float, float]:
    """Balke and Pearl 1997, JASA 92:1171-1176: bounds on the effect, `p[y, x, z] = P(y, x | z)`."""
    low = [
        p[1, 1, 1] + p[0, 0, 0] - 1,
        p[1, 1, 0] + p[0, 0, 1] - 1,
        p[1, 1, 0] - p[1, 1, 1] - p[1, 0, 1] - p[0, 1, 0] - p[1, 0, 0],
        p[1, 1, 1] - p[1, 1, 0] - p[1, 0, 0] - p[0, 1, 1] - p[1, 0, 1],
        -p[0, 1, 1] - p[1, 0, 1],
        -p[0, 1, 0] - p[1, 0, 0],
        p[0, 0, 1] - p[0, 1, 1] - p[1, 0, 1] - p[0, 1, 0] - p[0, 0, 0],
        p[0, 0, 0] - p[0, 1, 0] - p[1, 0, 0] - p[0, 1, 1] - p[0, 0, 1],
    ]
    high = [
        1 - p[0, 1, 1] - p[1, 0, 0],
        1 - p[0, 1, 0] - p[1, 0, 1],
        -p[0, 1, 0] + p[0, 1, 1] + p[0, 0, 1] + p[1, 1, 0] + p[0, 0, 0],
        -p[0, 1, 1] + p[1, 1, 1] + p[0, 0, 1] + p[0, 1, 0] + p[0, 0, 0],
        p[1, 1, 1] + p[0, 0, 1],
        p[1, 1, 0] + p[0, 0, 0],
        -p[1, 0, 1] + p[1, 1, 1] + p[0, 0, 1] + p[1, 1, 0] + p[1, 0, 0],
        -p[1, 0, 0] + p[1, 1, 0] + p[0, 0, 0] + p[1, 1, 1] + p[1, 0, 1],
    ]
    return max(low), min(high)


def test_the_instrument_has_the_bounds_of_balke_and_pearl() -> None:
    for seed in range(12):
        world = random_world(CASES["instrument"], seed, alpha=0.3)
        p = {
            (y, x, z): probability(world, {"y": y, "x": x}, given={"z": z})
            for y in (0, 1)
            for x in (0, 1)
            for z in (0, 1)
        }
        limits, _ = query_bounds(world, "instrument")
        assert (limits.low, limits.high) == pytest.approx(balke_and_pearl(p), abs=1e-5)


def test_compliance_that_is_monotone_narrows_the_bounds_and_keeps_the_truth() -> None:
    """Without defiers the share of compliers is P(x | z = 1) - P(x | z = 0)."""
    q = torch.rand(16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    q = q.reshape(4, 4)  # response functions of x: never, complier, defier, always
    q[2] = 0
    world = random_world(CASES["instrument"], 1, {"u_x_y": (q / q.sum()).reshape(-1)})
    graph = CausalGraph(CASES["instrument"])
    query = {"event": {"y": 1}, "do": {"x": 1}, "versus": {"x": 0}}
    free = bounds(world, graph, **query)  # type: ignore[arg-type]
    tied = bounds(world, graph, **query, monotone={"x": "z"})  # type: ignore[arg-type]
    truth = probability(world.do(x=1), {"y": 1}) - probability(world.do(x=0), {"y": 1})
    assert free.low - 1e-6 <= tied.low <= truth <= tied.high <= free.high + 1e-6


def test_an_experiment_narrows_the_bounds_to_what_it_found() -> None:
    world = random_world(CASES["instrument"], 2)
    graph = CausalGraph(CASES["instrument"])
    truth = {x: probability(world.do(x=x), {"y": 1}) for x in (0, 1)}
    known = [({"y": 1}, {"x": 1}, truth[1])]
    limits = bounds(world, graph, {"y": 1}, do={"x": 1}, known=known)
    assert limits.low == pytest.approx(truth[1], abs=1e-6)
    assert limits.identified
    other = bounds(world, graph, {"y": 1}, do={"x": 0}, known=known)
    assert truth[0] in other


def test_a_district_may_be_set_in_part_by_each_of_two_interventions() -> None:
    """`a <-> b`: do(a) leaves b to be bounded, do(b) leaves a; together they set all of it."""
    text = "a -> b -> y; a <-> b"
    for seed in range(5):
        world = random_world(text, seed, alpha=0.3)
        a, b = (probability(world.do({name: 1}), {"y": 1}) for name in "ab")
        alone = bounds(world, CausalGraph(text), {"y": 1}, do={"a": 1})
        both = bounds(world, CausalGraph(text), {"y": 1}, do={"a": 1}, versus={"b": 1})
        assert a - b in both
        assert (both.low, both.high) == pytest.approx((alone.low - b, alone.high - b), abs=1e-5)


def test_events_may_be_joint_and_treatments_several() -> None:
    world = random_world("x -> y; z -> y; z -> v; x <-> y", 0)
    graph = CausalGraph("x -> y; z -> y; z -> v; x <-> y")
    limits = bounds(world, graph, {"y": [0, 1], "v": 1}, do={"x": 1, "z": 1})
    assert limits.low == pytest.approx(probability(world.do(z=1), {"v": 1}), abs=1e-5)
    assert limits.identified
    both = bounds(world, graph, {"y": 1, "v": 1}, do={"x": 1, "z": 1})
    assert probability(world.do(x=1, z=1), {"y": 1, "v": 1}) in both


def test_variables_may_have_more_than_two_values() -> None:
    tables = {
        "u": [0.3, 0.3, 0.4],
        "x": [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
        "y": np.random.default_rng(0).dirichlet(np.ones(2), (3, 3)),
    }
    world = SCM(
        "u -> x; u -> y; x -> y",
        {"u": Categorical(3), "x": Categorical(3), "y": Binary()},
        {name: InverseCDF(table=table) for name, table in tables.items()},
    )
    # the table of y is nested by the parents in the order of the graph's nodes: u, x
    graph = CausalGraph("x -> y; x <-> y")
    for x in range(3):
        limits = bounds(world, graph, {"y": 1}, do={"x": x})
        assert probability(world.do(x=x), {"y": 1}) in limits
        share = probability(world, {"x": x})
        assert limits.high - limits.low == pytest.approx(1 - share, abs=1e-5)


def test_rows_serve_as_well_as_a_model() -> None:
    world = random_world(CASES["instrument"], 4, alpha=1.0)
    rows = {name: world.sample(200_000, seed=0)[name] for name in "zxy"}
    graph = CausalGraph(CASES["instrument"])
    exact, _ = query_bounds(world, "instrument")
    drawn = bounds(rows, graph, {"y": 1}, do={"x": 1}, versus={"x": 0}, slack=0.002)
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.03)


def test_data_that_contradict_the_graph_are_refused_with_the_distance() -> None:
    """The instrument decides y and x is constant: no instrument can."""
    z = torch.tensor([0, 1] * 50)
    rows = {"z": z, "x": torch.zeros(100, dtype=torch.int64), "y": z}
    graph, kinds = CausalGraph(CASES["instrument"]), dict.fromkeys("zxy", Binary())
    with pytest.raises(ValueError, match=r"contradict each other.*than 0\.5"):
        bounds(rows, graph, {"y": 1}, do={"x": 0}, variables=kinds)
    limits = bounds(rows, graph, {"y": 1}, do={"x": 0}, variables=kinds, slack=0.5001)
    assert limits.low <= 0.5 <= limits.high


def test_a_stratum_without_rows_is_named_where_the_query_needs_it() -> None:
    z, x = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    rows = {"z": z, "x": x, "y": torch.tensor([0, 1, 0, 1])}
    graph = CausalGraph("z -> x; {z x} -> y")
    with pytest.raises(ValueError, match="y: the query needs the stratum z = 1, x = 0: no rows"):
        bounds(rows, graph, {"y": 1}, do={"x": 0})
    assert bounds(rows, graph, {"y": 1}, do={"x": 1}).low == pytest.approx(0.75)


def test_a_stratum_without_rows_widens_bounds_that_are_bounds_anyway() -> None:
    rows = {
        "z": torch.tensor([0, 0, 0]),
        "x": torch.tensor([0, 1, 1]),
        "y": torch.tensor([0, 1, 0]),
    }
    graph, kinds = CausalGraph(CASES["instrument"]), dict.fromkeys("zxy", Binary())
    limits = bounds(rows, graph, {"y": 1}, do={"x": 1}, variables=kinds)
    assert (limits.low, limits.high) == pytest.approx((1 / 3, 2 / 3), abs=1e-6)


@pytest.mark.parametrize(
    ("text", "event", "do", "options", "message"),
    [
        ("x -> y", {"y": 1}, {"w": 1}, {}, "the graph has no variable 'w'"),
        ("x -> y", {"y": 1}, {"y": 1}, {}, "'y' is in both event and do"),
        ("x -> y", {"y": 3}, {"x": 1}, {}, "y: 3 is not a category"),
        ("x -> y; x <-> y", {"y": 1}, {"x": [0, 1]}, {}, "x must be set to one value"),
        ("x -> y; x <-> y", {"y": 1}, {"x": 1}, {"monotone": {"y": "v"}}, "'v' is not a parent of"),
        ("x -> y; x <-> z; z -> y; v -> y; v <-> w; w -> y", {"y": 1}, {"x": 1, "v": 1}, {},
         "only one of them can be bounded"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(
    text: str,
    event: dict[str, int],
    do: dict[str, object],
    options: dict[str, object],
    message: str,
) -> None:
    rows = {name: torch.randint(2, (50,)) for name in "xyzvw"}
    with pytest.raises(ValueError, match=message):
        bounds(rows, CausalGraph(text), event, do, **options)  # type: ignore[arg-type]


def test_numbers_are_no_events() -> None:
    rows = worlds.lecture().sample(10, seed=0)
    with pytest.raises(ValueError, match="x1: is Continuous"):
        bounds(rows, CausalGraph("x1 -> x2; x1 <-> x2"), {"x2": 1.0}, do={"x1": 0.0})


def test_a_program_that_is_too_large_is_refused_by_name() -> None:
    rows = {name: torch.randint(2, (50,)) for name in "abcdexy"}
    graph = CausalGraph("{a b c d e x} -> y; x <-> y")
    with pytest.raises(ValueError, match=r"y has 2\^64 response functions of \['a'"):
        bounds(rows, graph, {"y": 1}, do={"x": 1})


def test_rows_with_gaps_are_left_out_and_counted() -> None:
    x, y = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    lost = np.array([0, 0, 0, 0, 1, 1], dtype=bool)
    bow, event, do = CausalGraph("x -> y; x <-> y"), {"y": 1}, {"x": 1}
    limits = bounds({"x": x, "y": np.where(lost, np.nan, y)}, bow, event, do)
    whole = bounds({"x": x[~lost], "y": y[~lost]}, bow, event, do)
    assert (limits.low, limits.high, limits.gaps) == (whole.low, whole.high, 2)
    assert str(limits) == f"{whole}; 2 rows with gaps left out"
