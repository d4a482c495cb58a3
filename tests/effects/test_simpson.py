"""Reversals: found where they are, and resolved so that the answer is the true effect."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from rung3 import Categorical, CausalGraph, Continuous, data, worlds
from rung3.data.readers.kidney_stones import VARIABLES
from rung3.effects.tables import Reversal, advise, association, find_reversals

CONFOUNDED = CausalGraph("z -> x; {z x} -> y")


def kidney(**options: object) -> Reversal:
    (reversals,) = find_reversals(data.kidney_stones(), "treatment", "recovery", **options)  # type: ignore[arg-type]
    return reversals


def test_the_kidney_stones_are_a_reversal_with_the_published_rates() -> None:
    reversals = kidney(variables=VARIABLES)
    assert reversals.by == "size"
    assert reversals.aggregate.slope == pytest.approx(273 / 350 - 289 / 350)
    assert reversals.strata["small"].slope == pytest.approx(81 / 87 - 234 / 270)
    assert reversals.strata["large"].slope == pytest.approx(192 / 263 - 55 / 80)
    assert (reversals.advice, reversals.reason) == (None, "")


def test_the_interval_of_a_difference_of_rates_has_the_error_of_welch() -> None:
    p, q = 273 / 350, 289 / 350
    half = 1.963378 * ((p * (1 - p) + q * (1 - q)) / 349) ** 0.5
    reversals = kidney().aggregate
    assert (reversals.low, reversals.high) == pytest.approx((p - q - half, p - q + half), abs=1e-6)


def rates(n: int, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    x = (torch.rand(n, generator=g) < 0.4).double()
    return x, (torch.rand(n, generator=g) < 0.3 + 0.3 * x).double(), 0.3


def skewed(n: int, g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    x = torch.randn(n, generator=g).double()
    return x, x + torch.randn(n, generator=g).double() ** 2 * (1 + x.abs()), 1.0


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 400])
@pytest.mark.parametrize("table", [rates, skewed])
def test_ninety_five_percent_of_intervals_hold_the_slope(
    table: Callable[[int, torch.Generator], tuple[torch.Tensor, torch.Tensor, float]], n: int
) -> None:
    """1,000 tables of few rows, and of many."""
    covered = 0
    for seed in range(1000):
        x, y, slope = table(n, torch.Generator().manual_seed(seed))
        estimate = association(x, y)
        assert estimate is not None
        covered += estimate.low <= slope <= estimate.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(
    ("text", "advice", "reason"),
    [
        ("size -> treatment; {size treatment} -> recovery", "stratify",
         "size blocks the open back-door path treatment <- size -> recovery"),
        ("treatment -> size -> recovery; treatment -> recovery", "aggregate",
         "size is a mediator: its strata take away what passes along "
         "treatment -> size -> recovery"),
        ("treatment -> recovery; {treatment recovery} -> size", "aggregate",
         "size is a collider: its strata open the path treatment -> size <- recovery"),
        ("treatment -> recovery; treatment <- a -> size <- b -> recovery", "aggregate",
         "size is a collider: its strata open the path treatment <- a -> size <- b -> recovery"),
        ("treatment -> recovery; {treatment recovery} -> ward -> size", "aggregate",
         "size is an effect of a collider: its strata open the path "
         "treatment -> ward <- recovery"),
        ("treatment -> recovery -> size", "aggregate",
         "size is an effect of recovery, or of what carries the effect to it"),
        ("treatment -> recovery <- size", "either",
         "size neither confounds treatment and recovery nor carries the effect"),
        ("size -> treatment; {size treatment age} -> recovery; age -> treatment", "neither",
         "adjust for ['age', 'size'] instead"),
        ("size -> treatment; {size treatment} -> recovery; treatment <-> recovery", "neither",
         "no columns block every back-door path; size leaves treatment <-> recovery open"),
        ("treatment -> size -> recovery; treatment <-> size", "neither",
         "no columns will do; size is a mediator: its strata take away what passes along "
         "treatment -> size -> recovery"),
        ("recovery -> treatment; size -> recovery", "neither",
         "recovery is not an effect of treatment: the effect is zero"),
    ],
)  # fmt: skip
def test_the_same_table_has_another_answer_under_another_graph(
    text: str, advice: str, reason: str
) -> None:
    reversals = kidney(graph=CausalGraph(text))
    assert (reversals.advice, reversals.reason) == (advice, reason)


def acyclic() -> list[CausalGraph]:
    """All acyclic graphs of z, x and y."""
    graphs = []
    for arrows in product(("", "->", "<-"), repeat=3):
        pairs = zip((("z", "x"), ("z", "y"), ("x", "y")), arrows, strict=True)
        edges = [(a, b) if way == "->" else (b, a) for (a, b), way in pairs if way]
        try:
            graphs.append(CausalGraph(edges, nodes=["z", "x", "y"]))
        except ValueError:
            continue
    return graphs


def test_there_are_twenty_five_graphs_of_three() -> None:
    assert len(acyclic()) == 25


@pytest.mark.parametrize("graph", acyclic(), ids=str)
def test_what_is_advised_is_the_effect(graph: CausalGraph) -> None:
    """Against the population slopes of a linear model with this graph."""
    order = ["z", "x", "y"]
    weights = np.zeros((3, 3))
    for index, (cause, effect) in enumerate(graph.edges):
        weights[order.index(effect), order.index(cause)] = 0.7 + 0.3 * index
    total = np.linalg.inv(np.eye(3) - weights)
    covariance = total @ total.T
    effect = total[2, 1]
    alone = covariance[1, 2] / covariance[1, 1]
    within = np.linalg.solve(covariance[:2, :2], covariance[:2, 2])[1]
    right = {abs(alone - effect) < 1e-9: "aggregate", abs(within - effect) < 1e-9: "stratify"}
    advice, _ = advise(graph, "x", "y", "z")
    if effect == 0:
        assert advice == "neither"
    elif advice == "either":
        assert alone == pytest.approx(effect)
        assert within == pytest.approx(effect)
    else:
        assert advice == right[True]
        assert abs({"aggregate": within, "stratify": alone}[advice] - effect) > 1e-3


def line(seed: int = 0) -> dict[str, torch.Tensor]:
    """Figure 4: a falling slope in each of three groups, a rising one over all."""
    generator = torch.Generator().manual_seed(seed)
    group = torch.arange(3).repeat_interleave(200)
    noise = torch.randn(2, 600, generator=generator)
    x = 4.0 * group + noise[0]
    return {"group": group, "x": x, "y": 4.0 * group - 0.5 * (x - 4.0 * group) + 0.3 * noise[1]}


def test_slopes_reverse_too() -> None:
    rows = line()
    (reversals,) = find_reversals(rows, "x", "y")
    assert reversals.contrast == "y with x"
    assert reversals.aggregate.slope == pytest.approx(np.polyfit(rows["x"], rows["y"], 1)[0])
    assert reversals.aggregate.slope > 0.5
    for group, part in reversals.strata.items():
        inside = rows["group"] == int(group[-1])
        assert part.slope == pytest.approx(np.polyfit(rows["x"][inside], rows["y"][inside], 1)[0])
        assert part.slope == pytest.approx(-0.5, abs=0.1)


def test_a_continuous_column_makes_strata_by_its_quantiles() -> None:
    rows = line()
    rows["place"] = rows.pop("group") + torch.linspace(0, 0.1, 600)
    (reversals,) = find_reversals(rows, "x", "y", bins=3)
    assert len(reversals.strata) == 3
    assert sum(part.n for part in reversals.strata.values()) == 600


def test_reversals_are_found_without_being_told_where() -> None:
    rows = line() | {"coin": torch.randint(2, (600,))}
    reversals = find_reversals(rows)
    assert {(each.cause, each.outcome, each.by) for each in reversals} >= {("x", "y", "group")}
    assert find_reversals({"a": torch.randn(50), "b": torch.randn(50)}) == []


def test_levels_of_a_category_are_compared_two_by_two() -> None:
    rows = data.kidney_stones()
    drug = torch.where(rows["treatment"] == 1, 2, 0)
    more = {k: torch.cat([v, v[:50]]) for k, v in {**rows, "treatment": drug}.items()}
    more["treatment"][-50:] = 1
    reversals = find_reversals(
        more, "treatment", "recovery", variables={"treatment": Categorical(3, ("B", "C", "A"))}
    )
    assert "recovery with treatment = A against B" in {each.contrast for each in reversals}


def test_a_stratum_in_which_the_cause_does_not_vary_is_left_out_and_said() -> None:
    rows = {k: torch.cat([v, v[:30]]) for k, v in data.kidney_stones().items()}
    rows["size"][-30:] = 2
    rows["treatment"][-30:] = 0
    rows["recovery"][-30:] = 1
    reversal = find_reversals(rows, "treatment", "recovery")[0]
    assert reversal.left_out == ("size = 2",)


def test_where_no_stratum_differs_in_sign_there_is_no_reversal() -> None:
    rows = worlds.chocolate("common cause").sample(2000, seed=0)
    assert find_reversals(rows, "chocolate", "prizes", "wealth") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cause": "treatmnt"}, "lacks a column: unknown variable 'treatmnt'.*'treatment'"),
        ({"cause": "size", "outcome": "size"}, "must differ"),
        ({"bins": 1}, "bins=1 must be at least 2"),
        ({"cause": "size", "graph": CONFOUNDED}, "the graph has no variable 'size'"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_reversals(data.kidney_stones(), **options)  # type: ignore[arg-type]


def test_a_vector_is_no_column_to_look_at() -> None:
    table = {"x": torch.randn(10, 2), "y": torch.randn(10)}
    with pytest.raises(ValueError, match=r"x: is Continuous.*expected a scalar column"):
        find_reversals(table, "x", "y", variables={"x": Continuous(dim=2)})


def test_rows_with_gaps_are_left_out_and_counted_by_what_is_looked_at() -> None:
    rng, n = np.random.default_rng(0), 600
    z = rng.integers(0, 2, n)
    x = rng.normal(size=n) + 4 * z
    y = -x + 8 * z + rng.normal(size=n) / 4
    lost = rng.random(n) < 0.2
    columns = {"x": x, "y": y, "z": np.where(lost, np.nan, z), "w": np.full(n, 0.5)}
    columns["w"][:50] = np.nan
    (reversals,) = find_reversals(columns, "x", "y", "z")
    complete = {"x": x[~lost], "y": y[~lost], "z": z[~lost]}
    (whole,) = find_reversals(complete, "x", "y", "z")
    assert reversals.strata == whole.strata
    assert reversals.gaps == lost.sum()
    assert str(reversals).splitlines()[0].endswith(f"; {lost.sum()} rows with gaps left out")
