"""`rung3 effect`: from a file and a graph to an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
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
    assert rest[4].startswith("ratio: ")
    assert rest[5].startswith("odds ratio: ")


def test_a_dose_has_a_curve_and_values_are_read(tmp_path: Path) -> None:
    path = write_rows(tmp_path, dose, "rows.parquet")
    result = call("effect", path, GRAPH, "t", "y", "--do", "1", "--versus", "0.5")
    assert "Setting t to 1 instead of 0.5 raises y" in result.stdout
    assert "y at doses of t:" in result.stdout


def test_bad_input_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path, binary)
    hidden = call("effect", path, "t -> y; t <-> y", "t", "y")
    assert hidden.exit_code == 2
    assert "not identified" in hidden.output
    absent = call("effect", tmp_path / "no.csv", GRAPH, "t", "y")
    assert "expected a table, .csv or .parquet" in absent.output
    numbers = call("effect", path, GRAPH, "t", "y", "--number", "t", "--do", "yes")
    assert numbers.exit_code == 2
    assert "both do and versus" in numbers.output
