"""Write `docs/reference.md` and a page for each package: every public module of rung3.

    python .ci/reference.py                  after a module is added, moved or renamed

The order of the packages is that of the layers in `pyproject.toml`, the lowest first; what is said
of each is the first line of its docstring.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
INTRODUCTION = """\
# Python

The names that most programs need come from `rung3` itself, and stand here; all modules stand on the
page of their package. The packages, the lowest first: each uses only those above it, see
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


def pages() -> dict[str, str]:
    """Return the pages, by their path under `docs`."""
    lines = "| package | |\n|---|---|\n"
    texts = {}
    for package in packages():
        name = package.removeprefix("rung3.")
        lines += f"| [{package}](reference/{name}.md) | {summary(package)} |\n"
        parts = [f"# {package}", summary(package), *(f"::: {one}" for one in modules(package))]
        texts[f"reference/{name}.md"] = "\n\n".join(parts) + "\n"
    return {"reference.md": f"{INTRODUCTION}{lines}\n::: rung3\n", **texts}


if __name__ == "__main__":
    (DOCS / "reference").mkdir(exist_ok=True)
    for path, text in pages().items():
        (DOCS / path).write_text(text, encoding="utf-8")
