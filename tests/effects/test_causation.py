"""Probabilities of causation, against Tian and Pearl's formulas and against enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hidden import random_world

from rung3 import SCM, worlds
from rung3.effects import Estimate
from rung3.effects.bounds import Causation, probabilities_of_causation
from rung3.scm.enumeration import probability


def rows_of(q: np.ndarray) -> dict[str, torch.Tensor]:
    """Rows with `P(x, y)` as the kinds `q (2, 4)` (never, helped, hurt, always) give it."""
    counts = {
        (0, 0): q[0, 0] + q[0, 1], (0, 1): q[0, 2] + q[0, 3],
        (1, 0): q[1, 0] + q[1, 2], (1, 1): q[1, 1] + q[1, 3],
    }  # fmt: skip
    cells = [cell for cell, count in counts.items() for _ in range(int(count))]
    return dict(zip("xy", torch.tensor(cells).unbind(1), strict=True))


def kinds(seed: int, monotone: bool = False) -> np.ndarray:
    q = np.random.default_rng(seed).integers(1, 300, (2, 4))
    q[:, 2] *= not monotone
    return q


def truth(q: np.ndarray) -> tuple[float, float, float]:
    p = q / q.sum()
    return (
        p[1, 1] / (p[1, 1] + p[1, 3]),
        p[0, 1] / (p[0, 0] + p[0, 1]),
        p[:, 1].sum(),
    )


def experiment(q: np.ndarray) -> tuple[float, float]:
    p = q.sum(0) / q.sum()
    return p[1] + p[3], p[2] + p[3]


def parts(causation: Causation) -> list[Estimate]:
    estimates = [causation.necessity, causation.sufficiency, causation.both]
    assert all(isinstance(one, Estimate) and one.value is None for one in estimates)
    return estimates  # type: ignore[return-value]


def tian_and_pearl(q: np.ndarray) -> list[tuple[float, float]]:
    """Their equations 22, 24 and 26 (bounds from observations and experiments together)."""
    p = q / q.sum()
    xy, xny = p[1, 1] + p[1, 3], p[1, 0] + p[1, 2]
    nxy, nxny = p[0, 2] + p[0, 3], p[0, 0] + p[0, 1]
    do1, do0 = experiment(q)
    y = xy + nxy
    return [
        (max(0, (y - do0) / xy), min(1, (1 - do0 - nxny) / xy)),
        (max(0, (do1 - y) / nxny), min(1, (do1 - xy) / nxny)),
        (max(0, do1 - do0, y - do0, do1 - y),
         min(do1, 1 - do0, xy + nxny, do1 - do0 + xny + nxy)),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_bounds_are_those_of_tian_and_pearl_and_contain_the_truth(seed: int) -> None:
    q = kinds(seed)
    estimates = parts(probabilities_of_causation(rows_of(q), "x", "y", experiment=experiment(q)))
    for one, closed, true in zip(estimates, tian_and_pearl(q), truth(q), strict=True):
        assert (one.low, one.high) == pytest.approx(closed, abs=1e-6)
        assert true in one


@pytest.mark.parametrize("seed", range(5))
def test_observations_alone_say_little(seed: int) -> None:
    """`0 <= PNS <= P(x, y) + P(x', y')`, and nothing on PN and PS."""
    q = kinds(seed)
    necessity, sufficiency, both = parts(probabilities_of_causation(rows_of(q), "x", "y"))
    p = q / q.sum()
    assert (necessity.low, necessity.high) == pytest.approx((0, 1), abs=1e-6)
    assert (sufficiency.low, sufficiency.high) == pytest.approx((0, 1), abs=1e-6)
    most = p[1, 1] + p[1, 3] + p[0, 0] + p[0, 1]
    assert (both.low, both.high) == pytest.approx((0, most), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_where_nobody_is_hurt_all_three_are_exact(seed: int) -> None:
    q = kinds(seed, monotone=True)
    estimates = parts(
        probabilities_of_causation(rows_of(q), "x", "y", experiment=experiment(q), monotone=True)
    )
    assert all(one.identified for one in estimates)
    assert [one.low for one in estimates] == pytest.approx(truth(q), abs=1e-5)


def test_without_confounding_they_are_the_excess_risks() -> None:
    """Monotone and exogenous: PN = (p - q) / p, PS = (p - q) / (1 - q), PNS = p - q."""
    x, y = [1] * 50 + [0] * 50, [1] * 40 + [0] * 35 + [1] * 25
    estimates = parts(
        probabilities_of_causation({"x": x, "y": y}, "x", "y", exogenous=True, monotone=True)
    )
    assert [one.low for one in estimates] == pytest.approx([0.3 / 0.8, 0.3 / 0.5, 0.3], abs=1e-6)
    assert all(one.identified for one in estimates)
    free = parts(probabilities_of_causation({"x": x, "y": y}, "x", "y", exogenous=True))
    ends = [(one.low, one.high) for one in free]
    assert ends[0] == pytest.approx((0.375, 0.5 / 0.8), abs=1e-6)
    assert ends[1] == pytest.approx((0.6, 1.0), abs=1e-6)
    assert ends[2] == pytest.approx((0.3, 0.5), abs=1e-6)


def exam_by_hand() -> tuple[float, float, float]:
    """Under the inverse CDF, noise between 1 - P(y|x, z) and 1 - P(y|x', z) is helped."""
    z, studied = {0: 0.5, 1: 0.5}, {0: 0.2, 1: 0.8}
    passed = {(0, 0): 0.3, (0, 1): 0.6, (1, 0): 0.5, (1, 1): 0.9}
    helped = {k: passed[k, 1] - passed[k, 0] for k in z}
    x_y = sum(z[k] * studied[k] * passed[k, 1] for k in z)
    n_n = sum(z[k] * (1 - studied[k]) * (1 - passed[k, 0]) for k in z)
    return (
        sum(z[k] * studied[k] * helped[k] for k in z) / x_y,
        sum(z[k] * (1 - studied[k]) * helped[k] for k in z) / n_n,
        sum(z[k] * helped[k] for k in z),
    )


def shares(causation: Causation) -> list[Estimate]:
    estimates = [causation.necessity, causation.sufficiency, causation.both]
    assert all(isinstance(one, Estimate) and one.value is not None for one in estimates)
    return estimates  # type: ignore[return-value]


def test_would_i_have_passed_had_i_studied() -> None:
    expected = exam_by_hand()
    estimates = shares(
        probabilities_of_causation(worlds.exam(), "studied", "passed", n=60_000, seed=0)
    )
    assert [one.value for one in estimates] == pytest.approx(expected, abs=0.012)
    assert all(one.low < one.value < one.high for one in estimates)


def test_a_table_of_the_exam_agrees_with_its_world() -> None:
    world = worlds.exam()
    rows = world.sample(60_000, seed=0)
    known = [probability(world.do(studied=s), {"passed": 1}) for s in (1, 0)]
    causation = probabilities_of_causation(
        rows, "studied", "passed", experiment=(known[0], known[1]), monotone=True
    )
    assert [one.low for one in parts(causation)] == pytest.approx(exam_by_hand(), abs=0.02)


def enumerated(world: SCM) -> tuple[float, float, float]:
    """PN, PS and PNS of a world whose only noise is its hidden node, row by row."""
    hidden = next(name for name in world.graph.nodes if name.startswith("u_"))
    weights = world.mechanisms[hidden].config()["table"]
    totals = np.zeros((3, 2))
    for u, weight in enumerate(weights):
        fixed = world.do({hidden: u})
        x, y = (int(fixed.sample(1, seed=0)[name]) for name in "xy")
        under = [int(fixed.do(x=value).sample(1, seed=0)["y"]) for value in (0, 1)]
        for k, (hit, among) in enumerate(
            [(not under[0], x and y), (under[1], not x and not y), (under[1] > under[0], True)]
        ):
            totals[k] += weight * bool(among) * np.array([bool(hit), 1.0])
    return tuple(totals[:, 0] / totals[:, 1])


@pytest.mark.parametrize("seed", range(3))
def test_the_counterfactuals_of_a_model_agree_with_enumeration(seed: int) -> None:
    """Not monotone: every response function has weight."""
    world = random_world("x -> y; x <-> y", seed, alpha=1.0)
    estimates = shares(probabilities_of_causation(world, "x", "y", n=40_000, seed=0))
    assert [one.value for one in estimates] == pytest.approx(enumerated(world), abs=0.02)


def test_events_of_continuous_outcomes_are_functions() -> None:
    """x2 = 3 x1 + u: it exceeds 3 under x1 = 1 and not under x1 = 0 if 0 < u <= 3."""
    causation = probabilities_of_causation(
        worlds.lecture(), "x1", "x2", x=1.0, versus=0.0, event=lambda v: v > 3, n=20_000, seed=0
    )
    assert isinstance(causation.both, Estimate)
    assert causation.both.value == pytest.approx(0.49865, abs=0.012)
    assert causation.necessity is None  # no row has x1 = 1 exactly


@pytest.mark.slow
@pytest.mark.parametrize("at", range(3), ids=["necessity", "sufficiency", "both"])
def test_the_intervals_of_shares_cover(at: int) -> None:
    """1,000 tables of 200 rows: 93 to 97 % is three standard errors either way."""
    covered = 0
    for seed in range(1000):
        causation = probabilities_of_causation(worlds.exam(), "studied", "passed", n=200, seed=seed)
        share = (causation.necessity, causation.sufficiency, causation.both)[at]
        assert share is not None
        covered += share.low <= exam_by_hand()[at] <= share.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cause": "w"}, "lacks a column: unknown variable 'w'"),
        ({"cause": "many"}, r"many: is Categorical\(classes=3\); expected a binary column"),
        ({"exogenous": True, "experiment": (0.5, 0.5)}, "not both"),
        ({"experiment": (1.5, 0.5)}, r"two probabilities, got \(1.5, 0.5\)"),
        ({"experiment": (0.01, 0.5)}, "contradict each other"),
        ({"experiment": (0.5, 0.9), "monotone": True}, "contradict each other"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    rows = rows_of(kinds(0)) | {"many": torch.arange(int(kinds(0).sum())) % 3}
    with pytest.raises(ValueError, match=message):
        probabilities_of_causation(rows, **{"cause": "x", "outcome": "y", **options})  # type: ignore[arg-type]


def test_a_cause_that_never_varies_is_refused() -> None:
    with pytest.raises(ValueError, match="x: no rows in the stratum x = 1"):
        probabilities_of_causation({"x": [0, 0], "y": [0, 1]}, "x", "y", exogenous=True)


def test_an_outcome_that_is_no_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="'studied' is not an effect of 'passed'"):
        probabilities_of_causation(worlds.exam(), "passed", "studied")


def test_every_kind_of_row_is_told_apart() -> None:
    """All of one kind: PNS is 1 if all are helped, and 0 if none is."""
    for at, kind in product((0, 1), range(4)):
        q = np.zeros((2, 4), dtype=int)
        q[at, kind] = 10
        q[1 - at, kind] = 10
        estimate = probabilities_of_causation(rows_of(q), "x", "y", experiment=experiment(q)).both
        assert (estimate.low, estimate.high) == pytest.approx((float(kind == 1),) * 2, abs=1e-6)


def test_rows_with_gaps_are_left_out_and_counted() -> None:
    x, y = [1] * 50 + [0] * 50 + [1, None], [1] * 40 + [0] * 35 + [1] * 25 + [None, 1]
    causation = probabilities_of_causation(
        {"x": x, "y": y}, "x", "y", exogenous=True, monotone=True
    )
    whole = probabilities_of_causation(
        {"x": x[:100], "y": y[:100]}, "x", "y", exogenous=True, monotone=True
    )
    assert (causation.necessity, causation.both, causation.gaps) == (whole.necessity, whole.both, 2)
    assert str(causation) == f"{whole}; 2 rows with gaps left out"


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        ("model", {"monotone": True}, "^monotone: for a table as source"),
        ("model", {"experiment": (0.5, 0.5), "exogenous": True}, "^experiment, exogenous: for a"),
        ("model", {"variables": {}}, "^variables: .* is a model; leave out it"),
        ("table", {"seed": 0}, "^seed: for a model as source, and this one is a table"),
        ("table", {"x": 0, "versus": 0, "event": 0}, "^x, versus, event: .*leave out them"),
        ("table", {"n": 5, "level": 0.5}, "^n, level: "),
    ],
)
def test_arguments_of_the_other_source_are_refused_by_name(
    source: str, options: dict[str, object], named: str
) -> None:
    sources = {"model": worlds.exam(), "table": rows_of(kinds(0))}
    names = {"model": ("studied", "passed"), "table": ("x", "y")}
    with pytest.raises(ValueError, match=named):
        probabilities_of_causation(sources[source], *names[source], **options)  # type: ignore[arg-type]
