"""Every pinned package may be used by anyone, and is in the bill of materials."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "packages.py"

spec = importlib.util.spec_from_file_location("packages", SCRIPT)
assert spec is not None
assert spec.loader is not None
packages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packages)


def test_every_licence_is_good_and_every_package_on_the_bill(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--sbom", str(tmp_path / "sbom.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "sbom.json").read_text("utf-8"))
    names = {component["name"] for component in content["components"]}
    assert {"torch", "numpy", "PyYAML", "safetensors", "lightning"} <= names
    assert all(component["licenses"][0]["expression"] for component in content["components"])
    assert content["metadata"]["component"]["name"] == "rung3"


@pytest.mark.parametrize(
    ("expression", "good"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("BSD-3-Clause AND (GPL-2.0 OR Apache-2.0)", True),
        ("Other/Proprietary License", False),
        ("", False),
    ],
)
def test_an_expression_is_good_if_each_part_is(expression: str, good: bool) -> None:
    assert packages.is_good(expression) == good
