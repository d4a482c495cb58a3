"""Write `docs/reference.md`: every public module of rung3, package by package, lowest first.

    python .ci/reference.py                  after a module is added, moved or renamed

The order of the packages is that of the layers in `pyproject.toml`; what is said of each is the
first line of its docstring.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference.md"
INTRODUCTION = """\
# Reference

The names that most programs need come from `rung3` itself:

::: rung3

All modules follow, package by package, the lowest first; see
[how the house is built](how-the-house-is-built.md).
"""


def packages() -> list[str]:
    """Return the packages at the top of rung3, the lowest first."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [name.strip() for layer in reversed(layers) for name in re.split(r"[|:]", layer)]


def modules(package: str) -> list[str]:
    """Return the public modules of a package and of the packages inside it."""
    folder = ROOT / "src" / Path(*package.split("."))
    paths = [path.relative_to(ROOT / "src").with_suffix("") for path in folder.rglob("[!_]*.py")]
    return sorted(".".join(path.parts) for path in paths)


def summary(package: str) -> str:
    """Return the first line of a package's docstring."""
    path = ROOT / "src" / Path(*package.split(".")) / "__init__.py"
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def reference() -> str:
    """Return the page."""
    sections = [
        f"## {package}\n\n{summary(package)}\n\n"
        + "\n\n".join(f"::: {module}" for module in modules(package))
        for package in packages()
    ]
    return "\n\n".join([INTRODUCTION.rstrip(), *sections]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
