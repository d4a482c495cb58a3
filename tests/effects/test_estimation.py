"""`effect` beside closed forms: whose effect, ratios, groups, survey weights, clusters, ways."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from effect_studies import FRONT, INSTRUMENT, NAPKIN, STUDIES, binary, linear, repeated, surveyed

import rung3
from rung3 import effect
from rung3.effects.tables.answer import Curve


def rows(draw: Any, n: int = 2_000, seed: int = 0) -> dict[str, Any]:
    table: dict[str, Any] = draw(np.random.default_rng(seed), n)
    return table


def test_it_is_at_the_top_level() -> None:
    assert effect is rung3.effects.tables.effect
    assert "effect" in rung3.__all__


@pytest.mark.parametrize(("estimand", "arm"), [("ATT", 1), ("ATU", 0)])
@pytest.mark.parametrize("method", ["standardise", "ipw", "aipw"])
def test_on_the_treated_strata_are_weighted_as_the_treated_have_them(
    estimand: Any, arm: int, method: Any
) -> None:
    table = rows(binary)
    z, t, y = (table[name] for name in "zty")
    gaps = [y[(t == 1) & (z == k)].mean() - y[(t == 0) & (z == k)].mean() for k in range(3)]
    shares = [(z[t == arm] == k).mean() for k in range(3)]
    estimate = effect(table, "t", "y", adjust=["z"], estimand=estimand, method=method)
    assert estimate.effect.effect == pytest.approx(np.dot(gaps, shares))
    assert estimate.estimand in str(estimate)


def test_the_odds_ratio_of_four_counts_has_woolfs_interval() -> None:
    """The error of its logarithm is sqrt(1/a + 1/b + 1/c + 1/d), here with n - 1 of each arm."""
    counts = {(1, 1): 60, (1, 0): 40, (0, 1): 30, (0, 0): 70}
    t = np.concatenate([np.full(k, arm) for (arm, _), k in counts.items()])
    y = np.concatenate([np.full(k, value) for (_, value), k in counts.items()])
    estimate = effect({"t": t, "y": y}, "t", "y", adjust=[])
    assert estimate.ratio is not None
    assert estimate.odds_ratio is not None
    assert estimate.ratio.effect == pytest.approx(2)
    assert estimate.odds_ratio.effect == pytest.approx(60 * 70 / (40 * 30))
    half = 1.9720 * (sum(1 / k for k in counts.values()) * 100 / 99) ** 0.5
    assert np.log(estimate.odds_ratio.high / estimate.odds_ratio.effect) == pytest.approx(
        half, rel=1e-3
    )


def test_groups_hold_all_together() -> None:
    table = rows(linear) | {"g": np.arange(2_000) % 5}
    estimate = effect(table, "t", "y", adjust=["z", "w"], by="g")
    assert list(estimate.groups) == [f"g = {k}" for k in range(5)]
    assert estimate.adjusted == ("z", "w", "g")
    one = effect(
        {k: v[table["g"] == 3] for k, v in table.items()}, "t", "y", adjust=["z", "w"]
    ).effect
    three = estimate.groups["g = 3"]
    assert three.effect == pytest.approx(one.effect, abs=0.05)
    assert (three.high - three.low) / (one.high - one.low) == pytest.approx(2.57 / 1.97, rel=0.07)
    by_z = effect(table, "t", "y", adjust=["z", "w"], by="z", bins=2, degree=2)
    low, high = by_z.groups.values()
    assert high.effect - low.effect == pytest.approx(0.8, abs=0.25)  # E|z| = .8; slope 1/2, twice
    assert "    z " in str(by_z)


def test_a_survey_weight_of_three_counts_as_three_rows() -> None:
    table = rows(surveyed, 400)
    often = np.repeat(np.arange(400), table["weight"].astype(int))
    copies = {name: column[often] for name, column in table.items()}
    estimate = effect(table, "t", "y", adjust=["g"], weights="weight")
    alike = effect(copies, "t", "y", adjust=["g"])
    assert estimate.effect.effect == pytest.approx(alike.effect.effect)
    subjects = effect({**copies, "who": often}, "t", "y", adjust=["g"], clusters="who").effect
    width = estimate.effect.high - estimate.effect.low
    assert width == pytest.approx(subjects.high - subjects.low, rel=0.02)
    assert width > 1.2 * (alike.effect.high - alike.effect.low)


def test_an_outcome_below_zero_has_no_ratio_and_an_event_must_have_happened() -> None:
    """The ratio of two mean changes is of no use: where nothing changes it is endless."""
    table = rows(linear, 300)
    assert effect(table, "t", "y", adjust=["z"]).ratio is None
    assert effect(table | {"y": np.exp(table["y"])}, "t", "y", adjust=["z"]).ratio is not None
    with pytest.raises(ValueError, match="event: y is 3 in no row that is used"):
        effect(table, "t", "y", adjust=["z"], event=3)


def test_copies_of_a_row_tell_nothing_new() -> None:
    table = rows(linear, 300)
    twice = {name: np.tile(column, 2) for name, column in table.items()}
    once = effect(table, "t", "y", adjust=["z", "w"]).effect
    estimate = effect({**twice, "who": np.tile(np.arange(300), 2)}, "t", "y", adjust=["z", "w"],
                  clusters="who").effect  # fmt: skip
    assert estimate.effect == pytest.approx(once.effect)
    assert estimate.high - estimate.low == pytest.approx(once.high - once.low, rel=0.03)
    ignored = effect(twice, "t", "y", adjust=["z", "w"]).effect
    assert (once.high - once.low) / (ignored.high - ignored.low) == pytest.approx(2**0.5, rel=0.03)


def test_own_terms_enter_the_models() -> None:
    rng = np.random.default_rng(3)
    z, e = rng.normal(size=(2, 4_000))
    t = (rng.random(4_000) < 1 / (1 + np.exp(-(z**2) + 1))).astype(int)
    table = {"z": z, "t": t, "y": t + 3 * z**2 + e}
    assert abs(effect(table, "t", "y", adjust=["z"]).effect.effect - 1) > 0.5
    estimate = effect(table, "t", "y", adjust=["z"], terms=["z**2"])
    assert estimate.effect.low < 1 < estimate.effect.high


@pytest.mark.parametrize(
    ("name", "way", "how"),
    [
        ("front door", "front-door", "by the front door (m)"),
        ("ID formula (napkin)", "ID algorithm", "by the formula of the ID algorithm (from r, w)"),
        ("instrument", "instrument", "by the instrument z0"),
        ("strata", "back-door", "adjusted for z"),
    ],
)
def test_the_way_is_found_and_named(name: str, way: str, how: str) -> None:
    study = STUDIES[name]
    estimate = effect(rows(study.draw, 4_000), "t", "y", **study.options)
    assert (estimate.way, estimate.how) == (way, how)
    assert how in str(estimate)
    assert estimate.effect.low < study.truth < estimate.effect.high


def test_the_answer_in_a_sentence() -> None:
    estimate = effect(rows(binary), "t", "y", adjust=["z"])
    assert estimate.answer.startswith("Setting t to 1 instead of 0 raises y by 0.1")
    low, high = f"{estimate.effect.low:.4f}", f"{estimate.effect.high:.4f}"
    assert f"95% interval {low} to {high}" in estimate.answer
    html = estimate._repr_html_()
    assert estimate.answer in html
    assert "odds ratio" in html
    table = rows(STUDIES["dose, derivative"].draw)
    dosed = effect(table, "t", "y", adjust=["z"])
    assert dosed.answer.startswith("One more unit of t raises y")
    assert dosed._repr_html_().count("<td>y at t = ") == 19
    assert dosed.effect._repr_html_() == f"<pre>{dosed.effect}</pre>"
    same = {"t": [0, 1] * 50, "y": [0.0, 0.0, 1.0, 1.0] * 25}
    assert "(the interval holds zero)" in effect(same, "t", "y", adjust=[]).answer


@pytest.mark.parametrize("unit", [1e-9, 1e-6, 1e-3, 1e6])
def test_a_unit_changes_no_answer(unit: float) -> None:
    rng = np.random.default_rng(0)
    t, e = np.arange(200) % 2, rng.normal(size=200)
    estimate = effect({"t": t, "y": unit * (t + 0.1 * e)}, "t", "y", adjust=[])
    assert "raises y" in estimate.answer
    assert "holds zero" not in estimate.answer
    for text in (str(estimate), str(estimate.means[0])):  # type: ignore[index]
        value, low, high = (float(part.strip("[],")) for part in text.replace("(", "").split()[:3])
        assert low < value < high
        assert 0.9 * unit < value < 1.1 * unit
    small = effect({"d": e / unit, "y": t + e}, "d", "y", adjust=[])
    assert f"{small.effect.effect:.1g}"[0] in str(small.effect).split()[0]


def test_what_is_the_same_in_all_rows_has_no_effect_and_no_ratio() -> None:
    rng = np.random.default_rng(0)
    table = {"t": np.arange(200) % 2, "z": rng.normal(size=200), "y": np.zeros(200, int)}
    estimate = effect(table, "t", "y", adjust=["z"], event=1)
    assert "does not change y" in estimate.answer
    assert "-0.000" not in str(estimate)
    assert (estimate.ratio, estimate.odds_ratio) == (None, None)


def test_a_fall_and_an_interval_without_ends_are_said_as_such() -> None:
    rng = np.random.default_rng(0)
    z, t = rng.integers(0, 2, (2, 300))
    table = {"z": z, "t": t, "y": -2 * t + rng.normal(size=300)}
    fall = effect(table, "t", "y", adjust=[])
    assert f"by {-fall.effect.effect:.4g} on average; 95% interval of the change -2." in fall.answer
    weak = effect(table, "t", "y", graph=INSTRUMENT["graph"].replace("z0", "z"))
    assert "the rows do not bound it (the 95% interval has no ends)" in weak.answer


def test_weights_and_clusters_are_said() -> None:
    table = rows(repeated, 400) | {"w": np.ones(400)}
    text = str(effect(table, "t", "y", adjust=["z"], clusters="who", weights="w"))
    assert "rows are weighted by w" in text
    assert "rows with the same who may be alike; it has 100 values" in text


def test_an_instrument_tells_no_means() -> None:
    estimate = effect(rows(STUDIES["instrument"].draw), "t", "y", **INSTRUMENT)
    assert estimate.means is None
    with pytest.raises(ValueError, match="only the effect is"):
        _ = estimate.do
    assert not isinstance(estimate.curve, Curve)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "t -> y; t <-> y"}, r"not identified.*measure the common cause behind t <-> y"),
        ({"graph": "y -> t"}, "t has no effect on y in this graph"),
        ({"graph": "t -> g -> y", "by": "g"}, "by: g is an effect of t"),
        ({**FRONT, "estimand": "ATT"}, "only by adjustment, not by the front-door"),
        ({**NAPKIN, "learner": 1}, "only by adjustment, not by the ID algorithm"),
        ({"graph": "z -> t -> y; z -> y", "instrument": "z"}, "z reaches y by another way"),
        ({"graph": "t -> y; z", "instrument": "z"}, "z does not move t"),
        ({"adjust": [], "instrument": []}, "expected at least one name"),
        ({"adjust": [], "weights": "z"}, "weights: z has values that are not positive"),
        ({"adjust": [], "weights": "label"}, "weights: label holds no numbers"),
        ({"adjust": [], "clusters": "who"}, "clusters: the table lacks a column: unknown"),
        ({"adjust": [], "clusters": "same"}, "same has one value only"),
        ({"adjust": [], "by": "same"}, "all rows have the same same"),
        ({"adjust": [], "by": "z", "bins": 1}, "bins=1 must be at least 2"),
        ({"adjust": [], "estimand": "LATE"}, "estimand: expected one of"),
        ({"adjust": [], "terms": ["q**2"]}, "lacks a column: unknown variable 'q'"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(options: dict[str, Any], message: str) -> None:
    table = rows(linear, 100)
    table |= {"g": table["t"], "m": table["t"], "w": table["t"], "r": table["t"]}
    table |= {"same": np.ones(100), "label": np.array(["a", "b"] * 50)}
    with pytest.raises(ValueError, match=message):
        effect(table, "t", "y", **options)


@pytest.mark.parametrize("who", [["a", "b"], None])
def test_a_subject_may_be_text(who: Any) -> None:
    table = rows(repeated, 200)
    names = np.array([f"subject {k}" for k in table["who"]])
    estimate = effect({**table, "who": names}, "t", "y", adjust=["z"], clusters="who")
    assert estimate.effect == effect(table, "t", "y", adjust=["z"], clusters="who").effect


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 1_000, 5_000])
@pytest.mark.parametrize("name", STUDIES)
def test_ninety_five_percent_of_intervals_hold_the_truth(name: str, n: int) -> None:
    """1,000 studies: 93 to 97.5 % is three standard errors either way; few rows may miss more."""
    study = STUDIES[name]
    held = 0
    for seed in range(1_000):
        estimate = study.estimate(seed, n)
        held += estimate.low <= study.truth <= estimate.high
    assert (1_000 * study.least_of_few if n == 200 else 930) <= held <= 1_000 * study.most


def test_whole_numbers_of_an_outcome_are_amounts_and_dates_in_files_are_dates() -> None:
    rng = np.random.default_rng(0)
    day, t = rng.integers(0, 900, 2_000), rng.integers(0, 2, 2_000)
    dates = pd.Series(pd.Timestamp("1971-01-01") + pd.to_timedelta(day, "D"))
    visits = rng.poisson(1.0 + t + day / 900)
    table = {"seen": dates.dt.strftime("%Y-%m-%d").tolist(), "t": t, "visits": visits}
    with warnings.catch_warnings(action="error"):
        answer = effect(table, "t", "visits", adjust=["seen"])
    assert visits.max() < 20
    assert answer.effect.low < 1 < answer.effect.high
    assert "seen: Continuous(unit='days since 1970-01-01')" in str(answer)
    typed = effect({**table, "seen": dates}, "t", "visits", adjust=["seen"])
    assert typed.effect == answer.effect
    with pytest.warns(UserWarning, match="visits: its whole numbers are taken for 9 categories"):
        more = effect(table, "t", "visits", adjust=[], event=2)
    assert more.means is not None
    assert more.means[0].effect == pytest.approx((visits[t == 1] == 2).mean())


def test_an_outcome_that_never_varies_is_said() -> None:
    t = np.arange(40) % 2
    assert "y is 0 in all rows" in str(effect({"t": t, "y": 0 * t}, "t", "y", adjust=[]))
