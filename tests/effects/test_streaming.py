"""Regressions and effects, batch by batch: as those of all rows at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from rung3.data import streaming as reading
from rung3.effects.tables import streaming
from rung3.effects.tables.streaming import Moments, adjusted_effect, linear, logistic, moments


def table(n: int = 5000, seed: int = 0) -> pa.Table:
    """`x -> t`, `{x t} -> y`, with the effect 2 + E[x] of t on y."""
    generator = np.random.default_rng(seed)
    x = generator.normal(1, 2, n)
    z = generator.normal(size=n)
    t = (generator.random(n) < expit(0.5 * x - 0.2)).astype(int)
    y = 1 + 3 * x + t * (2 + x) - z + generator.normal(size=n)
    return pa.table({"x": x, "z": z, "t": t, "y": y})


def columns(rows: pa.Table, names: list[str]) -> np.ndarray[Any, Any]:
    return np.stack([rows[name].to_numpy() for name in names], axis=1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches of few rows."""
    monkeypatch.setattr(reading, "ROWS", 700)
    monkeypatch.setattr(streaming, "FIRST_ROWS", 1000)


@pytest.mark.usefixtures("small")
def test_moments_of_parts_are_those_of_the_whole() -> None:
    rows = table()
    statistics = moments(rows, ["x", "y"])
    whole = columns(rows, ["x", "y"])
    assert statistics.n == len(whole)
    assert statistics.mean == pytest.approx(whole.mean(0))
    assert statistics.covariance == pytest.approx(np.cov(whole.T))


def test_moments_are_exact_far_from_zero() -> None:
    far = np.random.default_rng(0).normal(1e9, 1.0, (4000, 1))
    statistics = sum(
        (Moments.of(far[k : k + 500]) for k in range(500, 4000, 500)), Moments.of(far[:500])
    )
    assert statistics.covariance[0, 0] == pytest.approx(far.var(ddof=1), rel=1e-6)


@pytest.mark.usefixtures("small")
def test_a_linear_regression_is_that_of_all_rows(tmp_path: Path) -> None:
    rows = table()
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=900)
    regression = linear(tmp_path / "rows.parquet", "y", ["x", "z", "t"])
    design = np.column_stack([np.ones(5000), columns(rows, ["x", "z", "t"])])
    y = rows["y"].to_numpy()
    expected, rest, *_ = np.linalg.lstsq(design, y, rcond=None)
    spread = np.linalg.inv(design.T @ design) * rest[0] / (5000 - 4)
    assert list(regression.coefficients) == ["1", "x", "z", "t"]
    assert list(regression.coefficients.values()) == pytest.approx(expected.tolist())
    assert list(regression.errors.values()) == pytest.approx(np.sqrt(spread.diagonal()).tolist())
    assert regression.n == 5000


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("order", ["none", "by outcome"])
def test_a_logistic_regression_is_that_of_all_rows(order: str) -> None:
    rows = table().sort_by("t") if order == "by outcome" else table()
    regression = logistic(rows, "t", ["x", "z"])
    x, t = columns(rows, ["x", "z"]), rows["t"].to_numpy()
    expected = LogisticRegression(C=1e12, tol=1e-10, max_iter=500).fit(x, t)
    values = [expected.intercept_[0], *expected.coef_[0]]
    assert list(regression.coefficients.values()) == pytest.approx(values, abs=1e-4)
    assert regression.coefficients["x"] == pytest.approx(0.5, abs=4 * regression.errors["x"])
    assert regression.passes <= (2 if order == "none" else 8)


@pytest.mark.usefixtures("small")
def test_an_effect_is_adjusted_and_its_error_holds() -> None:
    """Of 200 tables, the error covers the truth in about 95 %; without adjusting it is far off."""
    hits = []
    for seed in range(200):
        estimate = adjusted_effect(table(400, seed), "t", "y", ["x", "z"])
        hits.append(abs(estimate.value - 3.0) < 1.96 * estimate.error)
    assert 0.90 <= np.mean(hits) <= 0.99
    assert abs(adjusted_effect(table(), "t", "y").value - 3.0) > 1


def test_rows_with_gaps_are_left_out() -> None:
    rows = pa.table({"x": [1.0, 2.0, None, 4.0, 5.0], "y": [1.0, 2.0, 3.0, float("nan"), 5.0]})
    assert moments(rows, ["x", "y"]).n == 3


def test_what_speaks_arrow_is_read_uncopied() -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = table(1000)  # noqa: F841  # DuckDB finds it by name
    regression = linear(duckdb.sql("SELECT * FROM rows WHERE x > 0"), "y", ["x", "z"])
    assert 0 < regression.n < 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rows: linear(rows, "y", ["xx"]), "unknown column 'xx'"),
        (lambda rows: linear("nowhere.parquet", "y", ["x"]), "nowhere.parquet is missing"),
        (lambda rows: linear(rows, "y", ["x", "x"]), "follows from others"),
        (lambda rows: logistic(rows, "y", ["x"]), "y: expected 0 and 1"),
        (lambda rows: logistic(rows, "t", ["t"]), "t: the features tell 0 and 1 apart exactly"),
        (lambda rows: adjusted_effect(rows, "x", "y"), "x: expected 0 and 1"),
        (
            lambda rows: moments(rows.append_column("s", [["a"] * 100]), ["s"]),
            "s: expected numbers",
        ),
        (lambda rows: adjusted_effect(rows.filter(pa.compute.field("t") == 1), "t", "y"), "t=0: 0"),
    ],
)
def test_bad_input_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(table(100))
