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
    pages = script.pages()
    for path, text in pages.items():
        assert (script.DOCS / path).read_text("utf-8") == text, "run python .ci/reference.py"
    assert "::: rung3.scm.scm\n" in pages["reference/scm.md"]
    listed = pages["reference.md"]
    assert (
        listed.index("[rung3.data]") < listed.index("[rung3.graph]") < listed.index("[rung3.cli]")
    )
    assert "::: rung3\n" in listed
    navigation = (script.ROOT / "mkdocs.yml").read_text("utf-8")
    assert all(path in navigation for path in pages)
