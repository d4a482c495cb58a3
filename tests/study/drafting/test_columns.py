"""What columns are taken for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from rung3.study.drafting.columns import look, read_texts


@pytest.mark.parametrize(
    ("name", "cells", "fields"),
    [
        ("age", ["31", "44", "17", "80"] * 5, {"kind": "Continuous", "unit": "years", "lower": 0}),
        ("weight (kg)", ["70.5", "81"], {"kind": "Continuous", "unit": "kg", "lower": 0}),
        ("change", ["-1.5", "2"], {"kind": "Continuous"}),
        ("sick", ["0", "1", "1"], {"kind": "Binary"}),
        ("sick", ["2", "1", "1"], {"kind": "Binary", "labels": ["1", "2"]}),
        ("sick", ["yes", "no", "no"], {"kind": "Binary", "labels": ["no", "yes"]}),
        ("sick", ["True", "False"] * 2, {"kind": "Binary", "labels": ["False", "True"]}),
        ("arm", ["b", "a", "a"], {"kind": "Binary", "labels": ["a", "b"]}),
        ("stage", ["0", "1", "2", "2"], {"kind": "Ordinal", "classes": 3}),
        ("stage", ["1", "3", "2", "2"], {"kind": "Ordinal", "labels": ["1", "2", "3"]}),
        ("digit", ["0", "1", "2", "2"], {"kind": "Categorical", "classes": 3}),
        ("pain", ["mild", "none", "severe", "mild"],
         {"kind": "Ordinal", "labels": ["none", "mild", "severe"]}),
        ("ward", ["north", "east", "west", "east"],
         {"kind": "Categorical", "labels": ["east", "north", "west"]}),
        ("code", ["01", "02", "03", "01"], {"kind": "Categorical", "labels": ["01", "02", "03"]}),
        ("born", ["1990-01-02", "1991-12-31 07:30", "1990-01-02"],
         {"kind": "Continuous", "unit": "days since 1970-01-01"}),
        ("smokes", ["yes", None, "no"],
         {"kind": "Binary", "labels": ["no", "yes"], "missing": True}),
    ],
)  # fmt: skip
def test_a_column_is_guessed_from_its_cells_and_name(name, cells, fields):
    assert dict(look(name, cells, Path()).fields) == fields


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("id", [str(k) for k in range(30)], "numbers the rows"),
        ("patient", [f"p{k}" for k in range(30)], "names the rows"),
        ("unit", ["mm"] * 4, "all its cells are alike"),
        ("empty", [None] * 4, "every cell is empty"),
        ("born", ["2.1.1990", "31.12.1991", "2.1.1990"], "write them as 2026-01-31"),
        ("dose", ["1", "2", "3", "4", "5.5", "high"], "'high' stands among its numbers"),
        ("sex", ["Male", "male", "female", "male"], "look like one label"),
        ("note", [f"text {k % 25}" for k in range(60)], "free text"),
        ("scan", ["a.png", "b.png"], "none of them is there"),
    ],
)
def test_what_no_variable_can_be_made_of_is_left_out_with_the_reason(name, cells, why):
    column = look(name, cells, Path("/nowhere"))
    assert not column.fields
    assert why in column.why


def test_a_number_that_is_often_zero_gets_a_mechanism_for_that():
    column = look("paid_usd", ["0", "0", "12.5", "40", "7"], Path())
    assert (column.mechanism, column.fields["lower"]) == ("AtBounds", 0)
    rare = look("paid_usd", ["0", *[f"{k}.5" for k in range(40)]], Path())
    assert (rare.mechanism, "lower" in rare.fields) == ("", False)


def test_tables_are_read_as_text_with_their_gaps(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n01, yes\nNA,\n")
    frame = read_texts(tmp_path / "a.csv")
    assert frame["x"].tolist() == ["01", None]
    assert frame["y"].tolist() == ["yes", None]
    pd.DataFrame({"x": [1, None], "y": ["a", "b"]}).to_parquet(tmp_path / "a.parquet")
    assert read_texts(tmp_path / "a.parquet")["x"].tolist() == ["1.0", None]
    for name, text in (("b.csv", "x,y\n"), ("c.txt", "x\n1\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=r"no rows|expected a table"):
            read_texts(tmp_path / name)


def test_labels_that_are_names_of_folders_too_stay_labels(tmp_path):
    for kind in ("daisy", "rose"):
        (tmp_path / kind).mkdir()
        for k in range(2):
            (tmp_path / kind / f"{k}.txt").write_text("a flower" * 40)
    assert look("kind", ["rose", "daisy"] * 10, tmp_path).kind == "Binary"
