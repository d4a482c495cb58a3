"""What the project's own scripts do: lowest versions, and figures of two commits side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_every_direct_dependency_has_its_lowest_version_and_torch_the_pinned_one() -> None:
    lines = run(".ci/lowest.py").stdout.splitlines()
    versions = dict(line.split("==") for line in lines)
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        if "==" in line
    )
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert versions["torch"] == pinned["torch"]
    assert f'"zuko>={versions["zuko"]}"' in text
    assert f'"uvicorn>={versions["uvicorn"]}"' in text
    assert versions["pytest"] == pinned["pytest"]


@pytest.mark.parametrize(("after", "status"), [(1.2, 0), (1.3, 1)])
def test_figures_that_became_worse_by_more_than_the_threshold_are_named(
    tmp_path: Path, after: float, status: int
) -> None:
    for name, value in (("old", 1.0), ("new", after)):
        figures = {"calls: fit": {"value": value, "unit": "s"}, name: {"value": 2, "unit": "MiB"}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"figures": figures}))
    done = run("benchmarks/compare.py", tmp_path / "old.json", tmp_path / "new.json")
    assert done.returncode == status
    assert f"{after:.2f}  s" in done.stdout
    assert ("worse by more than 1.25: calls: fit" in done.stderr) == bool(status)


def test_a_file_without_figures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}")
    done = run("benchmarks/compare.py", tmp_path / "old.json", tmp_path / "old.json")
    assert done.returncode == 1
    assert "expected figures of a benchmark's --json" in done.stderr
