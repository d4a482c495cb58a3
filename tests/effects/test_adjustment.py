"""Effects by adjustment, against closed forms and the truth, and how often they cover it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rung3 import Binary, Categorical, CausalGraph, Continuous, data, identify, worlds
from rung3.data.readers.kidney_stones import VARIABLES
from rung3.effects.tables import effect
from rung3.effects.tables.adjustment import Method
from rung3.scm.enumeration import probability

METHODS: tuple[Method, ...] = ("standardise", "ipw", "aipw")
KIDNEY: dict[str, Any] = {"do": "A", "versus": "B", "variables": VARIABLES}


@pytest.mark.parametrize("method", METHODS)
def test_the_kidney_stones_have_the_lectures_answer(method: Method) -> None:
    estimate = effect(
        data.kidney_stones(), "treatment", "recovery", adjust=["size"], method=method, **KIDNEY
    )
    world = worlds.kidney_stones()
    truth = [probability(world.do(treatment=t), {"recovery": "yes"}) for t in ("A", "B")]
    assert (estimate.do.value, estimate.versus.value) == pytest.approx(truth, abs=1e-6)
    assert estimate.effect.value == pytest.approx(truth[0] - truth[1], abs=1e-6)
    assert estimate.least == pytest.approx(80 / 343, abs=1e-6)


def test_without_adjustment_it_is_the_difference_of_means_with_welchs_error() -> None:
    rows = worlds.kidney_stones().sample(500, seed=0)
    estimate = effect(rows, "treatment", "recovery", adjust=[])
    groups = [rows["recovery"][rows["treatment"] == t].double().numpy() for t in (1, 0)]
    error = sum(group.var(ddof=1) / len(group) for group in groups) ** 0.5
    assert estimate.effect.value == pytest.approx(groups[0].mean() - groups[1].mean())
    half = (estimate.effect.high - estimate.effect.low) / 2
    assert half == pytest.approx(1.9647 * error, rel=1e-3)


def test_the_variance_of_strata_is_that_of_the_stratified_estimator() -> None:
    """Var = sum_z w_z^2 (s_1z^2 / n_1z + s_0z^2 / n_0z) + var_z(difference) / n."""
    rows = {k: v.numpy() for k, v in worlds.kidney_stones().sample(2000, seed=0).items()}
    n = len(rows["size"])
    weight, gap, variance = [], [], 0.0
    for z in (0, 1):
        cells = [rows["recovery"][(rows["size"] == z) & (rows["treatment"] == t)] for t in (1, 0)]
        weight.append((rows["size"] == z).mean())
        gap.append(cells[0].mean() - cells[1].mean())
        variance += weight[z] ** 2 * sum(cell.var(ddof=1) / len(cell) for cell in cells)
    mean = np.dot(weight, gap)
    variance += np.dot(weight, (np.array(gap) - mean) ** 2) / n
    estimate = effect(rows, "treatment", "recovery", adjust=["size"]).effect
    assert estimate.value == pytest.approx(mean)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.9612 * variance**0.5, rel=2e-3)


def linear(seed: int, n: int) -> tuple[dict[str, Tensor], float]:
    """Continuous confounders, an effect that differs between rows, uneven noise."""
    g = torch.Generator().manual_seed(seed)
    z, w, e = torch.randn(3, n, generator=g)
    t = (torch.rand(n, generator=g) < torch.sigmoid(0.7 * z - 0.5 * w)).long()
    y = 1 + 2 * t + z + 0.5 * w + 0.5 * t * z + e * (1 + 0.5 * t)
    return {"z": z, "w": w, "t": t, "y": y}, 2.0


def strata(seed: int, n: int) -> tuple[dict[str, Tensor], float]:
    """Six strata, a binary outcome."""
    g = torch.Generator().manual_seed(seed)
    a, b, c, d = torch.rand(4, n, generator=g)
    z, w = (3 * a).long(), (b < 0.4).long()
    t = (c < 0.25 + 0.2 * z * w + 0.1 * z).long()
    y = (d < 0.2 + 0.15 * t + 0.075 * z * (1 - t) + 0.2 * w).long()
    return {"z": z, "w": w, "t": t, "y": y}, 0.075


World = Callable[[int, int], tuple[dict[str, Tensor], float]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "method"),
    [(strata, "aipw"), (linear, "standardise"), (linear, "ipw"), (linear, "aipw")],
)
def test_ninety_five_percent_cover_the_truth_ninety_five_times_in_a_hundred(
    world: World, method: Method
) -> None:
    """1,000 data sets of 400 rows: 93 to 97 % is three standard errors either way."""
    covered = 0
    for seed in range(1000):
        table, truth = world(seed, 400)
        estimate = effect(table, "t", "y", adjust=["z", "w"], method=method).effect
        covered += estimate.low <= truth <= estimate.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("world", [linear, strata])
def test_the_effect_is_found(world: World, method: Method) -> None:
    table, truth = world(0, 20_000)
    estimate = effect(table, "t", "y", adjust=["z", "w"], method=method).effect
    assert estimate.value == pytest.approx(truth, abs=0.06)
    naive = effect(table, "t", "y", adjust=[]).effect
    assert abs(naive.effect - truth) > abs(estimate.effect - truth)


def test_two_models_are_safer_than_one() -> None:
    """The outcome is not linear in z, the logit is: standardisation is off, AIPW is not."""
    g = torch.Generator().manual_seed(1)
    z, e = torch.randn(2, 20_000, generator=g)
    t = (torch.rand(20_000, generator=g) < torch.sigmoid(z)).long()
    table = {"z": z, "t": t, "y": t * z**2 + e}
    truth = 1.0
    estimates = {
        method: effect(table, "t", "y", adjust=["z"], method=method).effect for method in METHODS
    }
    assert abs(estimates["standardise"].effect - truth) > 0.2
    assert estimates["aipw"].low < truth < estimates["aipw"].high
    curved = effect(table, "t", "y", adjust=["z"], method="standardise", degree=2).effect
    assert curved.low < truth < curved.high


@pytest.mark.parametrize("method", METHODS)
def test_binary_outcomes_with_continuous_confounders(method: Method) -> None:
    g = torch.Generator().manual_seed(1)
    z = torch.randn(20_000, generator=g)
    t, y = torch.rand(2, 20_000, generator=g)
    t = (t < torch.sigmoid(0.7 * z)).long()
    y = (y < torch.sigmoid(-0.5 + t + z)).long()
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weight = torch.softmax(-(grid**2) / 2, 0)
    truth = (weight * ((grid + 0.5).sigmoid() - (grid - 0.5).sigmoid())).sum().item()
    estimate = effect({"z": z, "t": t, "y": y}, "t", "y", adjust=["z"], method=method)
    assert estimate.effect.value == pytest.approx(truth, abs=0.02)
    assert estimate.effect.low < truth < estimate.effect.high


def test_treatments_and_outcomes_may_have_many_levels() -> None:
    g = torch.Generator().manual_seed(2)
    n = 30_000
    z = torch.randint(2, (n,), generator=g)
    t = (torch.rand(n, generator=g) * 3 + z * 0.5).long().clamp_max(2)
    y = ((torch.rand(n, generator=g) * 2 + 0.5 * t + 0.4 * z).long()).clamp_max(2)
    table = {"z": z, "t": t, "y": y}
    kinds = {"t": Categorical(3), "y": Categorical(3)}
    estimate = effect(
        table, "t", "y", do=2, versus=0, adjust=["z"], event=2, variables=kinds
    ).effect

    def share(level: int) -> float:
        rates = [(y[(t == level) & (z == k)] == 2).double().mean() for k in (0, 1)]
        return float(sum(rate * (z == k).double().mean() for k, rate in enumerate(rates)))

    assert estimate.value == pytest.approx(share(2) - share(0), abs=1e-6)


def test_the_graph_says_what_to_adjust_for() -> None:
    graph = CausalGraph("size -> treatment; {size treatment} -> recovery")
    estimate = effect(data.kidney_stones(), "treatment", "recovery", graph=graph, **KIDNEY)
    assert estimate.adjusted == ("size",)
    assert "adjusted for size" in str(estimate)


@pytest.mark.parametrize(
    ("text", "adjust", "message"),
    [
        ("z -> t; {z t} -> y", [], r"adjusting for nothing .*\n.*leaves open the path t <- z -> y"),
        ("t -> y; t <- a -> z <- b -> y", ["z"], "opens the path t <- a -> z <- b -> y, by the col"
         "lider z"),
        ("t -> z -> y", ["z"], "z is on a causal path from treatment to outcome: t -> z"),
        ("t -> y -> z", ["z"], "z is below a causal path from treatment to outcome: t -> y -> z"),
        ("t -> y; t <-> y", None, r"no set of variables closes.*\(t <-> y\); see rung3.eff"),
        ("t -> y", ["x"], "the graph has no variable 'x'"),
    ],
)  # fmt: skip
def test_a_set_that_does_not_identify_the_effect_is_refused_with_the_path(
    text: str, adjust: list[str] | None, message: str
) -> None:
    table, _ = strata(0, 100)
    with pytest.raises(ValueError, match=message):
        effect(table, "t", "y", adjust=adjust, graph=CausalGraph(text))


def test_an_empty_stratum_is_named() -> None:
    rows = data.kidney_stones()
    rest = rows.select(~((rows["size"] == 1) & (rows["treatment"] == 0)))
    message = "no rows with treatment = B in the stratum size = large; adjust for less"
    with pytest.raises(ValueError, match=message):
        effect(rest, "treatment", "recovery", adjust=["size"], **KIDNEY)


def refused(**options: object) -> dict[str, object]:
    table, _ = linear(0, 60)
    return {"table": table, "treatment": "t", "outcome": "y", "adjust": ["z"], **options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (refused(method="matching"), "expected one of .*got 'matching'"),
        (refused(adjust=None), "say what to adjust for"),
        (refused(adjust=["t"]), r"must differ, got \['t'\]"),
        (refused(adjust=["v"]), "lacks a column: unknown variable 'v'"),
        (refused(treatment="w", do=1.0), "w: is Continuous.*give both do and versus"),
        (refused(treatment="w", estimand="ATT"), "w is Continuous.*expected a discrete treatment"),
        (refused(do=0), "do and versus are the same value"),
        (refused(do=2), "t: 2 is not a category"),
        (refused(outcome="c", table=linear(0, 9)[0] | {"c": list("abcabcabc")}),
         "c: is Categorical.*or give event="),
        (refused(table=linear(0, 2)[0] | {"t": [0, 1]}, variables={"t": Binary()}),
         "1 rows of an arm are too few for 2 terms"),
        (refused(table=linear(0, 60)[0] | {"z": linear(0, 60)[0]["t"] * 2.0 - 1.0}),
         r"tells the treatment without error.*\(positivity\)"),
        (refused(level=1.5), "level=1.5 must lie between 0 and 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_estimated_is_refused(options: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        effect(**options)  # type: ignore[arg-type]


def test_a_constant_among_what_is_adjusted_for_does_no_harm() -> None:
    table, _ = linear(0, 300)
    more = table | {"c": torch.ones(300)}
    kinds = {"c": Continuous()}
    one = effect(table, "t", "y", adjust=["z", "w"]).effect
    other = effect(more, "t", "y", adjust=["z", "w", "c"], variables=kinds).effect
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_rows_with_gaps_are_left_out_and_counted() -> None:
    """A missing confounder was a stratum of its own (2.185; the truth is 2)."""
    rng, n = np.random.default_rng(0), 4_000
    z = rng.integers(0, 2, n)
    t = (rng.random(n) < 0.2 + 0.6 * z).astype(int)
    y = 2 * t + 3 * z + rng.normal(size=n)
    gone, lost = rng.random(n) < 0.2, rng.random(n) < 0.1
    labels = np.array(["a", "b"], dtype=object)[z]
    labels[gone] = None
    columns = {"z": labels, "t": t, "y": np.where(lost, np.nan, y), "other": np.full(n, np.nan)}
    estimate = effect(columns, "t", "y", adjust=["z"])
    complete = ~gone & ~lost
    whole = effect({"z": z[complete], "t": t[complete], "y": y[complete]}, "t", "y", adjust=["z"])
    assert (estimate.effect, estimate.n, estimate.gaps) == (
        whole.effect,
        complete.sum(),
        n - complete.sum(),
    )
    assert estimate.effect.low < 2 < estimate.effect.high
    assert f"adjusted for z; {estimate.gaps:,} rows with gaps left out; read off" in str(estimate)


def test_a_graph_may_be_text() -> None:
    table = {"x": [0, 1] * 50, "y": [0.0, 2.0] * 50}
    estimate = effect(table, "x", "y", graph="x -> y")
    assert estimate.effect.value == pytest.approx(2)
    assert str(estimate).endswith("read off their values: x: Binary(), y: Continuous()")
    answer = identify("x -> m -> y; x <-> y", "P(y | do(x))")
    assert answer.method == "front-door"
    through = effect(table | {"m": [0, 1] * 49 + [1, 0]}, "x", "y", graph="x -> m -> y; x <-> y")
    assert (through.way, through.through) == ("front-door", ("m",))
    assert "by the front door (m)" in str(through)


def test_labels_that_are_numbers_name_the_arms() -> None:
    arms = np.array([1, 2, 3] * 40)
    kinds = {"arm": Categorical(labels=("1", "2", "3"))}
    table = {"arm": arms, "y": 10.0 * arms * arms}
    estimate = effect(table, "arm", "y", do=2, versus=1, adjust=[], variables=kinds)
    assert estimate.effect.value == pytest.approx(30)
    with pytest.raises(ValueError, match=r"unknown category \[0\]"):
        effect(table, "arm", "y", do=1, versus=0, adjust=[], variables=kinds)


@pytest.mark.filterwarnings("ignore:.*whole numbers:UserWarning")
def test_columns_that_may_be_amounts_are_named_with_the_cure() -> None:
    age = np.arange(200) % 20
    table = {"t": (age > 9).astype(int), "age": age, "visits": age % 12}
    crude = effect(table, "t", "visits", adjust=[])  # an outcome of whole numbers is an amount
    treated = age > 9
    assert crude.effect.value == pytest.approx(
        table["visits"][treated].mean() - table["visits"][~treated].mean()
    )
    with pytest.raises(ValueError, match=r"variables=\{'age': Continuous\(\)\}"):
        effect(table, "t", "visits", adjust=["age"])
