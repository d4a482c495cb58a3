"""Tests of independence against others' numbers, and graphs against data."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from rung3.graph import CausalGraph, falsify
from rung3.graph.falsification import correct
from rung3.graph.independence import Column, Dependence, column, residual_test


def number(values):
    return Column(np.asarray(values, dtype=float), False)


def category(values):
    return Column(np.asarray(values, dtype=float), True)


def test_two_numbers_are_tested_as_by_pearson():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40))
    result, theirs = residual_test(number(x), number(y)), stats.pearsonr(x, y)
    assert result.p == pytest.approx(theirs.pvalue, rel=1e-9)
    r = theirs.statistic
    assert result.statistic == pytest.approx(r * np.sqrt(38 / (1 - r**2)), rel=1e-9)
    assert (result.name, result.n) == ("partial correlation", 40)


def test_given_a_number_it_is_the_t_test_of_a_slope():
    """The t of x in the least-squares fit of y on x and z is that of the partial correlation."""
    rng = np.random.default_rng(1)
    x, z, e = rng.normal(size=(3, 60))
    y = 0.2 * x + z + e
    design = np.column_stack([x, z, np.ones(60)])
    coefficients, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(residual[0] / 57 * np.linalg.inv(design.T @ design)[0, 0])
    t = coefficients[0] / error
    result = residual_test(number(x), number(y), [number(z)])
    assert result.statistic == pytest.approx(t, rel=1e-9)
    assert result.p == pytest.approx(2 * stats.t.sf(abs(t), 57), rel=1e-9)


def test_two_categories_are_tested_nearly_as_by_chi_squared():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 3, 4000)
    y = np.where(rng.random(4000) < 0.04, x, rng.integers(0, 3, 4000))
    result = residual_test(category(x), category(y))
    theirs = stats.chi2_contingency(pd.crosstab(x, y), correction=False)
    assert result.name == "generalised covariance"
    assert 4 * result.statistic == pytest.approx(theirs.statistic, rel=0.1)
    assert result.p == pytest.approx(theirs.pvalue, abs=0.02)


def linear(rng, n):
    z = rng.normal(size=n)
    return number(z + rng.normal(size=n)), number(z + rng.normal(size=n)), [number(z)]


def curved(rng, n):
    z, w = rng.normal(size=(2, n))
    x = np.sin(2 * z) + w**2 + rng.normal(size=n)
    y = np.cos(2 * z) + np.tanh(w) + 0.5 * rng.normal(size=n)
    return number(x), number(y), [number(z), number(w)]


def uneven(rng, n):
    """Numbers whose spread depends on what is given."""
    z = rng.normal(size=n)
    return number(z * rng.normal(size=n)), number(z + z * rng.normal(size=n)), [number(z)]


def binary(rng, n):
    z = rng.normal(size=n)
    x = rng.random(n) < 1 / (1 + np.exp(-2 * z))
    return category(x), number(z * (1 + 0.5 * rng.normal(size=n))), [number(z)]


def strata(rng, n):
    z, w = rng.integers(0, 3, n), rng.integers(0, 2, n)
    x = (z + w + rng.integers(0, 2, n) * rng.integers(0, 2, n)) % 3
    y = ((z + w) % 3 * w + (rng.random(n) < 0.3)) % 3
    return category(x), category(y), [category(z), category(w)]


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (linear, 20),
        (linear, 300),
        pytest.param(curved, 500, marks=pytest.mark.slow),
        pytest.param(uneven, 500, marks=pytest.mark.slow),
        (binary, 300),
        (strata, 400),
    ],
)
def test_the_level_is_kept(make, n):
    """Of 400 tests of true statements at 5 % about 20 reject; 36 or more have a chance of 4e-4."""
    p = [residual_test(*make(np.random.default_rng(seed), n)).p for seed in range(400)]
    assert sum(value < 0.05 for value in p) < 36
    assert stats.kstest(p, "uniform").pvalue > 1e-4


def float_levels(rng, n):
    z = rng.integers(0, 3, n).astype(float)
    return number((z == 1) + rng.normal(size=n)), number((z == 1) + rng.normal(size=n)), [number(z)]


def rounded(rng, n):
    z = np.round(rng.normal(size=n))
    x, y = np.cos(2 * z) + 0.3 * rng.normal(size=(2, n))
    return number(x), number(y), [number(z)]


def often_zero(rng, n):
    """What is given is 0 in 30 % of rows, and jumps there."""
    z = np.where(rng.random(n) < 0.3, 0, rng.normal(size=n) + 1)
    x, y = np.where(z == 0, 2, np.sin(z)) + 0.5 * rng.normal(size=(2, n))
    return number(x), number(y), [number(z)]


def several_rounded(rng, n):
    """Numbers of few values that act together."""
    z = np.round(rng.normal(size=(3, n)))
    x, y = np.cos(2 * z[0]) * np.cos(2 * z[1]) + z[2] + 0.5 * rng.normal(size=(2, n))
    return number(x), number(y), [number(values) for values in z]


def mixed(rng, n):
    z, w, v = np.round(rng.normal(size=n)), rng.integers(0, 3, n), rng.normal(size=n)
    f = (z == 0) + (w == 1) + np.sin(v)
    x, y = f + 0.5 * rng.normal(size=n), rng.random(n) < 1 / (1 + np.exp(-f))
    return number(x), category(y), [number(z), category(w), number(v)]


def rare(rng, n):
    return category(rng.random(n) < 0.03), category(rng.random(n) < 0.03), []


def several_rare(rng, n):
    x, y = rng.choice(5, (2, n), p=[0.9, 0.05, 0.03, 0.01, 0.01])
    return category(x), category(y), []


def rare_given(rng, n):
    z = rng.normal(size=n)
    x, y = rng.random((2, n)) < 1 / (1 + np.exp(4 - z))
    return category(x), category(y), [number(z)]


def rare_and_long_tailed(rng, n):
    return category(rng.random(n) < 0.01), number(rng.standard_t(2, size=n)), []


def long_tailed(rng, n):
    x, y = np.exp(2 * rng.normal(size=(2, n)))
    return number(x), number(y), []


def uneven_strata(rng, n):
    z = rng.integers(0, 4, n)
    x, y = np.array([0.1, 1, 3, 10])[z] * rng.normal(size=(2, n))
    return number(x), number(y), [category(z)]


HARD = [
    float_levels, rounded, often_zero, several_rounded, mixed, rare, several_rare, rare_given,
    rare_and_long_tailed, long_tailed, uneven_strata,
]  # fmt: skip


@pytest.mark.parametrize("make", HARD)
def test_ties_and_rare_categories_do_not_reject_what_is_true(make):
    """Of 40 tests at 5 % 2 reject; 9 or more have a chance of 1e-4."""
    p = [residual_test(*make(np.random.default_rng(seed), 500)).p for seed in range(40)]
    assert sum(value <= 0.05 for value in p) < 9


@pytest.mark.slow
@pytest.mark.parametrize("make", [*HARD, linear, curved, uneven, strata])
def test_the_level_is_kept_in_many_rows(make):
    """Of 500 tests at 5 % and 1 %: four deviations above."""
    p = np.array([residual_test(*make(np.random.default_rng(s), 1_000)).p for s in range(500)])
    for level in (0.05, 0.01):
        assert (p <= level).mean() < level + 4 * np.sqrt(level * (1 - level) / 500)


@pytest.mark.parametrize(
    "make", [float_levels, rounded, often_zero, several_rounded, mixed, rare, rare_given]
)
def test_dependence_is_found_among_ties_and_rare_categories(make):
    rng = np.random.default_rng(0)
    x, y, given = make(rng, 1_000)
    if y.discrete:
        more = category(np.where(rng.random(1_000) < 0.5, x.values > 0.5, y.values))
    else:
        more = number(y.values + 0.5 * x.values)
    assert residual_test(x, more, given).p < 1e-3


def test_of_categories_given_categories_it_is_the_test_of_cochran_mantel_and_haenszel():
    """By hand, of two by two tables: `(sum n_11 - E)^2 / sum Var`, hypergeometric."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 3, 6_000)
    x, y = rng.random((2, 6_000)) < (0.3 + 0.2 * z)
    y = np.where(rng.random(6_000) < 0.03, x, y)
    excess = variance = 0.0
    for stratum in range(3):
        table = pd.crosstab(x[z == stratum], y[z == stratum]).to_numpy()
        n, row, column = table.sum(), table[1].sum(), table[:, 1].sum()
        excess += table[1, 1] - row * column / n
        variance += row * (n - row) * column * (n - column) / (n**2 * (n - 1))
    result = residual_test(category(x), category(y), [category(z)])
    assert result.statistic == pytest.approx(excess**2 / variance, rel=1e-6)
    assert result.p == pytest.approx(stats.chi2.sf(result.statistic, 1), rel=1e-6)


def test_rare_events_have_the_p_value_of_exchange():
    """Of two columns that are 1 in one row of 200, and that in the same: one chance in 200."""
    x = np.arange(200) == 7
    result = residual_test(category(x), category(x))
    assert result.p == pytest.approx(1 / 200, abs=0.006)


@pytest.mark.parametrize("make", [linear, curved, uneven, binary, strata])
def test_dependence_is_found(make):
    x, y, given = make(np.random.default_rng(0), 500)
    if not y.discrete:
        more = number(y.values + x.values)
    else:
        more = category(np.where(np.arange(500) % 3 == 0, x.values, y.values))
    assert residual_test(x, more, given).p < 1e-4


def test_a_parabola_and_a_spread_are_found():
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=(2, 500))
    assert residual_test(number(x), number(x**2 + e)).p < 1e-4
    assert residual_test(number(x), number(x * e)).p < 1e-3
    assert residual_test(category(x > 0), number(np.where(x > 0, 3, 1) * e)).p < 1e-4


def test_what_cannot_depend_is_not_rejected():
    rng = np.random.default_rng(0)
    z, e = rng.normal(size=(2, 300))
    assert residual_test(number(np.ones(300)), number(e)).p == 1
    assert residual_test(number(3 * z - 1), number(z + e), [number(z)]).p == 1
    assert residual_test(category(np.zeros(300)), number(e)).p == 1


def read(values: Any, discrete: bool | None = None) -> Column:
    data = column(values, discrete)
    assert data is not None
    return data


def test_columns_are_read_as_what_they_are():
    assert not read(np.arange(30)).discrete
    assert read(np.arange(30) % 4).discrete
    assert not read(np.arange(30) % 4, discrete=False).discrete
    assert not read(torch.rand(5)).discrete
    assert read(np.array([True, False])).discrete
    named = read(pd.Series(["b", None, "a", "b"], dtype="category"))
    assert named.discrete
    assert np.isnan(named.values[1])
    assert named.values[0] == named.values[3] != named.values[2]
    assert column(torch.rand(5, 1, 8, 8)) is None


def test_corrections_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert correct(p, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct(p, "bonferroni") == pytest.approx([0.04, 0.16, 0.12, 0.02])
    assert correct(p, "bh") == pytest.approx(stats.false_discovery_control(p))
    assert correct(p, "none") == p
    assert correct([], "holm") == []


def mixed_rows(seed, n=600):
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, n)
    smoker = rng.random(n) < 1 / (1 + np.exp((age - 50) / 10))
    dose = np.sin(age / 10) + smoker + rng.normal(size=n)
    ill = np.where(rng.random(n) < 1 / (1 + np.exp(1 - dose)), "ill", "well")
    return {"age": age, "smoker": smoker, "dose": dose, "ill": ill}


TRUE = CausalGraph("age -> smoker; {age smoker} -> dose -> ill")


def test_a_true_graph_stands_and_wrong_ones_fall():
    report = falsify(TRUE, mixed_rows(0))
    assert len(report.findings) == 2
    assert not report.rejected
    for wrong in ("age -> smoker -> dose -> ill", "{age smoker} -> dose -> ill"):
        assert falsify(CausalGraph(wrong), mixed_rows(0)).rejected
    frame = pd.DataFrame(mixed_rows(0))
    assert falsify(TRUE, frame) == report
    lines = str(falsify(CausalGraph("{age smoker} -> dose -> ill"), frame)).splitlines()
    assert lines[0] == "1 of 3 implied independencies are rejected at 0.05 (holm)"
    assert lines[1].startswith("  smoker ⊥ age: generalised covariance ")
    assert lines[1].endswith("rejected")
    whole = falsify(
        CausalGraph("age -> smoker -> dose; age -> dose"), frame[["age", "smoker", "dose"]]
    )
    assert str(whole) == "the graph implies no independence that these data can test"


def test_a_true_graph_is_rarely_rejected():
    """With Holm any rejection has a chance of 5 % at most; of 100, 13 or more one of 0.1 %."""
    assert sum(bool(falsify(TRUE, mixed_rows(seed, 400)).rejected) for seed in range(100)) < 13


def test_missing_values_images_and_a_test_of_ones_own():
    rows = mixed_rows(3)
    rows["dose"][:50] = np.nan
    sizes = {str(one.independence): one.result.n for one in falsify(TRUE, rows).findings}
    assert set(sizes.values()) == {550}
    graph = CausalGraph("age -> smoker -> scan")
    pictured = falsify(graph, rows | {"scan": np.zeros((600, 1, 4, 4))})
    assert not pictured.findings
    assert "scan ⊥ age | smoker: not tested" in str(pictured)

    def never(x, y, given):
        return Dependence("never", 0.0, 1.0, len(x.values))

    assert not falsify(CausalGraph("age; smoker"), mixed_rows(0), test=never).rejected
    as_numbers = falsify(CausalGraph("age; smoker"), mixed_rows(0, 150), discrete=[])
    assert as_numbers.findings[0].result.name == "partial correlation"


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({"dose": None}, {}, "no column 'dose', which the graph has; their columns are"),
        ({"dose": np.zeros(7)}, {}, "age has 600 rows, dose has 7"),
        ({}, {"correction": "sidak"}, "expected one of holm, bonferroni, bh, none, got 'sidak'"),
        ({}, {"level": 5}, "level: expected a number between 0 and 1, got 5"),
        ({}, {"discrete": ["smoke"]}, "did you mean 'smoker'"),
    ],
)
def test_bad_input(change, options, says):
    rows = {k: v for k, v in (mixed_rows(0) | change).items() if v is not None}
    with pytest.raises(ValueError, match=re.escape(says)):
        falsify(TRUE, rows, **options)


def test_too_few_rows():
    rows = {name: values[:3] for name, values in mixed_rows(0).items()}
    with pytest.raises(ValueError, match=r"ill ⊥ age \| dose: 3 rows|2 rows|rows are too few"):
        falsify(TRUE, {**rows, "smoker": [True, False, True]}, discrete=["smoker", "dose", "ill"])


def test_none_among_numbers_is_a_gap_and_makes_no_categories() -> None:
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=(2, 300))
    lost = rng.random(300) < 0.2
    gappy = np.where(lost, np.nan, a)
    columns = [gappy, [None if k else float(v) for k, v in zip(lost, a, strict=True)]]
    columns += [pd.array(gappy, dtype="Float64")]
    (first, *others) = (falsify(CausalGraph("a; c"), {"a": x, "c": c}) for x in columns)
    assert all(other.findings == first.findings for other in others)
    assert first.findings[0].result.n == (~lost).sum()
