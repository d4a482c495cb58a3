"""The reference lists every public module."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "reference.py"

spec = importlib.util.spec_from_file_location("reference", SCRIPT)
assert spec is not None
assert spec.loader is not None
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def test_the_reference_lists_every_public_module() -> None:
    page = script.PAGE.read_text("utf-8")
    assert page == script.reference(), "run python .ci/reference.py"
    assert "::: rung3.scm.scm\n" in page
    assert page.index("## rung3.data") < page.index("## rung3.graph") < page.index("## rung3.cli")
