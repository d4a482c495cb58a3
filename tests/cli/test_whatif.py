"""One test row, and what it would have been."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command import call


@pytest.mark.parametrize("particles", [None, 3])
def test_counterfactual_draws_and_explains(
    run: tuple[Path, str], tmp_path: Path, particles: int | None
) -> None:
    out = tmp_path / "cf.png"
    words = ["counterfactual", run[0], "--row", 2, "--do", "thickness=thickness+2", "--out", out]
    result = call(*words, "--hold", "intensity", *(["--particles", 3] if particles else []))
    assert result.exit_code == 0, result.output
    assert out.read_bytes().startswith(b"\x89PNG")
    lines = {name: line for line in result.stdout.splitlines() for name in line.split()[:1]}
    was, became = (float(x) for x in re.findall(r"([\d.]+) px", lines["thickness"])[:2])
    assert became == pytest.approx(was + 2, abs=0.01)
    assert "intervened" in lines["thickness"]
    assert "held" in lines["intensity"]
    assert "propagated" in lines["image"]
    assert "rung: imagining" in result.stdout


def test_counterfactual_writes_into_the_run_where_nothing_is_said(run: tuple[Path, str]) -> None:
    result = call("counterfactual", run[0], "--do", "digit=3")
    assert result.exit_code == 0, result.output
    assert (run[0] / "image-row0-digit-3.png").is_file()


def test_a_row_that_is_no_scan_cannot_be_written_as_one(
    run: tuple[Path, str], tmp_path: Path
) -> None:
    result = call("counterfactual", run[0], "--do", "digit=3", "--scan", tmp_path / "a.nii")
    assert result.exit_code != 0
    assert "image: its rows are not read from scans" in result.output


def test_backtracking_stands_beside_the_intervention(run: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "back.png"
    result = call("counterfactual", run[0], "--do", "intensity=150", "--backtrack", "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes().startswith(b"\x89PNG")
    lines = {name: line for line in result.stdout.splitlines() for name in line.split()[:1]}
    was, became, back = (float(x) for x in re.findall(r"([\d.]+) px", lines["thickness"])[:3])
    assert became == was  # an intervention leaves the cause alone
    assert back != was  # backtracking finds it in the past
    assert "by backtracking: mechanisms stay, noise moves" in result.stdout
    refused = call(
        "counterfactual", run[0], "--do", "intensity=150", "--backtrack", "--rows", "all"
    )
    assert refused.exit_code != 0
    assert "--backtrack: answers for one row alone" in refused.output
