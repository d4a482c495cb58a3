"""`rung3 effect`: from a file and a graph to an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import call
from effect_studies import binary, dose

GRAPH = "z -> t; {z t} -> y"


def write_rows(folder: Path, draw: object, name: str = "rows.csv") -> Path:
    frame = pd.DataFrame(draw(np.random.default_rng(0), 400))  # type: ignore[operator]
    path = folder / name
    frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    return path


def test_the_answer_comes_first_with_its_ratios_and_groups(tmp_path: Path) -> None:
    result = call("effect", write_rows(tmp_path, binary), GRAPH, "t", "y", "--by", "z")
    assert result.exit_code == 0, result.output
    first, *rest = result.stdout.splitlines()
    assert first.startswith("Setting t to 1 instead of 0 raises y by 0.")
    assert "adjusted for z" in rest[0]
    assert [line.split(":")[0].strip() for line in rest[1:4]] == ["z = 0", "z = 1", "z = 2"]
    assert rest[4].strip() == "the 95% intervals of the groups hold all together"
    assert rest[5].startswith("ratio: ")
    assert rest[6].startswith("odds ratio: ")


def test_a_dose_has_a_curve_and_values_are_read(tmp_path: Path) -> None:
    path = write_rows(tmp_path, dose, "rows.parquet")
    result = call("effect", path, GRAPH, "t", "y", "--do", "1", "--versus", "0.5")
    assert "Setting t to 1 instead of 0.5 raises y" in result.stdout
    assert "y at doses of t:" in result.stdout


def test_a_report_leads_with_the_answer_and_has_the_refutations(tmp_path: Path) -> None:
    path, page = write_rows(tmp_path, binary), tmp_path / "page"
    result = call("effect", path, GRAPH, "t", "y", "--report", page)
    assert result.exit_code == 0, result.output
    answer = result.stdout.splitlines()[0]
    assert "placebo treatment: " in result.stdout
    assert "E-value " in result.stdout
    report = (page / "report.html").read_text("utf-8")
    assert answer in report
    assert "adjusted for z" in report


def test_bad_input_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path, binary)
    hidden = call("effect", path, "t -> y; t <-> y", "t", "y")
    assert hidden.exit_code == 2
    assert "not identified" in hidden.output
    absent = call("effect", tmp_path / "no.csv", GRAPH, "t", "y")
    assert "no such file; expected a table, .csv or .parquet" in absent.output
    numbers = call("effect", path, GRAPH, "t", "y", "--number", "t", "--do", "yes")
    assert numbers.exit_code == 2
    assert "both do and versus" in numbers.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty; expected a line of column names, and one for each row"),
        ("z,t,y\n", "has no rows; expected at least one below the column names"),
        ("z,t,t\n1,0,3\n0,1,4\n", "its header names 't' twice; expected names that differ"),
        ("z,t,y\n1,0,3\n", "z: all its values are 1; no effect can be seen"),
    ],
)
def test_files_without_a_table_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    result = call("effect", path, "t -> z -> y", "z", "y", "--number", "z")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_an_outcome_with_text_among_its_numbers_is_named(tmp_path: Path) -> None:
    frame = pd.DataFrame(dose(np.random.default_rng(0), 100)).round(3).astype(str)
    frame["t"] = np.arange(100) % 2
    commas = frame["y"].str.replace(".", ",")
    for wrong, cure in (("n/a?", "; correct it, or leave it empty"), (commas[3], "; write ")):
        frame.loc[3, "y"] = wrong
        frame.to_csv(tmp_path / "rows.csv", index=False)
        result = call("effect", tmp_path / "rows.csv", GRAPH, "t", "y")
        output = " ".join(result.output.split())
        assert result.exit_code == 2
        assert f"y: {wrong!r} stands among its numbers, so that they are taken for" in output
        assert cure in output
        assert len(output) < 500  # labels are not all listed
