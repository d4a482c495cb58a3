"""Tests of independence against others' numbers, and graphs against data."""

from __future__ import annotations

import re

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
    found, theirs = residual_test(number(x), number(y)), stats.pearsonr(x, y)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)
    r = theirs.statistic
    assert found.statistic == pytest.approx(r * np.sqrt(38 / (1 - r**2)), rel=1e-9)
    assert (found.name, found.n) == ("partial correlation", 40)


def test_given_a_number_it_is_the_t_test_of_a_slope():
    """The t of x in the least-squares fit of y on x and z is that of the partial correlation."""
    rng = np.random.default_rng(1)
    x, z, e = rng.normal(size=(3, 60))
    y = 0.2 * x + z + e
    design = np.column_stack([x, z, np.ones(60)])
    coefficients, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(residual[0] / 57 * np.linalg.inv(design.T @ design)[0, 0])
    t = coefficients[0] / error
    found = residual_test(number(x), number(y), [number(z)])
    assert found.statistic == pytest.approx(t, rel=1e-9)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 57), rel=1e-9)


def test_two_categories_are_tested_nearly_as_by_chi_squared():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 3, 4000)
    y = np.where(rng.random(4000) < 0.04, x, rng.integers(0, 3, 4000))
    found = residual_test(category(x), category(y))
    theirs = stats.chi2_contingency(pd.crosstab(x, y), correction=False)
    assert found.name == "generalised covariance"
    assert 4 * found.statistic == pytest.approx(theirs.statistic, rel=0.1)
    assert found.p == pytest.approx(theirs.pvalue, abs=0.02)


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
    [(linear, 20), (linear, 300), (curved, 500), (uneven, 500), (binary, 300), (strata, 400)],
)
def test_the_level_is_kept(make, n):
    """Of 400 tests of true statements at 5 % about 20 reject; 36 or more have a chance of 4e-4."""
    p = [residual_test(*make(np.random.default_rng(seed), n)).p for seed in range(400)]
    assert sum(value < 0.05 for value in p) < 36
    assert stats.kstest(p, "uniform").pvalue > 1e-4


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


def test_columns_are_read_as_what_they_are():
    assert not column(np.arange(30)).discrete
    assert column(np.arange(30) % 4).discrete
    assert not column(np.arange(30) % 4, discrete=False).discrete
    assert not column(torch.rand(5)).discrete
    assert column(np.array([True, False])).discrete
    named = column(pd.Series(["b", None, "a", "b"], dtype="category"))
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
    found = falsify(TRUE, mixed_rows(0))
    assert len(found.findings) == 2
    assert not found.rejected
    for wrong in ("age -> smoker -> dose -> ill", "{age smoker} -> dose -> ill"):
        assert falsify(CausalGraph(wrong), mixed_rows(0)).rejected
    frame = pd.DataFrame(mixed_rows(0))
    assert falsify(TRUE, frame) == found
    said = str(falsify(CausalGraph("{age smoker} -> dose -> ill"), frame)).splitlines()
    assert said[0] == "1 of 3 implied independencies are rejected at 0.05 (holm)"
    assert said[1].startswith("  smoker ⊥ age: generalised covariance ")
    assert said[1].endswith("rejected")


def test_a_true_graph_is_rarely_rejected():
    """With Holm any rejection has a chance of 5 % at most; of 100, 13 or more one of 0.1 %."""
    assert sum(bool(falsify(TRUE, mixed_rows(seed, 400)).rejected) for seed in range(100)) < 13


def test_missing_values_images_and_a_test_of_ones_own():
    rows = mixed_rows(3)
    rows["dose"][:50] = np.nan
    found = {str(one.independence): one.found.n for one in falsify(TRUE, rows).findings}
    assert set(found.values()) == {550}
    graph = CausalGraph("age -> smoker -> scan")
    pictured = falsify(graph, rows | {"scan": np.zeros((600, 1, 4, 4))})
    assert not pictured.findings
    assert "scan ⊥ age | smoker: not tested" in str(pictured)

    def never(x, y, given):
        return Dependence("never", 0.0, 1.0, len(x.values))

    assert not falsify(CausalGraph("age; smoker"), mixed_rows(0), test=never).rejected
    as_numbers = falsify(CausalGraph("age; smoker"), mixed_rows(0, 150), discrete=[])
    assert as_numbers.findings[0].found.name == "partial correlation"


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
    assert first.findings[0].found.n == (~lost).sum()
