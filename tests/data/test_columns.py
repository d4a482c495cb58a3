"""Columns of a table as variables."""

from __future__ import annotations

import datetime
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rung3 import SCM, Binary, Categorical, Continuous, choose
from rung3.data.columns import complete_rows, gaps, read, variable_of
from rung3.data.variables import Variable


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["no", "yes", "no"], Binary(labels=("no", "yes"))),
        (["b", "a", "c"], Categorical(3, ("a", "b", "c"))),
        ([True, False], Binary()),
        ([0, 1, 1], Binary()),
        (np.array([0, 4]), Categorical(5)),
        (torch.tensor([3, 500]), Continuous()),
        ([-1, 1], Continuous()),
        ([0.0, 1.0], Continuous()),
        (torch.zeros(5, 2), Continuous(dim=2)),
        ([0, 1, None], Binary()),
        ([1.5, None, pd.NA], Continuous()),
        ([Decimal("1.5"), None, Decimal("7")], Continuous()),
        (pd.array([0, pd.NA, 3], dtype="Int64"), Categorical(4)),
        (pd.array([True, None], dtype="boolean"), Binary()),
        (pd.Series(["b", pd.NA, "a"], dtype="string", index=[3, 4, 5]), Binary(labels=("a", "b"))),
    ],
)
def test_a_column_is_what_its_values_say(values: object, expected: Variable) -> None:
    assert variable_of("x", values) == expected


def test_a_data_frame_is_read_with_its_labels() -> None:
    frame: Any = pd.DataFrame({"drug": ["yes", "no"], "age": [30.5, 40.0], "id": [7, 8]})
    rows, kinds = read(frame, names=["age", "drug"])
    assert list(rows) == ["age", "drug"]
    assert rows["drug"].tolist() == [1, 0]
    assert kinds["drug"] == Binary(labels=("no", "yes"))


def test_what_is_stated_counts() -> None:
    rows, kinds = read({"x": [0.0, 1.0]}, {"x": Binary()})
    assert (rows["x"].dtype, kinds["x"]) == (torch.int64, Binary())


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"x": [1.0]}, {"names": ["y"]}, "lacks a column: unknown variable 'y'"),
        ({"x": ["a", "a"]}, {}, "x: all its values are"),
        (
            {"x": [1.0, float("nan")], "y": [None, "a"]},
            {},
            r"no row has all of \['x', 'y'\]; missing in so many rows: {'x': 1, 'y': 1}",
        ),
        ({"x": []}, {}, "at least one row"),
        ({"x": [1, 2, "3 kg"]}, {}, "x: '3 kg' stands among numbers, such as 1"),
        (
            {"x": [datetime.date(2026, 1, 1), 3]},
            {},
            "x: .*2026.*stands among numbers|no date among",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    table: dict[str, object], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(table, **options)  # type: ignore[arg-type]


ZEROS_AND_ONES = [0, 1, None, 1, 0, None]


@pytest.mark.parametrize(
    "column",
    [
        ZEROS_AND_ONES,
        np.array([0, 1, np.nan, 1, 0, np.nan]),
        pd.Series(ZEROS_AND_ONES, dtype="Int64"),
        pd.Series(ZEROS_AND_ONES, dtype="boolean"),
        pd.Series(ZEROS_AND_ONES, dtype="Float64"),
    ],
    ids=["list", "array", "Int64", "boolean", "Float64"],
)
def test_a_gap_is_no_value_of_its_own(column: object) -> None:
    table = {"x": column, "y": [1.5, np.nan, 2.5, 3.5, 4.5, 5.5]}
    rows, kinds = read(table)
    assert kinds == {"x": Binary(), "y": Continuous()}
    assert rows["x"].tolist() == [0, 1, 0]
    assert rows["y"].tolist() == [1.5, 3.5, 4.5]
    assert complete_rows(table, ["x", "y"]).tolist() == [True, False, False, True, True, False]
    assert (gaps(table, ["x"]), gaps(table, ["x", "y"])) == (2, 3)


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_text_with_gaps_has_no_label_for_them(dtype: str) -> None:
    rows, kinds = read({"ward": pd.Series(["b", None, "a", "b"], dtype=dtype)})
    assert kinds["ward"] == Binary(labels=("a", "b"))
    assert rows["ward"].tolist() == [1, 0, 1]


def test_numbers_of_a_table_are_in_double() -> None:
    time = 1.7e9 + np.arange(4) / 8
    rows, _ = read({"time": time, "x": [0.1, 0.2, 0.3, 0.4]})
    assert rows["time"].tolist() == time.tolist()
    assert rows["x"].tolist() == [0.1, 0.2, 0.3, 0.4]


def test_a_frame_may_have_whole_numbers_for_names() -> None:
    frame: Any = pd.DataFrame({0: [0, 1], 1: [0.5, 1.5]})
    rows, kinds = read(frame)
    assert list(rows) == ["0", "1"]
    assert kinds == {"0": Binary(), "1": Continuous()}


def test_whole_numbers_of_many_values_do_not_become_categories_in_silence() -> None:
    table = {"visits": list(range(12)), "ward": [0, 1, 2] * 4}
    with pytest.warns(
        UserWarning, match=r"visits: .* 12 categories.*'visits': Continuous\(\)"
    ) as caught:
        read(table)
    assert len(caught) == 1
    read(table, {"visits": Continuous()})


def test_whole_numbers_with_gaps_are_what_they_are_without() -> None:
    frame: Any = pd.DataFrame({"ward": [0, 2, None, 1], "stay": [1.5, 2.0, 3.0, 4.0]})
    assert read(frame)[1]["ward"] == Categorical(3)


# Dates and durations

MOMENTS = np.array(["1970-01-02T00", "1970-01-03T12", "NaT"], dtype="datetime64[ns]")


@pytest.mark.parametrize(
    "dates",
    [
        pd.Series(MOMENTS),
        pd.Series(MOMENTS).dt.tz_localize("UTC"),
        np.array(["1970-01-02T00", "1970-01-03T12", "NaT"], dtype="datetime64[h]"),
        [datetime.datetime(1970, 1, 2), datetime.datetime(1970, 1, 3, 12), None],
    ],
    ids=["pandas", "zone", "NumPy", "list"],
)
def test_dates_are_days_since_1970(dates: Any) -> None:
    rows, kinds = read({"visit": dates, "x": [1.0, 2.0, 3.0]})
    assert kinds["visit"] == Continuous(unit="days since 1970-01-01")
    assert rows["visit"].tolist() == [1, 2.5]


def test_durations_are_days() -> None:
    stay = pd.Series(pd.to_timedelta(["1 day", "36 hours"]))
    rows, kinds = read({"stay": stay, "other": [datetime.timedelta(hours=6), None]}, names=["stay"])
    assert str(kinds["stay"]) == "Continuous(unit='days')"
    assert rows["stay"].tolist() == [1, 1.5]
    today = pd.Series(pd.date_range("2026-01-01", periods=3, freq="s"))
    held = Continuous().validate("now", today)
    assert held.dtype == torch.float64  # seconds of today are told apart
    assert held.diff().mul(86_400).round(decimals=3).tolist() == [1, 1]


def test_a_model_learns_from_dates() -> None:
    """A wage that grows by a half a day."""
    g = np.random.default_rng(0)
    day = pd.to_datetime("2025-01-01") + pd.to_timedelta(g.integers(0, 300, 400), unit="D")
    frame = pd.DataFrame({"day": day})
    frame["wage"] = (frame["day"] - pd.Timestamp("2025-01-01")).dt.days / 2 + g.normal(size=400)
    with pytest.warns(UserWarning, match="day: Continuous.unit='days since 1970-01-01'"):
        choice = choose(SCM("day -> wage"), dict(frame), seed=0, steps=20)
    row = {"day": [20_200.0], "wage": [float(frame["wage"][0])]}
    later = choice.model.counterfactual(row, do={"day": 20_210.0})["wage"]
    assert float(later[0]) - row["wage"][0] == pytest.approx(5, abs=0.2)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            [*map(str, range(40)), "?"],
            r"x: '\?' stands among .* 41 categories; correct",
        ),
        ([f"{k},5" for k in range(40)], r"x: '0,5' stands among its numbers, .*; write 0.5"),
        ([f"{k} mm" for k in range(40)], r"x: '0 mm' stands among .*; write 0, without the unit"),
    ],
)
def test_text_among_numbers_is_doubted(texts: list[str], message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        _, kinds = read({"x": texts})
    assert len(str(kinds["x"])) < 200
    assert kinds["x"] == Categorical(labels=tuple(sorted(texts)))


def test_codes_with_letters_are_not_doubted() -> None:
    codes = [f"{'VX'[k % 2]}{k}" if k % 3 == 0 else str(k) for k in range(60)]
    with warnings.catch_warnings(action="error"):
        houses = [f"{k}{'ab'[k % 2]}" for k in range(60)]
        read({"x": codes, "y": ["1", "2", "?"] * 20, "z": houses})
