"""Checks the shapes written in rung3's signatures, while the tests run."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from beartype import beartype
from jaxtyping import install_import_hook


def install(package: str) -> None:
    """Check the shapes in the signatures of a package from now on.

    Only modules that write shapes are checked: the hook wraps every function of a module, which
    makes each of its calls several times as expensive.
    """
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (root,) = map(Path, spec.submodule_search_locations)
    paths = (path for path in root.rglob("*.py") if "from jaxtyping import" in path.read_text())
    names = [".".join([package, *path.relative_to(root).with_suffix("").parts]) for path in paths]
    install_import_hook(names, "shapes.checked")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype on the shapes (`Float[Tensor, "n c h w"]`) alone.

    mypy sees to the other annotations, and a wrong input must reach the error that rung3 itself
    raises. jaxtyping passes a function made for the check, never the one that is called.
    """
    hints = function.__annotations__
    function.__annotations__ = {k: hint for k, hint in hints.items() if "jaxtyping." in repr(hint)}
    return beartype(function) if function.__annotations__ else function
