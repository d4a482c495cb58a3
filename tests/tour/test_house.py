"""The rules of the layout that no linter knows (docs/how-the-house-is-built.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SOURCES = TESTS.parent / "src" / "rung3"
PACKAGES = sorted(path.parent for path in SOURCES.glob("*/**/__init__.py"))
OWN = r"(?m)^\s*from rung3[\w.]* import (?:\([^)]*\)|[^\n]*)"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_package_hands_names_on_and_none_is_that_of_a_module(package: Path) -> None:
    content = ast.parse((package / "__init__.py").read_text("utf-8"))
    defined = [n.name for n in content.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    imports = [node for node in ast.walk(content) if isinstance(node, ast.ImportFrom)]
    handed = {alias.name for node in imports for alias in node.names}
    modules = {path.stem for path in package.iterdir()}
    assert defined == []
    assert handed & modules == set()


@pytest.mark.parametrize("folder", [SOURCES, TESTS], ids=["sources", "tests"])
def test_nothing_with_an_underscore_is_used_elsewhere(folder: Path) -> None:
    texts = {path: path.read_text("utf-8") for path in folder.rglob("*.py")}
    private = {
        (path.name, name)
        for path, text in texts.items()
        for statement in re.findall(OWN, text)
        for name in re.findall(r"\b_[A-Za-z]\w*", statement.split(" import ")[1])
    }
    assert private == set()
