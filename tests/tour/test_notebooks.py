"""Notebooks hold what their sources say, run without an error, and are in the wheel."""

from __future__ import annotations

import json
import runpy
import tomllib
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "notebooks"
SOURCES = sorted((FOLDER / "sources").glob("*.py"))
NAMES = [path.stem for path in SOURCES]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "notebooks.py"))


def saved(name: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))["cells"]
    return cells


def test_they_are_in_the_wheel_and_on_the_page() -> None:
    assert len(NAMES) == 9
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert list(included) == [f"docs/notebooks/{name}.ipynb" for name in NAMES]
    assert all(
        f"notebooks/{name}.ipynb" in (FOLDER.with_suffix(".md")).read_text() for name in NAMES
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_source_with_outputs(name: str, script: dict[str, Any]) -> None:
    cells = saved(name)
    source = (FOLDER / "sources" / f"{name}.py").read_text("utf-8")
    kinds = [(cell["cell_type"] == "markdown", cell["source"]) for cell in cells]
    assert kinds == script["cells_of"](source), "run .ci/notebooks.py"
    assert any(cell.get("outputs") for cell in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, script: dict[str, Any]) -> None:
    plt.switch_backend("agg")
    made = script["notebook"]((FOLDER / "sources" / f"{name}.py").read_text("utf-8"))
    kinds = [[one["output_type"] for one in cell.get("outputs", [])] for cell in made["cells"]]
    before = [[one["output_type"] for one in cell.get("outputs", [])] for cell in saved(name)]
    assert kinds == before


def test_printed_lines_values_and_figures_are_outputs(script: dict[str, Any]) -> None:
    code = "import matplotlib.pyplot as plt\nplt.figure()\nprint('said')\n1 + 1"
    stream, picture, value = script["run"](code, {})
    assert stream["text"] == "said\n"
    assert picture["data"]["image/png"].startswith("iVBOR")
    assert value["data"] == {"text/plain": "2"}
