"""The rules of the layout that no linter knows (docs/how-the-house-is-built.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
SOURCES = ROOT / "src" / "rung3"
WRITTEN = [SOURCES, TESTS / "support", ROOT / "benchmarks", ROOT / ".ci"]
PACKAGES = sorted(path.parent for path in SOURCES.glob("*/**/__init__.py"))
PUBLIC = {"src/rung3/training/counterfactual/objective.py: kept"}
"""Options of study files that have such a name."""
LONGEST = 40
"""Lines of a function after its docstring, at most."""
VAGUE = re.compile(
    "again|asked|come|does|few|found|gone|had|heard|kept|made|many|mine|never|ours?|own|said|still|"
    "theirs?|told|was|whos?|whose"
)
"""Words that do not say what a variable holds."""
IMPORTS = r"(?m)^\s*from rung3[\w.]* import (?:\([^)]*\)|[^\n]*)"


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
        for statement in re.findall(IMPORTS, text)
        for name in re.findall(r"\b_[A-Za-z]\w*", statement.split(" import ")[1])
    }
    assert private == set()


@pytest.mark.parametrize("folder", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_nouns_and_functions_end_within_a_glance(folder: Path) -> None:
    vague: list[str] = []
    lines: list[tuple[int, str]] = []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if VAGUE.fullmatch(bound(node).strip("_")):
                vague.append(f"{path.relative_to(ROOT)}: {bound(node)}")
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines.append((body_lines(node), f"{path.relative_to(ROOT)}:{node.lineno}"))
    assert set(vague) <= PUBLIC
    assert max(lines) <= (LONGEST + 1,)


def bound(node: ast.AST) -> str:
    """Return the name that a node binds in a function or a module; empty if it binds none."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name.lower()
        case ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case ast.alias(asname=str(name)):
            return name
    return ""


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function from the first after its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return max(part.end_lineno or 0 for part in body) - body[0].lineno + 1 if body else 0
