"""Run the notebooks: `docs/notebooks/sources/*.py` into `docs/notebooks/*.ipynb`, outputs and all.

    python .ci/notebooks.py [NAME ...]

A source is a script whose cells begin with `# %%`, those of text with `# %% [markdown]`. Each is
run in a namespace of its own; what a cell prints, the value of its last line (as HTML where it has
any) and its figures are its outputs. Nothing of Jupyter is needed to make them.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

DPI = 60
"""Of figures: they are to be small."""


def cells_of(source: str) -> list[tuple[bool, str]]:
    """Return the cells of a source: whether each is text, and its lines."""
    parts = re.split(r"^# %%(.*)$", source, flags=re.MULTILINE)[1:]
    cells = []
    for head, body in zip(parts[::2], parts[1::2], strict=True):
        is_text = "[markdown]" in head
        lines = body.strip("\n")
        plain = re.sub(r"^# ?", "", lines, flags=re.MULTILINE)
        cells.append((is_text, plain if is_text else lines))
    return cells


def run(code: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell, and return its outputs."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, outputs = io.StringIO(), list[dict[str, Any]]()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue()})
    outputs += [
        {"output_type": "display_data", "data": {"image/png": one}, "metadata": {}}
        for one in figures()
    ]
    if value is not None:
        html = getattr(value, "_repr_html_", None)
        data = {"text/plain": repr(value)} if html is None else {"text/html": html()}
        data.setdefault("text/plain", str(value))
        outputs.append(
            {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None}
        )
    return outputs


def figures() -> list[str]:
    """Return the figures that are open, as PNG in base64, and close them."""
    from matplotlib import pyplot as plt

    pictures = []
    for number in plt.get_fignums():
        file = io.BytesIO()
        plt.figure(number).savefig(file, dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        pictures.append(base64.b64encode(file.getvalue()).decode())
    plt.close("all")
    return pictures


def notebook(source: str) -> dict[str, Any]:
    """Return the notebook of a source, run."""
    names: dict[str, Any] = {}
    cells: list[dict[str, Any]] = []
    for number, (is_text, lines) in enumerate(cells_of(source)):
        cell = {"id": f"cell-{number}", "metadata": {}, "source": lines}
        if is_text:
            cells.append({"cell_type": "markdown", **cell})
        else:
            outputs = run(lines, names)
            cells.append({"cell_type": "code", **cell, "execution_count": None, "outputs": outputs})
    return {
        "cells": cells,
        "metadata": {"kernelspec": KERNEL, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def main() -> None:
    """Run all, or those that are named."""
    import matplotlib

    matplotlib.use("agg")
    warnings.simplefilter("ignore")
    for path in sorted((FOLDER / "sources").glob("*.py")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            text = json.dumps(notebook(path.read_text("utf-8")), indent=1, ensure_ascii=False)
            (FOLDER / f"{path.stem}.ipynb").write_text(text + "\n", "utf-8")
            print(path.stem)


if __name__ == "__main__":
    main()
